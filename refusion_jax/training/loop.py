"""Algorithm 1: L epochs of M meta steps and N fusion steps, checkpointed, resumable to the byte, and watched."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from refusion_jax.config import Config, to_dict, to_toml
from refusion_jax.data.batches import LumaPairs, epoch_streams, subseed
from refusion_jax.errors import InputError
from refusion_jax.evaluation import validation_scores
from refusion_jax.imaging.ranges import to_range
from refusion_jax.method.meta import LossSettings, linen_networks, propose_weights
from refusion_jax.method.steps import Rates, TrainState, init_state, make_optimizers, make_steps, several
from refusion_jax.metrics import PROTOCOLS, TASK_METRICS
from refusion_jax.models import build as networks
from refusion_jax.models.build import init_params
from refusion_jax.runtime.compiling import jit, run_once
from refusion_jax.training import checkpoints, devices, processes
from refusion_jax.training import previews as plots
from refusion_jax.training.feed import Block, Feed, Schedule
from refusion_jax.training.progress import Progress
from refusion_jax.training.records import Recorder, write_text
from refusion_jax.training.sources import TrainingData
from refusion_jax.training.stopping import TIME_LIMIT, StopRequest, reason
from refusion_jax.training.warm_start import initial_params, started_from
from refusion_jax.training.watch import Watch, losses_line
from refusion_jax.weights.orbax_folder import newest, read_info

CONFIG = "config.toml"
PAIRS = "pairs.json"
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}  # train.precision: of the activations, None for the images' own


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: at which step, whether that is the last one, and why it stopped earlier."""

    step: int
    finished: bool
    reason: str | None = None
    signal: int | None = None


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
        fused = nets["fuse"](state.params.f, *inputs)
        rebuilt = nets["reconstruct"](state.params.r, fused)
        w, v = nets["propose"](state.params.p, *inputs)
        rows.append(
            {"a": a, "b": b}
            | {
                k: np.asarray(x)[0, :, :, 0]
                for k, x in zip(("fused", "rebuilt_a", "rebuilt_b", "w_a", "v_a"), (fused, *rebuilt, w, v), strict=True)
            }
        )
    return rows


class Trainer:
    """One run: the compiled steps, the state, the data streams and the records. `train` drives it."""

    def __init__(self, run: Path, config: Config, data: TrainingData):
        self.run, self.config, self.data = run, config, data
        train = config.train
        self.schedule = Schedule(train.epochs, train.meta_steps, train.fusion_steps)
        modules = networks.build(**to_dict(config)["model"])
        self.networks = linen_networks(*modules, DTYPES[train.precision])
        self.loss = LossSettings(**to_dict(config)["loss"])
        optimizers = make_optimizers(config.meta.optimizer, config.meta.adam_eps)
        rates = Rates(
            train.lr_f,
            train.lr_r,
            train.lr_p,
            config.meta.eta_f or None,
            config.meta.eta_r or None,
            train.lr_decay,
            train.lr_decay_epochs * self.schedule.per_epoch,
        )
        self.mesh = devices.data_mesh(config.data.batch, train.devices)
        meta_step, fusion_step = make_steps(
            self.networks,
            self.loss,
            optimizers,
            rates,
            inner_steps=config.meta.inner_steps,
            first_order=config.meta.first_order,
            recompute=devices.recompute(train.recompute),
            axis=devices.AXIS if self.mesh else None,
        )
        self.steps = {
            (phase, stacked): jit(
                devices.divided(several(step) if stacked else step, self.mesh, batches, stacked), donate_argnums=0
            )
            for phase, step, batches in (("meta", meta_step, 2), ("fusion", fusion_step, 1))
            for stacked in (False, True)
        }
        self.shown = {
            "fuse": jit(self.networks.fuse),
            "reconstruct": jit(self.networks.reconstruct),
            "propose": jit(lambda p, a, b: propose_weights(p, self.networks, (a, b), self.loss)),
        }
        channels = networks.gradient_channels(config.loss.sobel_form, config.loss.proposal_form)

        def fresh(key):
            return init_state(init_params(modules, key, channels), optimizers)

        key = jax.random.key(subseed(config.seed, 0))
        self.manager = checkpoints.open_manager(run, config.checkpoint.keep)
        self.step, self.phase, self.positions = 0, None, {}
        found = checkpoints.restore(self.manager, jax.eval_shape(fresh, key))
        if found is None:
            state = processes.broadcast(started_from(run_once(fresh, key), initial_params(config)))
        else:
            state, info = found
            self.step, self.positions = info["step"], info["streams"]
        self.state: TrainState = devices.replicate(state, self.mesh)
        self.feed = Feed(
            self.schedule,
            self._open_streams,
            partial(devices.put_batch, mesh=self.mesh),
            longest=devices.steps_per_dispatch(train.steps_per_dispatch),
            boundary=config.checkpoint.every_steps,
            positions=self.positions,
        )

    def _open_streams(self, epoch: int, phase: str) -> dict[str, Any]:
        how = self.config.data
        return epoch_streams(
            self.data.train,
            phase,
            self.config.seed,
            epoch,
            crop=how.crop,
            batch=how.batch,
            flips=how.flips,
            swap=how.swap_sources,
            part=(processes.index(), processes.count()),
        )

    def save(self) -> None:
        """A checkpoint of this step: state, config, and the positions of the streams behind the batches used."""
        info = {"config": to_dict(self.config), "streams": self.positions, "data_sha256": self.data.fingerprint}
        checkpoints.save(self.manager, self.state, info)

    def advance(self) -> tuple[Block, dict[str, jax.Array]]:
        """One program: a step, or several. Returns what it was given, and its metrics, still on the device."""
        block = self.feed.take(self.step)
        program = self.steps[block.phase, block.length > 1]
        program.prepare(self.state, *block.batches)
        if block.phase != self.phase:
            devices.set_memory(block.phase)
            self.phase = block.phase
        self.state, metrics = program(self.state, *block.batches)
        self.step += block.length
        self.positions = block.positions
        self.feed.prefetch(self.step)
        return block, metrics

    def validate(self) -> dict[str, float]:
        """Mean scores of the held-out pairs by the paper's protocol, with its range step."""
        how = self.config.validation
        held_out = self.data.validation
        shown = (held_out[i] for i in range(min(how.pairs, len(held_out))))
        params_f = devices.single(self.state.params.f)

        def fuse_luma(a, b):
            inputs = (x[None, :, :, None].astype(np.float32) / 255 for x in (a, b))
            return to_range(np.asarray(self.shown["fuse"](params_f, *inputs))[0, :, :, 0], (a, b), "minmax")

        return validation_scores(
            fuse_luma, ((p["a"], p["b"]) for p in shown), how.metrics or TASK_METRICS[self.config.task]
        )

    def keep_best(self, scores: dict[str, float]) -> bool:
        """Keeps this state in RUN/best when its score by validation.best beats the one there. Returns whether."""
        name = self.config.validation.best
        manager = checkpoints.open_manager(self.run, 1, checkpoints.BEST)
        last, sign = manager.latest_step(), 1 if PROTOCOLS["paper"][name].higher_is_better else -1
        if last is not None:
            before = read_info(self.run / checkpoints.BEST / str(last))["scores"].get(name)
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
        rows = preview_rows(devices.single(self.state), self.shown, pairs, log.preview_pairs, log.preview_size)
        return plots.preview(rows, f"{self.config.task}, step {self.step}")


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
        progress = Progress(trainer.schedule.total, trainer.step, bar and lead, notes=lead)
        try:
            wish = _run_to_end(trainer, recorder, progress, stop)
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
        if not wish:
            return Outcome(trainer.step, True)
        return Outcome(trainer.step, False, reason(wish), None if wish == TIME_LIMIT else wish)


def validation_due(trainer: Trainer, epoch: int) -> bool:
    """Whether the pairs held out are scored at the end of this epoch (from 1)."""
    every = trainer.config.validation.every
    return bool(every and len(trainer.data.validation)) and (epoch % every == 0 or epoch == trainer.schedule.epochs)


def _validate(trainer: Trainer, recorder: Recorder | None, progress: Progress, epoch: int) -> None:
    try:
        scores = processes.from_lead(trainer.validate)
    except InputError as error:  # pictures too small for a metric, say: no reason to end a training
        progress.note(f"epoch {epoch}: the validation pairs could not be scored: {error}")
        return
    if recorder:
        recorder.scalars(trainer.step, {"epoch": epoch, "phase": "validation"}, scores)
    best = " (best so far, kept in best/)" if trainer.keep_best(scores) else ""
    progress.note(f"epoch {epoch}: validation " + ", ".join(f"{k} {x:.3f}" for k, x in scores.items()) + best)


def _preview(trainer: Trainer, recorder: Recorder, progress: Progress, epoch: int, losses: str) -> None:
    picture = trainer.preview()
    if picture is not None:
        path = recorder.picture(trainer.step, epoch, picture)
        progress.note(f"epoch {epoch}: {losses}, preview {path}")


def _run_to_end(trainer: Trainer, recorder: Recorder | None, progress: Progress, stop: StopRequest) -> int:
    """Trains to the end (returns 0), or to a wish to stop, after a checkpoint (returns the wish)."""
    config, schedule = trainer.config, trainer.schedule
    watch = Watch(recorder, config.log.every, devices.in_flight())
    wishes = processes.Wishes(trainer.mesh, devices.in_flight())
    runs: Counter = Counter()
    every, wait = config.checkpoint.every_steps, 60 * config.checkpoint.every_minutes
    saved_at = time.monotonic()
    while trainer.step < schedule.total:
        late = bool(wait) and time.monotonic() - saved_at > wait
        wish, late = wishes.agree(stop.wish(), late)
        if wish:
            watch.flush()
            if trainer.positions:
                trainer.save()
            return wish
        started = time.monotonic()
        block, metrics = trainer.advance()
        epoch = block.epoch + 1
        watch.add(trainer.step, {"epoch": epoch, "phase": block.phase}, metrics)
        # The first program of a kind compiles; the second still waits for it.
        runs[block.phase, block.length] += 1
        seconds = (time.monotonic() - started) / block.length if runs[block.phase, block.length] > 2 else None
        progress.step(
            epoch,
            schedule.epochs,
            block.phase,
            seconds,
            schedule.left(trainer.step),
            losses_line(watch.latest),
            block.length,
        )
        epoch_done = trainer.step % schedule.per_epoch == 0
        if epoch_done and validation_due(trainer, epoch):
            watch.flush()
            _validate(trainer, recorder, progress, epoch)
        if epoch_done or late or (every and trainer.step % every == 0):
            watch.flush()  # a checkpoint is only written of what has been found finite
            trainer.save()
            saved_at = time.monotonic()
            wishes.forget()
        if epoch_done and (epoch % config.log.preview_every == 0 or trainer.step == schedule.total):
            processes.from_lead(partial(_preview, trainer, recorder, progress, epoch, losses_line(watch.latest)))
    return 0


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
