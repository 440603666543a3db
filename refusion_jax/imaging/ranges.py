"""The range step: a network's output brought to levels that can be shown or scored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from refusion_jax.errors import InputError

RANGES = ("sources", "minmax", "clip")
SAMPLED = 32  # pictures, slices or frames of a run whose attention is added up for all, at most

BORDER = 8  # rows and columns at each side that F's zero padding disturbs; of a small picture a quarter
FLAT = 0.5 / 255  # variations below half a level of 8 bits are not raised to the whole range

Span = tuple[float, float]


@dataclass(frozen=True)
class LinearStep:
    """One linear step for outputs of F: level + gain * (output - middle), clipped to low..high."""

    middle: float
    gain: float
    level: float
    low: float
    high: float

    def __call__(self, fused: np.ndarray) -> np.ndarray:
        """F's output (H,W) as luma (H,W) float32 in [0,1]."""
        result = (fused - np.float32(self.middle)) * np.float32(self.gain) + np.float32(self.level)
        return np.clip(result, np.float32(self.low), np.float32(self.high), out=result)


@dataclass
class Spans:
    """From where to where F's outputs and the luma of each source go, over the pictures added: what decides the step.

    One picture gives the rule "sources"; all of a run give one step for all of them, so that what is still in a
    sequence stays as it is.
    """

    output: Span | None = None
    sources: list[Span] = field(default_factory=list)

    def add(self, fused: np.ndarray, sources: Iterable[Span]) -> None:
        """F's output (H,W) of a picture, and the spans of its sources, always in one order."""
        height, width = fused.shape
        border = min(BORDER, min(height, width) // 4)
        self.output = joined(self.output, span_of(fused[border : height - border, border : width - border]))
        for i, span in enumerate(sources):
            if i < len(self.sources):
                self.sources[i] = joined(self.sources[i], span)
            else:
                self.sources.append(span)

    def step(self) -> LinearStep:
        """The step that brings the outputs to the levels that the sources span together."""
        if self.output is None:
            raise InputError("expected at least one picture to find a range of")
        own_low, own_high = self.output
        low, high, span = _levels_of(self.sources)
        gain = span / max(own_high - own_low, FLAT)
        half = gain * (own_high - own_low) / 2
        middle = (own_low + own_high) / 2
        return LinearStep(middle, gain, float(np.clip(middle, low + half, high - half)), low, high)


def to_range(fused: np.ndarray, sources: Sequence[np.ndarray | Span], rule: str = "sources") -> np.ndarray:
    """F's output brought to [0,1] by one of the RANGES: (H,W) float32.

    fused: F's output (H,W). sources: the luma of what was fused, in [0,1], any shapes, or the span of each (`span_of`);
    only "sources" looks at them.

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
        spans = Spans()
        spans.add(fused, (source if isinstance(source, tuple) else span_of(source) for source in sources))
        return spans.step()(fused)
    low, high = span_of(fused)
    if rule == "clip" or high <= low:
        return np.clip(fused, 0, 1)
    return (fused - low) / (high - low)


def span_of(image: np.ndarray) -> Span:
    """The lowest and the highest value."""
    return float(image.min()), float(image.max())


def joined(one: Span | None, other: Span) -> Span:
    """From the lower start to the higher end of both."""
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _levels_of(spans: Sequence[Span]) -> tuple[float, float, float]:
    """(lowest, highest, span) of the sources' levels. A gap that lies between the levels of all is not in the span."""
    pieces = sorted(spans)
    low, reached, span = pieces[0][0], pieces[0][0], 0.0
    for start, stop in pieces:
        span += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return low, reached, span
