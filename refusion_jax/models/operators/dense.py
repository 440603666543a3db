"""Dense 3x3 convolutions with zero padding: of images, for training, and of frames, for fusing in tiles.

XLA's own convolution is slow on a CPU. With one input channel the result is the sum of nine shifted multiples of the
map. With more it is one matrix product with the kernels of all nine taps side by side, of which nine shifted slices are
added. With derivatives the latter pays only for few output channels.
"""

import jax
import jax.numpy as jnp

from refusion_jax.models.operators.depthwise import offsets, wide
from refusion_jax.models.operators.frames import Grid
from refusion_jax.models.operators.pointwise import pointwise

FEW = 2  # output channels up to which conv3x3 is faster as one product with the kernels of all taps


def _side_by_side(kernel: jax.Array) -> jax.Array:
    """The kernels of the nine taps as one matrix: (3,3,C,D) -> (C,9D)."""
    return kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of images. x (B,H,W,C), kernel (3,3,C,D) -> (B,H,W,D)."""
    kernel = kernel.astype(x.dtype)
    channels, features = kernel.shape[2:]

    def shifted(x):
        height, width = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]

    if channels == 1:
        return pointwise(jnp.concatenate(shifted(x), -1), kernel.reshape(9, -1))
    if features <= FEW:
        taps = pointwise(x, _side_by_side(kernel)).astype(wide(x))
        wanted = (tap[..., t * features : (t + 1) * features] for t, tap in enumerate(shifted(taps)))
        return jnp.asarray(sum(wanted), x.dtype)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def dense3x3(x: jax.Array, kernel: jax.Array, grid: Grid) -> jax.Array:
    """3x3 convolution of a frame. x (N,C), kernel (3,3,C,D) -> (N,D). Fast in values, not in derivatives."""
    edge, channels, wanted = grid.pitch + 1, *kernel.shape[2:]
    size = x.shape[0] - 2 * edge
    first = [edge + offset for offset in offsets(grid.pitch)]
    if channels == 1:
        total = sum(x[i : i + size] * tap for i, tap in zip(first, kernel.reshape(9, -1), strict=True))
    else:
        taps = x @ _side_by_side(kernel)
        total = sum(taps[i : i + size, t * wanted : (t + 1) * wanted] for t, i in enumerate(first))
    return jnp.pad(total, ((edge, edge), (0, 0))) * grid.mask
