"""F, the lightweight fusion network (paper, Section 3.4), in the released parameterisation."""

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
    windows,
)
from refusion_jax.models.operators.depthwise import wide
from refusion_jax.models.operators.frames import Grid, from_frame, grid_of, to_frame


class AttentionalFusion(nn.Module):
    """AFM: cross attention between the sources, then gated merging. Two frames (N,C) -> (N,2C).

    `kept` and `window` as for blocks.SelfAttention, in pairs: the sums of both attentions, v of both sources.
    """

    heads: int
    expansion: int = 4

    @nn.compact
    def __call__(self, x1, x2, grid: Grid, kept=None, window=None):
        channels = x1.shape[-1]
        hidden = self.expansion * channels
        if kept is None:
            masks = None if window is None else windows(grid, window)
            q1, k1, v1 = PointwiseDepthwise(3 * channels, 3, name="qkv1")(x1, grid, masks)
            q2, k2, v2 = PointwiseDepthwise(3 * channels, 3, name="qkv2")(x2, grid, masks)
            kept = (attention_sums(q2, k1, grid.batch), attention_sums(q1, k2, grid.batch)), (v1, v2)
            if window is not None:
                return kept
        sums, (v1, v2) = kept
        x1 = x1 + mix(v1, ChannelAttention(self.heads, name="attention1")(sums[0]))
        x2 = x2 + mix(v2, ChannelAttention(self.heads, name="attention2")(sums[1]))
        both = jnp.concatenate([x1, x2], -1)
        gate1, gate2 = PointwiseDepthwise(2 * hidden, 2, name="gate")(both, grid)
        (value1,) = PointwiseDepthwise(hidden, name="value1")(x1, grid)
        (value2,) = PointwiseDepthwise(hidden, name="value2")(x2, grid)
        merged = Conv1x1(2 * channels, name="project_out1")(gated(gate1, value1))
        return both + merged + Conv1x1(2 * channels, name="project_out2")(gated(gate2, value2))


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
        grid = grid_of(*a.shape[:3], a.dtype)
        stage = {"blocks": self.blocks, "heads": self.heads, "expansion": self.expansion}
        x1 = Stage(**stage, name="encoder1")(to_frame(Conv3x3(self.width, name="project_in_1")(a)), grid)
        x2 = Stage(**stage, name="encoder2")(to_frame(Conv3x3(self.width, name="project_in_2")(b)), grid)
        x = AttentionalFusion(self.heads, name="fusion")(x1, x2, grid)
        x = from_frame(Stage(**stage, name="decoder")(x, grid), grid)
        x = nn.leaky_relu(Conv3x3(self.width, name="project_out_0")(x), 0.01)
        x = Conv3x3(1, name="project_out_1")(x)
        return nn.sigmoid(x.astype(wide(x)))
