"""How well the place of one camera's picture in another's is found: registered pairs, one picture warped.

Run from the checkout: python benchmarks/calibration.py FOLDER_OF_PAIRS [--every 4] [--rig 8]

The thermal picture is warped by scale 0.5 to 2, turn up to 10 degrees, 2 % shear and a little perspective, and cropped;
then it or the visible one loses up to 35 % of each side. The error is the mean displacement over what both show, in
pixels of the visible picture: against the data set's registration, and against what registering finds on the pair as it
is (the data set's own errors, parallax among them, left out). Accepted with an error over 5 pixels counts as wrong.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refusion_jax.data.search import discover  # noqa: E402
from refusion_jax.errors import InputError  # noqa: E402
from refusion_jax.imaging.alignment import moved, require_opencv  # noqa: E402
from refusion_jax.imaging.calibration import calibrate, register  # noqa: E402
from refusion_jax.imaging.common_frame import largest_rectangle  # noqa: E402
from refusion_jax.imaging.files import read_luma  # noqa: E402

WRONG = 5.0  # pixels


def known_warp(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random matrix (3,3) from pixels of the warped thermal picture to those of the picture of `size` (H, W)."""
    scale, turn = 2 ** rng.uniform(-1, 1), np.radians(rng.uniform(-10, 10))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turned @ (np.eye(2) + rng.uniform(-0.02, 0.02, (2, 2)))
    matrix[2, :2] = scale * rng.uniform(-3e-5, 3e-5, 2)
    corners = np.array([[0, 0], [size[1], 0], size[::-1], [0, size[0]]], np.float64)
    return matrix @ shift(moved(np.linalg.inv(matrix), corners).min(0))


def shift(offset: Sequence[float]) -> np.ndarray:
    """The matrix that adds an offset x, y."""
    return np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]], np.float64)


def crops(size_a: tuple[int, int], size_b: tuple[int, int], rng: np.random.Generator) -> list[tuple[slice, slice]]:
    """The part that stays of the thermal and of the visible picture: one of the two loses up to 35 % of its sides."""
    part = rng.uniform(0.65, 1)
    kept = []
    for (h, w), keep in zip((size_a, size_b), ((part, 1), (1, part))[rng.integers(2)], strict=True):
        y, x = (int(rng.uniform(0, 1 - keep) * n) for n in (h, w))
        kept.append((slice(y, y + int(keep * h)), slice(x, x + int(keep * w))))
    return kept


def warped(cv2, thermal: np.ndarray, visible: np.ndarray, rng: np.random.Generator):
    """(thermal, visible, matrix between them, crop of the visible) of a pair warped in a known way."""
    matrix = known_warp(thermal.shape, rng)
    corners = np.array([[0, 0], [thermal.shape[1], 0], thermal.shape[::-1], [0, thermal.shape[0]]], np.float64)
    width, height = (int(n) for n in np.ceil(moved(np.linalg.inv(matrix), corners).max(0)))
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    source = cv2.GaussianBlur(thermal, (0, 0), 0.5 * np.sqrt(scale**2 - 1)) if scale > 1.1 else thermal
    flags = cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(source, matrix, (width, height), flags=flags | cv2.INTER_CUBIC)
    known = cv2.warpPerspective(np.full(thermal.shape, 255, np.uint8), matrix, (width, height), flags=flags) >= 254
    inner = largest_rectangle(known)
    picture, matrix = picture[inner], matrix @ shift([inner[1].start, inner[0].start])
    of_a, of_b = crops(picture.shape, visible.shape[:2], rng)
    matrix = shift([-of_b[1].start, -of_b[0].start]) @ matrix @ shift([of_a[1].start, of_a[0].start])
    return np.clip(np.rint(picture[of_a]), 0, 255), visible[of_b], matrix / matrix[2, 2], of_b


def error(found: np.ndarray, known: np.ndarray, size_a: tuple[int, ...], size_b: tuple[int, ...]) -> float:
    """The mean displacement of one matrix against another over the overlap, in pixels of the second picture."""
    y, x = np.mgrid[0 : size_a[0] - 1 : 25j, 0 : size_a[1] - 1 : 25j]
    points = np.c_[x.ravel(), y.ravel()]
    places = moved(known, points)
    shared = ((places >= 0) & (places <= (size_b[1] - 1, size_b[0] - 1))).all(1)
    return float(np.hypot(*(moved(found, points) - places)[shared].T).mean())


def own_registration(thermal: np.ndarray, visible: np.ndarray, of_b: tuple[slice, slice]) -> np.ndarray | None:
    """How the data set's pair lies on itself, in pixels of the visible crop; None where registering gives up."""
    offset = shift([of_b[1].start, of_b[0].start])
    try:
        return np.linalg.inv(offset) @ register(thermal, visible, "homography").matrix @ offset
    except InputError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--every", type=int, default=1, help="take every Nth pair")
    parser.add_argument("--first", type=int, default=0, help="begin at this pair")
    parser.add_argument("--rig", type=int, default=1, help="so many pairs of one size are warped alike, as one rig's")
    parser.add_argument("--motion", default="affine")
    parser.add_argument("--unrelated", action="store_true", help="thermal and visible pictures of different scenes")
    options = parser.parse_args()
    cv2 = require_opencv()
    pairs = discover(options.folder, "ivif").require().pairs[options.first :: options.every]
    rows = []
    for i in range(0, len(pairs) - options.rig + 1, options.rig):
        group = [(read_luma(pair.a), read_luma(pair.b)) for pair in pairs[i : i + options.rig]]
        if options.unrelated:
            other = read_luma(pairs[(i + len(pairs) // 2) % len(pairs)].b)
            group = [(a, cv2.resize(other, a.shape[::-1])) for a, _ in group]
        views = [warped(cv2, a, b, np.random.default_rng(i)) for a, b in group]
        known, of_b = views[0][2:]
        scale = np.sqrt(abs(np.linalg.det(known[:2, :2])))
        start = time.process_time()
        try:
            found = calibrate([view[:2] for view in views], options.motion)
        except InputError as refusal:
            rows.append((np.nan, np.nan, 0.0))
            print(f"{pairs[i].name}: scale {scale:.2f}: refused: {refusal}", flush=True)
            continue
        seconds = time.process_time() - start
        sizes = views[0][0].shape, views[0][1].shape
        raw = error(found.transform.matrix, known, *sizes)
        own = own_registration(*group[0], of_b) if options.rig == 1 and not options.unrelated else None
        net = np.nan if own is None else error(found.transform.matrix, own @ known, *sizes)
        rows.append((raw, net, found.transform.confidence))
        print(
            f"{pairs[i].name}: scale {scale:.2f}: {raw:.2f} px of the data set, {net:.2f} of its own registration,"
            f" confidence {found.transform.confidence:.2f}, spread {found.spread:.2f},"
            f" {len(found.used)} used, {seconds:.1f} s",
            flush=True,
        )
    summary(np.array(rows))


def summary(rows: np.ndarray) -> None:
    """Counts over (error to the data set, error to the pair's own registration, confidence), NaN where refused."""
    accepted = rows[~np.isnan(rows[:, 0])]
    print(f"{len(rows)} tried, {len(rows) - len(accepted)} refused, {int((accepted[:, 0] > WRONG).sum())} wrong")
    for name, errors in (("data set", accepted[:, 0]), ("own registration", accepted[:, 1])):
        errors = errors[~np.isnan(errors)]
        if errors.size:
            print(
                f"against the {name}: median {np.median(errors):.2f} px, 90 % {np.percentile(errors, 90):.2f} px,"
                f" under 2 px {(errors < 2).sum()} of {errors.size}"
            )


if __name__ == "__main__":
    main()
