"""The progress bar of a training: losses, steps per second, and the time left at each phase's own pace."""

import sys

from tqdm import tqdm

from refusion_jax.method.algorithm import Schedule
from refusion_jax.training.feed import Block


def clock(seconds: float) -> str:
    """H:MM:SS, or M:SS under an hour."""
    seconds = int(seconds)
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Progress:
    """A tqdm bar over all steps. Meta steps cost several fusion steps, so each phase keeps its own mean time."""

    def __init__(self, total: int, done: int, enabled: bool = True, notes: bool = True):
        self._notes = notes
        layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = tqdm(
            total=total,
            initial=done,
            bar_format=layout,
            disable=not enabled,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 15,
            file=sys.stderr,
        )
        self._seconds: dict[str, float] = {}

    def step(self, block: Block, schedule: Schedule, seconds: float | None, losses: str) -> None:
        """A block of steps done. seconds: of one step, None for a phase's first (compilation)."""
        phase, left = block.phase, schedule.left(block.number)
        if seconds is not None:
            old = self._seconds.get(phase, seconds)
            self._seconds[phase] = 0.9 * old + 0.1 * seconds
        self._bar.set_description_str(f"epoch {block.epoch}/{schedule.epochs} {phase:6s}", refresh=False)
        pace = self._seconds.get(phase)
        known = all(k in self._seconds for k, n in left.items() if n)
        text = f"{1 / pace:.2f} steps/s" if pace else "compiling"
        text += f", {clock(sum(n * self._seconds.get(k, 0) for k, n in left.items()))} left" if known else ""
        self._bar.set_postfix_str(f"{text}{', ' if losses else ''}{losses}", refresh=False)
        self._bar.update(block.length)

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._notes:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()
