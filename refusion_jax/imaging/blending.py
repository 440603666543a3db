"""Pictures blended into one by local weights, band by band: Laplacian pyramids (Burt and Adelson, 1983)."""

import numpy as np
from scipy.ndimage import correlate1d

_KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16
_SMALLEST_SIDE = 4


class Blend:
    """Adds pictures (H,W) one by one with weights (H,W) > 0; `result` is their blend, float32.

    Fine detail follows the weights pixel by pixel, coarser bands follow them more and more smoothly, so that no seam
    shows where one picture gives way to another. Memory does not grow with the number of pictures.
    """

    def __init__(self, shape: tuple[int, int]):
        self._shapes = [shape]
        while min(self._shapes[-1]) >= 2 * _SMALLEST_SIDE:
            h, w = self._shapes[-1]
            self._shapes.append((-(-h // 2), -(-w // 2)))
        self._sums = [np.zeros(shape, np.float32) for shape in self._shapes]
        self._weights = [np.zeros(shape, np.float32) for shape in self._shapes]

    def add(self, picture: np.ndarray, weight: np.ndarray) -> None:
        """One more picture. The weights of all pictures are best made to sum to 1 at each pixel."""
        picture, weight = picture.astype(np.float32), weight.astype(np.float32)
        last = len(self._shapes) - 1
        for level, shape in enumerate(self._shapes):
            smaller = _halved(picture) if level < last else None
            band = picture if smaller is None else picture - _doubled(smaller, shape)
            self._sums[level] += weight * band
            self._weights[level] += weight
            if smaller is not None:
                picture, weight = smaller, _halved(weight)

    def result(self) -> np.ndarray:
        """The blend of what was added, (H,W) float32."""
        bands = [total / weight for total, weight in zip(self._sums, self._weights, strict=True)]
        blended = bands[-1]
        for band, shape in zip(bands[-2::-1], self._shapes[-2::-1], strict=True):
            blended = band + _doubled(blended, shape)
        return blended


def _smoothed(image: np.ndarray, gain: float = 1) -> np.ndarray:
    for axis in (0, 1):
        image = correlate1d(image, gain * _KERNEL, axis, mode="mirror")
    return image


def _halved(image: np.ndarray) -> np.ndarray:
    return _smoothed(image)[::2, ::2]


def _doubled(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    spread = np.zeros(shape, np.float32)
    spread[::2, ::2] = image
    return _smoothed(spread, 2)
