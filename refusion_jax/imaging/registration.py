"""How far one picture of a scene lies from another: the shift between the two, and whether it calls for a warning."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from refusion_jax.errors import InputError

_WORKING_PIXELS = 360_000  # larger pictures are reduced to about this many: 640x480 is looked at as it is
_SMALLEST_SIDE = 48  # pixels after the reduction; smaller pictures tell nothing
_FARTHEST = 0.12  # largest displacement looked for, as a part of each side
_PEAK = 4  # pixels around the peak that belong to it
# A warning needs a peak that stands clear of all others and of the value at zero displacement. On 570 published pairs
# of all tasks 12 are warned of, and bringing these together raises their mutual information: they are shifted indeed.
# Moved by 2, 4, 8, 16 pixels, infrared-visible pairs are found in 47, 90, 90, 90 % of the cases, multi-focus in 70,
# 82, 85, 85 %, multi-exposure in 84, 97, 97, 97 %, medical in 3, 7, 7, 9 %.
_CLEAR = 6.0
_SECOND = 0.6
_AT_ZERO = 0.5
_SMALLEST_SHIFT = 1.75  # pixels
_SMALLEST_REDUCED_SHIFT = 0.75  # pixels of the reduced copy


_SCENE_PIXELS = 16_000
# Likeness of two frames of one scene: of 23 exposure and 29 focus pairs 0.13 to 0.99, of pictures of two scenes 0.05,
# 0.09, 0.14 (median, 90 %, 99 %).
_SAME_SCENE = 0.14


class Shift(NamedTuple):
    """The displacement of b against a, in pixels: what a shows at (y, x) is at (y + dy, x + dx) in b.

    confidence lies in [0,1] and is about the chance that the displacement is right within 1.5 pixels of the picture
    looked at (at most 360,000 pixels); below 0.5, believe none of it.
    """

    dy: float
    dx: float
    confidence: float


class _Peak(NamedTuple):
    dy: float
    dx: float
    clear: float  # how far it stands above the next one, in standard deviations of the noise
    second: float  # the next one, as a part of it
    at_zero: float  # the value at no displacement, as a part of it


def estimate_shift(a: np.ndarray, b: np.ndarray) -> Shift:
    """The displacement of `b` against `a`, two luma pictures (H,W) of one size and of any range, integer or float.

    Phase correlation of edge directions, angles doubled so that an edge counts the same whether it runs from dark to
    bright or back: exposures, focus and most infrared-visible pairs agree on them, CT, PET and SPECT with MRI seldom.
    Found to a few tenths of a pixel, up to 12 % of each side. Pictures without structure have confidence 0.

    Raises InputError for other shapes or two sizes.
    """
    peak, factor = _locate(a, b)
    if peak is None:
        return Shift(0.0, 0.0, 0.0)
    return Shift(peak.dy * factor, peak.dx * factor, peak.clear**2 / (peak.clear**2 + 9))


def looks_misregistered(a: np.ndarray, b: np.ndarray) -> str | None:
    """One line that warns of a shift between two luma pictures (H,W), or None. Arguments and errors as estimate_shift.

    Speaks up only for a displacement of one part against the whole that leaves no doubt: 1.75 pixels or more (in
    pictures over 0.8 megapixels, three quarters of a pixel of the reduced copy). A turn, another scale, parallax or
    sources with few edges in common may pass unnoticed.
    """
    peak, factor = _locate(a, b)
    if peak is None or peak.clear < _CLEAR or peak.second > _SECOND or peak.at_zero > _AT_ZERO:
        return None
    dy, dx = peak.dy * factor, peak.dx * factor
    if np.hypot(dy, dx) < max(_SMALLEST_SHIFT, _SMALLEST_REDUCED_SHIFT * factor):
        return None
    across = f"{abs(dx):.1f} pixels to the {'right' if dx > 0 else 'left'}"
    along = f"{abs(dy):.1f} {'down' if dy > 0 else 'up'}"
    return f"the second picture looks shifted by {across} and {along}"


def _locate(a: np.ndarray, b: np.ndarray) -> tuple[_Peak | None, int]:
    """The peak of the correlation in pixels of the reduced copies, and by how much they are reduced."""
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise InputError(f"expected two luma pictures (H,W) of one size, got shapes {a.shape} and {b.shape}")
    factor = max(1, round(np.sqrt(a.size / _WORKING_PIXELS)))
    a, b = _reduced(a, factor), _reduced(b, factor)
    if min(a.shape) < _SMALLEST_SIDE:
        return None, factor
    window = np.outer(_taper(a.shape[0]), _taper(a.shape[1]))
    spectra = []
    for image in (a, b):
        edges = _edges(image)
        if edges is None:
            return None, factor
        spectra.append(np.fft.fft2(edges * window))
    return _find_peak(np.conj(spectra[0]) * spectra[1]), factor


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of factor x factor pixels, float32."""
    h, w = (n // factor for n in image.shape)
    if factor == 1:
        return image.astype(np.float32)
    rows = image[: h * factor, : w * factor].reshape(h, factor, w * factor).sum(1, dtype=np.float32)
    return rows.reshape(h, w, factor).sum(2) / np.float32(factor**2)


def _taper(n: int) -> np.ndarray:
    """A window of n values: 1 inside, falling to 0 over the outer 15 % at each end."""
    inward = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (0.15 * n)
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(inward, 0, 1))).astype(np.float32)


def _edges(image: np.ndarray) -> np.ndarray | None:
    """The direction of each edge as a complex number of twice its angle, weak edges small; None if there is none."""
    smooth = image.copy()
    smooth[1:-1] = (image[2:] + 2 * image[1:-1] + image[:-2]) / 4
    smooth[:, 1:-1] = (smooth[:, 2:] + 2 * smooth[:, 1:-1] + smooth[:, :-2]) / 4
    gradient = np.zeros(image.shape, np.complex64)
    gradient.real[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    gradient.imag[1:-1] = smooth[2:] - smooth[:-2]
    strength = gradient.real**2 + gradient.imag**2
    typical = float(np.sqrt(strength).mean())
    if not 0 < typical < np.inf:
        return None
    return gradient**2 / (strength + np.float32(typical**2))


def _find_peak(cross: np.ndarray) -> _Peak | None:
    """The highest value of a cross-power spectrum's inverse transform, not far from zero displacement."""
    size = np.abs(cross)
    # Half whitened: fully, noise would count as much as structure; not at all, the peak would be as wide as the
    # edges are long.
    cross = cross / (np.sqrt(size) + np.float32(1e-3) * np.sqrt(size.mean()))
    whole = np.fft.ifft2(cross).real
    ry, rx = (max(8, int(n * _FARTHEST)) for n in whole.shape)
    near = np.roll(whole, (ry, rx), (0, 1))[: 2 * ry + 1, : 2 * rx + 1]
    middle = np.median(near)
    noise = 1.4826 * float(np.median(np.abs(near - middle)))
    y, x = np.unravel_index(near.argmax(), near.shape)
    highest = float(near[y, x] - middle)
    if not noise > 0 or not highest > 0:
        return None
    others = near.copy()
    others[max(0, y - _PEAK) : y + _PEAK + 1, max(0, x - _PEAK) : x + _PEAK + 1] = -np.inf
    second = float(others.max() - middle)
    dy, dx = _refined(cross, int(y) - ry, int(x) - rx)
    return _Peak(dy, dx, (highest - second) / noise, second / highest, float(near[ry, rx] - middle) / highest)


def _refined(cross: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """The peak's place between the pixels: the inverse transform on a grid of tenths around it, then a parabola."""
    h, w = cross.shape
    steps = np.linspace(-0.8, 0.8, 17)
    rows = np.exp(2j * np.pi * np.outer(y + steps, np.fft.fftfreq(h))).astype(np.complex64)
    columns = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(w), x + steps)).astype(np.complex64)
    fine = (rows @ cross @ columns).real
    i, j = np.unravel_index(fine.argmax(), fine.shape)
    return float(y + steps[i] + 0.1 * _vertex(fine[:, j], int(i))), float(x + steps[j] + 0.1 * _vertex(fine[i], int(j)))


def _vertex(values: np.ndarray, i: int) -> float:
    """Where the parabola through values[i-1:i+2] is highest, relative to i; 0 at an end."""
    if not 0 < i < len(values) - 1:
        return 0.0
    low, top, high = (float(v) for v in values[i - 1 : i + 2])
    bend = low - 2 * top + high
    return 0.5 * (low - high) / bend if bend < 0 else 0.0


def thumbnail(luma: np.ndarray) -> np.ndarray:
    """A luma picture (H,W) reduced to about 16,000 pixels, float32: enough to tell scenes apart."""
    return _reduced(luma, max(1, round(float(np.sqrt(luma.size / _SCENE_PIXELS)))))


def scenes_apart(thumbnails: Sequence[np.ndarray]) -> tuple[int, int] | None:
    """The positions of the two most different of several pictures (`thumbnail`) where these do not show one scene.

    They do where each is alike another and these are alike on: of an exposure bracket, the darkest and the brightest
    frame may have next to nothing in common. None where they show one scene, or too little to tell.
    """
    spectra = [_scene_spectrum(x) for x in thumbnails]
    found = {i: spectrum for i, spectrum in enumerate(spectra) if spectrum is not None}
    known = list(found)
    alike = {(i, j): _likeness(found[i], found[j]) for i, j in combinations(known, 2)}
    reached, waiting = set(), known[:1]
    while waiting:
        i = waiting.pop()
        reached.add(i)
        waiting += [j for j in known if j not in reached and alike[min(i, j), max(i, j)] >= _SAME_SCENE]
    apart = {both: value for both, value in alike.items() if (both[0] in reached) != (both[1] in reached)}
    return min(apart, key=lambda both: apart[both]) if apart else None


def _scene_spectrum(luma: np.ndarray) -> np.ndarray | None:
    """The spectrum of a thumbnail's edge directions, of length 1; None if it has no edges."""
    edges = _edges(luma)
    if edges is None:
        return None
    height, width = luma.shape
    spectrum = np.fft.fft2(edges * np.outer(_taper(height), _taper(width)))
    return spectrum / np.linalg.norm(spectrum)


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two pictures' edge directions, -1 to 1, at the displacement where it is largest."""
    if one.shape != other.shape:
        return 1.0
    whole = np.fft.ifft2(np.conj(one) * other).real * one.size
    ry, rx = (max(2, int(n * _FARTHEST)) for n in whole.shape)
    return float(np.roll(whole, (ry, rx), (0, 1))[: 2 * ry + 1, : 2 * rx + 1].max())
