"""Frames of two videos paired by the time at which they are shown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, count
from typing import NamedTuple

from refusion_jax.video.reading import Frame


class TimedPair(NamedTuple):
    """What is shown at a time, seconds since the start of B."""

    time: Fraction
    a: Frame
    b: Frame


class Followed(NamedTuple):
    """A video whose frames are looked up: `offset` seconds are added to their times; each is shown for `period`."""

    frames: Iterable[Frame]
    offset: Fraction
    period: Fraction


def paired(a: Followed, b: Followed, every: Fraction | None = None) -> Iterator[TimedPair]:
    """Pairs over the time that both videos share.

    Each frame of B has the frame of A that is nearest in time. So a frame of A may be in several pairs or in none.
    every: seconds between two pairs; then both videos give the frames nearest to those times, from the first frame of B
    on.
    """
    if every is None:
        for frame, nearest in together(b.frames, [a]):
            yield TimedPair(frame.time, nearest, frame)
        return
    coming = iter(b.frames)
    first = next(coming, None)
    if first is None:
        return
    grid = (Frame(first.time + number * every, None) for number in count())
    for at, *both in together(grid, [a, b._replace(frames=chain([first], coming))]):
        yield TimedPair(at.time, *both)


def together(leader: Iterable[Frame], others: Sequence[Followed]) -> Iterator[tuple[Frame, ...]]:
    """Each frame of the leader with the frame of each other video that is nearest in time, the earlier of two that are
    equally near, while all are there: from half a period before another's first frame to the end of its last."""
    nearest = [_nearest(*other) for other in others]
    for frame in leader:
        found = [at(frame.time) for at in nearest]
        if any(one is _ENDED for one in found):
            return
        there = [one for one in found if one is not None]
        if len(there) == len(found):
            yield frame, *there


_ENDED = Frame(Fraction(0), None)


def _nearest(frames: Iterable[Frame], offset: Fraction, period: Fraction) -> Callable[[Fraction], Frame | None]:
    """A function of rising times: the frame nearest to each, None before the first one, _ENDED behind the last."""
    coming = iter(frames)
    before: Frame | None = None
    after = next(coming, None)

    def at(time: Fraction) -> Frame | None:
        nonlocal before, after
        while after is not None and after.time + offset <= time:
            before, after = after, next(coming, None)
        if before is None:
            near = after is not None and after.time + offset - time <= period / 2
            return after if near else None if after is not None else _ENDED
        if after is None:
            return before if time - before.time - offset < period else _ENDED
        return before if time - before.time - offset <= after.time + offset - time else after

    return at
