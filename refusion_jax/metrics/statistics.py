"""Metrics of the fused image alone: entropy, standard deviation, spatial frequency, average gradient."""

import numpy as np

from refusion_jax.metrics.levels import as_levels, require_size


def entropy(fused: np.ndarray) -> float:
    """EN: entropy of the histogram of the fused image's 256 levels.

    Unit: bits. Range: 0 (constant) to 8 (all levels equally often). Higher is better. Source: Roberts et al.,
    "Assessment of image fusion procedures using entropy, image quality, and multispectral classification", J.
    Appl. Remote Sens. 2008. One definition under every protocol.

    fused: (H, W) luma, see `as_levels`.
    """
    counts = np.bincount(as_levels(fused, "fused image").ravel(), minlength=256)
    return entropy_of_counts(counts)


def entropy_of_counts(counts: np.ndarray) -> float:
    """Entropy in bits of a histogram given as counts, of any shape; empty bins add nothing."""
    share = counts[counts > 0] / counts.sum()
    # The sum of a single term log2(1) is -0.0 after the sign change.
    return abs(float(-np.sum(share * np.log2(share))))


def standard_deviation(fused: np.ndarray) -> float:
    """SD: population standard deviation of the fused image.

    Unit: grey levels (0..255). Range: 0 (constant) to 127.5. Higher is better (more contrast).
    Source: Rao, "In-fibre Bragg grating sensors", Meas. Sci. Technol. 1997 (as cited by the field).
    One definition under every protocol.
    """
    return float(np.std(as_levels(fused, "fused image"), dtype=np.float64))


def spatial_frequency(fused: np.ndarray) -> float:
    """SF: root of the mean squared first difference along rows plus that along columns.

    Each mean is taken over its own number of differences, H(W-1) and (H-1)W.
    Unit: grey levels. Range: 0 (constant) to 255 sqrt(2). Higher is better.
    Source: Eskicioglu and Fisher, "Image quality measures and their performance", IEEE Trans. Commun. 1995.
    Needs 2x2 pixels.
    """
    x, (along_rows, along_columns) = _differences(fused, "SF")
    return float(np.sqrt(np.mean(along_rows**2) + np.mean(along_columns**2)))


def spatial_frequency_mefb(fused: np.ndarray) -> float:
    """SF as the MEFB toolbox counts: both sums of squared differences divided by all H*W pixels.

    Unit, range, direction and smallest size as `spatial_frequency`, of which it is never the larger.
    """
    x, (along_rows, along_columns) = _differences(fused, "SF")
    return float(np.sqrt((np.sum(along_rows**2) + np.sum(along_columns**2)) / x.size))


def average_gradient(fused: np.ndarray) -> float:
    """AG: mean over the pixels of sqrt((gx^2 + gy^2) / 2), central differences, one-sided at the borders.

    Unit: grey levels per pixel. Range: 0 (constant) to 255. Higher is better. Source: Cui et al., "Detail
    preserved fusion of visible and infrared images using regional saliency extraction and multi-scale image
    decomposition", Opt. Commun. 2015. Needs 2x2 pixels.
    """
    return float(np.mean(_gradient_strength(fused)))


def average_gradient_mefb(fused: np.ndarray) -> float:
    """AG as the MEFB toolbox counts: the same sum divided by (H-1)(W-1) instead of H*W.

    Unit, direction and smallest size as `average_gradient`, of which it is never the smaller.
    """
    strength = _gradient_strength(fused)
    height, width = strength.shape
    return float(np.sum(strength) / ((height - 1) * (width - 1)))


def _differences(fused: np.ndarray, metric: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    levels = as_levels(fused, "fused image")
    require_size(levels, 2, metric)
    x = levels.astype(np.float64)
    return x, (np.diff(x, axis=1), np.diff(x, axis=0))


def _gradient_strength(fused: np.ndarray) -> np.ndarray:
    levels = as_levels(fused, "fused image")
    require_size(levels, 2, "AG")
    along_columns, along_rows = np.gradient(levels.astype(np.float64))
    return np.sqrt((along_rows**2 + along_columns**2) / 2)
