"""EXIF and ICC profiles: cleaned of what no longer holds on reading, fitted to the file on writing."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory
from PIL.TiffTags import ASCII, LONG, SHORT

EXIF_PREFIX = b"Exif\0\0"  # before the block in a JPEG or WebP
ICC_PROFILE = 34675  # the tag of a TIFF
# GeoTIFF: pixel scale, tie points, transformation, keys with numbers and texts; GDAL's metadata; RPC coefficients.
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 50844)
GDAL_NODATA = 42113
# What programs store in tags of their own, by what it is called.
DROPPED_TAGS = {700: "XMP", 33723: "IPTC", 34377: "Photoshop's data"}

_JPEG_LIMIT = 65533  # bytes of one JPEG segment
_ENTRY_LIMIT = 2**20  # values of one entry: real ones have some kilobytes
_ICC_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}

# What is carried over of the first directory: what describes the picture and who made it. In a TIFF the same
# directory also tells how the pixels are stored, and programs keep layers, offsets and previews there.
_KEPT = frozenset(
    getattr(Base, name)
    for name in (
        "DocumentName ImageDescription Make Model XResolution YResolution ResolutionUnit Software DateTime Artist "
        "HostComputer Rating RatingPercent Copyright XPTitle XPComment XPAuthor XPKeywords XPSubject"
    ).split()
)
# Descriptions in which ImageJ and tifffile note the layout of the pixels: other readers believe them.
_LAYOUT_NOTES = (b"ImageJ=", b'{"shape"')
# Not carried over of the camera's directory. A maker note holds previews, and offsets into the file that it came
# from; the sizes are those of the source, and are set anew on writing.
_DROPPED = frozenset({Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight, IFD.Interop})


@dataclass(frozen=True)
class Metadata:
    """What a picture file says besides its pixels.

    Attributes:
      exif: an EXIF block, "Exif\\0\\0" and a TIFF directory; its orientation is 1 (the pixels are turned already), it
        has no thumbnail, maker note or picture size. None if there is none.
      icc: an ICC profile of the pixels' colours, or None. Pixels are never converted from one profile to another.
      geo: a GeoTIFF's tags (number, type, value): where on earth the pixels lie. They hold for pictures of that size
        and frame alone.
      no_data: whether 0 stands for pixels without meaning.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    geo: tuple[tuple[int, int, object], ...] = ()
    no_data: bool = False

    @property
    def has_place(self) -> bool:
        """Whether it says something that holds for one size and frame alone."""
        return bool(self.geo) or self.no_data

    def without_place(self) -> "Metadata":
        """The same for a picture of another size or frame."""
        return replace(self, geo=(), no_data=False)


def carried_over(exif_file: BinaryIO | None, icc: object) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a file that a picture keeps, and notes on what of it is dropped.

    exif_file: a TIFF or an EXIF block without prefix, None if there is none. icc: the file's profile, if any.
    """
    exif, notes = None, []
    try:
        exif, has_maker_note = _cleaned_exif(exif_file) if exif_file else (None, False)
        notes += ["EXIF maker note dropped"] if has_maker_note else []
    except Exception:  # noqa: BLE001 - a damaged block raises anything; the pixels are worth having without it
        notes.append("EXIF dropped: it cannot be read")
    if not isinstance(icc, bytes) or not icc:
        return Metadata(exif), tuple(notes)
    if icc_space(icc) in ("grey", "RGB"):
        return Metadata(exif, icc), tuple(notes)
    problem = f"it is for {icc_space(icc)} pixels, not for these" if icc_space(icc) else "it is damaged"
    return Metadata(exif), (*notes, f"colour profile dropped: {problem}")


def _cleaned_exif(file: BinaryIO) -> tuple[bytes | None, bool]:
    """The EXIF block of `Metadata`, None if nothing is carried over, and whether the file has a maker note. Entries
    that cannot be read are left out."""
    with _quietly():
        directories, has_maker_note = _read(file)
        if not any(map(len, directories.values())):
            return None, has_maker_note
        _put(directories["main"], Base.Orientation, SHORT, 1)
        return EXIF_PREFIX + _block(directories), has_maker_note


def exif_block(metadata: Metadata, height: int, width: int) -> bytes:
    """What to embed in a JPEG, PNG or WebP of this size, with the prefix; empty without EXIF."""
    return EXIF_PREFIX + _block(_sized(metadata, height, width)) if metadata.exif else b""


def tiff_head(metadata: Metadata, height: int, width: int, pixel_tags: Mapping[int, tuple[int, object]]) -> bytes:
    """What stands before the pixels of a TIFF: its directories with EXIF and profile.

    pixel_tags: {tag: (type, values)} of how the pixels are stored, StripOffsets left out: one strip follows at once.
    """
    directories = _sized(metadata, height, width) if metadata.exif else {"main": Directory()}
    for tag, (kind, values) in pixel_tags.items():
        _put(directories["main"], tag, kind, values)
    for tag, kind, value in metadata.geo:
        _put(directories["main"], tag, kind, value)
    if metadata.no_data:
        _put(directories["main"], GDAL_NODATA, ASCII, "0")
    if metadata.icc:
        directories["main"][ICC_PROFILE] = metadata.icc
    return _block(directories, strip=True)


def icc_space(profile: bytes) -> str | None:
    """The colours that an ICC profile is for: grey, RGB, CMYK, Lab or its own four letters; None if it is damaged."""
    if len(profile) < 132 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4], "big") > len(profile):
        return None
    space = profile[16:20]
    return _ICC_SPACES.get(space, space.decode("ascii", "replace").strip())


def fitted(metadata: Metadata, path: str | os.PathLike, array: np.ndarray) -> tuple[Metadata, tuple[str, ...]]:
    """What of the metadata can be written with this array (H,W) or (H,W,3) to this path, and notes on the rest.

    TIFF alone holds a georeference; BMP holds neither EXIF nor a profile; a profile is embedded only with pixels of its
    colours (a WebP is always RGB); a JPEG holds 64 KB of EXIF. `write_image` leaves out the same by itself.
    """
    extension = Path(path).suffix.lower()
    notes = []
    exif, icc = metadata.exif, metadata.icc
    if metadata.has_place and extension not in (".tif", ".tiff"):
        notes.append("georeference left out: only a TIFF file can hold it")
        metadata = metadata.without_place()
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
    return replace(metadata, exif=exif, icc=icc), tuple(notes)


def _read(file: BinaryIO) -> tuple[dict[str, Directory], bool]:
    """What is carried over: {"main", "camera", "position"}, of which the two last may be absent; and whether there is
    a maker note."""
    file.seek(0)
    head = file.read(8)
    if head[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        head += file.read(8)
    source = Directory(head)
    file.seek(source.next)
    source.load(file)
    found, has_maker_note = {"main": _copy(source, _KEPT & set(source))}, False
    if bytes(found["main"].get(Base.ImageDescription, b"")).startswith(_LAYOUT_NOTES):
        del found["main"][Base.ImageDescription]
    for name, pointer in (("camera", IFD.Exif), ("position", IFD.GPSInfo)):
        with suppress(Exception):
            file.seek(source[pointer])
            child = Directory(head, group=pointer)
            child.load(file)
            found[name] = _copy(child, set(child) - _DROPPED)
            has_maker_note |= Base.MakerNote in child
    return found, has_maker_note


def _copy(source: Directory, tags: Iterable[int]) -> Directory:
    """The entries with their types, without those that cannot be read or are too long."""
    target = Directory(prefix=source.prefix)
    for tag in sorted(tags):
        with suppress(Exception):
            value = source[tag]
            if not hasattr(value, "__len__") or len(value) <= _ENTRY_LIMIT:
                _put(target, tag, source.tagtype[tag], value)
    return target


def _put(directory: Directory, tag: int, kind: int, value: object) -> None:
    # Pillow reads text as Latin-1 and would write what is not ASCII as question marks.
    directory.tagtype[tag] = kind
    directory[tag] = value.encode("latin-1") if kind == ASCII and isinstance(value, str) else value


def _sized(metadata: Metadata, height: int, width: int) -> dict[str, Directory]:
    """The directories of EXIF with the size of the picture that it is to be written with."""
    with _quietly():
        directories, _ = _read(io.BytesIO((metadata.exif or b"").removeprefix(EXIF_PREFIX)))
    _put(directories["main"], Base.Orientation, SHORT, 1)
    if directories.get("camera"):
        _put(directories["camera"], Base.ExifImageWidth, LONG, width)
        _put(directories["camera"], Base.ExifImageHeight, LONG, height)
    return directories


def _block(directories: Mapping[str, Directory], strip: bool = False) -> bytes:
    """The directories behind a TIFF header; `strip`: with StripOffsets that point to the end of it all."""
    main = directories["main"]
    children = [(IFD.Exif, directories.get("camera")), (IFD.GPSInfo, directories.get("position"))]
    children = [(tag, child) for tag, child in children if child]
    for tag, _ in children:
        _put(main, tag, LONG, 0)
    if strip:
        _put(main, Base.StripOffsets, LONG, 0)
    end = 8 + len(main.tobytes(8))
    tail = b""
    for tag, child in children:
        _put(main, tag, LONG, end + len(tail))
        tail += child.tobytes(end + len(tail))
    if strip:
        _put(main, Base.StripOffsets, LONG, len(tail))  # Pillow adds what lies before it
    block = io.BytesIO()
    main.save(block)
    return block.getvalue() + tail


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of odd entries, which are left out. Threads may restore each other's filters: harmless."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        yield
