"""DICOM series, read with pydicom: a folder of the slices of one volume, each in a file of its own."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.reading import one_line
from refusion_jax.runtime.writing import reason
from refusion_jax.volumes.volume import Volume, check_voxels, checked_grid, without_holes

_ENDINGS = (".dcm", ".ima")
_LOOKED_AT = 8  # files of a folder that tell whether it is a series
_UNEVEN = 0.05  # of the distance of slices: what rounding of positions makes of even ones
_DIRECTORY = "1.2.840.10008.1.3.10"  # of a DICOMDIR
# How many numbers these elements have.
_COUNTS = {
    "Rows": 1,
    "Columns": 1,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REQUIREMENT = "pip install 'pydicom>=3.0'"


def is_series(path: Path) -> bool:
    """Whether a path is a folder with DICOM files directly in it, by their names or their first bytes."""
    if not path.is_dir():
        return False
    try:
        names = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.name != "DICOMDIR")
        return any(_is_dicom(file) for file in [p for p in names if p.is_file()][:_LOOKED_AT])
    except OSError:
        return False


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in _ENDINGS:
        return True
    with open(file, "rb") as opened:
        opened.seek(128)
        return opened.read(4) == b"DICM"


def read_series(folder: Path, max_voxels: int) -> Volume:
    """The volume of a folder. Its `source` is the list of the slices' headers in the order of K.

    Raises InputError where pydicom is missing, for files that are damaged, and for a folder that holds several series,
    slices that are not parallel, lie at one place or leave a gap, or no place at all.
    """
    headers = _one_series(folder, _headers(folder))
    first = headers[0][1]
    for path, header in headers:
        _check_header(path, header, first)
    headers, affine = _in_space(folder, headers)
    shape = int(first.Columns), int(first.Rows), len(headers)
    check_voxels(folder, shape, max_voxels)
    values = _values(headers, shape)
    grid = checked_grid(folder, shape, _LPS_TO_RAS @ affine)
    return Volume(folder, values, grid, _window(headers), source=[header for _, header in headers])


_Headers = list[tuple[Path, Any]]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever pydicom raises on damaged bytes as one line with the file's name; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: not enough memory to hold it") from None
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"cannot read {path}: {reason(error)}") from None
        raise InputError(f"{path}: a damaged DICOM file: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - damaged headers raise anything
        raise InputError(f"{path}: a damaged DICOM file: {one_line(error)}") from None


def _headers(folder: Path) -> _Headers:
    """The headers of all DICOM images directly in a folder."""
    try:
        import pydicom
    except ImportError:
        raise InputError(f"{folder}: a DICOM series; to read it, {_REQUIREMENT}") from None
    found: _Headers = []
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    for path in files:
        with _named(path):
            if _is_dicom(path):
                header = pydicom.dcmread(path, stop_before_pixels=True, force=path.suffix.lower() in _ENDINGS)
                if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
                    continue
                if "SOPClassUID" not in header:
                    raise InputError(f"{path}: a damaged DICOM file: nothing in it can be read; copy it anew")
                if "Rows" in header:  # not a report, a plan or a structure set
                    found.append((path, header))
    if not found:
        raise InputError(f"{folder}: no DICOM images directly in it; give the folder of one series")
    return found


def _one_series(folder: Path, headers: _Headers) -> _Headers:
    """The headers; InputError, which names them, where they are of several series."""
    series: dict[str, _Headers] = {}
    for path, header in headers:
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if len(series) > 1:
        names = [_title(*own[0], len(own)) for own in series.values()]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise InputError(
            f"{folder}: holds {len(series)} series: {'; '.join(names[:5])}{more}; put the one to fuse into a folder of"
            " its own"
        )
    return headers


def _title(path: Path, header: Any, count: int) -> str:
    """What a series is called."""
    name = str(header.get("SeriesDescription", "")).strip() or "without a name"
    number = header.get("SeriesNumber", "?")
    return f"{header.get('Modality', '?')} {name!r} (number {number}, {count} images, such as {path.name})"


def _check_header(path: Path, header: Any, first: Any) -> None:
    """InputError for an image that is no slice of a volume of numbers or RGB like the first."""
    with _named(path):
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{path}: holds {header.NumberOfFrames} frames (enhanced or multi-frame DICOM); convert it to NIfTI,"
                " such as with dcm2niix"
            )
        missing = [
            key for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not header.get(key)
        ]
        if missing:
            raise InputError(
                f"{path}: does not say where it lies ({', '.join(missing)} missing); give a series of slices"
            )
        for key, count in _COUNTS.items():
            if key in header and (header[key].VM != count or not np.isfinite(np.array(header[key].value, float)).all()):
                got = "none" if header[key].is_empty else header[key].value
                raise InputError(f"{path}: a damaged DICOM file: expected {count} numbers as {key}, got {got}")
        kind = header.get("PhotometricInterpretation", "")
        color = int(header.get("SamplesPerPixel") or 1) == 3
        if kind != "MONOCHROME2" and not (color and header.BitsAllocated == 8):
            raise InputError(f"{path}: expected MONOCHROME2 or RGB of 8 bits, got {kind} of {header.BitsAllocated}")
        if (header.Rows, header.Columns) != (first.Rows, first.Columns) or not _alike(header, first, "PixelSpacing"):
            raise InputError(
                f"{path}: {header.Columns}x{header.Rows} pixels of {_numbers(header.PixelSpacing)} mm, the first of its"
                f" series {first.Columns}x{first.Rows} of {_numbers(first.PixelSpacing)}; give one volume"
            )
        if not _alike(header, first, "ImageOrientationPatient"):
            raise InputError(f"{path}: is not parallel to the first of its series, as in a localizer; give one volume")


def _alike(one: Any, other: Any, key: str) -> bool:
    return np.allclose(np.asarray(one[key].value, float), np.asarray(other[key].value, float), atol=1e-3)


def _numbers(values: Sequence[Any]) -> str:
    return " x ".join(f"{float(value):.4g}" for value in values)


def _in_space(folder: Path, headers: _Headers) -> tuple[_Headers, np.ndarray]:
    """(the headers in the order of K, the affine to millimetres left, back and head (LPS)).

    InputError where slices lie at one place, are missing or uneven.
    """
    first = headers[0][1]
    row, column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    headers = sorted(headers, key=lambda one: float(normal @ np.asarray(one[1].ImagePositionPatient, float)))
    places = np.array([np.asarray(header.ImagePositionPatient, float) for _, header in headers])
    with _named(headers[0][0]):
        step = normal * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1)
    if len(headers) > 1:
        _check_distances(folder, places @ normal)
        step = (places[-1] - places[0]) / (len(places) - 1)
        apart = np.abs(places - places[0] - np.arange(len(places))[:, None] * step).max()
        if apart > max(_UNEVEN * np.linalg.norm(step), 0.02):
            raise InputError(
                f"{folder}: its slices are shifted against each other by {apart:.3g} mm; resample the series"
            )
    affine = np.eye(4)
    down, across = (float(side) for side in first.PixelSpacing)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = row * across, column * down, step, places[0]
    return headers, affine


def _check_distances(folder: Path, heights: np.ndarray) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    same = int(np.count_nonzero(steps < 1e-3))
    if same:
        raise InputError(
            f"{folder}: its {len(heights)} images lie at {len(heights) - same} places: several volumes in one series"
            " (times, echoes); put one of them into a folder of its own"
        )
    worst = int(np.argmax(np.abs(steps - usual)))
    if abs(steps[worst] - usual) > max(_UNEVEN * usual, 0.02):
        raise InputError(
            f"{folder}: slices are missing or uneven: from {heights[worst]:.6g} to {heights[worst + 1]:.6g} mm it is"
            f" {steps[worst]:.4g} mm, between others {usual:.4g}; complete the series, or resample it"
        )


def _values(headers: _Headers, shape: tuple[int, int, int]) -> np.ndarray:
    """The rescaled values (I,J,K), int16 where they are whole numbers that fit, else float32; or (I,J,K,3) RGB."""
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    color = int(headers[0][1].get("SamplesPerPixel") or 1) == 3
    kind = np.uint8 if color else np.int16 if all(_fits(*one) for one in headers) else np.float32
    values = np.empty((*shape, 3) if color else shape, kind, "C" if color else "F")
    padding = np.zeros(shape, bool, "F") if any("PixelPaddingValue" in header for _, header in headers) else None
    for k, (path, header) in enumerate(headers):
        with _named(path):
            image = dcmread(path, force=True)
            try:
                stored = pixel_array(image)
            except (RuntimeError, NotImplementedError) as error:
                name = image.file_meta.TransferSyntaxUID.name
                raise InputError(
                    f"{path}: its pixels ({name}) cannot be decoded: {one_line(error)[:160]}; pip install"
                    " 'python-gdcm>=3.0', or decompress it, such as with dcmdjpeg"
                ) from None
            if color:
                values[:, :, k] = stored.swapaxes(0, 1)
                continue
            values[:, :, k] = apply_modality_lut(stored, image).T
            if padding is not None and "PixelPaddingValue" in header:
                padding[:, :, k] = (stored == header.PixelPaddingValue).T
    if padding is not None and not padding.all():
        values[padding] = values[~padding].min()
    return values if color else without_holes(values)


def _fits(path: Path, header: Any) -> bool:
    """Whether the rescaled values of a slice are whole numbers of 16 bits with a sign."""
    with _named(path):
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        if "ModalityLUTSequence" in header or slope != 1 or intercept != int(intercept):
            return False
        signed, bits = int(header.PixelRepresentation), int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return -(2**15) <= low + intercept and high + intercept < 2**15


def _window(headers: _Headers) -> tuple[float, float] | None:
    """The widest of the slices' first windows; None where one has none."""
    ends = []
    for path, header in headers:
        with _named(path):
            both = [[*np.atleast_1d(header.get(key)), None][0] for key in ("WindowCenter", "WindowWidth")]
            if any(number in (None, "") for number in both) or float(both[1]) < 1:
                return None
            center, width = map(float, both)
            ends.append((center - width / 2, center + width / 2))
    return min(low for low, _ in ends), max(high for _, high in ends)


def strangers(a: Volume, b: Volume) -> list[str]:
    """What makes it doubtful that two DICOM series belong together, one line each, without a patient's data."""
    if not (isinstance(a.source, list) and isinstance(b.source, list)):
        return []
    one, other = a.source[0], b.source[0]
    lines = []
    if one.get("PatientID") != other.get("PatientID"):
        lines.append("the two series have different patient IDs")
    if one.get("FrameOfReferenceUID") != other.get("FrameOfReferenceUID"):
        lines.append(
            "the two series have different frames of reference: that their positions agree is not certain; look at the"
            " result, or register them first"
        )
    return lines
