"""R tells the sources apart when each comes in its own place, and cannot when their order is lost."""

import jax
import numpy as np
import pytest
from tiny import SIZE

from refusion_jax.method import steps
from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build as networks
from refusion_jax.runtime.compiling import jit

STEPS = 120


def batch(rng):
    """Pairs of one kind: smooth blobs as source a, fine stripes as source b; what is which shows in any mixture."""
    y, x = np.mgrid[:16, :16] / 16
    a = [0.5 + 0.45 * np.sin(2 * np.pi * (x * f + s)) * np.sin(2 * np.pi * (y * f + s)) for f, s in rng.random((4, 2))]
    b = [0.5 + 0.45 * rng.uniform(-1, 1) * (-1.0) ** np.arange(16)[None, :] * np.ones((16, 1)) for _ in range(4)]
    return {key: np.uint8(255 * np.stack(z))[..., None] for key, z in (("a", a), ("b", b))}


@pytest.fixture(scope="module")
def start_and_step():
    """(state, fusion step) under w = v = 1/2."""
    modules = networks.build(**SIZE)
    optimizers = steps.make_optimizers(Schedule(lr_f=1e-2, lr_r=1e-2))
    made = steps.make_steps(
        networks.linen_networks(*modules), LossSettings(sobel_scale=0.125), optimizers, warmup=STEPS
    )
    return steps.init_state(networks.init_params(modules, jax.random.key(0)), optimizers), jit(made[1])


@pytest.mark.parametrize("ordered", [True, False])
def test_after_a_short_training(start_and_step, ordered):
    (state, step), rng, found = start_and_step, np.random.default_rng(0), []
    for k in range(STEPS):
        pairs = batch(rng)
        if not ordered and k % 2:
            pairs = {"a": pairs["b"], "b": pairs["a"]}
        state, metrics = step(state, pairs)
        found.append([float(metrics[f"rebuilt_{name}"]) for name in ("error_a", "error_b", "distance")])
    error_a, error_b, distance = np.mean(found[-20:], 0)
    if ordered:
        assert max(error_a, error_b) < 0.5 and distance > 0.5
    else:
        assert min(error_a, error_b) > 0.8 and distance < 0.2
