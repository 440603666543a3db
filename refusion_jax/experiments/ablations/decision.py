"""Table 5, V: If = wa Ia + wb Ib; F decides at each pixel instead of making the picture. As `model.fusion`."""

from flax import linen as nn

from refusion_jax.models.fusion import FusionNet


class DecisionFusion(nn.Module):
    """F's layers give wa = 1 - wb in (0,1) at each pixel; the result is the weighted mean of the sources."""

    width: int = 16
    heads: int = 8
    blocks: int = 2
    expansion: int = 2

    @nn.compact
    def __call__(self, a, b):
        weight = FusionNet(self.width, self.heads, self.blocks, self.expansion, name="decision")(a, b)
        return weight * a + (1 - weight) * b
