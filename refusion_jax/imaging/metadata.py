"""EXIF and ICC profiles: cleaned of what no longer holds on reading, fitted to the file on writing."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

# What is carried over of EXIF's first directory: what describes the picture and who made it. In a TIFF the same
# directory also tells how the pixels are stored, and programs keep layer data, offsets and previews there.
_KEPT = (
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.RatingPercent,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
)
# Descriptions in which ImageJ and tifffile note the layout of the pixels: other readers believe them.
_LAYOUT_NOTES = ("ImageJ=", '{"shape"')
# Not carried over of the camera's directory. A maker note holds offsets into the file that it came from, and
# previews; the sizes are those of the source and are set anew on writing.
_DROPPED = (
    ExifTags.Base.MakerNote,
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
    ExifTags.IFD.Interop,
)
_JPEG_LIMIT = 65533  # bytes of one JPEG segment

_ICC_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}


@dataclass(frozen=True)
class Metadata:
    """What a picture file says besides its pixels.

    Attributes:
      exif: an EXIF block, "Exif\\0\\0" and a TIFF directory; its orientation is 1 (the pixels are turned already), it
        has no thumbnail, maker note or picture size. None if there is none.
      icc: an ICC profile of the pixels' colours, or None. Pixels are never converted from one profile to another.
    """

    exif: bytes | None = None
    icc: bytes | None = None


def orientation_of(exif: Image.Exif) -> int:
    """The EXIF orientation 1..8; 1 where there is none or it is damaged."""
    value = exif.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def cleaned_exif(source: Image.Exif) -> bytes | None:
    """The EXIF block of `Metadata` out of what a file has; None if nothing of it is carried over."""
    kept = Image.Exif()
    kept.endian = "<"
    for tag in _KEPT:
        value = _portable(source.get(tag))
        if tag == ExifTags.Base.ImageDescription and str(source.get(tag)).startswith(_LAYOUT_NOTES):
            continue
        if value is not None and _can_be_written(tag, value):
            kept[tag] = value
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        values = {}
        for tag, value in source.get_ifd(directory).items():
            if tag not in _DROPPED and _can_be_written(directory, {tag: value}):
                values[tag] = value
        if values:
            kept[directory] = values
    if len(kept) == 0:
        return None
    kept[ExifTags.Base.Orientation] = 1
    return kept.tobytes()


def sized_exif(block: bytes, height: int, width: int) -> Image.Exif:
    """The EXIF of `Metadata` with the size of the picture that it is to be written with."""
    exif = Image.Exif()
    exif.load(block)
    camera = dict(exif.get_ifd(ExifTags.IFD.Exif))
    camera[ExifTags.Base.ExifImageWidth], camera[ExifTags.Base.ExifImageHeight] = width, height
    position = dict(exif.get_ifd(ExifTags.IFD.GPSInfo))
    exif[ExifTags.IFD.Exif] = camera
    if position:
        exif[ExifTags.IFD.GPSInfo] = position
    return exif


def icc_space(profile: bytes) -> str | None:
    """The colours that an ICC profile is for: grey, RGB, CMYK, Lab or its own four letters; None if it is damaged."""
    if len(profile) < 132 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4], "big") > len(profile):
        return None
    space = profile[16:20]
    return _ICC_SPACES.get(space, space.decode("ascii", "replace").strip())


def fitted(metadata: Metadata, path: str | os.PathLike, array: np.ndarray) -> tuple[Metadata, tuple[str, ...]]:
    """What of the metadata can be written with this array (H,W) or (H,W,3) to this path, and notes on the rest.

    BMP holds neither EXIF nor a profile; a profile is embedded only with pixels of its colours (a WebP is always
    RGB); a JPEG holds 64 KB of EXIF. `write_image` leaves out the same by itself.
    """
    extension = Path(path).suffix.lower()
    notes = []
    exif, icc = metadata.exif, metadata.icc
    if extension == ".bmp" and (exif or icc):
        notes.append("EXIF and colour profile left out: a BMP file cannot hold them")
        exif = icc = None
    if exif and extension in (".jpg", ".jpeg") and len(sized_exif(exif, *array.shape[:2]).tobytes()) > _JPEG_LIMIT:
        notes.append("EXIF left out: it is larger than the 64 KB that a JPEG file can hold")
        exif = None
    written = "RGB" if array.ndim == 3 or extension == ".webp" else "grey"
    if icc and icc_space(icc) != written:
        space = icc_space(icc) or "no known"
        notes.append(f"colour profile left out: it is for {space} pixels, not for {written} ones")
        icc = None
    return Metadata(exif, icc), tuple(notes)


def _portable(value: object) -> object:
    """Text beyond ASCII as the bytes that it was: Pillow reads it as Latin-1 but writes question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _can_be_written(tag: int, value: object) -> bool:
    """Whether Pillow's writer takes it: damaged blocks hold values of types that their tags do not allow."""
    exif = Image.Exif()
    exif[tag] = value
    try:
        exif.tobytes()
    except Exception:  # noqa: BLE001 - whatever struct, Fraction and int say
        return False
    return True
