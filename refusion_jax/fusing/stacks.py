"""More than two pictures into one: exposure brackets and focus stacks with a network that takes pairs."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.fusing.model import Model, default_max_memory
from refusion_jax.imaging.color import finished_picture, unit_luma
from refusion_jax.imaging.pixels import check_one_size
from refusion_jax.imaging.ranges import Span, span_of, to_range
from refusion_jax.tasks import STACK_TASKS

HELD_BYTES = 32  # of a stack under way, a pixel, while the network runs


def fuse_stack(
    model: Model,
    frames: Sequence[Any],
    range: str = "sources",  # noqa: A002
    gray: bool = False,
) -> np.ndarray:
    """One picture with the information of all frames of a bracket (meie) or of a focus stack (mfif).

    frames: two or more pictures of one size, (H,W) or (H,W,3), uint8, uint16 or float in [0,1], or
    `frame_store.StoredFrame`, of which no more than a few are in memory at a time. range, gray and the result: as
    `Model.fuse`; the range step comes once, at the end. A frame that is there twice counts once. The order of the
    frames does not matter for meie; for mfif they are best given from near to far (or back).
    Raises InputError for a model of another task, sizes that differ, and less than two different frames.
    """
    if model.task not in STACK_TASKS:
        raise InputError(
            f"stacks are for the tasks {' and '.join(STACK_TASKS)}, got {model.task or 'a model of unknown task'}"
        )
    frames = [frames[i] if hasattr(frames[i], "shape") else np.asarray(frames[i]) for i in distinct(frames)]
    if len(frames) < 2:
        raise InputError("expected a stack of at least two different pictures, got one or copies of it")
    check_one_size(frames)
    if len(frames) == 2:
        return model.fuse(*map(np.asarray, frames), range=range, gray=gray)
    fused, spans = stack_output(model, frames)
    return finished_picture(to_range(fused, spans, range), frames, gray)


def stack_output(model: Model, frames: Sequence[Any]) -> tuple[np.ndarray, list[Span]]:
    """(the luma (H,W) of three or more different frames before the range step, the span of each frame's luma)."""
    pixels = frames[0].shape[0] * frames[0].shape[1]
    limit = default_max_memory() if model.max_memory is None else model.max_memory
    held = HELD_BYTES * pixels + sum(getattr(frame, "held_bytes", 0) for frame in frames)
    model = dataclasses.replace(model, max_memory=max(limit - held, 0))
    lumas = _Lumas(frames)
    fused = fuse_lumas(lumas, model.task or "", model.network_output)
    return fused, [lumas.spans[i] if i in lumas.spans else span_of(lumas[i]) for i, _ in enumerate(frames)]


class _Lumas(Sequence):
    """The luma of each frame, (H,W) float32 in [0,1], made when it is asked for; the spans of those made."""

    def __init__(self, frames: Sequence[Any]):
        self._frames = frames
        self.spans: dict[int, Span] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        luma = unit_luma(self._frames[index])
        self.spans[index] = span_of(luma)
        return luma


def distinct(frames: Sequence[Any]) -> list[int]:
    """The positions of the frames that do not repeat an earlier one pixel by pixel."""
    found: dict[tuple, int] = {}
    for i, frame in enumerate(frames):
        pixels = np.ascontiguousarray(frame)
        found.setdefault((pixels.shape, pixels.dtype, hashlib.sha256(pixels.data).digest()), i)
    return sorted(found.values())


def fuse_lumas(
    lumas: Sequence[np.ndarray], task: str, fuse: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """The luma (H,W) of a stack, from lumas (H,W) float32 in [0,1] and the network as a function of two of them.

    meie: sorted by brightness, the darker and the brighter half (a frame in the middle belongs to both) are each
    blended by local contrast, and the network fuses the two: one pass for any number of frames.
    mfif: the network fuses each frame with the next, and of the results the locally sharpest counts.

    Each luma is asked for when it is needed, more than once, so that memory does not grow with their number.
    """
    positions = list(range(len(lumas)))
    if task == "meie":
        means = [float(lumas[i].mean(dtype=np.float64)) for i in positions]
        positions.sort(key=means.__getitem__)
        half = (len(lumas) + 1) // 2
        return fuse(_blended(lumas, positions[:half]), _blended(lumas, positions[-half:]))
    total = weights = np.zeros_like(lumas[0])
    for one, other in pairwise(lumas[i] for i in positions):
        fused = fuse(one, other)
        weight = _sharpness(fused)
        total, weights = total + weight * fused, weights + weight
    return total / weights


def focus_positions(frames: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(which frame of a focus stack is the sharpest at each pixel, (H,W) uint16 counted from 1; where between the first
    frame, 0, and the last, 1, the focus lies, (H,W) float32: the mean of their positions weighted by sharpness)."""
    lumas = _Lumas(frames)
    shape = frames[0].shape[:2]
    best, index = np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
    total, weighted = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for i, luma in enumerate(lumas):
        weight = _sharpness(luma)
        sharper = weight > best
        best[sharper], index[sharper] = weight[sharper], i + 1
        total += weight
        weighted += weight * np.float32(i / (len(frames) - 1))
    return index, weighted / total


def _blended(lumas: Sequence[np.ndarray], positions: Sequence[int]) -> np.ndarray:
    """Exposures as one, each where its contrast is larger, without seams: (H,W) float32 in [0,1]."""
    if len(positions) == 1:
        return lumas[positions[0]]
    from refusion_jax.imaging.blending import Blend

    def weight_of(luma: np.ndarray) -> np.ndarray:
        return (_contrast(luma, 2) + np.float32(1e-3)) ** 2

    total = np.zeros_like(lumas[positions[0]])
    for i in positions:
        total += weight_of(lumas[i])
    blend = Blend(total.shape)
    for i in positions:
        luma = lumas[i]
        blend.add(luma, weight_of(luma) / total)
    return np.clip(blend.result(), 0, 1)


def _sharpness(luma: np.ndarray) -> np.ndarray:
    """Local contrast to the power 8, smoothed, (H,W); never 0."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter((10 * _contrast(luma, 3) + np.float32(1e-2)) ** 8, 4) + np.float32(1e-20)


def _contrast(luma: np.ndarray, sigma: float) -> np.ndarray:
    """The standard deviation of the values around each pixel, (H,W); sigma of the neighbourhood in pixels."""
    from scipy.ndimage import gaussian_filter

    return np.sqrt(np.maximum(gaussian_filter(luma**2, sigma) - gaussian_filter(luma, sigma) ** 2, 0))
