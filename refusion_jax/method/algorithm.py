"""Algorithm 1 as a loop: in which order the training goes through meta steps and fusion steps, and on which batches.

    for step in algorithm_1(schedule, open_streams):
        state, metrics = {"meta": meta_step, "fusion": fusion_step}[step.phase](state, *step.batches)

Both steps are steps.make_steps'. `refusion_jax.training` wraps this loop with devices, checkpoints and records.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from refusion_jax.settings import setting


@dataclass(frozen=True)
class Schedule:
    """Algorithm 1's lengths and the learning rates."""

    epochs: int = setting(50, least=1)  # L
    meta_steps: int = setting(600, least=0)  # M, an epoch
    fusion_steps: int = setting(1600, least=0)  # N, an epoch
    # Epochs that have meta steps; in later ones P stays as it is. 0 = all, as in the paper.
    meta_epochs: int = setting(0, least=0)
    lr_f: float = setting(1e-4, above=0)  # Adam, F
    lr_r: float = setting(1e-4, above=0)  # Adam, R
    lr_p: float = setting(1e-4, above=0)  # of P's optimiser
    lr_decay: float = setting(1.0, above=0)  # all learning rates times this ...
    lr_decay_epochs: int = setting(10, least=1)  # ... every so many epochs
    lr_cosine: bool = False  # and, on top, half a cosine from the first step to 0 at the last
    # Fusion steps before the first epoch, with the w and v that P begins at: it then asks a R that has begun. The paper
    # has none.
    warmup_steps: int = setting(0, least=0)

    @property
    def taught(self) -> int:
        """Epochs that have meta steps, the first ones."""
        return min(self.meta_epochs or self.epochs, self.epochs)

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch that has meta steps."""
        return self.meta_steps + self.fusion_steps

    @property
    def all_meta_steps(self) -> int:
        """Meta steps of the whole training."""
        return self.taught * self.meta_steps

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.warmup_steps + self.all_meta_steps + self.epochs * self.fusion_steps

    def meta_steps_in(self, epoch: int) -> int:
        """Meta steps of an epoch, counted from 1."""
        return self.meta_steps if epoch <= self.taught else 0

    def position(self, done: int) -> tuple[int, int]:
        """(whole epochs, steps of the one that follows) within the first `done` steps; (0, 0) in the warm-up."""
        done = max(done - self.warmup_steps, 0)
        beyond = done - self.taught * self.per_epoch
        if beyond < 0 or self.fusion_steps == 0:
            return divmod(done, self.per_epoch)
        epochs, inside = divmod(beyond, self.fusion_steps)
        return self.taught + epochs, inside

    def ends_epoch(self, done: int) -> bool:
        """Whether the last of `done` steps was the last of an epoch."""
        return done > self.warmup_steps and self.position(done)[1] == 0

    def left(self, done: int) -> dict[str, int]:
        """Steps to go after `done` steps, by phase."""
        epochs, inside = self.position(done)
        meta = self.all_meta_steps - min(epochs * self.meta_steps + min(inside, self.meta_steps), self.all_meta_steps)
        return {"meta": meta, "fusion": self.total - done - meta}

    def rate(self, first: float, steps: int, before: int = 0, epochs: int | None = None) -> optax.Schedule:
        """A learning rate by the number of updates made: `before` of them at the first rate, then `steps` an epoch.

        epochs: how many have updates; by default all.
        """
        if self.lr_decay == 1 and not self.lr_cosine:
            return optax.constant_schedule(first)  # trainings of all lengths then share their compiled steps
        stairs = optax.exponential_decay(1.0, self.lr_decay_epochs * steps, self.lr_decay, staircase=True)
        cosine = optax.cosine_decay_schedule(1.0, max((epochs or self.epochs) * steps, 1) if self.lr_cosine else 1)

        def rate(count):
            count = jnp.maximum(count - before, 0)
            return first * stairs(count) * (cosine(count) if self.lr_cosine else 1.0)

        return rate


class Step(NamedTuple):
    """One step of the training and the batches it is fed, {"a", "b"}: (B,H,W,1) each."""

    number: int  # of all steps, from 1
    epoch: int  # from 1; 0 = the warm-up
    phase: str  # "meta": lines 5-8, steps.meta_step; "fusion": lines 11-12, steps.fusion_step
    batches: tuple[Any, ...]  # (meta-train, meta-test) or (training,)


def algorithm_1(
    schedule: Schedule, open_streams: Callable[[int, str, int], Sequence[Iterator]], start: int = 0
) -> Iterator[Step]:
    """The steps of Algorithm 1 in order, after `start` that are done already. Numbers in comments: the paper's lines.

    open_streams(epoch, phase, first): endless streams of batches, each beginning with its batch number `first`
    (from 0): for "meta" (meta-train, meta-test), out of two disjoint pools of this epoch; for "fusion" (training,).
    Steps of a warm-up, which the paper does not have, come first, as fusion steps of epoch 0.
    """
    number = start
    if start < schedule.warmup_steps:
        (training,) = open_streams(0, "fusion", start)
        for _ in range(start, schedule.warmup_steps):
            number += 1
            yield Step(number, 0, "fusion", (next(training),))
    begun, done = schedule.position(start)
    for epoch in range(begun + 1, schedule.epochs + 1):  # 2
        meta_steps = schedule.meta_steps_in(epoch)
        first = min(done, meta_steps)
        meta_train, meta_test = open_streams(epoch, "meta", first)  # 3
        for _ in range(first, meta_steps):  # 4
            number += 1
            yield Step(number, epoch, "meta", (next(meta_train), next(meta_test)))  # 5-8: P by Eq. 7-10
        # 9
        first = max(done - meta_steps, 0)
        (training,) = open_streams(epoch, "fusion", first)
        for _ in range(first, schedule.fusion_steps):  # 10
            number += 1
            yield Step(number, epoch, "fusion", (next(training),))  # 11-12: F by Eq. 11, R by Eq. 12
        done = 0  # 13-14
