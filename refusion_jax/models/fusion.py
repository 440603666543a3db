"""F, the lightweight fusion network (paper, Section 3.4), in the released parameterisation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.blocks import (
    ChannelAttention,
    Conv1x1,
    Conv3x3,
    PointwiseDepthwise,
    Stage,
    attention_sums,
    gated,
    mix,
)
from refusion_jax.models.layer_list import EachStream, LayerList, fuse_whole
from refusion_jax.models.operators.depthwise import wide


class AttentionalFusion(nn.Module):
    """AFM: cross attention between the sources, then gated merging. Two frames (N,C) -> one of (N,2C).

    An attention layer of models/layer_list.py.
    """

    heads: int
    expansion: int = 4

    def setup(self):
        self.qkv1 = PointwiseDepthwise(3, 3)
        self.qkv2 = PointwiseDepthwise(3, 3)

    def sums(self, streams, grid):
        """Of both attentions, and v of both sources: each asks with the query of the other."""
        q1, k1, v1 = self.qkv1(streams[0], grid.summed, grid.summed, grid)
        q2, k2, v2 = self.qkv2(streams[1], grid.summed, grid.summed, grid)
        return (attention_sums(q2, k1, grid.batch), attention_sums(q1, k2, grid.batch)), (v1, v2)

    @nn.compact
    def result(self, streams, sums, values, grid):
        """Both sources in one frame."""
        (x1, x2), (v1, v2) = streams, values
        x1 = x1 + mix(v1, ChannelAttention(self.heads, name="attention1")(sums[0]))
        x2 = x2 + mix(v2, ChannelAttention(self.heads, name="attention2")(sums[1]))
        return (self.refined(x1, x2, grid),)

    def refined(self, x1, x2, grid):
        """The gated merging of both sources, (N,C) each -> (N,2C)."""
        both = jnp.concatenate([x1, x2], -1)
        gate1, gate2 = PointwiseDepthwise(self.expansion, 2, name="gate")(both, grid)
        (value1,) = PointwiseDepthwise(self.expansion, name="value1")(x1, grid)
        (value2,) = PointwiseDepthwise(self.expansion, name="value2")(x2, grid)
        channels = both.shape[-1]
        merged = Conv1x1(channels, name="project_out1")(gated(gate1, value1))
        return both + merged + Conv1x1(channels, name="project_out2")(gated(gate2, value2))


class FusionNet(nn.Module):
    """F(Ia, Ib) = If. Two luma images (B,H,W,1) in [0,1] -> the fused luma (B,H,W,1) in (0,1). Any H, W.

    The order of the sources matters: infrared, visible; functional or CT, MRI; near, far; under-, over-exposed.
    59,856 parameters at the published size (width 16, 8 heads, 2 blocks a stage).
    merging: the class of the attention layer that makes one stream of two, called with the number of heads.
    """

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2
    merging: Callable[..., Any] = AttentionalFusion

    def setup(self):
        self.project_in_1 = Conv3x3(self.width)
        self.project_in_2 = Conv3x3(self.width)
        self.encoder1 = Stage(self.blocks, self.heads, self.expansion)
        self.encoder2 = Stage(self.blocks, self.heads, self.expansion)
        self.fusion = self.merging(self.heads)
        self.decoder = Stage(self.blocks, self.heads, self.expansion)
        self.project_out_0 = Conv3x3(self.width)
        self.project_out_1 = Conv3x3(1)

    def layer_list(self) -> LayerList:
        """F as models/layer_list.py has it."""
        encoders = zip(self.encoder1.layers, self.encoder2.layers, strict=True)
        decoder = zip(self.decoder.layers, strict=True)
        return LayerList(
            stems=(self.project_in_1, self.project_in_2),
            attention=(*map(EachStream, encoders), self.fusion, *map(EachStream, decoder)),
            head=self.head,
            reach=4,  # the last pass: v, the feed-forward, the head's two
        )

    def head(self, streams, grid=None):
        """The last convolutions: one stream -> the fused luma."""
        (x,) = streams
        x = nn.leaky_relu(self.project_out_0(x, grid), 0.01)
        x = self.project_out_1(x, grid)
        return nn.sigmoid(x.astype(wide(x)))

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return fuse_whole(self.layer_list(), (a, b))
