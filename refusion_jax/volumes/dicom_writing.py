"""Fused volumes as DICOM series: derived images on the grid of a source, in its study, with new UIDs.

What is written of a source's header is listed here; everything else, such as private elements, stays behind.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.runtime.writing import whole_folder
from refusion_jax.volumes.volume import Volume

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Of each module: what it requires, though it may be empty; what is carried over where it is there.
_REQUIRED = (
    "PatientName PatientID PatientBirthDate PatientSex "
    "StudyInstanceUID StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber "
    "FrameOfReferenceUID PositionReferenceIndicator Laterality SliceThickness"
).split()
_CARRIED = (
    "SpecificCharacterSet PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence PatientAge "
    "StudyDescription BodyPartExamined LossyImageCompression LossyImageCompressionRatio "
    "LossyImageCompressionMethod"
).split()
_OF_SLICE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "SpacingBetweenSlices")
# Of the modality, what its module requires. Other modalities than these two become secondary captures: their values,
# such as the activity of PET, are not what a fused picture has.
_REQUIRED_OF = {
    CT: "KVP AcquisitionNumber PatientPosition".split(),
    MR: (
        "ScanningSequence SequenceVariant ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength "
        "PatientPosition"
    ).split(),
}
_CARRIED_OF = {CT: ["GantryDetectorTilt"], MR: ["InversionTime", "MagneticFieldStrength", "ImagedNucleus"]}


def write_series(folder: Path, values: np.ndarray, like: Volume, sources: Sequence[Volume]) -> None:
    """Writes a fused volume as a series of its own, all of it or nothing.

    values: (I,J,K) uint16, or (I,J,K,3) uint8 RGB, on the grid of `like`, a DICOM series whose patient, study
    and frame of reference it keeps. sources: what was fused; each slice names those it is made of.
    """
    from pydicom.uid import generate_uid

    headers: list[Any] = like.source
    series = {"SeriesInstanceUID": generate_uid(), "time": datetime.datetime.now()}
    names = [str(source.source[0].get("SeriesDescription", "")).strip() for source in sources]
    series["description"] = " + ".join(filter(None, ["Fused", *names]))
    # The name of a series with another character set may have letters that the set of `like` has not.
    sets = [source.source[0].get("SpecificCharacterSet") for source in (like, *sources)]
    series["utf8"] = any(not name.isascii() and other != sets[0] for name, other in zip(names, sets[1:], strict=True))
    with whole_folder(folder) as temporary:
        for k, header in enumerate(headers):
            image = _image(header, values[:, :, k], k, series, like)
            image.SourceImageSequence = _references(like, k, sources)
            image.save_as(temporary / f"{k + 1:04d}.dcm", enforce_file_format=True)


def _image(header: Any, values: np.ndarray, k: int, series: dict[str, Any], like: Volume) -> Any:
    """One slice."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    color = values.ndim == 3
    kind = str(header.SOPClassUID)
    kind = kind if kind in _REQUIRED_OF and not color else SECONDARY_CAPTURE
    for key in (*_REQUIRED, *_REQUIRED_OF.get(kind, ())):
        setattr(image, key, header.get(key))
    for key in (*_CARRIED, *_OF_SLICE, *_CARRIED_OF.get(kind, ())):
        if key in header:
            image[key] = header[key]
    if series["utf8"]:
        for item in image.get("DeidentificationMethodCodeSequence", []):
            item.decode()
        image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = kind, generate_uid()
    image.file_meta = FileMetaDataset()  # the rest of it is taken from these when it is saved
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SeriesInstanceUID = series["SeriesInstanceUID"]
    image.SeriesDescription = series["description"][:64]
    image.SeriesNumber = int(header.get("SeriesNumber") or 0) % 1_000_000 + 1000
    image.InstanceNumber = k + 1
    image.Modality = {CT: "CT", MR: "MR"}.get(kind, "OT")
    date, time = series["time"].strftime("%Y%m%d"), series["time"].strftime("%H%M%S")
    image.SeriesDate = image.ContentDate = image.InstanceCreationDate = date
    image.SeriesTime = image.ContentTime = image.InstanceCreationTime = time
    image.Manufacturer = image.ManufacturerModelName = "refusion_jax"

    view = list(header.get("ImageType") or [])[2:3]
    image.ImageType = ["DERIVED", "SECONDARY", *(view or ["AXIAL" if kind == CT else "OTHER"])]
    image.DerivationDescription = "Fused of the source images by ReFusion (refusion_jax): not for diagnosis, no unit"
    image.ImageComments = "Not for diagnosis"
    image.BurnedInAnnotation = "NO"
    if kind == SECONDARY_CAPTURE:
        image.ConversionType = "WSD"
        image.PatientOrientation = _orientation(header)
    if kind == CT:
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"  # no Hounsfield units
    _set_pixels(image, values)
    return image


def _set_pixels(image: Any, values: np.ndarray) -> None:
    """values: (columns, rows) uint16, or (columns, rows, 3) uint8."""
    color, bits = values.ndim == 3, values.dtype.itemsize * 8
    image.Columns, image.Rows = values.shape[:2]
    image.SamplesPerPixel = 3 if color else 1
    image.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = bits
    image.HighBit, image.PixelRepresentation = bits - 1, 0
    if color:
        image.PlanarConfiguration = 0
    else:
        image.WindowCenter, image.WindowWidth = 2 ** (bits - 1), 2**bits
    data = np.ascontiguousarray(values.swapaxes(0, 1)).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OB" if bits == 8 else "OW"


def _orientation(header: Any) -> list[str]:
    """Where the rows and the columns of a slice go to, as the letter nearest to it."""
    directions = np.asarray(header.ImageOrientationPatient, float).reshape(2, 3)
    nearest = np.abs(directions).argmax(1)
    return ["LPH"[i] if row[i] > 0 else "RAF"[i] for row, i in zip(directions, nearest, strict=True)]


def _references(like: Volume, k: int, sources: Sequence[Volume]) -> Any:
    """The slices of each source between which slice k of `like` lies."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence

    i, j = (side - 1 for side in like.grid.shape[:2])
    corners = np.array([[0, 0, k, 1], [i, 0, k, 1], [0, j, k, 1], [i, j, k, 1]], float).T
    found = []
    for source in sources:
        places = (np.linalg.inv(source.grid.affine) @ like.grid.affine @ corners)[2]
        last = len(source.source) - 1
        low, high = np.floor(places.min() + 0.01), np.ceil(places.max() - 0.01)
        for place in range(max(int(low), 0), min(int(high), last) + 1):
            header = source.source[place]
            if not header.get("SOPInstanceUID"):  # required, but damaged files without it are seen: no way to name it
                continue
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
            item.PurposeOfReferenceCodeSequence = DicomSequence([_purpose()])
            found.append(item)
    return DicomSequence(found)


def _purpose() -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "121322", "DCM"
    code.CodeMeaning = "Source image for image processing operation"
    return code
