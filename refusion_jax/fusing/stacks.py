"""More than two pictures into one: exposure brackets and focus stacks with a network that takes pairs."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.fusing.model import Model
from refusion_jax.imaging.color import finished_picture, unit_luma
from refusion_jax.imaging.pixels import check_one_size
from refusion_jax.imaging.ranges import to_range
from refusion_jax.tasks import STACK_TASKS


def fuse_stack(
    model: Model,
    frames: Sequence[np.ndarray],
    range: str = "sources",  # noqa: A002
    gray: bool = False,
) -> np.ndarray:
    """One picture with the information of all frames of a bracket (meie) or of a focus stack (mfif).

    frames: two or more pictures of one size, (H,W) or (H,W,3), uint8, uint16 or float in [0,1]. range, gray and the
    result: as `Model.fuse`; the range step comes once, at the end. A frame that is there twice counts once. The
    order of the frames does not matter for meie; for mfif they are best given from near to far (or back).
    Raises InputError for a model of another task, sizes that differ, and less than two different frames.
    """
    if model.task not in STACK_TASKS:
        raise InputError(
            f"stacks are for the tasks {' and '.join(STACK_TASKS)}, got {model.task or 'a model of unknown task'}"
        )
    frames = [np.asarray(frames[i]) for i in distinct(frames)]
    if len(frames) < 2:
        raise InputError("expected a stack of at least two different pictures, got one or copies of it")
    check_one_size(frames)
    if len(frames) == 2:
        return model.fuse(*frames, range=range, gray=gray)
    lumas = [unit_luma(frame) for frame in frames]
    fused = fuse_lumas(lumas, model.task, model.network_output)
    return finished_picture(to_range(fused, lumas, range), frames, gray)


def distinct(frames: Sequence[np.ndarray]) -> list[int]:
    """The positions of the frames that do not repeat an earlier one pixel by pixel."""
    found: dict[tuple, int] = {}
    for i, frame in enumerate(frames):
        frame = np.ascontiguousarray(frame)
        found.setdefault((frame.shape, frame.dtype, hashlib.sha256(frame.data).digest()), i)
    return sorted(found.values())


def fuse_lumas(
    lumas: Sequence[np.ndarray], task: str, fuse: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """The luma (H,W) of a stack, from lumas (H,W) float32 in [0,1] and the network as a function of two of them.

    meie: sorted by brightness, the darker and the brighter half (a frame in the middle belongs to both) are each
    blended by local contrast, and the network fuses the two: one pass for any number of frames.
    mfif: the network fuses each frame with the next, and of the results the locally sharpest counts.
    """
    if task == "meie":
        lumas = sorted(lumas, key=lambda luma: float(luma.mean(dtype=np.float64)))
        half = (len(lumas) + 1) // 2
        return fuse(_blended(lumas[:half]), _blended(lumas[-half:]))
    total = weights = np.zeros_like(lumas[0])
    for one, other in pairwise(lumas):
        fused = fuse(one, other)
        weight = _sharpness(fused)
        total, weights = total + weight * fused, weights + weight
    return total / weights


def _blended(lumas: Sequence[np.ndarray]) -> np.ndarray:
    """Exposures as one, each where its contrast is larger, without seams: (H,W) float32 in [0,1]."""
    if len(lumas) == 1:
        return lumas[0]
    from refusion_jax.imaging.blending import Blend

    weights = [(_contrast(luma, 2) + np.float32(1e-3)) ** 2 for luma in lumas]
    total = np.sum(weights, axis=0)
    blend = Blend(lumas[0].shape)
    for luma, weight in zip(lumas, weights, strict=True):
        blend.add(luma, weight / total)
    return np.clip(blend.result(), 0, 1)


def _sharpness(luma: np.ndarray) -> np.ndarray:
    """Local contrast to the power 8, smoothed, (H,W); never 0."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter((10 * _contrast(luma, 3) + np.float32(1e-2)) ** 8, 4) + np.float32(1e-20)


def _contrast(luma: np.ndarray, sigma: float) -> np.ndarray:
    """The standard deviation of the values around each pixel, (H,W); sigma of the neighbourhood in pixels."""
    from scipy.ndimage import gaussian_filter

    return np.sqrt(np.maximum(gaussian_filter(luma**2, sigma) - gaussian_filter(luma, sigma) ** 2, 0))
