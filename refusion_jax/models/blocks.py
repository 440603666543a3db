"""Building blocks of all three networks: convolutions, channel attention (MDTA), gated feed-forward (GDFN), RTB.

Feature maps are (B, H, W, C), float. No convolution has a bias; every 3x3 convolution pads with zeros by 1.

A bias-free 1x1 convolution followed by a depthwise 3x3 equals one dense 3x3 convolution with the product of the
two kernels, zero borders included. The parameters stay apart (as published), the product is formed on the fly: XLA
runs a dense convolution many times faster than a grouped one on a CPU, and the small factors get their gradients
through the product.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

# PyTorch's default for convolutions, uniform in +-1/sqrt(fan_in): what the released weights started from.
conv_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution, zero padding 1. x (B,H,W,C), kernel (3,3,C,D) -> (B,H,W,D)."""
    return jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class Conv3x3(nn.Module):
    """Dense 3x3 convolution. (B,H,W,C) -> (B,H,W,features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        return conv3x3(x, self.param("kernel", conv_init, (3, 3, x.shape[-1], self.features)))


class Conv1x1(nn.Module):
    """1x1 convolution, a matrix product over channels. (B,H,W,C) -> (B,H,W,features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", conv_init, (x.shape[-1], self.features)).astype(x.dtype)


class PointwiseDepthwise(nn.Module):
    """1x1 convolution then depthwise 3x3, run as one dense 3x3. (B,H,W,C) -> (B,H,W,features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        pointwise = self.param("pointwise", conv_init, (x.shape[-1], self.features))
        # (3,3,1,features): the singleton makes the initialiser see the fan-in of a depthwise kernel, 9.
        depthwise = self.param("depthwise", conv_init, (3, 3, 1, self.features))
        return conv3x3(x, depthwise * pointwise)


def inverse_norm(x: jax.Array, axis: int, eps: float = 1e-12) -> jax.Array:
    """1 / ||x|| along an axis; 0 where the norm is below eps, with finite derivatives of every order there."""
    square = jnp.sum(x * x, axis)
    alive = square > eps * eps
    return jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, square, 1.0)), 0.0)


def attention_matrix(q: jax.Array, k: jax.Array, temperature: jax.Array) -> jax.Array:
    """Channel attention (MDTA, Restormer): the (B,C,C) matrix that mixes the channels of v.

    q, k: (B,N,C) over N pixels; temperature: (heads,). Channels are head-major; only channels of one head attend to
    each other, so the result is block diagonal. Entry [c, e] is the weight of v's channel e in output channel c.
    One C x C product with its diagonal blocks cut out is far cheaper than a small product per head.
    """
    batch, _, channels = q.shape
    heads = temperature.shape[0]
    size = channels // heads
    scores = jnp.einsum("bnc,bne->bce", q, k) * inverse_norm(q, 1)[:, :, None] * inverse_norm(k, 1)[:, None, :]
    scores = jnp.einsum("bhihj->bhij", scores.reshape(batch, heads, size, heads, size))
    weights = nn.softmax(scores * temperature[:, None, None].astype(scores.dtype), -1)
    blocks = jnp.einsum("bhij,hg->bhigj", weights, jnp.eye(heads, dtype=weights.dtype))
    return blocks.reshape(batch, channels, channels)


class ChannelAttention(nn.Module):
    """Attention over channels and its 1x1 output projection. q, k, v: (B,H,W,C) -> (B,H,W,C)."""

    heads: int

    @nn.compact
    def __call__(self, q, k, v):
        batch, height, width, channels = v.shape
        temperature = self.param("temperature", nn.initializers.ones, (self.heads,))
        project_out = self.param("project_out", conv_init, (channels, channels))
        flat = (batch, height * width, channels)
        attention = attention_matrix(q.reshape(flat), k.reshape(flat), temperature)
        # Attention and projection are both linear in v's channels: one C x C matrix per image does both.
        mix = jnp.einsum("bce,co->beo", attention, project_out.astype(v.dtype))
        return jnp.einsum("bne,beo->bno", v.reshape(flat), mix).reshape(v.shape)


class SelfAttention(nn.Module):
    """MDTA: q, k, v from one feature map. (B,H,W,C) -> (B,H,W,C)."""

    heads: int

    @nn.compact
    def __call__(self, x):
        qkv = PointwiseDepthwise(3 * x.shape[-1], name="qkv")(x)
        return ChannelAttention(self.heads, name="attention")(*jnp.split(qkv, 3, -1))


class GatedFeedForward(nn.Module):
    """GDFN: two branches, one gates the other through an exact (erf) GELU. (B,H,W,C) -> (B,H,W,C)."""

    expansion: int = 2

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        hidden = PointwiseDepthwise(2 * self.expansion * channels, name="project_in")(x)
        gate, value = jnp.split(hidden, 2, -1)
        return Conv1x1(channels, name="project_out")(nn.gelu(gate, approximate=False) * value)


def layer_norm(name: str) -> nn.LayerNorm:
    """Layer norm over channels with scale and shift; the two-pass variance is the accurate one."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


class TransformerBlock(nn.Module):
    """RTB, the Restormer block: x + attention(norm(x)), then x + feed-forward(norm(x)). Keeps (B,H,W,C)."""

    heads: int
    expansion: int = 2

    @nn.compact
    def __call__(self, x):
        x = x + SelfAttention(self.heads, name="self_attention")(layer_norm("norm1")(x))
        return x + GatedFeedForward(self.expansion, name="feed_forward")(layer_norm("norm2")(x))


class Stage(nn.Module):
    """Several RTB in a row, named 0, 1, ... Keeps (B,H,W,C)."""

    blocks: int
    heads: int
    expansion: int = 2

    @nn.compact
    def __call__(self, x):
        for i in range(self.blocks):
            x = TransformerBlock(self.heads, self.expansion, name=str(i))(x)
        return x
