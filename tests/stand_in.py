"""Networks of a few operations a pixel in place of F, R and P: what compiles in a second and leaves all else as it is.

With the settings NETWORKS a training takes them, in this process and, where tests/ is on its path (scripts.py), in
another. For tests of what does not depend on the networks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from refusion_jax.models import build as networks


class Fuse(nn.Module):
    """(a, b) -> fused."""

    @nn.compact
    def __call__(self, a, b):
        return nn.sigmoid(nn.Dense(1)(nn.tanh(nn.Dense(4)(jnp.concatenate([a, b], -1)))))


class Rebuild(nn.Module):
    """fused -> (a, b)."""

    @nn.compact
    def __call__(self, fused):
        both = nn.sigmoid(nn.Dense(2)(nn.tanh(nn.Dense(4)(fused))))
        return both[..., :1], both[..., 1:]


class Propose(nn.Module):
    """(a, b, gradients of a, b) -> (w, v)."""

    @nn.compact
    def __call__(self, *images):
        x = nn.tanh(nn.Dense(4)(jnp.concatenate(images, -1)))
        return nn.softmax(nn.Dense(2)(x), -1), nn.softmax(nn.Dense(2)(x), -1)


def build(**size):
    """As networks.build; of one size only."""
    return Fuse(), Rebuild(), Propose()


@functools.cache
def _shapes(channels):
    return networks.expected_shapes(build(), channels)


def stand_in(seed=0, dtype=np.float32, channels=1):
    """(networks, Params), drawn by NumPy; channels: of the gradients that P sees."""
    rng = np.random.default_rng(seed)
    trees = (jax.tree.map(lambda x: rng.uniform(-1, 1, x.shape).astype(dtype), shapes) for shapes in _shapes(channels))
    return networks.linen_networks(*build()), networks.Params(*trees)


NETWORKS = ("model.fusion=stand_in:Fuse", "model.reconstruction=stand_in:Rebuild", "model.proposal=stand_in:Propose")

# A short training on a few small scenes: 2 epochs of 7 meta and 9 fusion steps.
SETTINGS = [
    *NETWORKS,
    "data.crop=12",
    "data.batch=8",
    "data.scenes=6",
    "data.scene_size=32",
    "data.validation_every=3",
    "train.epochs=2",
    "train.meta_steps=7",
    "train.fusion_steps=9",
    "train.lr_f=1e-2",
    "train.lr_r=1e-2",
    "train.lr_p=1e-2",
    "log.every=3",
    "log.preview_pairs=0",
    "log.tensorboard=false",
    "checkpoint.every_minutes=0",
    "validation.every=0",
]
STEPS = 32
