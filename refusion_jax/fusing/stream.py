"""Fusing a stream of pairs, such as the frames of two cameras: one frame ahead, with levels that do not flicker.

What F does at a pixel depends on sums over the whole picture, and the range step on the picture's lowest and highest
values. Both are held over the frames, or else what is still would change with whatever enters.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import jax
import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.fusing.tiles import added_sums
from refusion_jax.imaging.color import finished_picture
from refusion_jax.imaging.ranges import SAMPLED, LinearStep, Span, Spans, joined, span_of, to_range

REMEMBERED = 50  # frames that a running mean goes back, about
_PATIENCE = 5  # seconds that the pair under way is waited for when no more are wanted

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Held:
    """What all frames of a video have in common.

    Attributes:
      sums: those of F's attention, one for each of its passes but the last; None where F has none.
      step: from F's output to the levels of the sources.
    """

    sums: list[Any] | None
    step: LinearStep


@dataclass(frozen=True)
class Network:
    """What a stream needs of a model.

    Attributes:
      lumas: (a, b) -> both lumas (H,W) in [0,1] in the trained order, and whether that is (b, a).
      output: (first, second, held=None, seen=None) -> F's output (H,W), see `tiles.fuse_tiled`.
    """

    lumas: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, bool]]
    output: Callable[..., np.ndarray]


class _Prepared(NamedTuple):
    """A pair on its way: the pictures as they came, their lumas in the trained order and the span of each."""

    pictures: Pair
    lumas: Pair
    spans: list[Span]


class _Order:
    """Lumas in the order that the first pair has: for meie it is by brightness, and must not change within a video."""

    def __init__(self, network: Network):
        self._network = network
        self._swapped: bool | None = None

    def __call__(self, pair: Pair) -> _Prepared:
        a, b = (np.asarray(image) for image in pair)
        first, second, swapped = self._network.lumas(a, b)
        if self._swapped is None:
            self._swapped = swapped
        lumas = (first, second) if swapped == self._swapped else (second, first)
        return _Prepared((a, b), lumas, [span_of(luma) for luma in lumas])


@dataclass
class _RunningMean:
    """The mean of trees of arrays that come one after the other; those longer ago than REMEMBERED hardly count."""

    value: Any = None
    count: int = 0

    def add(self, tree: Any) -> Any:
        """The mean with one more."""
        self.count = min(self.count + 1, REMEMBERED)
        weight = 1 / self.count
        self.value = tree if self.count == 1 else jax.tree.map(lambda m, x: m + weight * (x - m), self.value, tree)
        return self.value


@dataclass
class _Running:
    """Means over the frames so far, for each size of pictures its own."""

    sums: dict[tuple, _RunningMean] = field(default_factory=dict)
    spans: dict[tuple, _RunningMean] = field(default_factory=dict)

    def output(self, network: Network, lumas: Pair) -> np.ndarray:
        """F's output with the attention of the frames before; then takes this frame's own into the mean."""
        mean = self.sums.setdefault(lumas[0].shape, _RunningMean())
        seen: list[Any] = []
        output = network.output(*lumas, held=mean.value, seen=seen)
        if seen:
            mean.add(seen)
        return output

    def step(self, output: np.ndarray, sources: list[Span]) -> LinearStep:
        """The range step of a frame, once it is taken into the mean.

        It ends where the frame itself does if that is further out: what is hotter than all before is not cut.
        """
        own = Spans()
        own.add(output, sources)
        mean = self.spans.setdefault(output.shape, _RunningMean()).add(np.array([own.output, *own.sources]))
        (low, high), *levels = ((float(low), float(high)) for low, high in mean)
        step = Spans((low, high), levels).step()
        ends = [end for source in sources for end in source]
        return LinearStep(step.middle, step.gain, step.level, min(step.low, *ends), max(step.high, *ends))


def fuse_stream(
    network: Network, pairs: Iterable[Pair], rule: str = "sources", gray: bool = False, held: Held | None = None
) -> Iterator[np.ndarray]:
    """The fused pictures of a stream of pairs, in order; see `model.Model.fuse_stream`."""
    coming, in_order, running = iter(pairs), _Order(network), _Running()
    is_running = held is None and rule == "sources"

    def prepare() -> _Prepared | None:
        pair = next(coming, None)
        return None if pair is None else in_order(pair)

    def output(prepared: _Prepared) -> np.ndarray:
        if is_running:
            return running.output(network, prepared.lumas)
        return network.output(*prepared.lumas, held=held.sums if held is not None else None)

    for prepared, future in _ahead(prepare, output):
        fused = future.result()
        if held is not None:
            luma = held.step(fused)
        elif is_running:
            luma = running.step(fused, prepared.spans)(fused)
        else:
            luma = to_range(fused, prepared.spans, rule)
        yield finished_picture(luma, prepared.pictures, gray)


class _Reader:
    """A thread that makes one call again and again, each time that it is asked. Unlike those of a ThreadPoolExecutor it
    does not keep the process alive: a camera may never give the next frame."""

    def __init__(self, call: Callable[[], Any]):
        self._call = call
        self._asked: SimpleQueue[Future | None] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def begin(self) -> Future:
        """Asks for one more call; what it will give."""
        future: Future = Future()
        self._asked.put(future)
        return future

    def end(self) -> None:
        """Ends the thread, after the call under way."""
        self._asked.put(None)

    def _work(self) -> None:
        while (future := self._asked.get()) is not None:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._call())
            except BaseException as error:
                future.set_exception(error)


def _ahead(
    prepare: Callable[[], _Prepared | None], output: Callable[[_Prepared], np.ndarray]
) -> Iterator[tuple[_Prepared, Future]]:
    """Pairs with their outputs under way: while one is used, the next is in the network and the one after it is read.

    A result is given as soon as it is there, also where the next pair takes long to come. What `prepare` raises is
    raised behind the last result.
    """
    reader, networks = _Reader(prepare), ThreadPoolExecutor(1)
    waiting: deque[tuple[_Prepared, Future]] = deque()
    failure = None
    ready: Future | None = reader.begin()
    try:
        while ready is not None or waiting:
            if ready is not None and len(waiting) < 2:
                wait([ready, *(future for _, future in waiting)], return_when=FIRST_COMPLETED)
                if ready.done():
                    failure = ready.exception()
                    prepared = None if failure is not None else ready.result()
                    ready = None
                    if prepared is not None:
                        waiting.append((prepared, networks.submit(output, prepared)))
                        ready = reader.begin()
                    continue
            yield waiting.popleft()
        if failure is not None:
            raise failure
    finally:
        reader.end()
        networks.shutdown(cancel_futures=True)
        if ready is not None and not ready.cancel():
            wait([ready], _PATIENCE)  # a thread within C++ at the interpreter's end would abort the process


def look_at(network: Network, pairs: Callable[[], Iterable[Pair]], seen: Callable[[], None]) -> Held:
    """What the frames of a video have in common; see `model.Model.look_at`."""
    in_order, count, sources = _Order(network), 0, []
    for prepared in map(in_order, pairs()):
        known = sources or prepared.spans
        sources = [joined(*both) for both in zip(known, prepared.spans, strict=True)]
        count += 1
        seen()
    if not count:
        raise InputError("expected at least one pair of frames to find a range of")

    def sampled() -> Iterator[Pair]:
        for pair in islice(pairs(), 0, None, -(-count // SAMPLED)):
            yield in_order(pair).lumas
            seen()

    each: list[list[Any]] = []
    for lumas in sampled():
        turns: list[Any] = []
        network.output(*lumas, seen=turns)
        each.append(turns)
    sums = added_sums(each)
    spans = Spans()
    for lumas in sampled():
        spans.add(network.output(*lumas, held=sums), sources)
    return Held(sums, spans.step())
