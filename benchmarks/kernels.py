"""What a step or a fused picture is made of: time a call, kernels, and which of them take longest, by JAX's profiler.

    python benchmarks/kernels.py fuse:480x640 fusion:128 fusion:128x10 meta:128x10 fusion-bfloat16:128x10

fuse:HxW: F through the path that fuse.py takes, and as one program of the whole picture. fusion:SIDE, meta:SIDE: a
training step at batch 4, SIDE x SIDE; SIDExK: K of them in one program, as train.py runs them on an accelerator. On a
GPU the kernels are those of its streams, on a CPU the operations of XLA's threads. --once: one call each, for the cache
of compiled functions.
"""

import argparse
import glob
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from refusion_jax.fusing.model import Model  # noqa: E402
from refusion_jax.method.losses import LossSettings  # noqa: E402
from refusion_jax.method.steps import init_state, make_inner_loop, make_optimizers, make_steps, several  # noqa: E402
from refusion_jax.models import build as networks  # noqa: E402
from refusion_jax.models.operators.depthwise import kernels  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache, jit  # noqa: E402
from refusion_jax.training.trainer import BATCHES, DTYPES  # noqa: E402

LONGEST = 12  # kernels that are listed


def fusing(size: str) -> dict[str, Callable]:
    """{name: call} of F on a pair of size HxW."""
    modules = networks.build()
    model = Model(networks.Params(networks.init_params(modules, jax.random.key(0)).f))
    a, b = np.random.default_rng(0).random((2, *map(int, size.split("x")))).astype(np.float32)
    network = jit(lambda params, *images: modules[0].apply({"params": params}, *images))
    arguments = jax.device_put((model.params.f, a[None, :, :, None], b[None, :, :, None]))
    return {
        f"fuse {size}": lambda: model.network_output(a, b),
        f"fuse {size}, the network at once": lambda: network(*arguments),
    }


def training(kind: str, size: str) -> dict[str, Callable]:
    """{name: call} of a training step, or of several in one program."""
    phase, _, precision = kind.partition("-")
    side, _, count = size.partition("x")
    modules, optimizers = networks.build(), make_optimizers()
    nets = networks.linen_networks(*modules, DTYPES[precision or "float32"])
    state = init_state(networks.init_params(modules, jax.random.key(0)), optimizers)
    meta_step, fusion_step = make_steps(nets, LossSettings(), optimizers, make_inner_loop())
    step = meta_step if phase == "meta" else fusion_step
    shape = (*([int(count)] if count else []), 4, int(side), int(side), 1)
    rng = np.random.default_rng(0)
    batches = [{x: rng.integers(0, 255, shape, np.uint8) for x in "ab"} for _ in range(BATCHES[phase])]
    arguments = jax.device_put((state, *batches))
    program = jit(kernels()(several(step) if count else step))
    return {f"{kind} step {side}x{side}, {count or 1} a program": lambda: program(*arguments)}


def busiest(call: Callable, calls: int) -> list[str]:
    """Lines that say how many kernels a call has, how long they take together and which of them take longest."""
    seconds, count = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(call())
        (trace,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = list(jax.profiler.ProfileData.from_file(trace).planes)
        on_gpu = any("GPU" in plane.name for plane in planes)
        for line in (line for plane in planes for line in plane.lines if not on_gpu or "GPU" in plane.name):
            if line.name.startswith("Stream" if on_gpu else "tf_XLA"):
                for event in line.events:
                    if not event.name.startswith("Thunk"):  # waits for others, on a CPU
                        seconds[event.name] += event.duration_ns / 1e9
                        count[event.name] += 1
    return [f"  {sum(count.values()) / calls:.0f} kernels a call, {1e3 * sum(seconds.values()) / calls:.2f} ms"] + [
        f"  {1e3 * total / calls:8.3f} ms {count[name] / calls:6.1f} x {name[:100]}"
        for name, total in seconds.most_common(LONGEST)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="+", metavar="KIND:SIZE")
    parser.add_argument("--repeat", type=int, default=20, help="calls that are timed")
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    enable_cache()
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    for words in arguments.work:
        kind, _, size = words.partition(":")
        for name, call in (fusing(size) if kind == "fuse" else training(kind, size)).items():
            times = []
            for _ in range(1 if arguments.once else 1 + arguments.repeat):
                start = time.perf_counter()
                jax.block_until_ready(call())
                times.append(time.perf_counter() - start)
            median = 1e3 * statistics.median(times[1:] or times)
            print(f"{name}: {median:.2f} ms, the first {times[0]:.1f} s", flush=True)
            if not arguments.once:
                print("\n".join(busiest(call, 3)), flush=True)


if __name__ == "__main__":
    main()
