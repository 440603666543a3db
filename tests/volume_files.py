"""Volumes that tests make: small NIfTI files and DICOM series, in the orientations that real ones have."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid


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


def write_series(
    folder: Path,
    template: str = "MR_small.dcm",
    shape=(40, 32, 8),
    spacing=(2.0, 2.0, 3.0),
    corner=(-40.0, -32.0, -12.0),
    seed: int = 0,
    **elements,
) -> Path:
    """An axial DICOM series with the headers of a file that pydicom ships; files in the reverse order of the slices.

    shape: columns, rows, slices. corner: of the first voxel, to the left, back and head (LPS). elements: of headers.
    """
    columns, rows, slices = shape
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -corner[0], -corner[1], corner[2]
    values = field(points_of(shape, affine), seed).astype(np.int16)
    folder.mkdir(parents=True)
    series = generate_uid()
    for k in range(slices):
        image = pydicom.dcmread(get_testdata_file(template))
        image.Columns, image.Rows, image.SliceThickness = columns, rows, spacing[2]
        image.PixelSpacing, image.ImagePositionPatient = (
            [spacing[1], spacing[0]],
            [*corner[:2], corner[2] + k * spacing[2]],
        )
        image.SeriesInstanceUID, image.InstanceNumber = series, k + 1
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.PixelData = values[:, :, k].T.tobytes()
        for name, value in elements.items():
            setattr(image, name, value)
        image.save_as(folder / f"IM{slices - k:03d}")
    return folder
