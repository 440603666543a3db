"""What a run writes besides checkpoints: metrics.jsonl, TensorBoard event files, preview pictures."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image
from refusion_jax.runtime.disk import require_space
from refusion_jax.runtime.writing import write_bytes

METRICS = "metrics.jsonl"


def write_text(path: Path, text: str) -> None:
    """A whole text file or nothing. Raises InputError where it cannot be written."""
    write_bytes(path, text.encode())


def read_metrics(run: Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The whole lines of RUN/metrics.jsonl up to a step. A last line cut off by a kill is left out."""
    path, lines = run / METRICS, []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if last_step is None or record["step"] <= last_step:
                lines.append(record)
    return lines


class Recorder:
    """Appends to the run's records. After a resume from `step`, whatever was recorded beyond it is dropped first."""

    def __init__(self, run: Path, step: int, tensorboard: bool):
        self._run = run
        kept = read_metrics(run, step)
        write_text(run / METRICS, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = (run / METRICS).open("a", encoding="utf-8")
        self._board = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, head: dict[str, Any], values: dict[str, float]) -> None:
        """One line of metrics.jsonl: {"step", ...head, ...values}; the values also go to TensorBoard by phase."""
        require_space(self._run)
        try:
            self._file.write(json.dumps({"step": step, **head, **values}) + "\n")
            self._file.flush()
            if self._board:
                for name, value in values.items():
                    self._board.add_scalar(f"{head['phase']}/{name}", value, step)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write {self._run / METRICS}: {reason}; what was written is kept") from None

    def picture(self, step: int, epoch: int, image: np.ndarray) -> Path:
        """A preview picture, (H,W,3) uint8: RUN/previews/epoch_NNNN.png and TensorBoard. Returns the path."""
        path = self._run / "previews" / f"epoch_{epoch:04d}.png"
        write_image(path, image)
        if self._board:
            self._board.add_image("preview", image, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flushes and closes the files. Errors here would hide what ended the run."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board:
            with contextlib.suppress(OSError):
                self._board.close()
