"""What the devices work on: the batches of Algorithm 1's steps, of one or several at a time, put there ahead of use."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refusion_jax.method.algorithm import Step


@dataclass(frozen=True)
class Block:
    """What one program of the device works on: one step, or several in a row of one phase."""

    number: int  # of its last step, from 1
    epoch: int  # from 1
    phase: str
    length: int  # steps
    batches: list[dict[str, Any]]  # as in Step; with length > 1 an axis of steps in front of each array


class Feed:
    """Blocks out of steps. `prefetch` prepares the next one while the devices work, `take` hands it out.

    put(batch, stacked) puts a batch on the devices. A block has `longest` steps, or one where the phase, the steps or a
    multiple of `boundary` (0: none) end before: two programs are enough.
    """

    def __init__(self, steps: Iterator[Step], put: Callable, *, longest: int = 1, boundary: int = 0):
        self._steps, self._put = steps, put
        self._longest, self._boundary = longest, boundary
        self._read: list[Step] = []
        self._error: Exception | None = None
        self._ahead: Block | None = None

    def take(self) -> Block:
        """The next block. Raises what reading it has raised, and StopIteration after the last one."""
        block, self._ahead = self._ahead or self._next(), None
        if block is None:
            raise self._error or StopIteration
        return block

    def prefetch(self) -> None:
        """Prepares the next block; an error is kept for `take`, the steps before it are not lost."""
        self._ahead = self._ahead or self._next()

    def _next(self) -> Block | None:
        while self._error is None and len(self._read) < self._longest:
            try:
                self._read.append(next(self._steps))
            except Exception as error:
                self._error = error
        if not self._read:
            return None
        steps = self._read[: self._longest if self._together() else 1]
        del self._read[: len(steps)]
        batches = [self._block(parts) for parts in zip(*(step.batches for step in steps), strict=True)]
        last = steps[-1]
        return Block(last.number, last.epoch, last.phase, len(steps), batches)

    def _together(self) -> bool:
        """Whether the steps that were read fill a whole block."""
        steps = self._read
        alike = len({(step.epoch, step.phase) for step in steps}) == 1
        cut = self._boundary and any(step.number % self._boundary == 0 for step in steps[:-1])
        return len(steps) == self._longest and alike and not cut

    def _block(self, parts: tuple[dict[str, np.ndarray], ...]) -> dict[str, Any]:
        """The batches of one stream, on the devices."""
        if len(parts) == 1:
            return self._put(parts[0], stacked=False)
        return self._put({key: np.stack([part[key] for part in parts]) for key in parts[0]}, stacked=True)
