"""Whether a path is a volume, and the volume."""

from pathlib import Path

from refusion_jax.errors import InputError
from refusion_jax.volumes.dicom import is_series, read_series
from refusion_jax.volumes.nifti import is_nifti, read_nifti
from refusion_jax.volumes.volume import Volume


def is_volume(path: Path) -> bool:
    """Whether a path is to be read as a volume: a NIfTI file by its name, a folder by its DICOM files."""
    return is_series(path) if path.is_dir() else is_nifti(path)


def read_volume(path: Path, max_voxels: int) -> Volume:
    """The volume at a path. Raises InputError where it cannot be read or is none."""
    if path.is_dir():
        return read_series(path, max_voxels)
    if is_nifti(path):
        return read_nifti(path, max_voxels)
    raise InputError(f"{path}: expected a NIfTI file (.nii, .nii.gz) or the folder of a DICOM series")
