"""Algorithm 1: L epochs of M meta steps and N fusion steps, checkpointed, resumable to the byte, and watched."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from refusion_jax import checkpoints, networks, plots
from refusion_jax.compiling import jit, run_once
from refusion_jax.config import Config, to_dict, to_toml
from refusion_jax.data.pipeline import STREAMS, LumaPairs, epoch_streams, subseed
from refusion_jax.data.sources import TrainingData
from refusion_jax.errors import InputError
from refusion_jax.evaluation import validation_scores
from refusion_jax.inference import stretch
from refusion_jax.meta import LossSettings, Networks, linen_networks, propose_weights
from refusion_jax.metrics import PROTOCOLS, TASK_METRICS
from refusion_jax.training.progress import Progress
from refusion_jax.training.records import Recorder, write_text
from refusion_jax.training.steps import Rates, TrainState, init_params, init_state, make_optimizers, make_steps
from refusion_jax.training.stopping import StopRequest
from refusion_jax.training.warm_start import initial_trees, started_from

CONFIG = "config.toml"
PAIRS = "pairs.json"


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: at which step, whether that is the last one, and why it stopped earlier."""

    step: int
    finished: bool
    reason: str | None = None
    signal: int | None = None


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

    def left(self, step: int) -> dict[str, int]:
        """Steps to go, by phase."""
        epoch, position = divmod(step, self.per_epoch)
        meta = epoch * self.meta + min(position, self.meta)
        return {"meta": self.epochs * self.meta - meta, "fusion": self.epochs * self.fusion - (step - meta)}


def create_run(run: Path, config: Config, data: TrainingData) -> None:
    """Makes a new run directory with config.toml and pairs.json. A folder that holds anything is an InputError."""
    try:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise InputError(
                f"{run} exists already; continue that run with --resume, or choose another folder with --out"
            )
        run.mkdir(parents=True, exist_ok=True)
        pairs = {"train": data.train.names, "validation": data.validation.names, "sha256": data.fingerprint}
        write_text(run / PAIRS, json.dumps(pairs, indent=1) + "\n")
        write_text(run / CONFIG, to_toml(config))  # last: its presence makes the folder a run
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write the run directory {run}: {reason}; choose another --out") from None


class Watch:
    """Collects the steps' metrics without waiting for each, checks them, and hands means to the recorder."""

    def __init__(self, recorder: Recorder, every: int):
        self._recorder, self._every = recorder, every
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._head: dict[str, Any] = {}
        self.latest: dict[str, float] = {}

    def add(self, step: int, head: dict[str, Any], metrics: dict[str, jax.Array]) -> None:
        """One step's metrics; written once `every` steps are together or the phase changes.

        Waits for the step before, so that at most one step is under way and times are those of real work.
        """
        if self._pending and head != self._head:
            self.flush()
        self._head = head
        if self._pending:
            jax.block_until_ready(self._pending[-1][1])
        self._pending.append((step, metrics))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Waits for the pending metrics, raises InputError at the first that is not finite, records their mean."""
        if not self._pending:
            return
        fetched = jax.device_get([m for _, m in self._pending])
        for (step, _), metrics in zip(self._pending, fetched, strict=True):
            for name, value in metrics.items():
                if not math.isfinite(value):
                    self._pending = []
                    raise InputError(f"step {step} ({self._head['phase']}): {name} is {value}, so the training stopped")
        means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
        self._recorder.scalars(self._pending[-1][0], {**self._head, "averaged": len(fetched)}, means)
        self.latest, self._pending = means, []


def losses_line(metrics: dict[str, float]) -> str:
    """The losses of the newest record, short, for the progress bar."""
    names = {"fusion": "L_f", "reconstruction": "L_r", "inner_fusion": "L_f", "outer_reconstruction": "L_r"}
    return " ".join(f"{short} {metrics[k]:.4f}" for k, short in names.items() if k in metrics)


def preview_rows(
    state: TrainState, nets: dict[str, Any], pairs: LumaPairs, count: int, size: int
) -> list[dict[str, np.ndarray]]:
    """The rows of plots.preview for the first pairs, cut to one centre square that all of them have."""
    shown = [pairs[i] for i in range(min(count, len(pairs)))]
    size = min([size, *(min(p["a"].shape) for p in shown)])
    rows = []
    for pair in shown:
        height, width = pair["a"].shape
        top, left = (height - size) // 2, (width - size) // 2
        a, b = (pair[k][top : top + size, left : left + size].astype(np.float32) / 255 for k in "ab")
        inputs = a[None, :, :, None], b[None, :, :, None]
        fused = nets["fuse"](state.params_f, *inputs)
        rebuilt = nets["reconstruct"](state.params_r, fused)
        w, v = nets["propose"](state.params_p, *inputs)
        rows.append(
            {"a": a, "b": b}
            | {k: np.asarray(x)[0, :, :, 0] for k, x in zip(("fused", "rebuilt_a", "rebuilt_b", "w_a", "v_a"),
                                                            (fused, *rebuilt, w, v), strict=True)}  # fmt: skip
        )
    return rows


class Trainer:
    """One run: the compiled steps, the state, the data streams and the records. `train` drives it."""

    def __init__(self, run: Path, config: Config, data: TrainingData):
        self.run, self.config, self.data = run, config, data
        train = config.train
        self.schedule = Schedule(train.epochs, train.meta_steps, train.fusion_steps)
        modules = networks.build(**to_dict(config)["model"])
        self.networks: Networks = linen_networks(*modules)
        self.loss = LossSettings(**to_dict(config)["loss"])
        optimizers = make_optimizers(config.meta.optimizer, config.meta.adam_eps)
        rates = Rates(
            train.lr_f, train.lr_r, train.lr_p, config.meta.eta_f or None, config.meta.eta_r or None,
            train.lr_decay, train.lr_decay_epochs * self.schedule.per_epoch,
        )  # fmt: skip
        meta_step, fusion_step = make_steps(
            self.networks, self.loss, optimizers, rates,
            inner_steps=config.meta.inner_steps, first_order=config.meta.first_order,
        )  # fmt: skip
        self.steps = {"meta": jit(meta_step, donate_argnums=0), "fusion": jit(fusion_step, donate_argnums=0)}
        self.shown = {
            "fuse": jit(self.networks.fuse),
            "reconstruct": jit(self.networks.reconstruct),
            "propose": jit(lambda p, a, b: propose_weights(p, self.networks, (a, b), self.loss)),
        }
        channels = networks.gradient_channels(config.loss.proposal_form or config.loss.sobel_form)

        def fresh(key):
            return init_state(*init_params(modules, key, channels), optimizers)

        key = jax.random.key(subseed(config.seed, 0))
        self.manager = checkpoints.open_manager(run, config.checkpoint.keep)
        self.streams: dict[str, Any] = {}
        self._saved_positions: dict[str, Any] = {}
        self.step = 0
        found = checkpoints.restore(self.manager, jax.eval_shape(fresh, key))
        if found is None:
            self.state = started_from(run_once(fresh, key), initial_trees(config))
        else:
            self.state, info = found
            self.step = info["step"]
            self._saved_positions = info["streams"]

    def open_streams(self, epoch: int, phase: str, fresh: bool) -> None:
        """The phase's data streams; put back where the checkpoint left them unless the phase begins here."""
        how = self.config.data
        self.streams = epoch_streams(
            self.data.train, phase, self.config.seed, epoch,
            crop=how.crop, batch=how.batch, flips=how.flips, swap=how.swap_sources,
        )  # fmt: skip
        if not fresh:
            for name, stream in self.streams.items():
                stream.set_state(self._saved_positions[name])

    def save(self) -> None:
        """A checkpoint of this step: state, config, and the streams' positions."""
        info = {
            "config": to_dict(self.config),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "data_sha256": self.data.fingerprint,
        }
        checkpoints.save(self.manager, self.state, info)

    def advance(self) -> tuple[str, int, dict[str, jax.Array]]:
        """One step. Returns (phase, epoch from 0, metrics still on the device)."""
        epoch, phase, first = self.schedule.locate(self.step)
        if first or set(self.streams) != set(STREAMS[phase]):
            self.open_streams(epoch, phase, first)
        batch = [next(self.streams[name]) for name in STREAMS[phase]]
        self.state, metrics = self.steps[phase](self.state, *batch)
        self.step += 1
        return phase, epoch, metrics

    def validate(self) -> dict[str, float]:
        """Mean scores of the held-out pairs by the paper's protocol, with the range step fuse.py applies."""
        how = self.config.validation
        held_out = self.data.validation
        shown = (held_out[i] for i in range(min(how.pairs, len(held_out))))

        def fuse_luma(a, b):
            inputs = (x[None, :, :, None].astype(np.float32) / 255 for x in (a, b))
            return stretch(np.asarray(self.shown["fuse"](self.state.params_f, *inputs))[0, :, :, 0])

        return validation_scores(
            fuse_luma, ((p["a"], p["b"]) for p in shown), how.metrics or TASK_METRICS[self.config.task]
        )

    def keep_best(self, scores: dict[str, float]) -> bool:
        """Keeps this state in RUN/best when its score by validation.best beats the one there. Returns whether."""
        name = self.config.validation.best
        manager = checkpoints.open_manager(self.run, 1, checkpoints.BEST)
        last, sign = manager.latest_step(), 1 if PROTOCOLS["paper"][name].higher_is_better else -1
        if last is not None:
            before = checkpoints.read_info(self.run / checkpoints.BEST / str(last))["scores"].get(name)
            if before is not None and sign * scores[name] <= sign * before:
                manager.close()
                return False
        checkpoints.save(manager, self.state, {"config": to_dict(self.config), "scores": scores})
        manager.close()
        return True

    def preview(self) -> np.ndarray | None:
        """The preview picture of validation pairs (of training pairs where none is held out)."""
        log = self.config.log
        pairs = self.data.validation if len(self.data.validation) else self.data.train
        if log.preview_pairs == 0:
            return None
        rows = preview_rows(self.state, self.shown, pairs, log.preview_pairs, log.preview_size)
        return plots.preview(rows, f"{self.config.task}, step {self.step}")


def train(
    run: Path, config: Config, data: TrainingData, *, max_minutes: float | None = None, bar: bool = True
) -> Outcome:
    """Trains in an existing run directory from its newest checkpoint (or from the start) to the end of the schedule.

    Writes checkpoints, metrics.jsonl, TensorBoard events and previews as it goes. SIGINT, SIGTERM and max_minutes end
    it after a checkpoint. Raises InputError when a loss or gradient norm is not finite, when input cannot be read or
    output not written; the last good checkpoint stays.
    """
    # The clock starts before the compilation: the limit is on the whole call.
    with StopRequest(max_minutes) as stop:
        trainer = Trainer(run, config, data)
        recorder = Recorder(run, trainer.step, config.log.tensorboard)
        progress = Progress(trainer.schedule.total, trainer.step, bar)
        try:
            reason = _run_to_end(trainer, recorder, progress, stop)
        except InputError as error:
            last = trainer.manager.latest_step()
            where = "there is no checkpoint yet" if last is None else f"the last good checkpoint is that of step {last}"
            raise InputError(f"{error}; {where} in {run}") from error
        finally:
            progress.close()
            recorder.close()
            trainer.manager.close()
        return Outcome(trainer.step, reason is None, reason, stop.signal)


def validation_due(trainer: Trainer, epoch: int) -> bool:
    """Whether the pairs held out are scored at the end of this epoch (from 1)."""
    every = trainer.config.validation.every
    return bool(every and len(trainer.data.validation)) and (epoch % every == 0 or epoch == trainer.schedule.epochs)


def _validate(trainer: Trainer, recorder: Recorder, progress: Progress, epoch: int) -> None:
    try:
        scores = trainer.validate()
    except InputError as error:  # pictures too small for a metric, say: no reason to end a training
        progress.note(f"epoch {epoch}: the validation pairs could not be scored: {error}")
        return
    recorder.scalars(trainer.step, {"epoch": epoch, "phase": "validation"}, scores)
    best = " (best so far, kept in best/)" if trainer.keep_best(scores) else ""
    progress.note(f"epoch {epoch}: validation " + ", ".join(f"{k} {x:.3f}" for k, x in scores.items()) + best)


def _run_to_end(trainer: Trainer, recorder: Recorder, progress: Progress, stop: StopRequest) -> str | None:
    config, schedule = trainer.config, trainer.schedule
    watch = Watch(recorder, config.log.every)
    runs: dict[str, int] = {}
    saved_at = time.monotonic()
    while trainer.step < schedule.total:
        if (reason := stop.reason()) is not None:
            watch.flush()
            if trainer.streams:
                trainer.save()
            return reason
        started = time.monotonic()
        phase, epoch, metrics = trainer.advance()
        watch.add(trainer.step, {"epoch": epoch + 1, "phase": phase}, metrics)
        # The first step of a phase compiles; the second still waits for it.
        runs[phase] = runs.get(phase, 0) + 1
        seconds = time.monotonic() - started if runs[phase] > 2 else None
        progress.step(
            epoch + 1, schedule.epochs, phase, seconds, schedule.left(trainer.step), losses_line(watch.latest)
        )
        epoch_done = trainer.step % schedule.per_epoch == 0
        minutes, every = config.checkpoint.every_minutes, config.checkpoint.every_steps
        due = (every and trainer.step % every == 0) or (minutes and time.monotonic() - saved_at > 60 * minutes)
        if epoch_done and validation_due(trainer, epoch + 1):
            watch.flush()
            _validate(trainer, recorder, progress, epoch + 1)
        if epoch_done or due:
            watch.flush()  # a checkpoint is only written of what has been found finite
            trainer.save()
            saved_at = time.monotonic()
        if epoch_done and ((epoch + 1) % config.log.preview_every == 0 or trainer.step == schedule.total):
            picture = trainer.preview()
            if picture is not None:
                path = recorder.picture(trainer.step, epoch + 1, picture)
                progress.note(f"epoch {epoch + 1}: {losses_line(watch.latest)}, preview {path}")
    return None


def check_same_data(run: Path, data: TrainingData) -> None:
    """InputError when the pairs are not those the run began with; a continuation would be another training."""
    path = run / PAIRS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known, count = before["sha256"], len(before["train"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; the run cannot be continued without it") from None
    if known != data.fingerprint:
        raise InputError(
            f"{run} was trained on {count} pairs (listed in {path}), but the data now has "
            f"{len(data.train)} training pairs or other names; restore them or start a new run"
        )
