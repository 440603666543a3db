"""Metrics that model human vision: visual information fidelity (two readings) and Chen and Blum's QCB."""

from collections.abc import Iterator

import numpy as np

from refusion_jax.metrics.filters import banded, filter_valid, gaussian, reach, strips
from refusion_jax.metrics.levels import require_size, triplet

_SCALES = (1, 2, 3, 4)
_SMALLEST_VIF = 41  # below it the 3x3 window of scale 4 no longer fits
_FLAT = 1e-10
_VIFF_NOISE = 0.005 * 255**2
_VIFF_WEIGHTS = {1: 1 / 2.15, 2: 0.0, 3: 0.15 / 2.15, 4: 1 / 2.15}
_VIFP_NOISE = 2.0
_CONTRAST_TAPS = 31


def vif(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """VIF for fusion ("VIFF"): visual information the fused image keeps of the sources, over what they hold.

    Four scales with Gaussian windows of 17, 9, 5 and 3 pixels. Per pixel the information is that of the
    source whose gain towards the fused image is smaller (b on a tie); ratios of sums per scale, weighted [1,
    0, 0.15, 1] / 2.15.

    Unit: none. Range: from 0; 1 for identical images and flat sources; above 1 where the fused image has more
    contrast. Higher is better. Symmetric in the sources but for ties. Source: Han et al., "A new image fusion
    performance metric based on visual information fidelity", Inf. Fusion 2013.

    All arrays (H, W) luma, see `as_levels`. Needs 41x41 pixels.
    """
    levels = triplet(source_a, source_b, fused)
    require_size(levels[2], _SMALLEST_VIF, "VIF")
    images = [_centred(x) for x in levels]
    total = 0.0
    for scale in _SCALES:
        window = _vif_window(scale)
        if scale > 1:
            images = [_halve(x, window) for x in images]
        if _VIFF_WEIGHTS[scale] == 0:
            continue
        kept = held = 0.0
        for a, b, f in _strips_valid(images, window):
            (gain_a, kept_a, held_a), (gain_b, kept_b, held_b) = _information(a, b, f, window, _VIFF_NOISE)
            take_a = gain_a < gain_b
            kept += float(np.sum(np.where(take_a, kept_a, kept_b) + 1e-7))
            held += float(np.sum(np.where(take_a, held_a, held_b) + 1e-7))
        total += _VIFF_WEIGHTS[scale] * kept / held
    return total


def vifp_sum(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """VIF as CDDFuse's script has it: pixel-domain VIFp of the fused image against a, plus that against b.

    The same four scales as `vif`, noise variance 2, one ratio of the sums over all scales and pixels per
    source; a flat source counts 1. Unit: none. Range: from 0; 2 for identical images. Higher is better.
    Symmetric. Source: Sheikh and Bovik, "Image information and visual quality", TIP 2006.

    All arrays (H, W) luma, see `as_levels`. Needs 41x41 pixels.
    """
    levels = triplet(source_a, source_b, fused)
    require_size(levels[2], _SMALLEST_VIF, "VIF")
    images = [_centred(x) for x in levels]
    kept, held = [0.0, 0.0], [0.0, 0.0]
    for scale in _SCALES:
        window = _vif_window(scale)
        if scale > 1:
            images = [_halve(x, window) for x in images]
        for a, b, f in _strips_valid(images, window):
            for i, (_, kept_here, held_here) in enumerate(_information(a, b, f, window, _VIFP_NOISE)):
                kept[i] += float(np.sum(kept_here))
                held[i] += float(np.sum(held_here))
    return sum(k / h if h > 0 else 1.0 for k, h in zip(kept, held, strict=True))


def qcb(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
    """QCB: how much of the sources' local contrast, as the eye perceives it, the fused image keeps.

    Each image is stretched to 0..255 by its own extremes, filtered by a difference of Gaussians in frequency,
    and reduced to a masked local contrast C (windows of 31x31, sigma 2 over sigma 4). Preservation of a
    source is the smaller over the larger of its C and the fused image's; saliency of a is Ca^2 / (Ca^2 +
    Cb^2). Where both are zero preservation is 1 and saliency 1/2.

    In a flat background the filtered image is nearly zero and the contrast a quotient of rounding errors:
    there two correct programs differ. On medical images with a black surround that moves QCB by some 1e-5 to
    1e-4 of its value; elsewhere agreement with the MATLAB code is better than 1e-9.

    Unit: none. Range: 0 to 1 (identical images). Higher is better. Symmetric in the sources. Source: Chen and
    Blum, "A new automated quality assessment algorithm for image fusion", Image Vis. Comput. 2009, with the
    constants of the MEFB toolbox.

    All arrays (H, W) luma, see `as_levels`. Any size: the windows are padded with zeros.
    """
    images = [_stretch(x) for x in triplet(source_a, source_b, fused)]
    sensitivity = _contrast_sensitivity(images[0].shape)
    seen = [np.asarray(np.fft.irfft2(np.fft.rfft2(x) * sensitivity, s=x.shape)) for x in images]
    # The Gaussian density's scale, so the windows' sums fall a little short of 1; 2-D windows are outer
    # products.
    windows = [banded(gaussian(_CONTRAST_TAPS, s) / (np.sqrt(2 * np.pi) * s)) for s in (2.0, 4.0)]
    total = 0.0
    for start, stop in strips(*seen[0].shape):
        total += _contrast_kept_sum(*(_masked_contrast(x, start, stop, windows) for x in seen))
    return total / seen[0].size


def _contrast_kept_sum(contrast_a: np.ndarray, contrast_b: np.ndarray, contrast_f: np.ndarray) -> float:
    """Sum over the pixels of the saliency-weighted preservation of both sources' contrast."""
    kept_a = _ratio(np.minimum(contrast_a, contrast_f), np.maximum(contrast_a, contrast_f), 1.0)
    kept_b = _ratio(np.minimum(contrast_b, contrast_f), np.maximum(contrast_b, contrast_f), 1.0)
    power_a, power_b = contrast_a * contrast_a, contrast_b * contrast_b
    saliency_a = _ratio(power_a, power_a + power_b, 0.5)
    return float(np.sum(saliency_a * kept_a + (1 - saliency_a) * kept_b))


def _centred(levels: np.ndarray) -> np.ndarray:
    """Levels as float64 around zero, so that rounding leaves the variance of flat regions below _FLAT."""
    return levels.astype(np.float64) - 128


def _vif_window(scale: int) -> np.ndarray:
    """Banded Gaussian of 2^(5-scale)+1 taps with sum 1, sigma a fifth of that; 2-D by its outer product."""
    taps = 2 ** (5 - scale) + 1
    window = gaussian(taps, taps / 5)
    return banded(window / window.sum())


def _halve(x: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Filtered where the window fits, then every second row and column from the first."""
    more = reach(window)
    height, width = (x.shape[0] - more + 1) // 2, (x.shape[1] - more + 1) // 2
    out = np.empty((height, width))
    for start, stop in strips(height, x.shape[1]):
        out[start:stop] = filter_valid(x[2 * start : 2 * stop - 1 + more], window)[::2, ::2]
    return out


def _strips_valid(images: list[np.ndarray], window: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The images in strips of rows; they overlap, so that each place where the window fits comes once."""
    height, width = images[0].shape
    for start, stop in strips(height - reach(window), width):
        yield [x[start : stop + reach(window)] for x in images]


_Information = tuple[np.ndarray, np.ndarray, np.ndarray]


def _information(
    a: np.ndarray, b: np.ndarray, f: np.ndarray, window: np.ndarray, noise: float
) -> tuple[_Information, _Information]:
    """For source a and for b, each where the window fits: gain, information kept in `f`, information held.

    The channel is f = gain * source + noise of variance `residue`; both information maps are in log10 units.
    """
    mean_f = filter_valid(f, window)
    var_f = np.maximum(filter_valid(f * f, window) - mean_f * mean_f, 0)
    flat_f = var_f < _FLAT
    result = []
    for source in (a, b):
        mean = filter_valid(source, window)
        var = np.maximum(filter_valid(source * source, window) - mean * mean, 0)
        cov = filter_valid(source * f, window) - mean * mean_f
        gain = cov / (var + _FLAT)
        residue = np.maximum(var_f - gain * cov, _FLAT)
        # Where the gain is set to 0 nothing is kept, so the residue no longer matters.
        flat = var < _FLAT
        gain[flat | flat_f | (gain < 0)] = 0
        var[flat] = 0
        kept = np.log10(1 + gain * gain * var / (residue + noise))
        result.append((gain, kept, np.log10(1 + var / noise)))
    return tuple(result)


def _stretch(levels: np.ndarray) -> np.ndarray:
    """uint8 levels stretched to 0..255 by their extremes, rounded, as float64; constants become zero."""
    # By way of [0, 1], as the toolbox does: where a result lies on a half, the rounding error of the division
    # decides.
    unit = np.arange(256) / 255
    low, high = unit[levels.min()], unit[levels.max()]
    if low == high:
        return np.zeros(levels.shape)
    return np.floor((unit - low) / (high - low) * 255 + 0.5)[levels]


def _contrast_sensitivity(shape: tuple[int, int]) -> np.ndarray:
    """The filter's gain at the frequencies of `np.fft.rfft2`: a difference of two Gaussians in the radius."""
    height, width = shape
    # Frequencies in [-1, 1) times side / 30 are whole cycles per image over 15, whatever the side. Whole
    # numbers keep the filter symmetric to the last bit, which flat backgrounds feel (see `qcb`).
    v = np.fft.ifftshift(np.arange(height) - height // 2)[:, None]
    u = np.arange(width // 2 + 1)[None, :]
    radius2 = (u * u + v * v) / 15.0**2
    return np.exp(-radius2 / 15.3870**2) - 0.7622 * np.exp(-radius2 / 1.3456**2)


def _masked_contrast(seen: np.ndarray, start: int, stop: int, windows: list[np.ndarray]) -> np.ndarray:
    """|narrow / wide - 1| of two blurs of the rows from `start` to `stop`, through C^3 / (C^2 + 1e-4)."""
    margin = _CONTRAST_TAPS // 2
    top, bottom = max(start - margin, 0), min(stop + margin, len(seen))
    # Beyond the image's border lie zeros.
    missing = (margin - (start - top), margin - (bottom - stop))
    x = np.pad(seen[top:bottom], (missing, (margin, margin)))
    narrow, wide = (filter_valid(x, window) for window in windows)
    contrast = np.abs(_ratio(narrow, wide, 1.0) - 1)
    power = contrast * contrast
    return contrast * power / (power + 1e-4)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """numerator / denominator, `otherwise` where the denominator is zero."""
    out = np.full_like(denominator, otherwise)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)
