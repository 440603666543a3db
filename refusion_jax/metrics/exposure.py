"""MEF-SSIM: how well a fused image keeps the structure of two or more exposures."""

from collections.abc import Sequence

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.metrics.filters import banded, filter_valid, gaussian, strips
from refusion_jax.metrics.levels import of_one_size, require_size

_WINDOW, _SIGMA = 11, 1.5
_PIXELS = _WINDOW**2
_SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001]) / (0.0448 + 0.2856 + 0.3001)
_SMALLEST = 4 * _WINDOW  # the third scale has a quarter of the side
_CONSTANT = (0.03 * 255) ** 2
_FLAT = 1e-3  # added to the strength of a patch, in grey levels
_LARGEST_EXPONENT = 10.0
_EPS = np.finfo(np.float64).eps


def mef_ssim(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """MEF-SSIM: structural similarity of a fused image with the patches its exposures ask for, at three scales.

    Of each 11x11 patch the mean is left out. The wanted patch has the strength (Euclidean norm) of the strongest
    source and the direction of the sources' directions weighted by strength^p, where p = tan(pi/2 R), at most 10,
    grows with the consistency R = |sum of patches| / sum of |patch|. It is compared with the fused patch by
    contrast and structure of SSIM, Gaussian window of 1.5 pixels, K = 0.03. Mean over the region where the window
    fits; two more scales by means of 2x2 pixels (a last odd row or column counts twice); product of the three
    powered by 0.0448, 0.2856 and 0.3001 over their sum. A scale whose mean is below zero counts as zero.

    sources: two or more (H, W) luma, as `fused`; see `as_levels`. Needs 44x44 pixels. Brightness does not count:
    only what is around a patch's mean does. Unit: none. Range: 0 to 1 (sources that agree, and the fused image
    with the stronger). Higher is better. Symmetric in the sources. Source: Ma, Zeng and Wang, "Perceptual quality
    assessment for multi-exposure image fusion", TIP 2015, with the constants of the authors' code, version 1.0.

    Raises InputError for fewer than two sources and as all metrics do.
    """
    if len(sources) < 2:
        raise InputError(f"MEF-SSIM compares with two sources or more, got {len(sources)}; give all exposures")
    names = [f"source {number}" for number in range(1, len(sources) + 1)]
    images = of_one_size(dict(zip([*names, "fused image"], [*sources, fused], strict=True)))
    require_size(images[-1], _SMALLEST, "MEF-SSIM")
    images = [image.astype(np.float64) for image in images]
    quality = 1.0
    for weight in _SCALE_WEIGHTS:
        quality *= max(_one_scale(images), 0.0) ** weight
        images = [_halve(image) for image in images]
    return float(quality)


def mef_ssim_of_pair(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """`mef_ssim` of two sources."""
    return mef_ssim((source_a, source_b), fused)


def _one_scale(images: Sequence[np.ndarray]) -> float:
    """Mean quality of the last image against the others at their size, all float64 (H, W)."""
    height, width = (side - _WINDOW + 1 for side in images[0].shape)
    total = 0.0
    for start, stop in strips(height, width):
        rows = slice(start, stop + _WINDOW - 1)
        *sources, fused = (image[rows] for image in images)
        total += float(np.sum(_quality(sources, fused)))
    return total / (height * width)


def _quality(sources: list[np.ndarray], fused: np.ndarray) -> np.ndarray:
    """Quality of each patch. The wanted patch is a weighted sum of the sources' patches, so its moments follow from
    theirs and no patch is formed."""
    products = {(i, j): x * sources[j] for i, x in enumerate(sources) for j in range(i, len(sources))}
    weights = _patch_weights(sources, products)
    window = gaussian(_WINDOW, _SIGMA)
    band = banded(window / window.sum())
    means = [filter_valid(x, band) for x in sources]
    mean_f = filter_valid(fused, band)
    between = {(i, j): filter_valid(xy, band) - means[i] * means[j] for (i, j), xy in products.items()}
    covariance = sum(
        w * (filter_valid(x * fused, band) - m * mean_f) for w, x, m in zip(weights, sources, means, strict=True)
    )
    variances = _of_sum(weights, between) + filter_valid(fused * fused, band) - mean_f * mean_f
    return (2 * covariance + _CONSTANT) / (variances + _CONSTANT)


def _patch_weights(sources: list[np.ndarray], products: dict[tuple[int, int], np.ndarray]) -> list[np.ndarray]:
    """The weight of each source's patch in the wanted one; 0 where the wanted one is flat."""
    ones = banded(np.ones(_WINDOW))
    sums = [filter_valid(x, ones) for x in sources]
    # Levels and means of 4 or 16 levels are exact in binary: a flat patch has a norm of exactly zero.
    inner = {
        (i, j): (_PIXELS * filter_valid(xy, ones) - sums[i] * sums[j]) / _PIXELS for (i, j), xy in products.items()
    }
    norms = [np.sqrt(inner[i, i]) for i in range(len(sources))]
    norm_of_sum = np.sqrt(np.maximum(_of_sum([1.0] * len(sources), inner), 0))
    consistency = np.minimum((norm_of_sum + _EPS) / (sum(norms) + _EPS), 1)
    exponent = np.minimum(np.tan(np.pi / 2 * consistency), _LARGEST_EXPONENT)
    strengths = [norm + _FLAT for norm in norms]
    # Shares of strength^exponent that sum to 1, each for a patch of norm 1.
    powers = [(strength / _WINDOW) ** exponent + _EPS for strength in strengths]
    directions = [power / sum(powers) / strength for power, strength in zip(powers, strengths, strict=True)]
    norm = np.sqrt(np.maximum(_of_sum(directions, inner), 0))
    wanted = np.divide(np.maximum.reduce(strengths), norm, out=np.zeros_like(norm), where=norm > 0)
    return [direction * wanted for direction in directions]


def _of_sum(weights: Sequence[np.ndarray | float], inner: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Squared norm (or variance) of a weighted sum from its terms' inner products (or covariances), i <= j."""
    return np.asarray(sum(value * weights[i] * weights[j] * (1 if i == j else 2) for (i, j), value in inner.items()))


def _halve(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels."""
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
