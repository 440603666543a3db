"""Table 5, VII: no interactive feature extraction; in the AFM each source attends to itself. As `model.fusion`."""

from collections.abc import Callable
from typing import Any

from refusion_jax.models.blocks import attention_sums
from refusion_jax.models.fusion import AttentionalFusion, FusionNet


class OwnAttention(AttentionalFusion):
    """The AFM in which each source asks with its own query."""

    def sums(self, streams, grid):
        """Of both attentions, and v of both sources."""
        each = [qkv(x, grid.summed, grid.summed, grid) for qkv, x in zip((self.qkv1, self.qkv2), streams, strict=True)]
        return tuple(attention_sums(q, k, grid.batch) for q, k, _ in each), tuple(v for _, _, v in each)


class OwnAttentionFusion(FusionNet):
    """F with `OwnAttention`."""

    merging: Callable[..., Any] = OwnAttention
