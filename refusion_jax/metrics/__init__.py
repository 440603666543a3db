"""Metrics of fused images: plain functions of luma arrays, and protocols that say which definition is meant.

`score` applies a protocol. The functions, each with unit, range, direction and source in its docstring:

- of the fused image alone (`statistics`): EN `entropy`, SD `standard_deviation`, SF `spatial_frequency`, AG
  `average_gradient`;
- agreement with the sources (`agreement`): MI `mutual_information`, CC `correlation_coefficient`, SCD `scd`,
  MSE `mse`, PSNR `psnr`, QNCIE `qncie`;
- local structure (`structure`): SSIM `ssim`, QABF `qabf`;
- the structure of two or more exposures (`exposure`): MEF-SSIM `mef_ssim`;
- of a video, by optical flow (`temporal`): BiSWE `biswe`, MS2R `ms2r`;
- human vision (`perception`): VIF `vif` (and CDDFuse's `vifp_sum`), QCB `qcb`.
"""

from refusion_jax.metrics.agreement import correlation_coefficient, mse, mutual_information, psnr, qncie, scd
from refusion_jax.metrics.exposure import mef_ssim
from refusion_jax.metrics.levels import as_levels
from refusion_jax.metrics.perception import qcb, vif, vifp_sum
from refusion_jax.metrics.protocols import PAPER_METRICS, PROTOCOLS, TASK_METRICS, Metric, protocol_metrics, score
from refusion_jax.metrics.statistics import (
    average_gradient,
    average_gradient_mefb,
    entropy,
    spatial_frequency,
    spatial_frequency_mefb,
    standard_deviation,
)
from refusion_jax.metrics.structure import qabf, ssim
from refusion_jax.metrics.temporal import Motion, Step, biswe, ms2r, step

__all__ = [
    "PAPER_METRICS",
    "PROTOCOLS",
    "Step",
    "TASK_METRICS",
    "Metric",
    "Motion",
    "as_levels",
    "average_gradient",
    "average_gradient_mefb",
    "biswe",
    "correlation_coefficient",
    "entropy",
    "mef_ssim",
    "ms2r",
    "mse",
    "mutual_information",
    "protocol_metrics",
    "psnr",
    "qabf",
    "qcb",
    "qncie",
    "scd",
    "score",
    "spatial_frequency",
    "spatial_frequency_mefb",
    "ssim",
    "standard_deviation",
    "step",
    "vif",
    "vifp_sum",
]
