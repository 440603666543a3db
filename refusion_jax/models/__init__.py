"""The three networks: F (fusion), R (source reconstruction), P (loss proposal)."""

from refusion_jax.models.fusion import FusionNet
from refusion_jax.models.proposal import ProposalNet
from refusion_jax.models.reconstruction import ReconstructionNet

__all__ = ["FusionNet", "ProposalNet", "ReconstructionNet"]
