"""The range step: a network's output brought to levels that can be shown or scored."""

from collections.abc import Sequence

import numpy as np

from refusion_jax.errors import InputError

RANGES = ("sources", "minmax", "clip")

BORDER = 2  # rows and columns at each side that F's zero padding disturbs most
FLAT = 0.5 / 255  # variations below half a level of 8 bits are not raised to the whole range


def to_range(fused: np.ndarray, sources: Sequence[np.ndarray], rule: str = "sources") -> np.ndarray:
    """F's output brought to [0,1] by one of the RANGES: (H,W) float32.

    fused: F's output (H,W). sources: the luma of what was fused, in [0,1], any shapes; only "sources" looks at them.

    "sources", for pictures to look at: the levels that the sources span together. Black sources give a black
    picture, constant ones a constant picture, and the contrast of faint ones is not raised.
    "minmax", for comparisons: the full range of each picture, as the released pipeline and the paper's tables have it.
    "clip": the levels as they are.

    A constant output keeps its level under every rule, as far as the sources have it. Raises InputError for another
    rule.
    """
    if rule not in RANGES:
        raise InputError(f"range must be one of {', '.join(RANGES)}, got {rule!r}")
    if rule == "sources":
        return _to_sources(fused, sources)
    low, high = float(fused.min()), float(fused.max())
    if rule == "clip" or high <= low:
        return np.clip(fused, 0, 1)
    return (fused - low) / (high - low)


def _to_sources(fused: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """The linear step of "sources", clipped to the lowest and the highest level of the sources."""
    inside = fused[BORDER:-BORDER, BORDER:-BORDER] if min(fused.shape) > 2 * BORDER else fused
    own_low, own_high = float(inside.min()), float(inside.max())
    low, high, span = _levels_of(sources)
    gain = span / max(own_high - own_low, FLAT)
    half = gain * (own_high - own_low) / 2
    middle = (own_low + own_high) / 2
    level = np.clip(middle, low + half, high - half)
    result = (fused - np.float32(middle)) * np.float32(gain) + np.float32(level)
    return np.clip(result, np.float32(low), np.float32(high), out=result)


def _levels_of(sources: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """(lowest, highest, span) of the sources' levels. A gap that lies between the levels of all is not in the span."""
    pieces = sorted((float(source.min()), float(source.max())) for source in sources)
    low, reached, span = pieces[0][0], pieces[0][0], 0.0
    for start, stop in pieces:
        span += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return low, reached, span
