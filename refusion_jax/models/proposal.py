"""P, the loss proposal network: per-pixel weights of F's loss (paper, Section 3.2).

Two sub-networks of one shape: intensity weights w from the sources, gradient weights v from their gradients
(the paper's "two independent pairs of outputs"; Eq. 13-14 have separate parameters for the two).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.blocks import Conv3x3, Stage
from refusion_jax.models.operators.depthwise import wide
from refusion_jax.models.operators.frames import from_frame, grid_like, to_frame


class WeightProposal(nn.Module):
    """One pair of weights. Two (B,H,W,C) -> (B,H,W,2), positive, summing to 1: of source a, of source b.

    rule: logits (B,H,W,2) that those of the network are added to.

    symmetric: exchanging the sources exchanges the weights, whatever the parameters: both sources pass one encoder, the
    decoder reads them in both orders, and each order's logits count for the source they belong to.
    """

    width: int
    heads: int
    blocks: int
    expansion: int
    symmetric: bool = False

    @nn.compact
    def __call__(self, a, b, rule):
        def stage(name):
            return Stage(blocks=self.blocks, heads=self.heads, expansion=self.expansion, name=name)

        def encode(x, source):
            x = Conv3x3(self.width, name=f"project_in_{source}")(x)
            grid = grid_like(x)
            return from_frame(stage(f"encoder_{source}")(to_frame(x), grid), grid)

        if self.symmetric:
            xa, xb = jnp.split(encode(jnp.concatenate([a, b]), "a"), 2)
            x = jnp.concatenate([jnp.concatenate([xa, xb], -1), jnp.concatenate([xb, xa], -1)])
        else:
            x = jnp.concatenate([encode(a, "a"), encode(b, "b")], -1)
        grid = grid_like(x)
        x = from_frame(stage("decoder")(to_frame(x), grid), grid)
        x = nn.PReLU(negative_slope_init=0.25, name="prelu")(Conv3x3(self.width, name="project_out_0")(x))
        logits = Conv3x3(2, name="project_out_1")(x)
        if self.symmetric:
            one, other = jnp.split(logits, 2)
            logits = one + other[..., ::-1]
        return nn.softmax(logits.astype(wide(logits)) + rule, -1)


class ProposalNet(nn.Module):
    """P(Ia, Ib, grad Ia, grad Ib) = (w, v).

    Sources (B,H,W,1) in [0,1] and their gradients (B,H,W,1 or 2, as losses.sobel gives them) ->
    w (B,H,W,2) weighing the intensities of Eq. 2 and v (B,H,W,2) weighing the gradients of Eq. 3; the last axis holds
    the weight of source a and of source b and sums to 1. symmetric: see WeightProposal.
    """

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2
    symmetric: bool = False

    @nn.compact
    def __call__(self, a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
        size = (self.width, self.heads, self.blocks, self.expansion, self.symmetric)
        rule_w, rule_v = self.rules(a, b, gradient_a, gradient_b)
        w = WeightProposal(*size, name="intensity")(a, b, rule_w)
        v = WeightProposal(*size, name="gradient")(gradient_a, gradient_b, rule_v)
        return w, v

    def rules(self, a, b, gradient_a, gradient_b):
        """Logits (B,H,W,2) of w and of v to begin at, for a P derived from this one (models/ruled.py)."""
        equal = jnp.zeros((*a.shape[:3], 2), wide(a))
        return equal, equal

    def begin(self, a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
        """w and v where the network adds nothing."""
        rule_w, rule_v = self.rules(a, b, gradient_a, gradient_b)
        return nn.softmax(rule_w, -1), nn.softmax(rule_v, -1)
