"""Metrics of local structure: SSIM and the edge-transfer measure QABF."""

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.metrics.filters import banded, filter_valid, strips
from refusion_jax.metrics.levels import require_size, triplet

_WINDOW = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray, combine: str = "mean") -> float:
    """SSIM of the fused image with either source, their mean (`paper`) or their sum (`cddfuse`).

    7x7 uniform window, unbiased (co)variances, K1 = 0.01, K2 = 0.03, data range 255, mean over the region
    where the window fits. Unit: none. Range: -1 to 1 (mean), -2 to 2 (sum). Higher is better. Symmetric in
    the sources. Source: Wang et al., "Image quality assessment: from error visibility to structural
    similarity", TIP 2004.

    All arrays (H, W) luma, see `as_levels`. Needs 7x7 pixels. Raises InputError for another `combine`.
    """
    if combine not in ("mean", "sum"):
        raise InputError(f"SSIM combines the two sources by 'mean' or 'sum', got {combine!r}")
    a, b, f = triplet(source_a, source_b, fused)
    require_size(f, _WINDOW, "SSIM")
    height, width = f.shape[0] - _WINDOW + 1, f.shape[1] - _WINDOW + 1
    total = 0.0
    for start, stop in strips(height, width):
        rows = slice(start, stop + _WINDOW - 1)
        total += _ssim_sum(*(x[rows].astype(np.float64) for x in (a, b, f)))
    mean = total / (height * width)
    return mean / 2 if combine == "mean" else mean


def _ssim_sum(a: np.ndarray, b: np.ndarray, f: np.ndarray) -> float:
    """SSIM of f with a plus that with b, summed over all windows that fit."""
    n = _WINDOW**2
    ones = banded(np.ones(_WINDOW))
    # All window sums are whole numbers and exact, so a flat window has a variance of exactly zero.
    sum_f = filter_valid(f, ones)
    mean_f = sum_f / n
    var_f = (filter_valid(f * f, ones) - sum_f * mean_f) / (n - 1)
    total = 0.0
    for x in (a, b):
        sum_x = filter_valid(x, ones)
        mean_x = sum_x / n
        var_x = (filter_valid(x * x, ones) - sum_x * mean_x) / (n - 1)
        cov = (filter_valid(x * f, ones) - sum_x * mean_f) / (n - 1)
        numerator = (2 * mean_x * mean_f + _C1) * (2 * cov + _C2)
        denominator = (mean_x * mean_x + mean_f * mean_f + _C1) * (var_x + var_f + _C2)
        total += float(np.sum(numerator / denominator))
    return total


def qabf(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """QABF: how much of the sources' edge strength and direction the fused image keeps, weighted by edge
    strength.

    Sobel gradients with zero border; per pixel and source the ratio of the smaller to the larger strength and
    the closeness of the directions, each through a sigmoid, multiplied. As the MEFB toolbox and CDDFuse's
    script have it: where both strengths are equal, the strength itself stands for the ratio, and directions
    in (-pi/2, pi/2] are compared without wrapping.

    Unit: none. Range: 0 to 0.9754 (0 where neither source has an edge). Higher is better. Symmetric in the
    sources. Source: Xydeas and Petrovic, "Objective image fusion performance measure", Electron. Lett. 2000.

    All arrays (H, W) luma, see `as_levels`. Needs 3x3 pixels.
    """
    a, b, f = triplet(source_a, source_b, fused)
    require_size(f, 3, "QABF")
    kept = total = 0.0
    for start, stop in strips(*f.shape):
        kept_here, total_here = _edges_kept(*(_edges(x, start, stop) for x in (a, b, f)))
        kept, total = kept + kept_here, total + total_here
    return kept / total if total > 0 else 0.0


def _edges_kept(edges_a: tuple, edges_b: tuple, edges_f: tuple) -> tuple[float, float]:
    """Sums over the pixels and both sources: edge strength times the share of it kept, and edge strength."""
    strength_f, angle_f = edges_f
    kept = total = 0.0
    for strength, angle in (edges_a, edges_b):
        larger = np.maximum(strength, strength_f)
        ratio = np.divide(np.minimum(strength, strength_f), larger, out=np.zeros_like(larger), where=larger > 0)
        ratio = np.where(strength == strength_f, strength_f, ratio)
        closeness = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        # Strength and direction each through a sigmoid, with the constants of the paper.
        kept_strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        kept_angle = 0.9879 / (1 + np.exp(-22 * (closeness - 0.8)))
        kept += float(np.sum(kept_strength * kept_angle * strength))
        total += float(np.sum(strength))
    return kept, total


def _edges(levels: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Sobel strength and direction of the rows from `start` to `stop`; pi/2 where nothing changes along x."""
    from scipy import ndimage  # takes 0.2 s, and not everyone who needs the metrics' names scores

    top = max(start - 1, 0)
    x = levels[top : stop + 1].astype(np.float64)
    rows = slice(start - top, stop - top)
    horizontal = ndimage.sobel(x, axis=1, mode="constant")[rows]
    # The classic pair has its vertical kernel pointing up; directions are compared without wrapping, so signs
    # matter.
    vertical = -ndimage.sobel(x, axis=0, mode="constant")[rows]
    slope = np.divide(vertical, horizontal, out=np.full_like(horizontal, np.inf), where=horizontal != 0)
    return np.hypot(horizontal, vertical), np.arctan(slope)
