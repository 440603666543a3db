"""Building blocks of all three networks: convolutions, channel attention (MDTA), gated feed-forward (GDFN), RTB.

Feature maps are frames (N,C), see models/operators/frames.py; the networks' inputs and outputs are images (B,H,W,C). No
convolution has a bias; every 3x3 convolution pads with zeros by 1.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from refusion_jax.models.operators.dense import conv3x3, dense3x3
from refusion_jax.models.operators.depthwise import depthwise3x3, depthwise_parts, wide
from refusion_jax.models.operators.frames import Grid
from refusion_jax.models.operators.pointwise import channel_mean, pointwise

# PyTorch's default for convolutions, uniform in +-1/sqrt(fan_in): what the released weights started from.
conv_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# Initial values of the parameters, by name, that are no kernels of convolutions.
CONSTANTS = {"scale": 1.0, "bias": 0.0, "temperature": 1.0, "negative_slope": 0.25}


def draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The initial value of a parameter of our networks, float32, as its initialiser gives it but drawn by NumPy: XLA
    takes 10 s to compile the drawing of all of them."""
    if name in CONSTANTS:
        return np.full(shape, CONSTANTS[name], np.float32)
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))


class Conv3x3(nn.Module):
    """Dense 3x3 convolution. Images (B,H,W,C) -> (B,H,W,features); with a grid, frames (N,C) -> (N,features)."""

    features: int

    @nn.compact
    def __call__(self, x, grid: Grid | None = None):
        kernel = self.param("kernel", conv_init, (3, 3, x.shape[-1], self.features))
        return conv3x3(x, kernel) if grid is None else dense3x3(x, kernel, grid)


class Conv1x1(nn.Module):
    """1x1 convolution, a matrix product over channels. (N,C) -> (N,features)."""

    features: int

    @nn.compact
    def __call__(self, x):
        return pointwise(x, self.param("kernel", conv_init, (x.shape[-1], self.features)).astype(x.dtype))


class PointwiseDepthwise(nn.Module):
    """1x1 convolution to `factor` times the channels, then depthwise 3x3. (N,C) -> a tuple of `parts` frames
    (N,factor*C/parts)."""

    factor: int
    parts: int = 1

    @nn.compact
    def __call__(self, x, *grids: Grid):
        """grids: one for all parts, or one for each; a part is zero where its grid's mask is."""
        channels = x.shape[-1]
        kernel = self.param("pointwise", conv_init, (channels, self.factor * channels)).astype(x.dtype)
        # (3,3,1,features): the singleton makes the initialiser see the fan-in of a depthwise kernel, 9.
        depthwise = self.param("depthwise", conv_init, (3, 3, 1, self.factor * channels))[:, :, 0].astype(x.dtype)
        if all(grid is grids[0] for grid in grids) and grids[0].counted is None:
            return depthwise_parts(pointwise(x, kernel), depthwise, grids[0], self.parts)
        # One by one in a part of an image: a pass over it may drop some, and takes less memory at a time.
        parts = zip(jnp.split(kernel, self.parts, -1), jnp.split(depthwise, self.parts, -1), strict=True)
        grids = grids * self.parts if len(grids) == 1 else grids
        return tuple(depthwise3x3(pointwise(x, k), d, g) for (k, d), g in zip(parts, grids, strict=True))


def inverse_norm(square: jax.Array, eps: float = 1e-12) -> jax.Array:
    """1 / ||x|| of square = ||x||^2; 0 where the norm is at most eps, with finite derivatives of every order."""
    alive = square > eps * eps
    return jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, square, 1.0)), 0.0)


def attention_sums(q: jax.Array, k: jax.Array, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The sums over pixels that channel attention needs; those of an image's parts add up to those of the image.

    q, k: (N,C) of `batch` images -> q.k (B,C,C), |q|^2 (B,C), |k|^2 (B,C), in float32 at least.
    """
    exact = wide(q)
    q, k = (x.reshape(batch, -1, x.shape[-1]) for x in (q, k))
    product = jnp.einsum("bnc,bne->bce", q, k, preferred_element_type=exact)
    return product, jnp.sum(jnp.square(q.astype(exact)), 1), jnp.sum(jnp.square(k.astype(exact)), 1)


def attention_matrix(sums: tuple[jax.Array, jax.Array, jax.Array], temperature: jax.Array) -> jax.Array:
    """Channel attention (MDTA, Restormer): the (B,C,C) matrix that mixes the channels of v.

    sums: see attention_sums; temperature: (heads,). Channels are head-major; only channels of one head attend to
    each other, so the result is block diagonal. Entry [c, e] is the weight of v's channel e in output channel c.
    One C x C product, of which the diagonal blocks are taken, is far cheaper than a small product per head.
    """
    product, square_q, square_k = sums
    batch, channels = square_q.shape
    heads = temperature.shape[0]
    size = channels // heads
    scores = product * inverse_norm(square_q)[:, :, None] * inverse_norm(square_k)[:, None, :]
    scores = jnp.einsum("bhihj->bhij", scores.reshape(batch, heads, size, heads, size))
    weights = nn.softmax(scores * temperature[:, None, None].astype(scores.dtype), -1)
    blocks = jnp.einsum("bhij,hg->bhigj", weights, jnp.eye(heads, dtype=weights.dtype))
    return blocks.reshape(batch, channels, channels)


class ChannelAttention(nn.Module):
    """Channel attention and its 1x1 output projection as one matrix (B,C,C): both are linear in the channels of v."""

    heads: int

    @nn.compact
    def __call__(self, sums):
        """sums: of attention_sums -> the matrix; `mix` applies it to v."""
        channels = sums[1].shape[-1]
        temperature = self.param("temperature", nn.initializers.ones, (self.heads,))
        project_out = self.param("project_out", conv_init, (channels, channels))
        return jnp.einsum("bce,co->beo", attention_matrix(sums, temperature), project_out)


def mix(v: jax.Array, matrix: jax.Array) -> jax.Array:
    """v (N,C) times each image's own matrix (B,C,C) -> (N,C)."""
    batch, channels = matrix.shape[:2]
    mixed = jnp.einsum("bne,beo->bno", v.reshape(batch, -1, channels), matrix.astype(v.dtype))
    return mixed.reshape(v.shape)


class SelfAttention(nn.Module):
    """MDTA: q, k, v from one feature map. Keeps (N,C)."""

    heads: int

    def setup(self):
        self.qkv = PointwiseDepthwise(3, 3)
        self.attention = ChannelAttention(self.heads)

    def sums(self, x, grid: Grid):
        """(attention_sums, v)."""
        q, k, v = self.qkv(x, grid.summed, grid.summed, grid)
        return attention_sums(q, k, grid.batch), v

    def result(self, sums, v):
        """The attention's output, given the sums of the whole image."""
        return mix(v, self.attention(sums))


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x times the normal distribution function; through erf, which is faster than erfc."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


@jax.custom_vjp
def gated(gate: jax.Array, value: jax.Array) -> jax.Array:
    """gelu(gate) * value, (N,C) twice -> (N,C). The two are all that is kept for the derivative."""
    return gelu(gate) * value


def _gated_rule(saved, g):
    gate, value = saved
    # erf(-x), since XLA would find erf(x) equal to that of the forward pass and keep it, another map in memory.
    phi = 0.5 - 0.5 * jax.lax.erf(-(0.5**0.5) * gate)
    density = (2 * math.pi) ** -0.5 * jnp.exp(-0.5 * gate * gate)
    return g * value * (phi + gate * density), g * gate * phi


gated.defvjp(lambda gate, value: (gated(gate, value), (gate, value)), _gated_rule)


class GatedFeedForward(nn.Module):
    """GDFN: two branches, one gates the other through an exact (erf) GELU. Keeps (N,C)."""

    expansion: int = 2

    @nn.compact
    def __call__(self, x, grid: Grid):
        gate, value = PointwiseDepthwise(2 * self.expansion, 2, name="project_in")(x, grid)
        return Conv1x1(x.shape[-1], name="project_out")(gated(gate, value))


class LayerNorm(nn.Module):
    """Layer norm over channels with scale and shift: biased variance, eps 1e-5. Keeps (N,C) and the zero border."""

    @nn.compact
    def __call__(self, x, grid: Grid):
        channels, dtype = x.shape[-1], x.dtype
        x = x.astype(wide(x))
        scale = self.param("scale", nn.initializers.ones, (channels,)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(x.dtype)
        centred = x - channel_mean(x)
        # Two passes: the variance as E(x^2) - E(x)^2 would lose digits.
        normal = centred * jax.lax.rsqrt(channel_mean(centred * centred) + 1e-5)
        return ((normal * scale + bias) * grid.mask).astype(dtype)


class TransformerBlock(nn.Module):
    """RTB, the Restormer block: x + attention(norm(x)), then x + feed-forward(norm(x)). Keeps (N,C).

    In two steps, `sums` and `result`, it is an attention layer of models/layer_list.py with a single stream.
    """

    heads: int
    expansion: int = 2

    def setup(self):
        self.norm1 = LayerNorm()
        self.self_attention = SelfAttention(self.heads)
        self.norm2 = LayerNorm()
        self.feed_forward = GatedFeedForward(self.expansion)

    def sums(self, x, grid: Grid):
        """(attention_sums, v)."""
        return self.self_attention.sums(self.norm1(x, grid), grid)

    def result(self, x, sums, v, grid: Grid):
        """The block's output, given the sums of the whole image."""
        x = x + self.self_attention.result(sums, v)
        return x + self.feed_forward(self.norm2(x, grid), grid)

    def __call__(self, x, grid: Grid):
        return self.result(x, *self.sums(x, grid), grid)


class Stage(nn.Module):
    """Several RTB in a row, named 0, 1, ... Keeps (N,C)."""

    blocks: int
    heads: int
    expansion: int = 2

    def setup(self):
        self.layers = [TransformerBlock(self.heads, self.expansion, name=str(i)) for i in range(self.blocks)]

    def __call__(self, x, grid: Grid):
        for layer in self.layers:
            x = layer(x, grid)
        return x
