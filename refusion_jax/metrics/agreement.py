"""Metrics of how the fused image agrees with its sources, pixel by pixel: MI, CC, SCD, MSE, PSNR, QNCIE."""

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.metrics.levels import triplet
from refusion_jax.metrics.statistics import entropy_of_counts

_LEVELS = 256


def mutual_information(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray, unit: str = "bits") -> float:
    """MI: mutual information of the fused image with source a plus that with source b, joint histograms of
    256^2.

    Unit: bits (MATLAB toolboxes; ours under `paper` and `mefb`) or nats (`cddfuse`), which differ by the
    factor ln 2. Range: 0 to 16 bits. Higher is better. Symmetric in the sources. Source: Qu et al.,
    "Information measure for performance of image fusion", Electron. Lett. 2002.

    All arrays (H, W) luma, see `as_levels`. Raises InputError for another unit.
    """
    if unit not in ("bits", "nats"):
        raise InputError(f"mutual information comes in 'bits' or 'nats', got {unit!r}")
    a, b, f = triplet(source_a, source_b, fused)
    bits = _shared_bits(a, f) + _shared_bits(b, f)
    return bits * float(np.log(2)) if unit == "nats" else bits


def qncie(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """QNCIE: nonlinear correlation information entropy of the two sources and the fused image.

    The 3x3 matrix R holds 1 on the diagonal and elsewhere H(X) + H(Y) - H(X, Y) with entropies over
    log2(256); with its eigenvalues r, QNCIE = 1 + sum((r/3) log2(r/3)) / log2(256). The toolbox first
    stretches each image to 0..255, which only relabels its levels: no two merge, so no entropy changes, and
    we leave it out.

    Unit: none. Range: 1 - log2(3)/8 = 0.8019 (independent, or constant) to 1. Higher is better. Symmetric in
    the sources. Source: Wang, Shen and Jin, "Performance evaluation of image fusion techniques", 2008, ch.
    19.
    """
    a, b, f = triplet(source_a, source_b, fused)
    ab, af, bf = (_shared_bits(x, y) / np.log2(_LEVELS) for x, y in ((a, b), (a, f), (b, f)))
    eigenvalues = np.linalg.eigvalsh([[1, ab, af], [ab, 1, bf], [af, bf, 1]])
    # x log x goes to 0 with x; rounding can leave a vanishing eigenvalue just below zero.
    share = eigenvalues[eigenvalues > 0] / 3
    return float(1 + np.sum(share * np.log2(share)) / np.log2(_LEVELS))


def correlation_coefficient(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """CC: mean of the Pearson correlations of the fused image with either source.

    Unit: none. Range: -1 to 1; a constant image correlates 0 with everything. Higher is better. Symmetric.
    """
    a, b, f = (x.astype(np.float64) for x in triplet(source_a, source_b, fused))
    return (_pearson(a, f) + _pearson(b, f)) / 2


def scd(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """SCD: sum of the correlations of differences, corr(A, F-B) + corr(B, F-A).

    Unit: none. Range: -2 to 2; where an operand is constant its correlation counts 0 (so 0 for identical
    images). Higher is better. Symmetric in the sources. Source: Aslantas and Bendes, "A new image quality
    metric for image fusion: the sum of the correlations of differences", AEU 2015.
    """
    a, b, f = (x.astype(np.float64) for x in triplet(source_a, source_b, fused))
    return _pearson(a, f - b) + _pearson(b, f - a)


def mse(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """MSE: mean squared error of the fused image, the mean of that against a and that against b.

    Unit: squared grey levels. Range: 0 to 65025. Lower is better. Symmetric in the sources.
    """
    a, b, f = (x.astype(np.float64) for x in triplet(source_a, source_b, fused))
    return float(np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2


def psnr(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """PSNR: 10 log10(255^2 / MSE) of the mean MSE above (not the mean of two PSNRs: one perfect half would be
    infinite).

    Unit: dB. Range: 0 to infinity (fused equal to both sources). Higher is better. Symmetric in the sources.
    The peak is 255 under every protocol; CDDFuse's own script takes the fused image's largest level, which is
    the same for every image that reaches 255.
    """
    error = mse(source_a, source_b, fused)
    return float(10 * np.log10(255.0**2 / error)) if error > 0 else float("inf")


def _shared_bits(x: np.ndarray, y: np.ndarray) -> float:
    """Mutual information in bits of two uint8 images from their joint histogram."""
    codes = x.ravel().astype(np.uint16) * np.uint16(_LEVELS) + y.ravel()
    joint = np.bincount(codes, minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS)
    marginals = entropy_of_counts(joint.sum(1)) + entropy_of_counts(joint.sum(0))
    # Never negative but for rounding.
    return max(marginals - entropy_of_counts(joint), 0.0)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two float64 arrays of whole numbers; 0 where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    # Not np.vdot, whose threads wait for each other.
    scale = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / scale) if scale > 0 else 0.0
