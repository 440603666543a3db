"""A volume: its values, where its voxels lie in the patient, and the window that it is shown with."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import EIGHT_BITS, Levels, Rule, Values, find_levels, has_data, scaled

AXES = ("axial", "coronal", "sagittal")

# Of a slice of each kind: the direction that counts the slices, that of its rows from the top, that of its columns from
# the left, each as (axis of RAS, sign): as a radiologist sees it, the patient's right at the left of the picture.
_VIEWS = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "coronal": ((1, 1), (2, -1), (0, -1)),
    "sagittal": ((0, 1), (2, -1), (1, -1)),
}


class Grid(NamedTuple):
    """Where voxels lie.

    Attributes:
      shape: (I, J, K).
      affine: (4,4) float64, voxel index to millimetres (RAS).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from one voxel to the next along each axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel(self) -> float:
        """Cubic millimetres of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{size} voxels of {' x '.join(f'{side:.3g}' for side in self.spacing)} mm"


@dataclass(frozen=True)
class Volume:
    """A volume as its file has it.

    Attributes:
      path: the NIfTI file, or the folder of the DICOM series.
      values: (I,J,K) numbers of the file's own scale, or (I,J,K,3) uint8 RGB.
      grid: where its voxels lie.
      window: black and white that the file asks to be shown with; None where it names none.
      placed: whether the file says where the patient is; else the affine has the spacing alone.
      notes: one line each on what the file has and this has not.
      source: what a writer needs of it: a NIfTI header, or the list of DICOM headers in the order of K.
    """

    path: Path
    values: np.ndarray
    grid: Grid
    window: tuple[float, float] | None = None
    placed: bool = True
    notes: tuple[str, ...] = ()
    source: Any = None

    @property
    def is_color(self) -> bool:
        """Whether it is RGB."""
        return self.values.ndim == 4

    def levels(self, rule: Rule) -> Levels:
        """Black and white: the rule's or, where that is "auto", those of the file's window, else of its values."""
        if rule.kind == "auto" and self.window is not None and self.values.dtype != np.uint8:
            low, high = self.window
            return Levels(low, high, f"shown with its own window {low:.7g}..{high:.7g}")
        return find_levels(Values(_flat(self.values)), rule)


def checked_grid(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Grid:
    """The grid; InputError for an affine that places no voxel."""
    affine = np.asarray(affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine places no voxel (not a number, or a spacing of 0); correct the header")
    if min(shape) < 1:
        raise InputError(f"{path}: the volume is empty, {'x'.join(map(str, shape))} voxels")
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def check_voxels(path: Path, shape: tuple[int, ...], limit: int) -> None:
    """InputError for a volume of more than `limit` voxels, before it is read."""
    count = int(np.prod(shape, dtype=object))
    if count > limit:
        raise InputError(
            f"{path}: {'x'.join(map(str, shape))} is {count} voxels, over the limit of {limit}; crop or resample it,"
            " or raise the limit (--max-pixels; in training data.max_pixels)"
        )


def without_holes(values: np.ndarray, no_data: float | None = None) -> np.ndarray:
    """Grey values with the lowest of them where there are none: NaN, infinity, what the file names as no data."""
    mask = has_data(Values(_flat(values), no_data=no_data))
    if mask is None:
        return values
    mask = mask.reshape(values.shape, order="F")
    return np.where(mask, values, values[mask].min() if mask.any() else 0).astype(values.dtype)


def to_levels(values: np.ndarray, levels: Levels) -> np.ndarray:
    """Values (I,J,K) as uint16 from black to white; uint8 and RGB as they are."""
    if values.dtype == np.uint8 and levels == EIGHT_BITS:
        return values
    return scaled(Values(_flat(values)), levels).reshape(values.shape, order="F")


def slices(array: np.ndarray, affine: np.ndarray, axis: str) -> np.ndarray:
    """A view (slices, rows, columns, ...) of an array (I,J,K,...): from the feet, the back or the left, each slice as
    a radiologist sees it. Of an oblique volume its own axes, each called after the direction nearest to it."""
    order, signs = _nearest_axes(affine)
    places, steps = [], []
    for direction, sign in _VIEWS[axis]:
        place = order.index(direction)
        places.append(place)
        steps.append(sign * signs[place])
    view = np.transpose(array, (*places, *range(3, array.ndim)))
    return view[tuple(slice(None, None, step) for step in steps)]


def turned(volume: Volume, grid: Grid) -> Volume:
    """The same volume with its axes stored in the order and the directions nearest to those of a grid."""
    own_order, own_signs = _nearest_axes(volume.grid.affine)
    order, signs = _nearest_axes(grid.affine)
    places = [own_order.index(direction) for direction in order]
    flips = [own_signs[place] * sign for place, sign in zip(places, signs, strict=True)]
    values = np.transpose(volume.values, (*places, *range(3, volume.values.ndim)))
    values = values[tuple(slice(None, None, flip) for flip in flips)]
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for axis, (place, flip) in enumerate(zip(places, flips, strict=True)):
        step[place, axis] = flip
        step[place, 3] = volume.grid.shape[place] - 1 if flip < 0 else 0
    i, j, k = (volume.grid.shape[place] for place in places)
    return replace(volume, values=values, grid=Grid((i, j, k), volume.grid.affine @ step))


def _nearest_axes(affine: np.ndarray) -> tuple[list[int], list[int]]:
    """(for each axis of the array the axis of RAS nearest to it, each once; 1 or -1, whether it goes that way)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order, left = [-1] * 3, np.abs(directions)
    for _ in range(3):  # the clearest first
        ras, own = np.unravel_index(int(np.argmax(left)), left.shape)
        order[int(own)] = int(ras)
        left[ras, :] = left[:, own] = -1
    return order, [1 if directions[ras, own] >= 0 else -1 for own, ras in enumerate(order)]


def _flat(values: np.ndarray) -> np.ndarray:
    """(I,J,K,...) as one picture (I*J,K,...), without a copy of what lies in memory as NIfTI files do."""
    return values.reshape((-1, *values.shape[2:]), order="F") if values.ndim == 3 else values.reshape(-1, 1, 3)
