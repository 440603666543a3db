"""Two volumes on one grid, by their affines."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.volumes.volume import Grid, Volume, turned

_SAME = 0.01  # of a voxel: what rounding in headers makes of one grid
_POINT_SPREAD = 0.42  # sigma, in voxels, of a Gaussian as wide at half its height as a voxel


@dataclass(frozen=True)
class OnGrid:
    """A volume brought to a grid.

    Attributes:
      values: (I,J,K) or (I,J,K,3), of the grid's shape.
      resampled: whether they are interpolated.
      covered: which part of the grid's voxels the volume shows, 0..1.
    """

    values: np.ndarray
    resampled: bool = False
    covered: float = 1.0


def finer(a: Volume, b: Volume) -> str:
    """Which of two volumes has the smaller voxels, "a" or "b"; "b" where they are alike."""
    return "a" if a.grid.voxel < b.grid.voxel * (1 - _SAME) else "b"


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether all voxels of two grids lie on each other, within a hundredth of a voxel."""
    if one.shape != other.shape:
        return False
    corners = np.array(np.meshgrid(*((0, side - 1) for side in one.shape))).reshape(3, -1)
    there = _mapped(np.linalg.inv(other.affine) @ one.affine, corners)
    return bool(np.abs(there - corners).max() <= _SAME)


def onto(volume: Volume, reference: Volume, black: float) -> OnGrid:
    """The volume on the grid of another: as it is where its voxels lie there already, however they are stored; else
    interpolated linearly, smoothed first along axes on which the grid is coarser. `black` stands where it shows none.

    Raises InputError where the volume does not reach the grid at all.
    """
    grid = reference.grid
    own = turned(volume, grid)
    if same_grid(own.grid, grid):
        return OnGrid(own.values)
    mapping = np.linalg.inv(volume.grid.affine) @ grid.affine
    covered = _covered(mapping, grid.shape, volume.grid.shape)
    count = sum(int(np.count_nonzero(part)) for part in covered)
    if not count:
        raise InputError(
            f"{volume.path} and {reference.path} lie beside each other: they have no place in common by their headers;"
            " register them, or correct the headers"
        )
    if not volume.is_color:
        values = _interpolated(volume.values, mapping, grid.shape, black, np.float32)
    else:
        channels = [_interpolated(volume.values[..., i], mapping, grid.shape, 0, np.float32) for i in range(3)]
        values = np.rint(np.stack(channels, -1)).astype(np.uint8)
    return OnGrid(values, True, count / float(np.prod(grid.shape)))


def on_one_grid(a: Volume, b: Volume, side: str | None, blacks: tuple[float, float]) -> tuple[Volume, list[OnGrid]]:
    """(the volume whose grid it is, both on it).

    side: "a" or "b", whose grid to take; None: the finer. blacks: what stands where a, b show nothing.
    Raises InputError where the headers do not say how the two lie to each other, or lay them beside each other.
    """
    reference = a if (side or finer(a, b)) == "a" else b
    if a.placed and b.placed:
        return reference, [onto(one, reference, black) for one, black in zip((a, b), blacks, strict=True)]
    alike = np.allclose(a.grid.spacing, b.grid.spacing, rtol=_SAME)
    if a.grid.shape == b.grid.shape and alike:
        return (a if a.placed else b), [OnGrid(a.values), OnGrid(b.values)]
    unplaced, other = (b, a) if a.placed else (a, b)
    raise InputError(
        f"{unplaced.path}: its header does not say where it lies (qform and sform codes are 0), so that it cannot be"
        f" brought to the grid of {other.path}; set the header, or resample it first"
    )


def _interpolated(values: np.ndarray, mapping: np.ndarray, shape: tuple[int, int, int], black: float, dtype: type):
    from scipy.ndimage import affine_transform, gaussian_filter

    reach = np.linalg.norm(mapping[:3, :3], axis=1)  # of the grid's voxel in the volume's
    sigma = _POINT_SPREAD * np.sqrt(np.maximum(reach**2 - 1, 0))
    smooth = gaussian_filter(values, sigma, output=dtype, mode="nearest") if sigma.any() else values
    # "nearest": half a voxel at the border belongs to it; what lies further out is made black below.
    result = np.empty(shape, dtype, order="F")
    offset: Any = mapping[:3, 3]
    affine_transform(smooth, mapping[:3, :3], offset, shape, result, order=1, mode="nearest", prefilter=False)
    for k, inside in enumerate(_covered(mapping, shape, values.shape)):
        result[..., k][~inside] = black
    return result


def _covered(mapping: np.ndarray, shape: tuple[int, int, int], size: tuple[int, ...]):
    """For each K of a grid's shape, where a volume of this size has voxels, (I,J) bool."""
    i, j = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    edge = 0.5 + _SAME
    for k in range(shape[2]):
        inside = np.ones(shape[:2], bool)
        for row, side in zip(mapping[:3], size, strict=False):
            place = row[0] * i + row[1] * j + (row[2] * k + row[3])
            inside &= (place >= -edge) & (place <= side - 1 + edge)
        yield inside


def _mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (3,N) by an affine (4,4)."""
    return matrix[:3, :3] @ points + matrix[:3, 3:]
