"""NIfTI files, read and written with nibabel."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.reading import one_line
from refusion_jax.runtime.writing import reason, whole_file
from refusion_jax.volumes.volume import Volume, check_voxels, checked_grid, without_holes

ENDINGS = (".nii.gz", ".nii")
_LEVEL = 3  # of gzip: larger ones take several times as long for a few percent
_RGB = [("R", "u1"), ("G", "u1"), ("B", "u1")]


def is_nifti(path: Path) -> bool:
    """Whether it is called as NIfTI files are."""
    return path.name.lower().endswith(ENDINGS)


def read_nifti(path: Path, max_voxels: int) -> Volume:
    """A NIfTI file. Raises InputError where it cannot be read, has more than `max_voxels`, or is no volume of numbers
    or RGB."""
    try:
        import nibabel
    except ImportError:
        raise InputError(f"{path}: a NIfTI volume; to read it, pip install 'nibabel>=5.3'") from None
    try:
        image: Any = nibabel.load(path)
        if type(image).__name__ not in ("Nifti1Image", "Nifti2Image"):
            raise InputError(f"{path}: expected a NIfTI file, got {type(image).__name__}")
        shape = _shape_of(path, image.shape)
        check_voxels(path, shape, max_voxels)
        if path.suffix.lower() == ".gz":
            _check_sum(path)
        values = _values_of(path, image, shape)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MemoryError:
        raise InputError(f"{path}: not enough memory to hold the volume; crop or resample it") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged or truncated: {one_line(error)}; copy it anew") from None
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"cannot read {path}: {reason(error)}") from None
        raise InputError(f"{path}: damaged or truncated: {one_line(error)}; copy it anew") from None
    except Exception as error:  # noqa: BLE001 - damaged headers raise anything
        raise InputError(f"{path}: not a NIfTI file, or a damaged one: {one_line(error)}") from None
    header: Any = image.header
    placed = bool(header["qform_code"] > 0 or header["sform_code"] > 0)
    notes = () if placed else ("its header does not say where it lies (qform and sform codes are 0)",)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    window = (low, high) if np.isfinite([low, high]).all() and low < high else None
    return Volume(path, values, checked_grid(path, shape, image.affine), window, placed, notes, header.copy())


def _shape_of(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The three dimensions; InputError for a series of volumes."""
    size = "x".join(map(str, shape))
    if len(shape) > 3 and any(side != 1 for side in shape[3:]):
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        raise InputError(
            f"{path}: expected one volume, got {size}: a series of {int(np.prod(shape[3:]))}; save the one to fuse,"
            f' such as the first: python -c "import nibabel as n; n.save(n.load({str(path)!r}).slicer[..., 0],'
            f" '{name}_0.nii.gz')\""
        )
    if len(shape) < 2:
        raise InputError(f"{path}: expected a volume, got {size}")
    i, j, k = (*shape[:3], 1)[:3]
    return i, j, k


def _check_sum(path: Path) -> None:
    """Reads a compressed file to its end, where its checksum stands: nibabel stops at the last voxel."""
    with gzip.open(path) as file:
        while file.read(2**20):
            pass


def _values_of(path: Path, image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    stored = image.get_data_dtype()
    if stored.names:  # RGB24, RGBA32
        raw = np.asarray(image.dataobj).reshape(shape, order="F")
        return np.stack([raw[name] for name in stored.names[:3]], -1)
    if stored.kind not in "iuf":
        raise InputError(f"{path}: expected real numbers or RGB, got {stored}")
    values = np.asarray(image.dataobj)
    wide = values.dtype.itemsize > 4 or values.dtype == np.float16
    values = values.astype(np.float32 if wide else values.dtype.newbyteorder("="), copy=False)
    return without_holes(values.reshape(shape, order="F"))


def write_nifti(path: Path, values: np.ndarray, like: Volume, description: str) -> None:
    """Writes a volume on the grid of another, whole or not at all.

    values: (I,J,K) uint8 or uint16, 0 to the type's largest, whose scale in the header makes them 0..1; or (I,J,K,3)
    uint8 RGB. like: its affine and, where it is a NIfTI file, the codes of its qform and sform and its units are kept;
    nothing else that its header says is.
    """
    try:
        import nibabel
    except ImportError:
        raise InputError(f"{path}: to write NIfTI, pip install 'nibabel>=5.3'") from None
    color = values.ndim == 4
    if color:
        values = np.ascontiguousarray(values).view(np.dtype(_RGB))[..., 0]
    image: Any = nibabel.Nifti1Image(values, like.grid.affine)
    header = image.header
    qform, sform, units = 1, 1, ("mm", "unknown")  # of DICOM: scanner coordinates
    if isinstance(like.source, nibabel.Nifti1Header):
        qform, sform = int(like.source["qform_code"]), int(like.source["sform_code"])
        units = like.source.get_xyzt_units()
    if like.placed:
        header.set_qform(like.grid.affine, code=qform, strip_shears=True)
        header.set_sform(like.grid.affine, code=sform)
    else:
        header.set_qform(None, code=0)
        header.set_sform(None, code=0)
    header.set_xyzt_units(*units)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    if not color:
        header.set_slope_inter(1 / np.iinfo(values.dtype).max, 0)
        header["cal_max"] = 1
    with whole_file(path) as file:
        if path.name.lower().endswith(".gz"):
            # Neither name nor time: the same volume gives the same bytes.
            with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
                _to_stream(image, packed)
        else:
            _to_stream(image, file)


def _to_stream(image: Any, file: Any) -> None:
    """The header, then the values as they are: nibabel would scale them anew."""
    header = image.header
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.write_to(file)  # with the four bytes that say that nothing else is in it
    for k in range(image.shape[2]):
        file.write(np.asarray(image.dataobj)[..., k].tobytes(order="F"))
