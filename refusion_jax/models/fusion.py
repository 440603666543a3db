"""F, the lightweight fusion network (paper, Section 3.4), in the released parameterisation."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.blocks import ChannelAttention, Conv1x1, Conv3x3, PointwiseDepthwise, Stage


class AttentionalFusion(nn.Module):
    """AFM: cross attention between the sources, then gated merging. Two (B,H,W,C) -> (B,H,W,2C)."""

    heads: int
    expansion: int = 4

    @nn.compact
    def __call__(self, x1, x2):
        channels = x1.shape[-1]
        hidden = self.expansion * channels
        q1, k1, v1 = jnp.split(PointwiseDepthwise(3 * channels, name="qkv1")(x1), 3, -1)
        q2, k2, v2 = jnp.split(PointwiseDepthwise(3 * channels, name="qkv2")(x2), 3, -1)
        x1 = x1 + ChannelAttention(self.heads, name="attention1")(q2, k1, v1)
        x2 = x2 + ChannelAttention(self.heads, name="attention2")(q1, k2, v2)
        both = jnp.concatenate([x1, x2], -1)
        gate1, gate2 = jnp.split(PointwiseDepthwise(2 * hidden, name="gate")(both), 2, -1)
        y1 = nn.gelu(gate1, approximate=False) * PointwiseDepthwise(hidden, name="value1")(x1)
        y2 = nn.gelu(gate2, approximate=False) * PointwiseDepthwise(hidden, name="value2")(x2)
        merged = Conv1x1(2 * channels, name="project_out1")(y1) + Conv1x1(2 * channels, name="project_out2")(y2)
        return both + merged


class FusionNet(nn.Module):
    """F(Ia, Ib) = If. Two luma images (B,H,W,1) in [0,1] -> the fused luma (B,H,W,1) in (0,1). Any H, W.

    The order of the sources matters: infrared, visible; functional or CT, MRI; near, far; under-, over-exposed.
    59,856 parameters at the published size (width 16, 8 heads, 2 blocks a stage).
    """

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        stage = {"blocks": self.blocks, "heads": self.heads, "expansion": self.expansion}
        x1 = Stage(**stage, name="encoder1")(Conv3x3(self.width, name="project_in_1")(a))
        x2 = Stage(**stage, name="encoder2")(Conv3x3(self.width, name="project_in_2")(b))
        x = AttentionalFusion(self.heads, name="fusion")(x1, x2)
        x = Stage(**stage, name="decoder")(x)
        x = nn.leaky_relu(Conv3x3(self.width, name="project_out_0")(x), 0.01)
        return nn.sigmoid(Conv3x3(1, name="project_out_1")(x))
