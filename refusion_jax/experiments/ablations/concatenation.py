"""Table 5, VI: concatenation in place of the AFM. As `model.fusion`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from refusion_jax.models.fusion import FusionNet


class Concatenation(nn.Module):
    """Both sources in one frame and nothing else; an attention layer that needs no sums (models/layer_list.py)."""

    heads: int

    def sums(self, streams, grid):
        """None."""
        return (), ()

    def result(self, streams, sums, values, grid):
        """Two frames (N,C) -> one of (N,2C)."""
        return (jnp.concatenate(streams, -1),)


class ConcatenationFusion(FusionNet):
    """F with `Concatenation`."""

    merging: Callable[..., Any] = Concatenation
