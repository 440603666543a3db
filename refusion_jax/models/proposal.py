"""P, the loss proposal network: per-pixel weights of F's loss (paper, Section 3.2).

Two sub-networks of one shape: intensity weights w from the sources, gradient weights v from their gradients
(the paper's "two independent pairs of outputs"; Eq. 13-14 have separate parameters for the two).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.blocks import Conv3x3, Stage
from refusion_jax.models.layer_list import EachStream, LayerList
from refusion_jax.models.operators.depthwise import wide
from refusion_jax.models.operators.frames import from_frame, grid_like, to_frame


class BothSources(NamedTuple):
    """Both sources in one frame, (N,C) twice -> (N,2C), or with `both_orders` in two, (a, b) and (b, a); an attention
    layer of models/layer_list.py that needs no sums."""

    both_orders: bool

    def sums(self, streams, grid):
        """None."""
        return (), ()

    def result(self, streams, sums, values, grid):
        """One frame, or two."""
        orders = (streams, streams[::-1]) if self.both_orders else (streams,)
        return tuple(jnp.concatenate(order, -1) for order in orders)


class WeightProposal(nn.Module):
    """One pair of weights, as logits: two (B,H,W,C) -> (B,H,W,2), of source a and of source b.

    symmetric: exchanging the sources exchanges the weights, whatever the parameters: both sources pass one encoder, the
    decoder reads them in both orders, and each order's logits count for the source they belong to.
    """

    width: int
    heads: int
    blocks: int
    expansion: int
    symmetric: bool = False

    def setup(self):
        stage = partial(Stage, self.blocks, self.heads, self.expansion)
        self.project_in_a, self.encoder_a = Conv3x3(self.width), stage()
        self.project_in_b, self.encoder_b = Conv3x3(self.width), stage()  # not of a symmetric one
        self.decoder = stage()
        self.project_out_0 = Conv3x3(self.width)
        self.prelu = nn.PReLU(negative_slope_init=0.25)
        self.project_out_1 = Conv3x3(2)

    def __call__(self, a, b):
        def encoded(x, project_in, encoder):
            x = project_in(x)
            grid = grid_like(x)
            return from_frame(encoder(to_frame(x), grid), grid)

        if self.symmetric:  # as one batch, which compiles sooner than `layer_list` one after the other
            xa, xb = jnp.split(encoded(jnp.concatenate([a, b]), self.project_in_a, self.encoder_a), 2)
            x = jnp.concatenate([jnp.concatenate([xa, xb], -1), jnp.concatenate([xb, xa], -1)])
        else:
            parts = (a, self.project_in_a, self.encoder_a), (b, self.project_in_b, self.encoder_b)
            x = jnp.concatenate([encoded(*part) for part in parts], -1)
        grid = grid_like(x)
        logits = self.project_out(from_frame(self.decoder(to_frame(x), grid), grid))
        return self.joined(jnp.split(logits, 2) if self.symmetric else (logits,))

    def project_out(self, x, grid=None):
        """The last convolutions, of one stream."""
        return self.project_out_1(self.prelu(self.project_out_0(x, grid)), grid)

    def joined(self, logits):
        """The logits of one stream, or of both orders -> those of the result."""
        total = logits[0] + logits[1][..., ::-1] if self.symmetric else logits[0]
        return total.astype(wide(total))

    def layer_list(self) -> LayerList:
        """The same as models/layer_list.py has it."""
        others = (self.project_in_a, self.encoder_a) if self.symmetric else (self.project_in_b, self.encoder_b)
        encoders = zip(self.encoder_a.layers, others[1].layers, strict=True)
        decoder = ((layer,) * (1 + self.symmetric) for layer in self.decoder.layers)
        return LayerList(
            stems=(self.project_in_a, others[0]),
            attention=(*map(EachStream, encoders), BothSources(self.symmetric), *map(EachStream, decoder)),
            head=lambda streams, grid=None: self.joined([self.project_out(x, grid) for x in streams]),
            reach=4,  # as F
        )


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

    def setup(self):
        self.intensity, self.gradient = self.part(), self.part()

    @nn.nowrap
    def part(self) -> WeightProposal:
        """A sub-network; outside of `apply` one by itself."""
        return WeightProposal(self.width, self.heads, self.blocks, self.expansion, self.symmetric)

    def __call__(self, a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
        rule_w, rule_v = self.rules(a, b, gradient_a, gradient_b)
        w = self.intensity(a, b) + rule_w
        v = self.gradient(gradient_a, gradient_b) + rule_v
        return nn.softmax(w, -1), nn.softmax(v, -1)

    def rules(self, a, b, gradient_a, gradient_b):
        """Logits (B,H,W,2) of w and of v to begin at, for a P derived from this one (models/ruled.py)."""
        equal = jnp.zeros((*a.shape[:3], 2), wide(a))
        return equal, equal

    def begin(self, a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
        """w and v where the network adds nothing."""
        rule_w, rule_v = self.rules(a, b, gradient_a, gradient_b)
        return nn.softmax(rule_w, -1), nn.softmax(rule_v, -1)
