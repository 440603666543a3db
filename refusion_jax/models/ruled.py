"""P that begins at a rule and learns what to change of it: for `model.proposal`, by what makes a source worth keeping.

The paper's P begins near w = v = 1/2 and has to find every choice by its meta-gradient, which at our lengths asks for
one thing and then for its opposite (docs/findings.md). Here its logits are added to those of a rule; fresh
parameters change it little.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.operators.depthwise import wide
from refusion_jax.models.proposal import ProposalNet

NOISE = 1e-3  # mean square of the gradient, at Sobel scale 1/2 to 1, below which a difference means nothing


def local_mean(x: jax.Array) -> jax.Array:
    """The mean of 3x3 pixels, the border repeated: (B,H,W,C) -> the same, float32."""
    x = jnp.pad(x.astype(wide(x)), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return nn.avg_pool(x, (3, 3))


def beside(rule, a: jax.Array, b: jax.Array) -> jax.Array:
    """Logits (B,H,W,2) of a rule that gives (B,H,W,1) of each source."""
    return jnp.concatenate([rule(a), rule(b)], -1)


def brighter(image: jax.Array) -> jax.Array:
    """More for the brighter source: a tenth of the range is odds of 4.5 to 1."""
    return 15 * local_mean(image)


def sharper(gradient: jax.Array) -> jax.Array:
    """More for the source with the stronger gradients: half as strong is odds of 1 to 16."""
    return 2 * jnp.log(jnp.sum(local_mean(gradient**2), -1, keepdims=True) + NOISE)


class BrighterSharper(ProposalNet):
    """w begins at the brighter source, v at the sharper one: what infrared, PET and SPECT show is bright, and of two
    exposures the longer shows more."""

    def rules(self, a, b, gradient_a, gradient_b):
        return beside(brighter, a, b), beside(sharper, gradient_a, gradient_b)


class Sharper(ProposalNet):
    """Both begin at the sharper source: what is in focus."""

    def rules(self, a, b, gradient_a, gradient_b):
        rule = beside(sharper, gradient_a, gradient_b)
        return rule, rule
