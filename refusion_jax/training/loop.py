"""The training of a run: the steps of Algorithm 1, checkpointed, resumable to the byte, and watched."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.config import Config
from refusion_jax.errors import InputError
from refusion_jax.training import devices, previews, processes, validation
from refusion_jax.training.feed import Block
from refusion_jax.training.progress import Progress
from refusion_jax.training.records import Recorder
from refusion_jax.training.sources import TrainingData
from refusion_jax.training.stopping import TIME_LIMIT, StopRequest, reason
from refusion_jax.training.trainer import Trainer
from refusion_jax.training.watch import Watch, losses_line
from refusion_jax.weights.orbax_folder import newest


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: at which step, whether that is the last one, and why it stopped earlier."""

    step: int
    finished: bool
    reason: str | None = None
    signal: int | None = None


def train(
    run: Path, config: Config, data: TrainingData, *, max_minutes: float | None = None, bar: bool = True
) -> Outcome:
    """Trains in an existing run directory from its newest checkpoint (or from the start) to the end of the schedule.

    Writes checkpoints, metrics.jsonl, TensorBoard events and previews as it goes. SIGINT, SIGTERM and max_minutes end
    it after a checkpoint. Raises InputError when a loss or gradient norm is not finite, when input cannot be read or
    output not written, when another process of this training is lost; the last good checkpoint stays.

    Several devices share each batch (training/devices.py). Several processes (training/processes.py) call this with the
    same arguments; process 0 alone shows progress and writes records and previews.
    """
    # The clock starts before the compilation: the limit is on the whole call.
    with StopRequest(max_minutes) as stop:
        trainer = Trainer(run, config, data)
        lead = processes.is_lead()
        recorder = Recorder(run, trainer.step, config.log.tensorboard) if lead else None
        progress = Progress(config.train.total, trainer.step, bar and lead, notes=lead)
        try:
            stopped_by = Loop(trainer, recorder, progress).run(stop)
        except Exception as error:
            lost = processes.is_lost(error)
            if not lost and not isinstance(error, InputError):
                raise
            last = newest(run)
            where = "the last good checkpoint is that of step " + last.name if last else "there is no checkpoint yet"
            text = processes.lost_line(error) if lost else error
            raise InputError(f"{text}; {where} in {run}") from error
        finally:
            progress.close()
            if recorder:
                recorder.close()
            trainer.manager.close()
    if not stopped_by:
        return Outcome(trainer.step, True)
    return Outcome(trainer.step, False, reason(stopped_by), None if stopped_by == TIME_LIMIT else stopped_by)


class Loop:
    """What goes on around a trainer's steps: checkpoints, records, progress, scores and previews."""

    def __init__(self, trainer: Trainer, recorder: Recorder | None, progress: Progress):
        self._trainer, self._recorder, self._progress = trainer, recorder, progress
        self._config, self._schedule = trainer.config, trainer.config.train
        self._watch = Watch(recorder, self._config.log.every, devices.in_flight())
        self._agreement = processes.Agreement(trainer.mesh, devices.in_flight())
        self._programs_run: Counter = Counter()
        self._saved_at = time.monotonic()

    def run(self, stop: StopRequest) -> int:
        """Trains to the end (returns 0), or to a request to stop, after a checkpoint (returns the request)."""
        every = self._config.checkpoint.every_steps
        if self._trainer.step < self._schedule.total:
            self._progress.note("compiling the steps: about half a minute the first time, some seconds from then on")
        while self._trainer.step < self._schedule.total:
            stop_request, save_due = self._agreement.agree(stop.requested(), self._is_time_to_save())
            if stop_request:
                self._watch.flush()
                if self._trainer.step:
                    self._trainer.save()
                return stop_request
            block = self._advance()
            step = self._trainer.step
            epoch_done = self._schedule.ends_epoch(step)
            if epoch_done and validation.is_due(self._config, self._trainer.data.validation, block.epoch):
                self._watch.flush()
                self._validate(block.epoch)
            if epoch_done or save_due or (every and step % every == 0):
                self._save()
            if epoch_done and (block.epoch % self._config.log.preview_every == 0 or step == self._schedule.total):
                processes.from_lead(lambda epoch=block.epoch: self._preview(epoch))
        return 0

    def _is_time_to_save(self) -> bool:
        minutes = self._config.checkpoint.every_minutes
        return bool(minutes) and time.monotonic() - self._saved_at > 60 * minutes

    def _advance(self) -> Block:
        started = time.monotonic()
        block, metrics = self._trainer.advance()
        self._watch.add(block.number, {"epoch": block.epoch, "phase": block.phase}, metrics)
        measured = self._trainer.measured
        if self._recorder and measured and measured.step > block.number - block.length:
            head = {"epoch": block.epoch, "phase": "similarity"}
            self._recorder.scalars(measured.step, head, measured.scalars())
        # The first program of a kind compiles; the second still waits for it.
        self._programs_run[block.phase, block.length] += 1
        known = self._programs_run[block.phase, block.length] > 2
        self._progress.step(
            block,
            self._schedule,
            (time.monotonic() - started) / block.length if known else None,
            losses_line(self._watch.latest),
        )
        return block

    def _save(self) -> None:
        self._watch.flush()  # a checkpoint is only written of what has been found finite
        self._trainer.save()
        self._saved_at = time.monotonic()
        self._agreement.forget()

    def _validate(self, epoch: int) -> None:
        try:
            scores = processes.from_lead(lambda: validation.validate(self._trainer))
        except InputError as error:  # pictures too small for a metric, say: no reason to end a training
            self._progress.note(f"epoch {epoch}: the validation pairs could not be scored: {error}")
            return
        if self._recorder:
            self._recorder.scalars(self._trainer.step, {"epoch": epoch, "phase": "validation"}, scores)
        best = " (best so far, kept in best/)" if validation.keep_best(self._trainer, scores) else ""
        self._progress.note(f"epoch {epoch}: validation " + ", ".join(f"{k} {x:.3f}" for k, x in scores.items()) + best)

    def _preview(self, epoch: int) -> None:
        """A preview of validation pairs (of training pairs where none is held out)."""
        log, data = self._config.log, self._trainer.data
        pairs = data.validation if len(data.validation) else data.train
        if log.preview_pairs == 0 or self._recorder is None:
            return
        params = devices.single(self._trainer.state.params)
        rows = previews.preview_rows(params, self._trainer.functions, pairs, log.preview_pairs, log.preview_size)
        picture = previews.preview(rows, f"{self._config.task}, step {self._trainer.step}")
        if self._trainer.measured:
            picture = previews.below(picture, previews.similarity_picture(self._trainer.measured))
        path = self._recorder.picture(self._trainer.step, epoch, picture)
        self._progress.note(f"epoch {epoch}: {losses_line(self._watch.latest)}, preview {path}")
