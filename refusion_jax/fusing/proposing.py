"""P on images of any size, tile by tile as F (paper, Section 3.2)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from refusion_jax.fusing.tiles import make_fuse
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import propose_weights
from refusion_jax.models.build import Networks
from refusion_jax.models.proposal import ProposalNet
from refusion_jax.runtime.compiling import jit


def make_propose(module, networks: Networks, loss: LossSettings) -> Callable:
    """propose(params, a, b, room=None, progress=None) -> P's w and v, (H,W,2) float32 each, for luma a, b (H,W) float32
    in [0,1].

    room: bytes for what lies between two passes, progress: both as tiles.fuse_tiled has them. Of a P whose layers are
    not known the whole image at once, in as much memory as that takes.
    """
    if not isinstance(module, ProposalNet) or type(module).__call__ is not ProposalNet.__call__:
        whole = jit(lambda params, a, b: propose_weights(params, networks, (a, b), loss))
        return lambda params, a, b, room=None, progress=None: _maps(whole(params, *_batch(a, b)))
    part = make_fuse(module.part())

    def propose(params, a, b, room=None, progress=None):
        def tiled(params, a, b, gradient_a, gradient_b):
            """See Networks.propose."""
            pairs = {"intensity": (a, b), "gradient": (gradient_a, gradient_b)}
            logits = []
            for i, (name, pair) in enumerate(pairs.items()):
                half = partial(_half, progress, i) if progress else None
                logits.append(part(params[name], *(np.asarray(x[0]) for x in pair), room=room, progress=half))
            rules = module.rules(a, b, gradient_a, gradient_b)
            return tuple(nn.softmax(x + rule, -1) for x, rule in zip(logits, rules, strict=True))

        return _maps(propose_weights(params, networks._replace(propose=tiled), _batch(a, b), loss))

    return propose


def _half(progress: Callable, number: int, done: int, total: int) -> None:
    """Of two halves, the first (0) or the second (1), as far as it is."""
    progress(number * total + done, 2 * total)


def _batch(a: np.ndarray, b: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(a)[None, :, :, None], jnp.asarray(b)[None, :, :, None]


def _maps(weights: tuple[jax.Array, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    w, v = (np.asarray(x, np.float32)[0] for x in weights)
    return w, v
