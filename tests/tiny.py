"""A tiny set of networks and data for the tests of the updates."""

import dataclasses
import functools

import jax
import numpy as np
import optax
from flax import traverse_util

from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build as networks
from refusion_jax.weights import trees as parameters

LOSS = LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)
SIZE = {"width": 4, "heads": 2, "blocks": 1, "expansion": 1}


@functools.cache
def _modules(channels):
    modules = networks.build(**SIZE)
    return networks.linen_networks(*modules), networks.expected_shapes(modules, channels)


def tiny(seed=0, dtype=np.float32, channels=1):
    """(networks, Params) of the tiny size, drawn by NumPy: nothing to compile.

    As at a real start, biases are zero, scales and temperatures near one.
    """
    nets, shapes = _modules(channels)
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        noise = rng.uniform(-1, 1, shape)
        if name.endswith("bias"):
            return np.zeros(shape, dtype)
        if name.endswith(("scale", "temperature")):
            return (1 + 0.1 * noise).astype(dtype)
        if name.endswith("negative_slope"):
            return np.asarray(0.25, dtype)
        return (noise / np.sqrt(max(1, np.prod(shape[:-1])))).astype(dtype)

    def tree(shapes):
        flat = traverse_util.flatten_dict(shapes, sep="/")
        return parameters.unflatten({k: draw(k, x.shape) for k, x in flat.items()})

    return nets, networks.Params(*map(tree, shapes))


@functools.cache
def meta_gradient(form="l1", recompute=False, dtype=None):
    """meta.meta_gradient of the tiny networks, jitted, as (params, train, test, eta_f, eta_r) -> its results.

    To compile it takes ten seconds, so tests share it. Nothing is a constant of the program: XLA would spend long on
    folding networks of constants. dtype: of the activations.
    """
    nets = networks.linen_networks(*networks.build(**SIZE), dtype)
    loss = dataclasses.replace(LOSS, sobel_form=form)

    def meta_gradient(params, train, test, eta_f, eta_r):
        inner = optax.sgd(eta_f), optax.sgd(eta_r)
        return meta.meta_gradient(params, nets, train, test, loss, *inner, recompute=recompute)

    return jax.jit(meta_gradient)


def pairs(seed=0, batch=2, size=8, dtype=np.float32):
    """Two batches (a, b) of random luma in [0,1]."""
    x = np.random.default_rng(seed).random((4, batch, size, size, 1)).astype(dtype)
    return (x[0], x[1]), (x[2], x[3])


def batch_of(pair):
    """(a, b) in [0,1] -> {"a", "b"} uint8, as the steps take it."""
    a, b = (np.rint(255 * x).astype(np.uint8) for x in pair)
    return {"a": a, "b": b}
