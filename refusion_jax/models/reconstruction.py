"""R, the source reconstruction network: both sources back from the fused image (paper, Section 3.1).

The paper gives no layer list; ours is two independent branches of F's own parts (docs/differences.md).
"""

import jax
from flax import linen as nn

from refusion_jax.models.blocks import Conv3x3, Stage
from refusion_jax.models.operators.depthwise import wide
from refusion_jax.models.operators.frames import from_frame, grid_like, to_frame


class ReconstructionBranch(nn.Module):
    """One source from the fused image. (B,H,W,1) -> (B,H,W,1) in (0,1)."""

    width: int
    heads: int
    blocks: int
    expansion: int

    @nn.compact
    def __call__(self, fused):
        grid = grid_like(fused)
        x = to_frame(Conv3x3(self.width, name="project_in")(fused))
        x = from_frame(Stage(self.blocks, self.heads, self.expansion, name="body")(x, grid), grid)
        x = nn.leaky_relu(Conv3x3(self.width, name="project_out_0")(x), 0.01)
        x = Conv3x3(1, name="project_out_1")(x)
        return nn.sigmoid(x.astype(wide(x)))


class ReconstructionNet(nn.Module):
    """R(If) = (Ia_hat, Ib_hat). The fused luma (B,H,W,1) in [0,1] -> two (B,H,W,1) in (0,1)."""

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2

    @nn.compact
    def __call__(self, fused: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = (self.width, self.heads, self.blocks, self.expansion)
        return (
            ReconstructionBranch(*size, name="source_a")(fused),
            ReconstructionBranch(*size, name="source_b")(fused),
        )
