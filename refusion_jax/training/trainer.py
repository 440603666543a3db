"""One run's state and the compiled programs that change it."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from refusion_jax.config import Config, to_dict
from refusion_jax.data.batches import epoch_streams, subseed
from refusion_jax.fusing.tiles import make_fuse
from refusion_jax.method.algorithm import algorithm_1
from refusion_jax.method.meta import propose_weights
from refusion_jax.method.steps import (
    Optimizers,
    TrainState,
    chosen_steps,
    init_state,
    make_inner_loop,
    make_optimizers,
    several,
)
from refusion_jax.models import build as networks
from refusion_jax.models.build import init_params
from refusion_jax.models.operators.depthwise import kernels
from refusion_jax.runtime.compiling import jit, run_once
from refusion_jax.training import checkpoints, devices, processes
from refusion_jax.training.feed import Block, Feed
from refusion_jax.training.similarity import Measurement, SimilarityMeter
from refusion_jax.training.sources import TrainingData
from refusion_jax.training.warm_start import initial_params, started_from

BATCHES = {"meta": 2, "fusion": 1}  # that a step of a phase takes
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}  # train.precision: of the activations, None for the images' own


class Trainer:
    """A run from its newest checkpoint (or from the start): the compiled steps, the state, and what they are fed."""

    def __init__(self, run: Path, config: Config, data: TrainingData):
        self.run, self.config, self.data = run, config, data
        self.modules = networks.build(**asdict(config.model))
        self.networks = networks.linen_networks(*self.modules, DTYPES[config.train.precision])
        self.functions = {
            # As fuse.py does it: one program for pictures of any size, in float32.
            "fuse": make_fuse(self.modules[0]),
            "reconstruct": jit(self.networks.reconstruct),
            "propose": jit(lambda p, a, b: propose_weights(p, self.networks, (a, b), config.loss)),
        }
        self.mesh = devices.data_mesh(config.data.batch, config.train.devices)
        optimizers = make_optimizers(config.train, config.meta)
        self.programs = compiled_steps(config, self.networks, optimizers, self.mesh)
        self.manager = checkpoints.open_manager(run, config.checkpoint.keep)
        state = self._restored_or_fresh(optimizers)
        self.step = int(state.step)
        self.state: TrainState = devices.replicate(state, self.mesh)
        self.measured: Measurement | None = None  # G of the newest meta step at which it was due
        self._meter = SimilarityMeter(config, self.networks)
        self._phase = ""
        self._feed = Feed(
            algorithm_1(config.train, partial(open_streams, config, data), self.step),
            partial(devices.put_batch, mesh=self.mesh),
            longest=devices.steps_per_dispatch(config.train.steps_per_dispatch),
            boundary=config.checkpoint.every_steps,
        )

    def _restored_or_fresh(self, optimizers: Optimizers) -> TrainState:
        config = self.config
        channels = networks.gradient_channels(config.loss.sobel_form, config.loss.proposal_form)
        expected = networks.expected_shapes(self.modules, channels)

        def fresh(params):
            return init_state(params, optimizers)

        state = checkpoints.restore(self.manager, jax.eval_shape(fresh, expected))
        if state is None:
            params = init_params(self.modules, jax.random.key(subseed(config.seed, 0)), channels)
            state = processes.broadcast(started_from(run_once(fresh, params), initial_params(config)))
        return state

    def advance(self) -> tuple[Block, dict[str, jax.Array]]:
        """One program: a step, or several. Returns what it was given, and its metrics, still on the device."""
        block = self._feed.take()
        if self._meter.is_due(block):
            self.measured = self._meter.measure(self.state, block)
        if not self._phase:
            self._begin_compiling(block)
        program = self.programs[block.phase, block.length > 1]
        program.prepare(self.state, *block.batches)
        if block.phase != self._phase:
            devices.hold_memory()
            self._phase = block.phase
        self.state, metrics = program(self.state, *block.batches)
        self.step = block.number
        self._feed.prefetch()
        return block, metrics

    def _begin_compiling(self, first: Block) -> None:
        """The programs of both phases side by side, that of the first block first; the other is ready when needed."""
        left = self.config.train.left(self.step)
        for phase in sorted(BATCHES, key=lambda phase: phase != first.phase):
            if left[phase]:
                batches = [first.batches[0]] * BATCHES[phase]
                self.programs[phase, first.length > 1].begin(self.state, *batches)

    def save(self) -> None:
        """A checkpoint of this step."""
        checkpoints.save(self.manager, self.state, self.info())

    def info(self) -> dict[str, Any]:
        """What a checkpoint says of the run."""
        return {"config": to_dict(self.config), "data_sha256": self.data.fingerprint}


def compiled_steps(
    config: Config, nets: networks.Networks, optimizers: Optimizers, mesh: Mesh | None
) -> dict[tuple[str, bool], Callable]:
    """{(phase, whether it takes several steps at once): program}, as (state, *batches) -> (state, metrics)."""
    meta_step, fusion_step = chosen_steps(config.train.steps)(
        nets,
        config.loss,
        optimizers,
        make_inner_loop(config.train, config.meta),
        warmup=config.train.warmup_steps,
        recompute=devices.recompute(config.train.recompute),
        axis=devices.AXIS if mesh else None,
    )
    return {
        (phase, stacked): jit(
            kernels()(devices.divided(several(step) if stacked else step, mesh, BATCHES[phase], stacked)),
            donate_argnums=0,
        )
        for phase, step in (("meta", meta_step), ("fusion", fusion_step))
        for stacked in (False, True)
    }


def open_streams(config: Config, data: TrainingData, epoch: int, phase: str, first: int) -> tuple:
    """This process's part of the streams that algorithm_1 asks for."""
    streams = epoch_streams(
        data.train,
        phase,
        config.seed,
        epoch - 1,
        crop=config.data.crop_of(epoch, config.train.epochs),
        batch=config.data.batch,
        flips=config.data.flips,
        part=(processes.index(), processes.count()),
        first=first,
    )
    return tuple(streams.values())
