"""G of Eq. 13-14 while training (`log.similarity`): when it is measured, and what is kept of it."""

from dataclasses import dataclass

import jax
import numpy as np

from refusion_jax.config import Config
from refusion_jax.method.similarity import Similarity, gradient_similarity
from refusion_jax.method.steps import TrainState, as_luma, make_inner_loop
from refusion_jax.models.build import Networks
from refusion_jax.runtime.compiling import jit
from refusion_jax.training import devices
from refusion_jax.training.feed import Block


@dataclass(frozen=True)
class Measurement:
    """G at one meta step, before the step, and the meta-train batch it was measured on, as NumPy arrays."""

    step: int  # of all steps, from 1
    similarity: Similarity
    a: np.ndarray  # (B,H,W) in [0,1]
    b: np.ndarray

    def scalars(self) -> dict[str, float]:
        """Inner products and cosines by the names under which they are recorded."""
        return {f"similarity_{name}": float(getattr(self.similarity, name)) for name in SCALARS}


SCALARS = ("inner_w", "inner_v", "cosine_w", "cosine_v")


class SimilarityMeter:
    """Measures G at every n-th meta step, the first one included, by the step's number alone: a resumed run measures
    at the same steps. Of several devices the first one does it, on its own share of the batches."""

    def __init__(self, config: Config, networks: Networks):
        self._every, self._schedule = config.log.similarity, config.train
        inner = make_inner_loop(config.train, config.meta)

        def measure(state: TrainState, train, test):
            optimizers = map(inner.optimizer, inner.etas(state.step))
            batches = as_luma(train), as_luma(test)
            return gradient_similarity(
                state.params, networks, *batches, config.loss, *optimizers, steps=inner.steps
            ), batches[0]

        self._measure = jit(measure)

    def is_due(self, block: Block) -> bool:
        """Whether one of the block's steps is to be measured."""
        if not self._every or block.phase != "meta":
            return False
        done = self._schedule.all_meta_steps - self._schedule.left(block.number)["meta"]
        return any((i - 1) % self._every == 0 for i in range(done - block.length + 1, done + 1))

    def measure(self, state: TrainState, block: Block) -> Measurement:
        """G at the block's first step, on the state before it."""
        first = (jax.tree.map(lambda x: x[0], batch) if block.length > 1 else batch for batch in block.batches)
        similarity, (a, b) = jax.device_get(self._measure(devices.single(state), *map(devices.single, first)))
        return Measurement(block.number - block.length + 1, similarity, a[..., 0], b[..., 0])
