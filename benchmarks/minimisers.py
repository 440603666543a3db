"""What L_f asks for, without a network: the pictures that minimise it under the w and v that P begins at, scored.

Run from the checkout: python benchmarks/minimisers.py --task ivif --data DIR [--preset tuned] [--ckpt CKPT ...]
    [--rows 'loss.alpha1=4' 'loss.sobel_scale=1 loss.w_floor=0.1' ...] [--size 256] [--steps 250]

A row of the table for each checkpoint, for the preset as it is, and for the preset with each of the settings given by
--rows. Every pixel is a parameter of its own: what no row wins, no F can win by fulfilling this L_f better. The middle
--size squared pixels of the held-out pairs, stretched to the full range as in the paper.
"""

import argparse
import sys
from dataclasses import asdict
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
from refusion_jax.imaging.ranges import to_range  # noqa: E402
from refusion_jax.method.losses import fusion_loss  # noqa: E402
from refusion_jax.method.meta import propose_weights  # noqa: E402
from refusion_jax.metrics import TASK_METRICS  # noqa: E402
from refusion_jax.models import build as networks  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache, jit  # noqa: E402

RATE = 3e-2  # of Adam, in units of the range, falling to 0


def make_minimiser(config, length: int):
    """(a, b), luma (1,H,W,1) in [0,1] -> the picture (H,W) that minimises L_f, from the mean of both."""
    nets, loss = networks.linen_networks(*networks.build(**asdict(config.model))), config.loss
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, length))

    @jit
    def minimise(a, b):
        w, v = propose_weights(None, nets, (a, b), loss, untaught=True)
        slope = jax.grad(lambda fused: fusion_loss(fused, a, b, w, v, loss)[0] * fused.size)

        def step(carry, _):
            fused, state = carry
            updates, state = optimizer.update(slope(fused), state)
            return (jnp.clip(fused + updates, 0, 1), state), None

        mean = (a + b) / 2
        (fused, _), _ = jax.lax.scan(step, (mean, optimizer.init(mean)), length=length)
        return fused[0, :, :, 0]

    return minimise


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """The middle (H,W) of a picture, at most size x size."""
    height, width = (min(size, side) for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--preset", default="tuned")
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--ckpt", nargs="*", default=[])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=250)
    given = parser.parse_args()
    enable_cache()
    rows = {row or f"preset {given.preset}": row.split() for row in ["", *given.rows]}
    configs = {
        name: configuration.resolve(given.task, given.preset, changed, **{"data.dir": given.data})
        for name, changed in rows.items()
    }
    held_out = load_data(next(iter(configs.values()))).validation
    pairs = [tuple(middle(pair[x], given.size) for x in "ab") for pair in (held_out[i] for i in range(len(held_out)))]
    shown = TASK_METRICS[given.task] + tuple(x for x in ("VIF", "QABF") if x not in TASK_METRICS[given.task])
    print("| | " + " | ".join(shown) + " |\n" + "| --- " * (1 + len(shown)) + "|")

    def show(name, fuse):
        scores = validation_scores(fuse, pairs, shown)
        print(f"| {name} | " + " | ".join(f"{v:.4g}" for v in scores.values()) + " |", flush=True)

    for ckpt in given.ckpt:
        model = load(ckpt, ["F"])
        show(Path(ckpt).stem, lambda a, b, model=model: model.fuse_luma(a, b, "minmax"))
    for name, config in configs.items():
        minimise = make_minimiser(config, given.steps)

        def fuse(a, b, minimise=minimise):
            luma = [x.astype(np.float32) / 255 for x in (a, b)]
            return to_range(np.asarray(minimise(*(x[None, :, :, None] for x in luma))), luma, "minmax")

        show(name, fuse)


if __name__ == "__main__":
    main()
