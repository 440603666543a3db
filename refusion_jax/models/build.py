"""Builds the three modules from a size, and says what parameters each expects."""

from typing import Any

import jax
import jax.numpy as jnp

from refusion_jax.models import FusionNet, ProposalNet, ReconstructionNet

NAMES = ("F", "R", "P")


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
