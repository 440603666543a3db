"""Volumes that tests make: small NIfTI files and DICOM series, in the orientations that real ones have."""

from pathlib import Path

import nibabel
import numpy as np


def field(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """A smooth function of millimetres (3,...), different in every direction, 0..1000."""
    x, y, z = points
    waves = np.sin(x / 9 + seed) + np.sin(y / 7 - 2 * seed) * np.cos(z / 11 + x / 13)
    return 250 * (waves + 2)


def points_of(shape, affine) -> np.ndarray:
    """Where the voxels of a grid lie, (3,I,J,K) in millimetres."""
    indices = np.moveaxis(np.indices(shape).astype(float), 0, -1)
    return np.moveaxis(indices @ affine[:3, :3].T + affine[:3, 3], -1, 0)


def affine_of(spacing, origin=(0, 0, 0), codes="RAS", turn: float = 0) -> np.ndarray:
    """An affine with axes stored in this order, turned by degrees about the head's axis."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    matrix = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        line = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        matrix[line, axis] = 1 if code in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ matrix @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray, qform=1, sform=1, window=(0, 0)) -> Path:
    """A NIfTI file with these codes; 0 for both: it does not say where it lies."""
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine if qform else None, qform)
    image.set_sform(affine if sform else None, sform)
    image.header["cal_min"], image.header["cal_max"] = window
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path
