"""Table 5, VIII: no gating feature refinement; the AFM ends with the two attended sources. As `model.fusion`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from refusion_jax.models.fusion import AttentionalFusion, FusionNet


class Ungated(AttentionalFusion):
    """The AFM's cross attention alone."""

    def refined(self, x1, x2, grid):
        """Two frames (N,C) -> one of (N,2C)."""
        return jnp.concatenate([x1, x2], -1)


class UngatedFusion(FusionNet):
    """F with `Ungated`."""

    merging: Callable[..., Any] = Ungated
