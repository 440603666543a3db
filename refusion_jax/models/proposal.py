"""P, the loss proposal network: per-pixel weights of F's loss (paper, Section 3.2).

Two sub-networks of one shape: intensity weights w from the sources, gradient weights v from their gradients
(the paper's "two independent pairs of outputs"; Eq. 13-14 have separate parameters for the two).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.blocks import Conv3x3, Stage
from refusion_jax.models.frames import from_frame, grid_of, to_frame


class WeightProposal(nn.Module):
    """One pair of weights. Two (B,H,W,C) -> (B,H,W,2), positive, summing to 1: of source a, of source b."""

    width: int
    heads: int
    blocks: int
    expansion: int

    @nn.compact
    def __call__(self, a, b):
        stage = {"blocks": self.blocks, "heads": self.heads, "expansion": self.expansion}
        grid = grid_of(*a.shape[:3], a.dtype)
        xa = Stage(**stage, name="encoder_a")(to_frame(Conv3x3(self.width, name="project_in_a")(a)), grid)
        xb = Stage(**stage, name="encoder_b")(to_frame(Conv3x3(self.width, name="project_in_b")(b)), grid)
        x = from_frame(Stage(**stage, name="decoder")(jnp.concatenate([xa, xb], -1), grid), grid)
        x = nn.PReLU(negative_slope_init=0.25, name="prelu")(Conv3x3(self.width, name="project_out_0")(x))
        return nn.softmax(Conv3x3(2, name="project_out_1")(x), -1)


class ProposalNet(nn.Module):
    """P(Ia, Ib, grad Ia, grad Ib) = (w, v).

    Sources (B,H,W,1) in [0,1] and their gradients (B,H,W,1 or 2, as losses.sobel gives them) ->
    w (B,H,W,2) weighing the intensities of Eq. 2 and v (B,H,W,2) weighing the gradients of Eq. 3; the last axis holds
    the weight of source a and of source b and sums to 1.
    """

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2

    @nn.compact
    def __call__(self, a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
        size = (self.width, self.heads, self.blocks, self.expansion)
        w = WeightProposal(*size, name="intensity")(a, b)
        v = WeightProposal(*size, name="gradient")(gradient_a, gradient_b)
        return w, v
