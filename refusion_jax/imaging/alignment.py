"""Bringing one picture onto another of the same scene: ECC registration, warping, transform files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.registration import estimate_shift
from refusion_jax.runtime.writing import write_bytes

MOTIONS = ("translation", "euclidean", "affine", "homography")

_FINEST_PIXELS = 2_500_000  # larger pictures are registered on a reduced copy of about this size
_COARSEST_SIDE = 48
# Of the edges of both pictures once registered. Of 36 real pairs (exposure, focus, infrared) 34 reach it, of as many
# pairs of pictures that have nothing to do with each other none does; medical pictures all do, by their outline.
_LEAST_CORRELATION = 0.12
_LEAST_OVERLAP = 0.25  # of the first picture's area


@dataclass(frozen=True)
class Transform:
    """Where the second picture shows what the first one shows.

    matrix: (3,3) float64; what `a` shows at x, y (pixels, the centre of the top left one at 0, 0) `b` shows at
    x', y' with (x', y', 1) ~ matrix @ (x, y, 1). size_a, size_b: (H, W). motion: one of MOTIONS.
    """

    matrix: np.ndarray
    motion: str
    size_a: tuple[int, int]
    size_b: tuple[int, int]

    def __str__(self) -> str:
        """The displacement, turn and scale at the middle of the picture, in words."""
        y, x = ((n - 1) / 2 for n in self.size_a)
        ahead = _moved(self.matrix, np.array([[x, y], [x + 1, y], [x, y + 1]]))
        (dx, dy), (ux, uy), (vx, vy) = ahead[0] - (x, y), ahead[1] - ahead[0], ahead[2] - ahead[0]
        turn, scale = np.degrees(np.arctan2(uy, ux)), np.sqrt(abs(ux * vy - uy * vx))
        more = "" if self.motion == "translation" else f", turned by {turn:.2f} degrees"
        more += f", scaled by {scale:.4f}" if self.motion in ("affine", "homography") else ""
        return f"shifted by {dx:.2f} right and {dy:.2f} down{more}"


def register(a: np.ndarray, b: np.ndarray, motion: str) -> Transform:
    """The transform that brings luma `b` (H,W) onto luma `a` (H,W), any range, found on their edges.

    Enhanced correlation coefficient (Evangelidis and Psarakis, TPAMI 2008; OpenCV's findTransformECC) from coarse to
    fine, started from the phase correlation of `estimate_shift`. Pictures over 2.5 megapixels are registered on a
    reduced copy.

    Raises InputError when OpenCV is missing, when the search does not converge, when the pictures have next to no
    edges in common, or when what it finds is no way in which a camera moves.
    """
    if motion not in MOTIONS:
        raise InputError(f"expected a motion out of {', '.join(MOTIONS)}, got {motion!r}")
    cv2 = require_opencv()
    levels = _pyramid(cv2, np.asarray(a)), _pyramid(cv2, np.asarray(b))
    count = min(map(len, levels))
    if not count:
        raise InputError(f"pictures of {_size(a)} and {_size(b)} pixels are too small to be aligned")
    matrix = _start(a, b)
    correlation = 0.0
    for level in reversed(range(count)):
        # A small copy cannot tell a slight perspective or shear; their freedom would be used up by noise.
        simpler = MOTIONS[min(MOTIONS.index(motion), max(1, len(MOTIONS) - 1 - level))]
        correlation, matrix = _refine(cv2, levels[0][level], levels[1][level], matrix, simpler)
    if not correlation:
        raise _no_alignment(motion, "the search does not converge")
    if correlation < _LEAST_CORRELATION:
        raise _no_alignment(motion, f"their edges hardly agree (correlation {correlation:.2f})")
    transform = Transform(matrix, motion, np.shape(a), np.shape(b))
    _check_plausible(transform)
    return transform


def warp(image: np.ndarray, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """The second picture as the first one's camera would have seen it, and where that is known.

    image: (H,W) or (H,W,3), uint8, uint16 or float32, of size_b. Returns the picture on size_a, same type and
    channels, bicubic, and a mask bool (H,W): True where the pixel comes from inside `image`; elsewhere the picture
    repeats its border. Raises InputError for another size than the transform is for.
    """
    cv2 = require_opencv()
    if image.shape[:2] != transform.size_b:
        expected = f"{transform.size_b[1]}x{transform.size_b[0]}"
        raise InputError(f"the transform is for a second picture of {expected} pixels, got one of {_size(image)}")
    if transform.size_a == transform.size_b and np.array_equal(transform.matrix, np.eye(3)):
        return image, np.ones(image.shape[:2], bool)
    size = transform.size_a[::-1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(image, transform.matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.full(image.shape[:2], 255, np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    known = cv2.warpPerspective(inside, transform.matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return moved, known >= 254


def write_transform(path: Path, transform: Transform) -> Path:
    """Writes a transform as a JSON file that `read_transform` reads and people can."""
    content = {
        "format": "refusion_jax transform 1",
        "meaning": "what picture a shows at (x, y), picture b shows at matrix @ (x, y, 1); pixels, sizes are [H, W]",
        "motion": transform.motion,
        "matrix": [[float(v) for v in row] for row in transform.matrix],
        "size_a": list(transform.size_a),
        "size_b": list(transform.size_b),
    }
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
    return Path(path)


def read_transform(path: Path) -> Transform:
    """The transform of a file that `write_transform` wrote. Raises InputError for any other file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        matrix = np.array(content["matrix"], np.float64)
        (h_a, w_a), (h_b, w_b) = (map(int, content[key]) for key in ("size_a", "size_b"))
        motion = content["motion"]
        fine = (
            matrix.shape == (3, 3) and np.isfinite(matrix).all() and motion in MOTIONS and min(h_a, w_a, h_b, w_b) > 0
        )
    except OSError as error:
        raise InputError(f"cannot read the transform {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a transform as --save-transform writes it") from error
    if not fine:
        raise InputError(f"{path}: expected a transform as --save-transform writes it, with a matrix of 3x3 numbers")
    transform = Transform(matrix, motion, (h_a, w_a), (h_b, w_b))
    _check_plausible(transform, f"{path}: ")
    return transform


def require_opencv(purpose: str = "aligning"):
    """The module cv2. Raises InputError that says what needs it, and how to get it, when it is missing or too old."""
    try:
        import cv2
    except ImportError as error:
        raise InputError(f"{purpose} needs OpenCV: pip install opencv-python-headless") from error
    # Before 4.13 findTransformECC takes one channel only.
    if tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 13):
        raise InputError(
            f"{purpose} needs OpenCV 4.13 or later, got {cv2.__version__}: pip install --upgrade opencv-python-headless"
        )
    return cv2


def _pyramid(cv2, luma: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """(edges, reduction) of a picture from fine to coarse."""
    first = max(1, round(np.sqrt(luma.size / _FINEST_PIXELS)))
    levels, factor = [], first
    while min(luma.shape) // factor >= (16 if factor == first else _COARSEST_SIDE):
        h, w = (n // factor for n in luma.shape)
        small = luma[: h * factor, : w * factor].astype(np.float32)
        if factor > 1:
            small = cv2.resize(small, (w, h), interpolation=cv2.INTER_AREA)
        levels.append((_edges(cv2, small), factor))
        factor *= 2
    return levels


def _edges(cv2, luma: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the direction of every edge, and its strength: (H,W,3) float32.

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


def _start(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where the search begins: the shift where the phase correlation is sure of one, else no displacement."""
    matrix = np.eye(3)
    if np.shape(a) == np.shape(b):
        shift = estimate_shift(a, b)
        if shift.confidence >= 0.5:
            matrix[:2, 2] = shift.dx, shift.dy
    return matrix


def _refine(cv2, a: tuple[np.ndarray, int], b: tuple[np.ndarray, int], matrix: np.ndarray, motion: str):
    """(correlation, matrix in pixels of the whole pictures) after ECC on one level; (0, as given) if it diverges."""
    factor = a[1]
    # Pixel centres: x of the small copy lies at factor * x + (factor - 1) / 2 of the whole picture.
    up = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]], np.float64)
    small = np.linalg.inv(up) @ matrix @ up
    kind = {
        "translation": cv2.MOTION_TRANSLATION,
        "euclidean": cv2.MOTION_EUCLIDEAN,
        "affine": cv2.MOTION_AFFINE,
        "homography": cv2.MOTION_HOMOGRAPHY,
    }[motion]
    rows = 3 if motion == "homography" else 2
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    try:
        correlation, found = cv2.findTransformECC(a[0], b[0], small[:rows].astype(np.float32), kind, criteria, None, 3)
    except cv2.error:
        return 0.0, matrix  # not converged; a finer level may
    if not np.isfinite(found).all():
        return 0.0, matrix
    small = np.eye(3)
    small[:rows] = found
    matrix = up @ small @ np.linalg.inv(up)
    return float(correlation), matrix / matrix[2, 2]


def _check_plausible(transform: Transform, origin: str = "") -> None:
    """InputError unless the transform maps the first picture to a convex, like-sized area that overlaps the second."""
    (h, w), (h_b, w_b) = transform.size_a, transform.size_b
    corners = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], np.float64)
    depth = np.c_[corners, np.ones(4)] @ transform.matrix[2]
    problem = None
    if not (depth > 0).all():
        problem = "it turns the picture inside out"
    else:
        moved = _moved(transform.matrix, corners)
        sides = np.roll(moved, -1, 0) - moved
        turns = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
        lengths = np.hypot(*sides.T) / np.array([w, h, w, h])
        turn = np.degrees(np.arctan2(sides[0, 1], sides[0, 0]))
        y, x = np.mgrid[0 : h - 1 : 21j, 0 : w - 1 : 21j]
        inside = _moved(transform.matrix, np.c_[x.ravel(), y.ravel()])
        overlap = np.mean(((inside >= 0) & (inside <= (w_b - 1, h_b - 1))).all(1))
        if not (turns > 0).all():
            problem = "it folds the picture"
        elif lengths.min() < 0.5 or lengths.max() > 2:
            problem = f"it scales a side by {lengths.min() if lengths.min() < 0.5 else lengths.max():.2f}"
        elif abs(turn) > 45:
            problem = f"it turns the picture by {turn:.0f} degrees"
        elif overlap < _LEAST_OVERLAP:
            problem = f"it leaves {100 * overlap:.0f} % of the first picture in common"
    if problem:
        if origin:
            raise InputError(f"{origin}not a usable transform: {problem}")
        raise _no_alignment(transform.motion, f"what was found cannot be right, {problem}")


def _no_alignment(motion: str, why: str) -> InputError:
    return InputError(
        f"cannot align the pictures ({motion}): {why}; try another --align, or align them by hand and give --transform"
    )


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N,2) as x, y after a transform."""
    moved = np.c_[points, np.ones(len(points))] @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def _size(image: np.ndarray) -> str:
    return f"{np.shape(image)[1]}x{np.shape(image)[0]}"
