"""Time of the metrics on one core: each at 640x480, and the paper's nine at 1, 2, 4 and 16 times the pixels.

Run from the checkout: OPENBLAS_NUM_THREADS=1 python benchmarks/metrics.py
"""

import platform
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refusion_jax.metrics import PAPER_METRICS, PROTOCOLS, score  # noqa: E402

SIZES = ((480, 640), (960, 640), (960, 1280), (1920, 2560))


def scene(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two smooth noisy sources with different exposure, and their mean as the fused image; all uint8."""
    rng = np.random.default_rng(0)
    base = ndimage.gaussian_filter(rng.standard_normal(shape), 6)
    base = base / np.abs(base).max() + 0.05 * rng.standard_normal(shape)
    dark, bright = (np.clip(np.rint(255 * (level + 0.4 * base)), 0, 255) for level in (0.25, 0.7))
    return tuple(np.asarray(x, np.uint8) for x in (dark, bright, (dark + bright) / 2))


def best_seconds(call, repeats: int) -> float:
    """The shortest of several timed calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    print(f"Python {platform.python_version()}, NumPy {np.__version__}; best of several runs, one process")
    images = scene(SIZES[0])
    for metric in PROTOCOLS["paper"].values():
        print(f"{metric.name:8s} {best_seconds(lambda m=metric: m(*images), 5) * 1e3:8.1f} ms")
    reference = None
    for shape in SIZES:
        images = scene(shape)
        seconds = best_seconds(lambda x=images: score(*x), 3)
        per_pixel = seconds / images[0].size
        reference = reference or per_pixel
        print(
            f"{len(PAPER_METRICS)} metrics at {shape[1]}x{shape[0]}: {seconds:6.3f} s,"
            f" {per_pixel * 1e9:5.0f} ns a pixel, {per_pixel / reference:4.2f} of the first"
        )


if __name__ == "__main__":
    main()
