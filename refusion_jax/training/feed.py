"""What the steps are fed: Algorithm 1's order of phases, and batches put on the devices ahead of their use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refusion_jax.data.batches import STREAMS


@dataclass(frozen=True)
class Schedule:
    """Algorithm 1's lengths: where a global step lies."""

    epochs: int
    meta: int
    fusion: int

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch."""
        return self.meta + self.fusion

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.per_epoch

    def locate(self, step: int) -> tuple[int, str, bool]:
        """(epoch from 0, phase, whether it is the phase's first step) of the step after `step` done ones."""
        epoch, position = divmod(step, self.per_epoch)
        return epoch, "meta" if position < self.meta else "fusion", position in (0, self.meta)

    def phase_left(self, step: int) -> int:
        """Steps from `step` done ones to the end of the phase that follows them."""
        position = step % self.per_epoch
        return (self.meta if position < self.meta else self.per_epoch) - position

    def left(self, step: int) -> dict[str, int]:
        """Steps to go, by phase."""
        epoch, position = divmod(step, self.per_epoch)
        meta = epoch * self.meta + min(position, self.meta)
        return {"meta": self.epochs * self.meta - meta, "fusion": self.epochs * self.fusion - (step - meta)}


@dataclass(frozen=True)
class Block:
    """What one program of the device works on: the batches of one step, or of several in a row of one phase."""

    epoch: int  # from 0
    phase: str
    length: int  # steps
    batches: list[dict[str, Any]]  # one a stream; with length > 1 an axis of steps in front of each array
    positions: dict[str, Any]  # of the streams, once these batches are used


class Feed:
    """Blocks in order. `prefetch` prepares the next one while the devices work, `take` hands it out.

    open_streams(epoch, phase) -> {stream name: Grain iterator}; put(batch, stacked) puts a batch on the devices.
    A block has `longest` steps, or one where the phase or a multiple of `boundary` (0: none) ends before: two programs
    are enough. positions: of the streams, as the checkpoint has them that the training goes on from.
    """

    def __init__(
        self,
        schedule: Schedule,
        open_streams: Callable,
        put: Callable,
        *,
        longest: int = 1,
        boundary: int = 0,
        positions: dict[str, Any] | None = None,
    ):
        self._schedule, self._open, self._put = schedule, open_streams, put
        self._longest, self._boundary = longest, boundary
        self._positions = positions or {}
        self._streams: dict[str, Any] = {}
        self._ahead: Block | Exception | None = None

    def take(self, step: int) -> Block:
        """The block after `step` done steps. Raises what reading it has raised."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return self._load(step)
        if isinstance(ahead, Exception):
            raise ahead
        return ahead

    def prefetch(self, step: int) -> None:
        """Prepares the block after `step` done steps; an error is kept for `take`, the steps before it are not lost."""
        if step < self._schedule.total:
            try:
                self._ahead = self._load(step)
            except Exception as error:
                self._ahead = error

    def _length(self, step: int) -> int:
        room = self._schedule.phase_left(step)
        if self._boundary:
            room = min(room, self._boundary - step % self._boundary)
        return self._longest if room >= self._longest else 1

    def _load(self, step: int) -> Block:
        epoch, phase, first = self._schedule.locate(step)
        if first or set(self._streams) != set(STREAMS[phase]):
            self._streams = self._open(epoch, phase)
            if not first:
                for name, stream in self._streams.items():
                    stream.set_state(self._positions[name])
        length = self._length(step)
        batches = []
        for name in STREAMS[phase]:
            parts = [next(self._streams[name]) for _ in range(length)]
            whole = parts[0] if length == 1 else {key: np.stack([p[key] for p in parts]) for key in parts[0]}
            batches.append(self._put(whole, stacked=length > 1))
        return Block(epoch, phase, length, batches, {name: s.get_state() for name, s in self._streams.items()})
