"""Frames: feature maps as one long row of pixels, every image with a border of zeros, so that a shift is an offset.

A map (B,H,W,C) is held as (N,C) with N = B * (H+2) * (W+2). The neighbour of a pixel at (dy, dx) then lies dy * (W+2)
+ dx places further for every pixel, and a 3x3 convolution is nine contiguous slices; XLA's CPU code for those is
several times faster than for slices of (B,H,W,C).

The border must stay zero. `depthwise3x3` and `LayerNorm` keep it so, as do all operations that work pixel by pixel and
map zero to zero, and their gradients. The result of any other operation (adding a bias, say) has to be multiplied by
`Grid.mask`.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


class Grid(flax.struct.PyTreeNode):
    """Where the pixels of a frame lie. mask (N,1): 1 inside an image, 0 on the border.

    counted (N,1): 1 at the pixels that sums over the image count, for a part that overlaps others; None: all pixels.
    """

    mask: jax.Array
    batch: int = flax.struct.field(pytree_node=False)
    height: int = flax.struct.field(pytree_node=False)  # without the border
    width: int = flax.struct.field(pytree_node=False)
    counted: jax.Array | None = None

    @property
    def summed(self) -> "Grid":
        """The same grid with a mask of the pixels that sums count."""
        return self if self.counted is None else self.replace(mask=self.mask * self.counted, counted=None)

    @property
    def pitch(self) -> int:
        """Places from a pixel to the one below it."""
        return self.width + 2


def grid_of(batch: int, height: int, width: int, dtype=jnp.float32) -> Grid:
    """The grid of whole images."""
    inside = np.zeros((batch, height + 2, width + 2), np.float32)
    inside[:, 1:-1, 1:-1] = 1
    return Grid(jnp.asarray(inside.reshape(-1, 1), dtype), batch, height, width)


def grid_like(images: jax.Array) -> Grid:
    """The grid of images (B,H,W,C), in their type."""
    batch, height, width, _ = images.shape
    return grid_of(batch, height, width, images.dtype)


def to_frame(x: jax.Array) -> jax.Array:
    """(B,H,W,C) -> (N,C), zero border."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(-1, x.shape[-1])


def from_frame(x: jax.Array, grid: Grid) -> jax.Array:
    """(N,C) -> (B,H,W,C)."""
    return x.reshape(grid.batch, grid.height + 2, grid.width + 2, -1)[:, 1:-1, 1:-1]
