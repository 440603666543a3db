"""Dense 3x3 convolution of frames: values alone, for fusing. The networks themselves convolve images (blocks.conv3x3).

On a CPU XLA's convolution spends most of its time on what is cheap here: of one channel it is nine multiples of the
frame, shifted; of more, one product with all taps' kernels side by side, then nine slices of that, added.
"""

import jax
import jax.numpy as jnp

from refusion_jax.models.depthwise import offsets
from refusion_jax.models.frames import Grid


def dense3x3(x: jax.Array, kernel: jax.Array, grid: Grid) -> jax.Array:
    """3x3 convolution, zero padding 1, of a frame with zero border. x (N,C), kernel (3,3,C,D) -> (N,D)."""
    edge, channels, wanted = grid.pitch + 1, *kernel.shape[2:]
    size = x.shape[0] - 2 * edge
    first = [edge + offset for offset in offsets(grid.pitch)]
    if channels == 1:
        total = sum(x[i : i + size] * tap for i, tap in zip(first, kernel.reshape(9, -1), strict=True))
    else:
        taps = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
        total = sum(taps[i : i + size, t * wanted : (t + 1) * wanted] for t, i in enumerate(first))
    return jnp.pad(total, ((edge, edge), (0, 0))) * grid.mask
