"""Times of fusing and of the training steps, a yardstick's beside them run by run, as a Markdown table.

Run from the checkout: python benchmarks/speed.py [--yardstick 'COMMAND'] [--runs 5] [--only fuse train start]

Every figure is that of a process of its own: medians over its repetitions, the highest resident memory. The yardstick
is any command that takes `infer --size HxW` or `train --patch 128 --batch 4` after its words and prints lines such as
"infer 480x640: 5.4 s", "meta step: 7.8 s", "fusion step: 1.9 s" and "peak memory: 1500 MiB". It is started in turn
with ours, so that both see the same machine; the ratio is the median of the ratios of neighbouring runs.
"""

import argparse
import json
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = ("480x640", "1024x1024")


def median_seconds(call, repeat: int) -> float:
    """The median time of several calls, after one that compiles."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_mib() -> float:
    """Highest memory of this process so far: on the device, on a CPU resident."""
    import jax

    if jax.default_backend() != "cpu" and (stats := jax.local_devices()[0].memory_stats()):
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_fuse(size: str, repeat: int) -> dict[str, float]:
    """Seconds of F on one luma pair, through the path that fuse.py takes; fresh parameters of the published size."""
    import jax
    import numpy as np

    from refusion_jax.fusing.model import Model
    from refusion_jax.models import build as networks
    from refusion_jax.models.build import init_params
    from refusion_jax.runtime.compiling import enable_cache

    enable_cache()
    modules = networks.build()
    params = init_params(modules, jax.random.key(0))
    height, width = map(int, size.split("x"))
    a, b = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
    model = Model(networks.Params(params.f))
    return {f"fuse {size}": median_seconds(lambda: model.network_output(a, b), repeat), "MiB": peak_mib()}


def measure_train(which: str, repeat: int) -> dict[str, float]:
    """Seconds of one step at batch 4, 128x128, gradients alone, as train.py runs it."""
    from refusion_jax.runtime.memory import restart_with_tuned_malloc

    restart_with_tuned_malloc()  # as train.py does
    import jax
    import numpy as np

    from refusion_jax.method import meta
    from refusion_jax.method.losses import LossSettings
    from refusion_jax.models import build as networks
    from refusion_jax.models.build import init_params
    from refusion_jax.models.operators.depthwise import kernels
    from refusion_jax.runtime.compiling import compute_in_calls, enable_cache, jit
    from refusion_jax.training import devices

    compute_in_calls()
    enable_cache()
    modules = networks.build()
    nets, loss = networks.linen_networks(*modules), LossSettings()
    recompute = devices.recompute("auto")
    params = init_params(modules, jax.random.key(0))
    images = np.random.default_rng(0).random((2, 2, 4, 128, 128, 1)).astype(np.float32)
    train, test = jax.block_until_ready(jax.device_put((tuple(images[0]), tuple(images[1]))))
    if which == "fusion":
        step = jit(kernels()(lambda params, batch: meta.fusion_gradients(params, nets, batch, loss)))
        arguments = params, train
    else:
        step = jit(
            kernels()(lambda params, *batches: meta.meta_gradient(params, nets, *batches, loss, recompute=recompute))
        )
        arguments = params, train, test
    step.prepare(*arguments)
    devices.hold_memory()
    seconds = median_seconds(lambda: jax.block_until_ready(step(*arguments)), repeat)
    return {f"{which} step": seconds, "MiB": peak_mib()}


def measure_start(repeat: int) -> dict[str, float]:
    """Seconds of the whole `python fuse.py` on one 640x480 pair, compiled functions on disk."""
    import numpy as np

    from refusion_jax.imaging.files import write_image
    from refusion_jax.models import build as networks
    from refusion_jax.models.build import Params
    from refusion_jax.weights.safetensors_file import write_safetensors

    rng = np.random.default_rng(0)
    shapes = networks.expected_shapes(networks.build()).f
    import jax

    tree = jax.tree.map(lambda s: (rng.standard_normal(s.shape) * 0.1).astype(np.float32), shapes)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_safetensors(folder / "f.safetensors", Params(tree), {"task": "ivif"})
        for name in "ab":
            write_image(folder / f"{name}.png", rng.integers(0, 255, (480, 640, 3), np.uint8))
        command = [
            sys.executable,
            "fuse.py",
            "--ckpt",
            folder / "f.safetensors",
            "--pair",
            folder / "a.png",
            folder / "b.png",
            "--out",
            folder / "out.png",
            "--no-check",
        ]

        def call():
            subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)

        seconds = median_seconds(call, repeat)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"fuse.py, 640x480, whole process": seconds, "MiB": children}


def in_process(words: list[str], repeat: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", *words, "--repeat", str(repeat)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def yardstick(command: str, words: list[str]) -> dict[str, float]:
    """What the yardstick prints."""
    out = subprocess.run([*shlex.split(command), *words], check=True, capture_output=True, text=True).stdout
    figures = {f"fuse {size}": float(s) for size, s in re.findall(r"infer (\S+): ([\d.]+) s", out)}
    figures |= {f"{name} step": float(s) for name, s in re.findall(r"(meta|fusion) step: +([\d.]+) s", out)}
    return figures | {"MiB": float(re.search(r"peak memory: ([\d.]+)", out)[1])}


def row(name: str, ours: list[dict], theirs: list[dict]) -> str:
    """One line of the table."""
    seconds = statistics.median(o[name] for o in ours)
    cells = [name, f"{seconds:.3f} s", f"{statistics.median(o['MiB'] for o in ours):.0f} MiB"]
    if theirs:
        ratio = statistics.median(t[name] / o[name] for o, t in zip(ours, theirs, strict=True))
        cells += [
            f"{statistics.median(t[name] for t in theirs):.3f} s",
            f"{statistics.median(t['MiB'] for t in theirs):.0f} MiB",
            f"{ratio:.2f}",
        ]
    return "| " + " | ".join(cells) + " |"


def processor() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", path.read_text()) if path.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yardstick", metavar="COMMAND")
    parser.add_argument("--runs", type=int, default=3, help="processes of each, in turn with the yardstick's")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions within a process")
    parser.add_argument("--only", nargs="+", choices=["fuse", "train", "start"], default=["fuse", "train", "start"])
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, *rest = arguments.measure
        measure = {"fuse": measure_fuse, "train": measure_train, "start": measure_start}[what]
        print(json.dumps(measure(*rest, arguments.repeat)))
        return
    import jax

    print(f"{processor()}; Python {platform.python_version()}, JAX {jax.__version__}, backend {jax.default_backend()}")
    print(f"medians of {arguments.runs} processes with {arguments.repeat} repetitions each\n")
    print("| work | ours | memory |" + (" yardstick | memory | ratio |" if arguments.yardstick else ""))
    print("| --- | --- | --- |" + (" --- | --- | --- |" if arguments.yardstick else ""))
    work = []
    if "fuse" in arguments.only:
        work += [(f"fuse {size}", ["fuse", size], ["infer", "--size", size]) for size in SIZES]
    if "train" in arguments.only:
        train = ["train", "--patch", "128", "--batch", "4"]
        work += [(f"{which} step", ["train", which], train) for which in ("fusion", "meta")]
    if "start" in arguments.only:
        work += [("fuse.py, 640x480, whole process", ["start"], None)]
    for name, words, theirs in work:
        ours, others = [], []
        try:
            in_process(words, 1)  # compiles, for the cache on disk
            for _ in range(arguments.runs):
                ours.append(in_process(words, arguments.repeat))
                if arguments.yardstick and theirs:
                    others.append(yardstick(arguments.yardstick, [*theirs, "--repeat", str(arguments.repeat)]))
            print(row(name, ours, others), flush=True)
        except subprocess.CalledProcessError as error:  # the other rows may well work
            print(f"| {name} | failed, exit status {error.returncode} |", flush=True)


if __name__ == "__main__":
    main()
