"""Metrics of a fused video: whether it moves as its sources do, and holds its levels where it moves.

Both compare three consecutive frames by optical flow. The flow comes from outside, as a function
flow(first, second) -> (H,W,2): what `first` shows at (x, y), `second` shows at (x, y) + flow[y, x]. Scores depend on
it: compare only what one function has measured.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from refusion_jax.metrics.levels import of_one_size

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]

CONSISTENT = 1.0  # pixels that the way there and back may miss where a pixel is seen in both frames


class Step(NamedTuple):
    """The optical flow between two consecutive frames, (H,W,2) in pixels: from the first to the second, and back."""

    onward: np.ndarray
    back: np.ndarray


class Motion(NamedTuple):
    """The steps to a frame from the one before it, and from it to the next."""

    before: Step
    after: Step


def step(first: np.ndarray, second: np.ndarray, flow: Flow) -> Step:
    """The flow between two frames (H,W), see `as_levels`. Raises InputError for other arrays or two sizes."""
    first, second = of_one_size({"the first frame": first, "the second frame": second})
    return Step(flow(first, second), flow(second, first))


def biswe(frames: Sequence[np.ndarray], fused: Motion, sources: Sequence[Motion]) -> float:
    """BiSWE, bi-directional self-warping error: how far a fused frame differs from its neighbours moved onto it.

    The sum over both neighbours of the mean |V_t - warp(V_t±1)|, the neighbour warped by the fused video's own flow,
    over the pixels that both sources see in both frames (way there and back within a pixel). Unit: grey levels. Range:
    0 to 510. Lower is better. Source: Zhao et al., "A unified solution to video fusion: from multi-frame learning to
    benchmarking" (VF-Bench), NeurIPS 2025, as its published code has it, there in RGB with the flow of SEA-RAFT.

    frames: three consecutive fused frames (H,W), see `as_levels`. fused, sources: the motion of the fused frames and of
    each source's. 0 where no pixel is seen in both.
    """
    before, middle, following = of_one_size(
        dict(zip(("the frame before", "the frame", "the next frame"), frames, strict=True))
    )
    seen_before = np.logical_and.reduce([_returns(source.before.back, source.before.onward) for source in sources])
    seen_after = np.logical_and.reduce([_returns(*source.after) for source in sources])
    error = _masked_error(middle, before, fused.before.back, seen_before)
    return error + _masked_error(middle, following, fused.after.onward, seen_after)


def ms2r(fused: Motion, sources: Sequence[Motion]) -> float:
    """MS2R, motion smoothness with two reference videos: how the fused video's motion changes, against the sources'.

    The mean over pixels, both directions and the sources of |D_fused - D_source|, where D is the flow from t to t+1
    less that from t-1 to t. Unit: pixels per frame, squared in time. Range: 0 upwards. Lower is better. Source: as
    `biswe`.

    fused, sources: the motion of the fused frames and of each source's.
    """
    change, *changes = (each.after.onward - each.before.onward for each in (fused, *sources))
    differences = [np.mean(np.abs(change - other), dtype=np.float64) for other in changes]
    return float(np.mean(differences))


def _returns(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where a pixel that goes `there` comes `back` to where it was: bool (H,W)."""
    missed = there + np.stack([_moved(back[..., i], there) for i in range(2)], -1)
    return np.linalg.norm(missed, axis=-1) < CONSISTENT


def _masked_error(middle: np.ndarray, other: np.ndarray, flow: np.ndarray, mask: np.ndarray) -> float:
    if not mask.any():
        return 0.0
    return float(np.mean(np.abs(middle - _moved(other.astype(np.float32), flow))[mask], dtype=np.float64))


def _moved(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """An image (H,W) as seen from where the flow begins: bilinear, its border repeated outside."""
    from scipy.ndimage import map_coordinates  # takes 0.2 s, and few who need the metrics' names score videos

    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return map_coordinates(image, [rows + flow[..., 1], columns + flow[..., 0]], order=1, mode="nearest")
