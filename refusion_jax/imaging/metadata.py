"""EXIF and ICC profiles: cleaned of what no longer holds on reading, fitted to the file on writing."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.ExifTags import Base

from refusion_jax.imaging import exif as directories

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


def cleaned_exif(file: BinaryIO) -> bytes | None:
    """The EXIF block of `Metadata` out of a TIFF file or a block without prefix; None if nothing is carried over.

    Raises ValueError or struct.error for what has no directory.
    """
    exif = directories.read(file)
    if not (exif.main or exif.camera or exif.position):
        return None
    exif.set(exif.main, Base.Orientation, directories.SHORT, 1)
    return directories.BLOCK_PREFIX + exif.to_bytes()


def sized_exif(block: bytes, height: int, width: int) -> directories.Exif:
    """The EXIF of `Metadata` with the size of the picture that it is to be written with."""
    exif = directories.read(io.BytesIO(block.removeprefix(directories.BLOCK_PREFIX)))
    exif.set(exif.main, Base.Orientation, directories.SHORT, 1)
    if exif.camera:
        exif.set(exif.camera, Base.ExifImageWidth, directories.LONG, width)
        exif.set(exif.camera, Base.ExifImageHeight, directories.LONG, height)
    return exif


def exif_block(metadata: Metadata, height: int, width: int) -> bytes:
    """What to embed in a JPEG, PNG or WebP of this size, with the prefix; empty without EXIF."""
    if not metadata.exif:
        return b""
    return directories.BLOCK_PREFIX + sized_exif(metadata.exif, height, width).to_bytes()


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
    if extension in (".jpg", ".jpeg") and len(exif_block(metadata, *array.shape[:2])) > _JPEG_LIMIT:
        notes.append("EXIF left out: it is larger than the 64 KB that a JPEG file can hold")
        exif = None
    written = "RGB" if array.ndim == 3 or extension == ".webp" else "grey"
    if icc and icc_space(icc) != written:
        space = icc_space(icc) or "no known"
        notes.append(f"colour profile left out: it is for {space} pixels, not for {written} ones")
        icc = None
    return Metadata(exif, icc), tuple(notes)
