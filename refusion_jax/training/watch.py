"""The watch over the steps' metrics: fetched late so that the device never waits, checked, averaged, recorded."""

import math
from collections import deque
from typing import Any

import jax
import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.training.records import Recorder


class Watch:
    """Collects the metrics of programs under way, checks them, and hands means over `every` steps to the recorder.

    At most `ahead` programs are under way when `add` returns: with 1, times are those of real work. Without a recorder
    the numbers are checked only.
    """

    def __init__(self, recorder: Recorder | None, every: int, ahead: int = 1):
        self._recorder, self._every, self._ahead = recorder, every, ahead
        self._under_way: deque[tuple[int, dict[str, Any], dict[str, jax.Array]]] = deque()
        self._pending: list[dict[str, np.float32]] = []
        self._head: dict[str, Any] = {}
        self._step = 0
        self.latest: dict[str, float] = {}

    def add(self, step: int, head: dict[str, Any], metrics: dict[str, jax.Array]) -> None:
        """Metrics of one step, or of several (K,) that end with `step`. Waits for the program `ahead` places before.

        A record is made once the steps up to a multiple of `every` are together, or the head (epoch, phase) changes.
        Raises InputError at the first number that is not finite.
        """
        self._under_way.append((step, head, metrics))
        while len(self._under_way) > self._ahead:
            self._fetch()

    def flush(self) -> None:
        """Waits for all that is under way, and records what is pending."""
        while self._under_way:
            self._fetch()
        self._record()

    def _fetch(self) -> None:
        last, head, metrics = self._under_way.popleft()
        fetched = {name: np.atleast_1d(x) for name, x in jax.device_get(metrics).items()}
        count = len(next(iter(fetched.values())))
        if head != self._head:
            self._record()
            self._head = head
        for i in range(count):
            self._step = last - count + 1 + i
            for name, values in fetched.items():
                if not math.isfinite(values[i]):
                    self._under_way.clear()
                    self._pending = []
                    raise InputError(
                        f"step {self._step} ({head['phase']}): {name} is {values[i]}, so the training stopped"
                    )
            self._pending.append({name: values[i] for name, values in fetched.items()})
            if self._step % self._every == 0:
                self._record()

    def _record(self) -> None:
        if not self._pending:
            return
        means = {k: float(np.mean([m[k] for m in self._pending])) for k in self._pending[0]}
        if self._recorder is not None:
            self._recorder.scalars(self._step, {**self._head, "averaged": len(self._pending)}, means)
        self.latest, self._pending = means, []


def losses_line(metrics: dict[str, float]) -> str:
    """The losses of the newest record, short, for the progress bar."""
    names = {"fusion": "L_f", "reconstruction": "L_r", "inner_fusion": "L_f", "outer_reconstruction": "L_r"}
    return " ".join(f"{short} {metrics[k]:.4f}" for k, short in names.items() if k in metrics)
