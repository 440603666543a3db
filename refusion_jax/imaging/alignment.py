"""Where one picture shows what another one does: transforms, their files, warping."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.search import resizing_matrix
from refusion_jax.runtime.writing import write_bytes

MOTIONS = ("translation", "euclidean", "affine", "homography")

_FORMAT = "refusion_jax transform 1"
_LEAST_OVERLAP = 0.2  # of the first picture's area
_FIELDS = 0.4, 2.5  # of the second picture, as a part of the first's


@dataclass(frozen=True)
class Transform:
    """Where the second picture shows what the first one shows.

    matrix: (3,3) float64; what `a` shows at x, y (pixels, the centre of the top left one at 0, 0) `b` shows at
    x', y' with (x', y', 1) ~ matrix @ (x, y, 1). size_a, size_b: (H, W). motion: one of MOTIONS. confidence: 0 to 1,
    how far what it was found by stands out (`calibration.calibrate`); None where that is not known.
    """

    matrix: np.ndarray
    motion: str
    size_a: tuple[int, int]
    size_b: tuple[int, int]
    confidence: float | None = None

    def at_sizes(self, size_a: tuple[int, int], size_b: tuple[int, int]) -> "Transform":
        """The same for the two pictures resized to other sizes (H, W)."""
        to_b, from_a = resizing_matrix(self.size_b, size_b), resizing_matrix(size_a, self.size_a)
        matrix = to_b @ self.matrix @ from_a
        return replace(self, matrix=matrix / matrix[2, 2], size_a=size_a, size_b=size_b)

    def of_pictures(self, a: np.ndarray, b: np.ndarray) -> list["Transform"]:
        """Those that bring both pictures, of any size, onto the first one's frame: the identity, and this one."""
        size_a, size_b = (a.shape[0], a.shape[1]), (b.shape[0], b.shape[1])
        return [Transform(np.eye(3), self.motion, size_a, size_a), self.at_sizes(size_a, size_b)]

    def check_sizes(self, size_a: tuple[int, int], size_b: tuple[int, int]) -> None:
        """InputError unless these (H, W) are the sizes of the pictures that it is for."""
        if (tuple(size_a), tuple(size_b)) != (self.size_a, self.size_b):
            expected, got = (
                f"{a[1]}x{a[0]} and {b[1]}x{b[0]}" for a, b in ((self.size_a, self.size_b), (size_a, size_b))
            )
            raise InputError(f"the transform is for pictures of {expected} pixels, got {got}")

    def __str__(self) -> str:
        """The displacement, turn and scale at the middle of the picture, in words."""
        y, x = ((n - 1) / 2 for n in self.size_a)
        ahead = moved(self.matrix, np.array([[x, y], [x + 1, y], [x, y + 1]]))
        (dx, dy), (ux, uy), (vx, vy) = ahead[0] - (x, y), ahead[1] - ahead[0], ahead[2] - ahead[0]
        turn, scale = np.degrees(np.arctan2(uy, ux)), np.sqrt(abs(ux * vy - uy * vx))
        more = "" if self.motion == "translation" else f", turned by {turn:.2f} degrees"
        more += f", scaled by {scale:.4f}" if self.motion in ("affine", "homography") else ""
        return f"shifted by {dx:.2f} right and {dy:.2f} down{more}"


def warp(image: np.ndarray, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """The second picture as the first one's camera would have seen it, and where that is known.

    image: (H,W) or (H,W,3), uint8, uint16 or float32, of size_b. Returns the picture on size_a, same type and
    channels, bicubic, and a mask bool (H,W): True where the pixel comes from inside `image`; elsewhere the picture
    repeats its border. Raises InputError for another size than the transform is for.
    """
    return warped(image, transform), known_area(transform)


def warped(image: np.ndarray, transform: Transform) -> np.ndarray:
    """The picture of `warp` alone."""
    cv2 = require_opencv()
    if image.shape[:2] != transform.size_b:
        expected = f"{transform.size_b[1]}x{transform.size_b[0]}"
        raise InputError(f"the transform is for a second picture of {expected} pixels, got one of {size_text(image)}")
    if _is_identity(transform):
        return image
    size, flags = transform.size_a[::-1], cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, transform.matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def known_area(transform: Transform) -> np.ndarray:
    """The mask of `warp` alone."""
    if _is_identity(transform):
        return np.ones(transform.size_a, bool)
    cv2 = require_opencv()
    inside = np.full(transform.size_b, 255, np.uint8)
    size, flags = transform.size_a[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    known = cv2.warpPerspective(inside, transform.matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return known >= 254


def _is_identity(transform: Transform) -> bool:
    return transform.size_a == transform.size_b and np.array_equal(transform.matrix, np.eye(3))


def write_transform(path: Path, transform: Transform) -> Path:
    """Writes a transform as a JSON file that `read_transform` reads and people can."""
    content = {
        "format": _FORMAT,
        "meaning": "what picture a shows at (x, y), picture b shows at matrix @ (x, y, 1); pixels, sizes are [H, W]",
        "motion": transform.motion,
        "matrix": [[float(v) for v in row] for row in transform.matrix],
        "size_a": list(transform.size_a),
        "size_b": list(transform.size_b),
        "confidence": transform.confidence,
    }
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
    return Path(path)


def read_transform(path: Path) -> Transform:
    """The transform of a file that `write_transform` wrote. Raises InputError for any other file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        matrix = np.array(content["matrix"], np.float64)
        (h_a, w_a), (h_b, w_b) = (map(int, content[key]) for key in ("size_a", "size_b"))
        motion, confidence = content["motion"], content.get("confidence")
        fine = (
            matrix.shape == (3, 3)
            and np.isfinite(matrix).all()
            and motion in MOTIONS
            and min(h_a, w_a, h_b, w_b) > 0
            and content["format"] == _FORMAT
            and (confidence is None or 0 <= float(confidence) <= 1)
        )
    except OSError as error:
        raise InputError(f"cannot read the transform {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: expected a transform as --save-transform writes it") from error
    if not fine:
        raise InputError(f"{path}: expected a transform as --save-transform writes it, with a matrix of 3x3 numbers")
    transform = Transform(matrix, motion, (h_a, w_a), (h_b, w_b), confidence)
    check_plausible(transform, f"{path}: ")
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


def check_plausible(transform: Transform, origin: str = "") -> None:
    """InputError unless the transform maps the first picture to a convex area that overlaps the second, of 0.4 to 2.5
    times its size in proportion to the frames. origin: of the transform, where it is a file's."""
    (h, w), (h_b, w_b) = transform.size_a, transform.size_b
    corners = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], np.float64)
    depth = np.c_[corners, np.ones(4)] @ transform.matrix[2]
    problem = None
    if not (depth > 0).all():
        problem = "it turns the picture inside out"
    else:
        places = moved(transform.matrix, corners)
        sides = np.roll(places, -1, 0) - places
        turns = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
        fields = np.array([w, h, w, h]) * np.hypot(w_b, h_b) / np.hypot(w, h) / np.hypot(*sides.T)
        turn = np.degrees(np.arctan2(sides[0, 1], sides[0, 0]))
        y, x = np.mgrid[0 : h - 1 : 21j, 0 : w - 1 : 21j]
        inside = moved(transform.matrix, np.c_[x.ravel(), y.ravel()])
        overlap = np.mean(((inside >= 0) & (inside <= (w_b - 1, h_b - 1))).all(1))
        if not (turns > 0).all():
            problem = "it folds the picture"
        elif fields.min() < _FIELDS[0] or fields.max() > _FIELDS[1]:
            field = fields.min() if fields.min() < _FIELDS[0] else fields.max()
            problem = f"the second picture would show {field:.2f} times the first one's field"
        elif abs(turn) > 45:
            problem = f"it turns the picture by {turn:.0f} degrees"
        elif overlap < _LEAST_OVERLAP:
            problem = f"it leaves {100 * overlap:.0f} % of the first picture in common"
    if problem:
        if origin:
            raise InputError(f"{origin}not a usable transform: {problem}")
        raise no_alignment(transform.motion, f"what was found cannot be right, {problem}")


def no_alignment(motion: str, why: str) -> InputError:
    """The error of a pair for which no transform can be found."""
    return InputError(
        f"cannot align the pictures ({motion}): {why}; try another --align, or align them by hand and give --transform"
    )


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N,2) as x, y after a transform."""
    moved = np.c_[points, np.ones(len(points))] @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def size_text(image: np.ndarray) -> str:
    """A picture's size in words: WIDTHxHEIGHT."""
    return f"{np.shape(image)[1]}x{np.shape(image)[0]}"
