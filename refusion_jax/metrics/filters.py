"""Separable filters where the whole window fits, and the strips of rows that large images are worked in.

Filtering is a product with a small banded matrix, block by block: on one core two to seven times as fast as
scipy.ndimage.correlate1d at the sizes the metrics need, and as fast per pixel on wide images as on narrow
ones.
"""

from collections.abc import Iterator

import numpy as np

_BLOCK = 32
# OpenBLAS computes products of up to this many multiply-adds on one core. More cores would wait for each other longer
# than they work: on a busy machine 25 times the processor time.
_ONE_CORE = 2**18
# A strip's intermediate maps of this many float64 pixels stay close to the core, whatever the image's size;
# enough rows to a strip keep the overlap of neighbouring strips cheap.
_STRIP_PIXELS = 2**17
_STRIP_ROWS = 64


def gaussian(taps: int, sigma: float) -> np.ndarray:
    """(taps,) samples of exp(-x^2 / (2 sigma^2)) around the middle one, not normalised; taps odd."""
    offsets = np.arange(taps) - taps // 2
    return np.exp(-(offsets**2) / (2 * sigma**2))


def banded(window: np.ndarray) -> np.ndarray:
    """The window (taps,) as `filter_valid` takes it: (32, taps + 31), row i holds it from column i on."""
    taps = len(window)
    band = np.zeros((_BLOCK, taps + _BLOCK - 1))
    for row in range(_BLOCK):
        band[row, row : row + taps] = window
    return band


def reach(band: np.ndarray) -> int:
    """By how much filtering shrinks each side: taps - 1."""
    return band.shape[1] - band.shape[0]


def filter_valid(x: np.ndarray, band: np.ndarray) -> np.ndarray:
    """x (H, W) float64 correlated with the window along both axes, where it fits: (H - taps + 1, W - taps +
    1).

    Exact for whole numbers below 2^53.
    """
    return _filter_columns(_filter_rows(x, band), band)


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of consecutive strips that cover `height` rows of `width` pixels."""
    rows = max(_STRIP_PIXELS // width, _STRIP_ROWS)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _filter_rows(x: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Along axis 0."""
    more = reach(band)
    height, width = x.shape[0] - more, x.shape[1]
    out = np.empty((height, width))
    chunk = _ONE_CORE // band.size
    for start in range(0, height, _BLOCK):
        rows = min(_BLOCK, height - start)
        window = band[:rows, : rows + more]
        for left in range(0, width, chunk):
            part = x[start : start + rows + more, left : left + chunk]
            np.matmul(window, part, out=out[start : start + rows, left : left + chunk])
    return out


def _filter_columns(x: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Along axis 1."""
    more = reach(band)
    height, width = x.shape[0], x.shape[1] - more
    out = np.empty((height, width))
    chunk = _ONE_CORE // band.size
    for start in range(0, width, _BLOCK):
        columns = min(_BLOCK, width - start)
        window = band[:columns, : columns + more].T
        for top in range(0, height, chunk):
            part = x[top : top + chunk, start : start + columns + more]
            np.matmul(part, window, out=out[top : top + chunk, start : start + columns])
    return out
