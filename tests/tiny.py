"""A tiny set of networks and data for the tests of the updates."""

import jax
import numpy as np

from refusion_jax import networks
from refusion_jax.meta import linen_networks
from refusion_jax.training.steps import init_params

SIZE = {"width": 4, "heads": 2, "blocks": 1, "expansion": 1}


def tiny(seed=0, dtype=np.float32, channels=1):
    """(networks, (params_f, params_r, params_p)) of the tiny size."""
    modules = networks.build(**SIZE)
    params = init_params(modules, jax.random.key(seed), channels)
    return linen_networks(*modules), jax.tree.map(lambda x: np.asarray(x, dtype), params)


def pairs(seed=0, batch=2, size=8, dtype=np.float32):
    """Two batches (a, b) of random luma in [0,1]."""
    x = np.random.default_rng(seed).random((4, batch, size, size, 1)).astype(dtype)
    return (x[0], x[1]), (x[2], x[3])


def batch_of(pair):
    """(a, b) in [0,1] -> {"a", "b"} uint8, as the steps take it."""
    a, b = (np.rint(255 * x).astype(np.uint8) for x in pair)
    return {"a": a, "b": b}
