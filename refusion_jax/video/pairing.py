"""Frames of two videos paired by the time at which they are shown."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from refusion_jax.video.reading import Frame


class TimedPair(NamedTuple):
    """What is shown at a time, seconds since the start of B."""

    time: Fraction
    a: Frame
    b: Frame


def paired(
    a: Iterable[Frame],
    b: Iterable[Frame],
    offset: Fraction = Fraction(0),
    periods: tuple[Fraction, Fraction] = (Fraction(1, 25), Fraction(1, 25)),
    every: Fraction | None = None,
) -> Iterator[TimedPair]:
    """Pairs over the time that both videos share.

    Each frame of B has the frame of A whose time + offset is nearest to its own, the earlier of two that are equally
    near. So a frame of A may be in several pairs or in none. every: seconds between two pairs; then both videos give
    the frames nearest to those times, from the first frame of B on. periods: seconds for which a frame of A and of B is
    shown: half of it before its time and all of it behind the last one it still counts.
    """
    nearest_a = _nearest(a, offset, periods[0])
    if every is None:
        for frame in b:
            found = nearest_a(frame.time)
            if found is _ENDED:
                return
            if found is not None:
                yield TimedPair(frame.time, found, frame)
        return
    b = iter(b)
    first = next(b, None)
    if first is None:
        return
    nearest_b = _nearest(_chain(first, b), Fraction(0), periods[1])
    for number in count():
        time = first.time + number * every
        found_a, found_b = nearest_a(time), nearest_b(time)
        if found_a is _ENDED or found_b is _ENDED:
            return
        if found_a is not None and found_b is not None:
            yield TimedPair(time, found_a, found_b)


_ENDED = Frame(Fraction(0), None)


def _chain(first: Frame, others: Iterable[Frame]) -> Iterator[Frame]:
    yield first
    yield from others


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
