"""How small F may become: time and quality of narrower and shorter F that learn from the package's one (distillation).

Run from the checkout: python benchmarks/small_fusion.py --task ivif --data DIR [--sizes 8x2 8x1 4x2 4x1] [--steps 4000]

A size is WIDTHxBLOCKS. Each F begins with random numbers and learns, by Adam on random crops of the training pairs, to
give what the teacher gives: the squared distance of the two pictures and of their gradients. Printed: parameters,
processor time and wall time of one 640x480 pair, PSNR to the teacher's picture and the task's scores on the held-out
pairs (stretched to the full range, as in the paper), the teacher's in the first row.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from refusion_jax import config as configuration  # noqa: E402
from refusion_jax.cli.train import load_data  # noqa: E402
from refusion_jax.evaluation import validation_scores  # noqa: E402
from refusion_jax.fusing.model import load  # noqa: E402
from refusion_jax.fusing.tiles import make_fuse  # noqa: E402
from refusion_jax.imaging.ranges import to_range  # noqa: E402
from refusion_jax.method import steps  # noqa: E402
from refusion_jax.method.losses import sobel, squared_error  # noqa: E402
from refusion_jax.metrics import TASK_METRICS  # noqa: E402
from refusion_jax.models import build as networks  # noqa: E402
from refusion_jax.models.operators.depthwise import kernels  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache, jit  # noqa: E402
from refusion_jax.training.trainer import open_streams  # noqa: E402

SIZE, RUNS = (480, 640), 7


def distilled(module, teacher, teach, config, data, length):
    """F's parameters after so many steps towards the teacher's pictures."""
    params = networks.init_params((module, *networks.build()[1:]), jax.random.key(config.seed)).f
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, length))

    def distance(params, pair, wanted):
        fused = module.apply({"params": params}, *pair)
        edges = squared_error(sobel(fused, "components", 0.5), sobel(wanted, "components", 0.5))
        return jnp.mean(squared_error(fused, wanted)) + jnp.mean(edges)

    @kernels()
    def step(params, state, batch):
        pair = steps.as_luma(batch)
        gradient = jax.grad(distance)(params, pair, teach(teacher, pair))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    step, state = jit(step), optimizer.init(params)
    (stream,) = open_streams(config, data, 0, "fusion", 0)
    for _ in range(length):
        params, state = step(params, state, next(stream))
    return params


def times(fuse, params):
    """(processor time, wall time) of one pair, the least of several, seconds."""
    pair = np.random.default_rng(0).random((2, *SIZE)).astype(np.float32)
    fuse(params, *pair)
    taken = []
    for _ in range(RUNS):
        before = time.process_time(), time.perf_counter()
        fuse(params, *pair)
        taken.append((time.process_time() - before[0], time.perf_counter() - before[1]))
    return np.min(taken, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sizes", nargs="+", default=["8x2", "8x1", "4x2", "4x1"])
    parser.add_argument("--steps", type=int, default=4000)
    given = parser.parse_args()
    enable_cache()
    config = configuration.resolve(given.task, "tuned", **{"data.dir": given.data})
    data, model = load_data(config), load(given.task)
    held_out = [data.validation[i] for i in range(len(data.validation))]
    sources = [[x.astype(np.float32) / 255 for x in (pair["a"], pair["b"])] for pair in held_out]
    full = networks.build()[0]
    shown = (*TASK_METRICS[given.task], "QABF")

    def row(name, module, params):
        """One line of the table, and F's pictures."""
        fuse, params = make_fuse(module), jax.device_put(params)
        fused = [fuse(params, *pair) for pair in sources]
        results = iter(fused)
        scores = validation_scores(
            lambda a, b: to_range(next(results), [x / np.float32(255) for x in (a, b)], "minmax"),
            ((pair["a"], pair["b"]) for pair in held_out),
            shown,
        )
        errors = [np.mean((x - y) ** 2) for x, y in zip(fused, wanted or fused, strict=True)]
        psnr = -10 * np.log10(np.mean(errors)) if wanted else np.inf
        count = sum(x.size for x in jax.tree.leaves(params))
        processor, wall = times(fuse, params)
        cells = [
            name,
            f"{count}",
            f"{processor:.3f}",
            f"{wall:.3f}",
            f"{psnr:.1f}",
            *(f"{v:.4g}" for v in scores.values()),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        return fused

    wanted: list[np.ndarray] = []
    head = ["F", "parameters", "processor, s", "wall, s", "PSNR, dB", *shown]
    print("| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|")
    wanted = row("16x2, the teacher", full, model.params.f)

    def teach(params, pair):
        return jax.lax.stop_gradient(full.apply({"params": params}, *pair))

    for size in given.sizes:
        width, blocks = map(int, size.split("x"))
        module = networks.build(width=width, heads=max(1, width // 2), blocks=blocks)[0]
        row(size, module, distilled(module, model.params.f, teach, config, data, given.steps))


if __name__ == "__main__":
    main()
