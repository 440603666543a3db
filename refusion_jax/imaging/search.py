"""Where a picture of a scene may lie in one of another camera, at unknown scale, turn and displacement.

The directions of edges (angles doubled, so that thermal and visible pictures agree on them) are correlated over all
displacements at once, for a grid of scales and turns: normalised cross-correlation of masked pictures in the Fourier
domain (Padfield, "Masked object registration in the Fourier domain", TIP 2012).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy import fft

_SIDE = 192  # pixels of the first picture's longer side while searching
FIELDS = 0.5, 2.0  # how wide the second picture's field may be, as a part of the first's
_BEYOND = 1.08  # so far it is looked for: what is found outside of FIELDS may be the nearest to a place beyond
_FIELD_STEP = 1.06
_TURNS = np.arange(-12, 13, 3)  # degrees; the steps are as fine as the correlation's peak is wide
_LEAST_OVERLAP = 0.3  # of the smaller field
_LEAST_ENERGY = 0.1  # of the average: where a part of a picture is flat, its correlation means nothing
_APART = 0.08  # of the first picture's longer side: closer candidates are one

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


class Candidate(NamedTuple):
    """A similarity (3,3) from pixels of the first to pixels of the second picture, and how well the edges agree:
    their correlation by the root of the number of pixels that it is over."""

    score: float
    matrix: np.ndarray


def edges(cv2, luma: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the direction of every edge, and its strength: (H,W,3) float32 of luma (H,W) float32.

    Twice the angle, so that sources which show an edge the other way round agree; strength against the
    neighbourhood's, because one exposure has its strong edges where the other has weak ones.
    """
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.0)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(gx, gy)
    typical = cv2.GaussianBlur(strength, (0, 0), 8.0) + 0.3 * float(strength.mean()) + 1e-12
    part = strength / np.sqrt(strength**2 + typical**2)
    squared = np.maximum(strength, 1e-12) ** 2
    return cv2.merge([part * (gx**2 - gy**2) / squared, part * 2 * gx * gy / squared, part])


def find_candidates(cv2, pairs: Pairs, count: int) -> list[Candidate]:
    """Up to `count` places where the second pictures may lie, the likeliest first.

    pairs: luma pictures (H,W) of any range, the first ones of one size and the second ones of one size; they are of one
    rig, and their correlations are added up. Fields from half to twice the first's and a little beyond it, turns up to
    12 degrees.
    """
    shape = np.shape(pairs[0][0])
    longest = max(shape)
    corners = np.array([[0, 0, 1], [shape[1], 0, 1], [0, shape[0], 1], [shape[1], shape[0], 1]], np.float64)
    kept: list[tuple[Candidate, np.ndarray]] = []
    for candidate in sorted(_peaks(cv2, pairs), key=lambda found: -found.score):
        scale = float(np.sqrt(abs(np.linalg.det(candidate.matrix[:2, :2]))))
        places = corners @ candidate.matrix[:2].T / scale
        if all(np.abs(places - other).max() > _APART * longest for _, other in kept):
            kept.append((candidate, places))
        if len(kept) == count:
            break
    return [candidate for candidate, _ in kept]


def resizing_matrix(size: tuple[int, int], to: tuple[int, int]) -> np.ndarray:
    """The (3,3) matrix from pixels of a picture of one size (H, W) to those of the same picture at another size."""
    (h, w), (to_h, to_w) = size, to
    x, y = to_w / w, to_h / h
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], np.float64)


def _peaks(cv2, pairs: Pairs) -> Iterator[Candidate]:
    """The highest correlation of each scale and turn."""
    size_a, size_b = np.shape(pairs[0][0]), np.shape(pairs[0][1])
    small_a = _scaled_size(size_a, min(1.0, _SIDE / max(size_a)))
    of_a = [_directions(cv2, a, small_a) for a, _ in pairs]
    narrowest, widest = FIELDS[0] / _BEYOND, FIELDS[1] * _BEYOND
    count = 1 + int(np.log(widest / narrowest) / np.log(_FIELD_STEP))
    for field in np.geomspace(narrowest, widest, count):
        small_b = _scaled_size(size_b, field * np.hypot(*small_a) / np.hypot(*size_b))
        if min(small_a + small_b) < 16:
            continue
        of_b = [_directions(cv2, b, small_b) for _, b in pairs]
        grid = _Correlation(cv2, of_a, int(np.ceil(np.hypot(*small_b))))
        for turn in np.radians(_TURNS):
            score, (dy, dx), turning = grid.highest(of_b, turn)
            turning[:2, 2] += dx, dy  # pixels of the second, scaled, to those of the first
            matrix = np.linalg.inv(turning @ resizing_matrix(size_b, small_b)) @ resizing_matrix(size_a, small_a)
            yield Candidate(score, matrix)


class _Correlation:
    """The spectra of the first pictures' edge directions, of their energy and of their frame."""

    def __init__(self, cv2, of_a: Sequence[np.ndarray], reach: int):
        self.cv2 = cv2
        self.size = of_a[0].shape
        self.shape = tuple(cv2.getOptimalDFTSize(n + reach - 1) for n in self.size)
        self.count = len(of_a)
        self.edges = [fft.fft2(one, self.shape) for one in of_a]
        energy = np.sum([np.abs(one) ** 2 for one in of_a], 0)
        self.typical = float(energy.mean())
        self.energy = fft.rfft2(energy, self.shape)
        self.frame = fft.rfft2(np.ones(self.size, np.float32), self.shape)

    def highest(self, of_b: Sequence[np.ndarray], turn: float) -> tuple[float, tuple[int, int], np.ndarray]:
        """(score, displacement, the turn's matrix) where the second pictures, turned, agree best with the first."""
        turning, (h, w) = _turning(of_b[0].shape, turn)
        inside = self.cv2.warpAffine(np.ones(of_b[0].shape, np.float32), turning[:2], (w, h))
        turned = [_turned(self.cv2, one, turning, turn, (w, h)) for one in of_b]
        energy = np.sum([np.abs(one) ** 2 for one in turned], 0)
        typical = float(energy.sum() / inside.sum())
        both = zip(self.edges, turned, strict=True)
        agreement = fft.ifft2(sum(a * np.conj(fft.fft2(b, self.shape)) for a, b in both)).real
        frame = np.conj(fft.rfft2(inside, self.shape))
        overlap = fft.irfft2(self.frame * frame, self.shape)
        energy_a = fft.irfft2(self.energy * frame, self.shape)
        energy_b = fft.irfft2(self.frame * np.conj(fft.rfft2(energy, self.shape)), self.shape)
        pixels = np.maximum(overlap, 1)
        power = np.maximum(energy_a, _LEAST_ENERGY * pixels * self.typical) * np.maximum(
            energy_b, _LEAST_ENERGY * pixels * typical
        )
        allowed = overlap >= _LEAST_OVERLAP * min(self.size[0] * self.size[1], float(inside.sum()))
        score = np.where(allowed, agreement * np.sqrt(self.count * pixels / np.maximum(power, 1e-12)), -np.inf)
        y, x = (int(i) for i in np.unravel_index(score.argmax(), self.shape))
        dy, dx = (i - n if i >= side else i for i, n, side in zip((y, x), self.shape, self.size, strict=True))
        return float(score[y, x]), (dy, dx), turning


def _scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _directions(cv2, luma: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The edge directions of a picture at a size, complex64 (H,W)."""
    smaller = size[0] <= luma.shape[0]
    kind = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    found = edges(cv2, cv2.resize(luma.astype(np.float32), size[::-1], interpolation=kind))
    return found[..., 0] + 1j * found[..., 1]


def _turning(size: tuple[int, ...], turn: float) -> tuple[np.ndarray, tuple[int, int]]:
    """The matrix (3,3) that turns a picture about its middle, and the size (H, W) that holds all of it."""
    (h, w), c, s = size, np.cos(turn), np.sin(turn)
    to_h, to_w = int(np.ceil(abs(s) * w + c * h)), int(np.ceil(c * w + abs(s) * h))
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float64)
    matrix[:2, 2] = np.array([to_w - 1, to_h - 1]) / 2 - matrix[:2, :2] @ (np.array([w - 1, h - 1]) / 2)
    return matrix, (to_h, to_w)


def _turned(cv2, directions: np.ndarray, turning: np.ndarray, turn: float, size: tuple[int, int]) -> np.ndarray:
    """Edge directions of a picture turned: moved, and turned themselves by twice the angle."""
    parts = (
        cv2.warpAffine(np.ascontiguousarray(part), turning[:2], size)
        for part in (np.real(directions), np.imag(directions))
    )
    real, imaginary = parts
    return ((real + 1j * imaginary) * np.exp(2j * turn)).astype(np.complex64)
