"""Aligned pictures on one frame: the area that all of them show, or the whole of the first one."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import Transform, known_area, warped
from refusion_jax.imaging.calibration import register
from refusion_jax.imaging.color import to_luma

FRAMES = ("overlap", "full")


def find_transforms(images: Sequence[np.ndarray], motion: str, reference: int = 0) -> list[Transform]:
    """The transforms that bring each picture onto `images[reference]`, whose own is the identity.

    images: (H,W) or (H,W,3), any range, of one size, such that neighbours have most in common: each is registered to
    its neighbour on the reference's side, and these are chained. Errors as `alignment.register`.
    """
    middle = to_luma(np.asarray(images[reference]))
    transforms = {reference: Transform(np.eye(3), motion, middle.shape, middle.shape)}
    for step in (1, -1):
        i, before = reference + step, middle
        while 0 <= i < len(images):
            luma = to_luma(np.asarray(images[i]))
            found = register(before, luma, motion)
            matrix = found.matrix @ transforms[i - step].matrix
            transforms[i] = Transform(matrix / matrix[2, 2], motion, middle.shape, found.size_b)
            i, before = i + step, luma
    return [transforms[i] for i in range(len(images))]


def onto_one_frame(
    images: Sequence[np.ndarray],
    transforms: Sequence[Transform],
    frame: str = "overlap",
    reference: int = 0,
    keep: Callable[[np.ndarray], Any] = lambda image: image,
) -> list[Any]:
    """The pictures as the camera of `images[reference]` would have seen them, all of one size.

    frame "overlap": cropped to the largest rectangle that all of them show. "full": the reference's whole picture;
    where another one shows nothing, it is filled with the reference, so that the fused picture shows that one alone.
    images: uint8 or uint16 of one type, (H,W) or (H,W,3), taken one after the other; channels stay. keep: what is done
    with each result, and gives what is returned in its place. Raises InputError as `alignment.warp`, and when there is
    no area in common.
    """
    if frame not in FRAMES:
        raise InputError(f"expected a frame out of {', '.join(FRAMES)}, got {frame!r}")
    moved = (warped(np.asarray(image), transform) for image, transform in zip(images, transforms, strict=True))
    if frame == "overlap":
        rows, columns = largest_rectangle(reduce(np.logical_and, map(known_area, transforms)))
        return [keep(np.ascontiguousarray(image[rows, columns])) for image in moved]
    below = np.asarray(images[reference])
    return [keep(_filled(image, known_area(t), below)) for image, t in zip(moved, transforms, strict=True)]


def _filled(image: np.ndarray, known: np.ndarray, below: np.ndarray) -> np.ndarray:
    if below.ndim > image.ndim:
        below = np.rint(to_luma(below)).astype(image.dtype)
    elif below.ndim < image.ndim:
        below = np.repeat(below[..., None], 3, 2)
    return np.where(known if image.ndim == 2 else known[..., None], image, below)


def largest_rectangle(mask: np.ndarray) -> tuple[slice, slice]:
    """(rows, columns) of the largest upright rectangle that is True all over in a mask (H,W); its True part is convex.

    Raises InputError when the mask is False everywhere.
    """
    rows = np.flatnonzero(mask.any(1))
    if not rows.size:
        raise InputError("the pictures have no area in common once aligned; try another --align or --align-frame full")
    part = mask[rows[0] : rows[-1] + 1]
    left = part.argmax(1)
    right = part.shape[1] - part[:, ::-1].argmax(1)
    # Of a convex area the narrowest rows of a rectangle are its first or its last, on either side.
    best, found = -1, (0, 1, 0, 1)
    heights = np.arange(1, len(part) + 1)
    for top in range(len(part)):
        width = np.minimum(right[top], right[top:]) - np.maximum(left[top], left[top:])
        areas = np.maximum(width, 0) * heights[: len(width)]
        i = int(areas.argmax())
        if areas[i] > best:
            best = int(areas[i])
            found = top, top + i + 1, max(left[top], left[top + i]), min(right[top], right[top + i])
    top, bottom, start, stop = map(int, found)
    return slice(rows[0] + top, rows[0] + bottom), slice(start, stop)
