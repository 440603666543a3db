"""How two cameras see one scene, from one pair of pictures or from all pairs of a rig: search, ECC, confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import (
    MOTIONS,
    Transform,
    check_plausible,
    moved,
    no_alignment,
    require_opencv,
    size_text,
)
from refusion_jax.imaging.registration import estimate_shift
from refusion_jax.imaging.search import FIELDS, edges, find_candidates, resizing_matrix

_FINEST_PIXELS = 2_500_000  # larger pictures are registered on a reduced copy of about this size
_COARSEST_SIDE = 48
_COMPARED_SIDE = 384  # pixels of the longer side at which candidates are compared
_CANDIDATES = 16
# Correlation of the edges of both pictures. What chance gives; and what is taken without a search, where the second
# picture lies about where the first one does: of 171 warped pairs a wrong place there reached 0.302, the next 0.258
# (benchmarks/calibration.py).
_CHANCE = 0.12
_SURE = 0.35
_LEAST_CONFIDENCE = 0.36
_SAME_PLACE = 0.03  # of the diagonal: results of one place lie closer than that
_ELSEWHERE = 0.08  # of the diagonal: nearer ones may be on their way to the same place


@dataclass(frozen=True)
class Calibration:
    """A rig's transform, with its confidence, and what it rests on.

    used: positions of the pairs that agree on it. spread: how far these lie from it, in pixels of the second picture
    (mean over the frame, median over the pairs; 0 for one pair).
    """

    transform: Transform
    used: tuple[int, ...]
    spread: float


class _Place(NamedTuple):
    matrix: np.ndarray
    correlation: float


def register(a: np.ndarray, b: np.ndarray, motion: str) -> Transform:
    """The transform that brings luma `b` onto luma `a`, (H,W) of any range and size, found on their edges.

    `calibrate` for one pair: arguments and errors as there.
    """
    return calibrate([(a, b)], motion).transform


def calibrate(pairs: Sequence[tuple[np.ndarray, np.ndarray]], motion: str) -> Calibration:
    """The one transform that brings each second picture onto its first, from all pairs together.

    pairs: luma pictures (H,W) of any range, the first ones of one size and the second ones of one size. motion: one of
    MOTIONS. For "affine" and "homography" the second camera may have half to twice the first one's field and be
    turned by up to 12 degrees, at any number of pixels; where the pictures do not lie near each other, the place is
    searched for (`search.find_candidates`). The others begin where both show the same field, or at the shift of
    `estimate_shift`.

    Refined by the enhanced correlation coefficient (Evangelidis and Psarakis, TPAMI 2008; OpenCV's findTransformECC)
    from coarse to fine on copies of at most 2.5 megapixels, for each pair; of several pairs the median counts.

    The transform's confidence, 0 to 1, is the part by which its edges' correlation exceeds the next best place's, or
    what chance gives if that is more. Raises InputError when OpenCV is missing, when the confidence is too low, and
    when what is found is no way in which two cameras see one scene.
    """
    if motion not in MOTIONS:
        raise InputError(f"expected a motion out of {', '.join(MOTIONS)}, got {motion!r}")
    cv2 = require_opencv()
    views = [_View(cv2, a, b, motion) for a, b in pairs]
    for i, kind in enumerate(("first", "second")):
        if len({np.shape(pair[i]) for pair in pairs}) > 1:
            sizes = ", ".join(sorted({size_text(pair[i]) for pair in pairs}))
            raise InputError(f"expected {kind} pictures of one size, those of one camera, got {sizes}")
    place, confidence = _found(cv2, views, motion)
    finished = [view.refined(place.matrix, view.finer) for view in views]
    least = _CHANCE if len(views) > 1 else 1e-6
    used = [
        i for i, one in enumerate(finished) if one.correlation >= least and views[i].are_near(one.matrix, place.matrix)
    ]
    if not used:
        raise no_alignment(motion, "the search does not settle")
    matrix = _middle([finished[i].matrix for i in used], views[0].size_a, motion)
    transform = Transform(matrix, motion, views[0].size_a, views[0].size_b, round(confidence, 3))
    check_plausible(transform)
    apart = [views[i].distance(finished[i].matrix, matrix) for i in used]
    return Calibration(transform, tuple(used), float(np.median(apart)))


def _found(cv2, views: Sequence["_View"], motion: str) -> tuple[_Place, float]:
    """Where the second pictures lie, to the accuracy of reduced copies, and the confidence."""
    starts = [view.start() for view in views]
    best = _tried(views, starts, coarse=True)
    free = motion in ("affine", "homography")
    others = 0.0
    # Far from where it began, ECC may have stopped on its way.
    settled = best.correlation >= _SURE and all(
        view.are_near(best.matrix, start) for view, start in zip(views, starts, strict=True)
    )
    if free and not settled:
        candidates = find_candidates(cv2, [(view.a, view.b) for view in views], _CANDIDATES)
        places = [best, *(_tried(views, [one.matrix] * len(views)) for one in candidates)]
        best = max(places, key=lambda place: place.correlation)
        near = [views[0].are_near(place.matrix, best.matrix, _ELSEWHERE) for place in places]
        others = max((place.correlation for place, same in zip(places, near, strict=True) if not same), default=0.0)
    if not best.correlation:
        raise no_alignment(motion, "the search does not converge")
    if best.correlation < _CHANCE:
        raise no_alignment(motion, f"their edges hardly agree (correlation {best.correlation:.2f})")
    confidence = 1 - max(others, _CHANCE) / best.correlation
    field = views[0].field(best.matrix)
    if free and not FIELDS[0] <= field <= FIELDS[1]:
        raise no_alignment(motion, f"the second picture would show {field:.2f} times the first one's field")
    if free and confidence < _LEAST_CONFIDENCE:
        raise no_alignment(motion, f"their edges agree as well elsewhere (confidence {max(0, confidence):.2f})")
    return best, confidence


def _tried(views: Sequence["_View"], starts: Sequence[np.ndarray], coarse: bool = False) -> _Place:
    """The places of all views together after ECC on copies small enough to compare many."""
    both = zip(views, starts, strict=True)
    places = [view.refined(start, view.coarse if coarse else view.compared) for view, start in both]
    correlation = float(np.mean([place.correlation for place in places]))
    known = [place.matrix for place in places if place.correlation] or [places[0].matrix]
    return _Place(_middle(known, views[0].size_a, views[0].motion), correlation)


class _View:
    """One pair: the first picture's edges from fine to coarse, and the second picture."""

    def __init__(self, cv2, a: np.ndarray, b: np.ndarray, motion: str):
        self.cv2, self.motion = cv2, motion
        self.a, self.b = np.asarray(a), np.asarray(b)
        self.size_a, self.size_b = self.a.shape, self.b.shape
        self.levels = self._levels()
        if not self.levels or min(self.size_b) < 16:
            raise InputError(f"pictures of {size_text(a)} and {size_text(b)} pixels are too small to be aligned")
        sides = [max(edges.shape[:2]) for edges, _ in self.levels]
        count = len(sides)
        middle = next((i for i, side in enumerate(sides) if side <= _COMPARED_SIDE), count - 1)
        # Positions of levels, in the order in which they are refined on.
        self.coarse = list(range(count - 1, middle - 1, -1))
        self.compared = [middle, middle]
        self.finer = list(range(middle, -1, -1))
        self._seconds = [self.b.astype(np.float32)]
        while min(self._seconds[-1].shape) >= 32:
            self._seconds.append(_halved(cv2, self._seconds[-1]))

    def _levels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(edges, the matrix from their pixels to the whole picture's) of the first picture from fine to coarse."""
        first = max(1, round(np.sqrt(self.a.size / _FINEST_PIXELS)))
        levels, factor = [], first
        while min(self.size_a) // factor >= (16 if factor == first else _COARSEST_SIDE):
            size = self.size_a[0] // factor, self.size_a[1] // factor
            small = self.a[: size[0] * factor, : size[1] * factor].astype(np.float32)
            small = self.cv2.resize(small, size[::-1], interpolation=self.cv2.INTER_AREA) if factor > 1 else small
            middle = (factor - 1) / 2
            levels.append((edges(self.cv2, small), np.array([[factor, 0, middle], [0, factor, middle], [0, 0, 1.0]])))
            factor *= 2
        return levels

    def start(self) -> np.ndarray:
        """Where both show the same field; moved by the shift where the phase correlation is sure of one."""
        matrix = resizing_matrix(self.size_a, self.size_b)
        if self.size_a == self.size_b:
            shift = estimate_shift(self.a, self.b)
            if shift.confidence >= 0.5:
                matrix[:2, 2] = shift.dx, shift.dy
        return matrix

    def refined(self, matrix: np.ndarray, levels: Sequence[int]) -> _Place:
        """The place after ECC on these levels; of correlation 0 where it does not converge on the last."""
        correlation = 0.0
        for level in levels:
            # A small copy cannot tell a slight perspective or shear; their freedom would be used up by noise.
            simpler = MOTIONS[min(MOTIONS.index(self.motion), max(1, len(MOTIONS) - 1 - level))]
            correlation, matrix = self._refined_on(level, matrix, simpler)
        return _Place(matrix, correlation)

    def _refined_on(self, level: int, matrix: np.ndarray, motion: str) -> tuple[float, np.ndarray]:
        cv2 = self.cv2
        first, up = self.levels[level]
        second, inside = self._seen(matrix @ up, first.shape[:2])
        if inside.mean() < 0.1:
            return 0.0, matrix
        kind = getattr(cv2, f"MOTION_{motion.upper()}")
        rows = 3 if motion == "homography" else 2
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
        start = np.eye(3, dtype=np.float32)[:rows]
        try:
            correlation, found = cv2.findTransformECC(first, edges(cv2, second), start, kind, criteria, inside, 3)
        except cv2.error:
            return 0.0, matrix  # not converged; a finer level may
        if not np.isfinite(found).all():
            return 0.0, matrix
        small = np.eye(3)
        small[:rows] = found
        matrix = matrix @ up @ small @ np.linalg.inv(up)
        return float(correlation), matrix / matrix[2, 2]

    def _seen(self, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The second picture on a frame of a size, from a copy reduced to about its scale, and 1 where it is known."""
        cv2 = self.cv2
        middle = np.array([[size[1], size[0]], [size[1] + 2, size[0]], [size[1], size[0] + 2]]) / 2
        ahead = moved(matrix, middle)
        scale = np.sqrt(abs(np.linalg.det(ahead[1:] - ahead[0])))
        halvings = int(np.clip(np.floor(np.log2(max(scale, 1)) + 0.25), 0, len(self._seconds) - 1))
        source = self._seconds[halvings]
        matrix = resizing_matrix(self.size_b, source.shape) @ matrix
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(source, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        known = cv2.warpPerspective(np.full(source.shape, 255, np.uint8), matrix, size[::-1], flags=flags)
        known = cv2.erode(known, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return seen, (known >= 254).astype(np.uint8)

    def field(self, matrix: np.ndarray) -> float:
        """How wide the second picture's field is at the frame's middle, as a part of the first's."""
        y, x = ((n - 1) / 2 for n in self.size_a)
        ahead = moved(matrix, np.array([[x, y], [x + 1, y], [x, y + 1]]))
        scale = np.sqrt(abs(np.linalg.det(ahead[1:] - ahead[0])))
        return float(np.hypot(*self.size_b) / np.hypot(*self.size_a) / scale)

    def distance(self, one: np.ndarray, other: np.ndarray) -> float:
        """How far two matrices move the first picture's points apart, mean over its frame, in the second's pixels."""
        y, x = np.mgrid[0 : self.size_a[0] - 1 : 7j, 0 : self.size_a[1] - 1 : 7j]
        points = np.c_[x.ravel(), y.ravel()]
        return float(np.hypot(*(moved(one, points) - moved(other, points)).T).mean())

    def are_near(self, one: np.ndarray, other: np.ndarray, part: float = _SAME_PLACE) -> bool:
        """Whether two matrices are the same place, to a part of the second picture's diagonal."""
        return self.distance(one, other) < part * np.hypot(*self.size_b)


def _halved(cv2, image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _middle(matrices: Sequence[np.ndarray], size: tuple[int, ...], motion: str) -> np.ndarray:
    """The matrix that moves the corners of a frame of a size to the medians of where these matrices move them."""
    if len(matrices) == 1:
        return matrices[0]
    h, w = size
    corners = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], np.float64)
    places = np.median([moved(matrix, corners) for matrix in matrices], 0)
    unknown = 8 if motion == "homography" else 6
    rows = []
    for (x, y), (u, v) in zip(corners, places, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    entries = np.linalg.lstsq(np.array(rows)[:, :unknown], places.ravel(), rcond=None)[0]
    return np.append(entries, [0.0] * (8 - unknown) + [1.0]).reshape(3, 3)
