"""The three networks together: their settings, their parameters as one `Params`, and how they are built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from refusion_jax.models.fusion import FusionNet
from refusion_jax.models.proposal import ProposalNet
from refusion_jax.models.reconstruction import ReconstructionNet

NAMES = ("F", "R", "P")


class Params(NamedTuple):
    """The parameter trees of F, R and P. Released weights have F alone: r and p are then None."""

    f: Any
    r: Any = None
    p: Any = None


class Networks(NamedTuple):
    """The three networks as functions of their parameters (for Linen modules: `module.apply` on {"params": ...})."""

    fuse: Callable  # (params_f, a, b) -> fused (B,H,W,1)
    reconstruct: Callable  # (params_r, fused) -> (a_hat, b_hat)
    propose: Callable  # (params_p, a, b, gradient_a, gradient_b) -> (w, v), each (B,H,W,2)


@dataclass(frozen=True)
class ModelSettings:
    """The size of F, R and P alike, and P's form."""

    width: int = 16  # channels
    heads: int = 8  # attention heads; must divide width
    blocks: int = 2  # transformer blocks a stage
    expansion: int = 2  # feed-forward expansion
    symmetric: bool = False  # P treats both sources alike: exchanging them exchanges their weights


def build(width: int = 16, heads: int = 8, blocks: int = 2, expansion: int = 2, symmetric: bool = False):
    """The modules (F, R, P) at one size; symmetric is P's alone (models/proposal.py)."""
    size = {"width": width, "heads": heads, "blocks": blocks, "expansion": expansion}
    return FusionNet(**size), ReconstructionNet(**size), ProposalNet(**size, symmetric=symmetric)


def expected_shapes(modules, gradient_channels: int = 1) -> dict[str, Any]:
    """{"F", "R", "P"} -> the tree of jax.ShapeDtypeStruct its module expects. Nothing is computed."""
    fusion, reconstruction, proposal = modules
    x = jnp.zeros((1, 8, 8, 1))
    gradient = jnp.zeros((1, 8, 8, gradient_channels))
    key = jax.random.key(0)
    return {
        "F": jax.eval_shape(fusion.init, key, x, x)["params"],
        "R": jax.eval_shape(reconstruction.init, key, x)["params"],
        "P": jax.eval_shape(proposal.init, key, x, x, gradient, gradient)["params"],
    }


def gradient_channels(sobel_form: str, proposal_form: str = "") -> int:
    """Channels of the gradients that P sees: losses.sobel in `proposal_form`, or without one in `sobel_form`."""
    return 2 if (proposal_form or sobel_form) == "components" else 1
