"""EXIF directories as raw entries: read from a block or a TIFF, chosen from, written as a block or before pixels.

Pillow reads EXIF into Python values and guesses the types back on writing: comments turn from text into numbers, names
beyond ASCII into question marks. Entries that are only moved keep their bytes.
"""

import struct
from collections.abc import Container
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from PIL.ExifTags import IFD, Base

SHORT, LONG, UNDEFINED = 3, 4, 7
_SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, UNDEFINED: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_POINTERS = (IFD.Exif, IFD.GPSInfo)
_LIMIT = 2**20  # bytes of one directory: real ones have some kilobytes
BLOCK_PREFIX = b"Exif\0\0"

# What is carried over of the first directory: what describes the picture and who made it. In a TIFF the same
# directory also tells how the pixels are stored, and programs keep layers, offsets and previews there.
_KEPT = frozenset(
    {
        Base.DocumentName,
        Base.ImageDescription,
        Base.Make,
        Base.Model,
        Base.XResolution,
        Base.YResolution,
        Base.ResolutionUnit,
        Base.Software,
        Base.DateTime,
        Base.Artist,
        Base.HostComputer,
        Base.Rating,
        Base.RatingPercent,
        Base.Copyright,
        Base.XPTitle,
        Base.XPComment,
        Base.XPAuthor,
        Base.XPKeywords,
        Base.XPSubject,
    }
)
# Descriptions in which ImageJ and tifffile note the layout of the pixels: other readers believe them.
_LAYOUT_NOTES = (b"ImageJ=", b'{"shape"')
# Not carried over of the camera's directory. A maker note holds previews, and offsets into the file that it came
# from; the sizes are those of the source, and are set anew on writing.
_DROPPED = frozenset({Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight, IFD.Interop})


class Entry(NamedTuple):
    """A tag's type and its bytes, in the byte order of its block."""

    type: int
    data: bytes


@dataclass
class Exif:
    """Directories by tag: the first, the camera's, the position's. `order` is "<" or ">"."""

    order: str = "<"
    main: dict[int, Entry] = field(default_factory=dict)
    camera: dict[int, Entry] = field(default_factory=dict)
    position: dict[int, Entry] = field(default_factory=dict)

    def set(self, directory: dict[int, Entry], tag: int, kind: int, *values: int) -> None:
        """Puts numbers, of the type SHORT or LONG, into one of the directories."""
        code = {SHORT: "H", LONG: "L"}[kind]
        directory[tag] = Entry(kind, struct.pack(f"{self.order}{len(values)}{code}", *values))

    def to_bytes(self) -> bytes:
        """All directories behind a TIFF header, as in the block of other formats (there BLOCK_PREFIX precedes them)."""
        main = dict(self.main)
        children = [(IFD.Exif, self.camera), (IFD.GPSInfo, self.position)]
        children = [(tag, entries) for tag, entries in children if entries]
        for tag, _ in children:
            self.set(main, tag, LONG, 0)
        end = 8 + len(_directory(self.order, main, 8))
        tail = b""
        for tag, entries in children:
            self.set(main, tag, LONG, end)
            tail += _directory(self.order, entries, end)
            end = 8 + len(_directory(self.order, main, 8)) + len(tail)
        mark = b"II" if self.order == "<" else b"MM"
        return mark + struct.pack(self.order + "HL", 42, 8) + _directory(self.order, main, 8) + tail


def read(file: BinaryIO) -> Exif:
    """The entries worth carrying over of a TIFF, or of a block without BLOCK_PREFIX; damaged entries are left out.

    Raises ValueError, or struct.error, where there is no directory.
    """
    file.seek(0)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or struct.unpack(order + "H", head[2:4])[0] != 42:
        raise ValueError("no TIFF directory")
    first = _read_directory(file, order, struct.unpack(order + "L", head[4:])[0], _KEPT | set(_POINTERS))
    camera, position = (_child(file, order, first.pop(tag, None)) for tag in _POINTERS)
    if first.get(Base.ImageDescription, Entry(0, b"")).data.startswith(_LAYOUT_NOTES):
        del first[Base.ImageDescription]
    return Exif(order, first, {tag: entry for tag, entry in camera.items() if tag not in _DROPPED}, position)


def _child(file: BinaryIO, order: str, pointer: Entry | None) -> dict[int, Entry]:
    if pointer is None or len(pointer.data) != 4:
        return {}
    try:
        return _read_directory(file, order, struct.unpack(order + "L", pointer.data)[0])
    except struct.error:
        return {}


def _read_directory(file: BinaryIO, order: str, offset: int, wanted: Container[int] | None = None) -> dict[int, Entry]:
    file.seek(offset)
    (count,) = struct.unpack(order + "H", file.read(2))
    table = file.read(12 * count)
    entries: dict[int, Entry] = {}
    room = _LIMIT
    for start in range(0, len(table) - 11, 12):
        tag, kind, number, value = struct.unpack_from(order + "HHL4s", table, start)
        size = number * _SIZES.get(kind, 0)
        if not 0 < size <= room or tag in entries or wanted is not None and tag not in wanted:
            continue
        if size > 4:
            file.seek(struct.unpack(order + "L", value)[0])
            value = file.read(size)
        if len(value) >= size:
            entries[tag] = Entry(kind, value[:size])
            room -= size
    return entries


def _directory(order: str, entries: dict[int, Entry], offset: int) -> bytes:
    """One directory that will stand at this offset, and after it the data that do not fit into it."""
    table, data = struct.pack(order + "H", len(entries)), b""
    end = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        table += struct.pack(order + "HHL", tag, kind, len(value) // _SIZES[kind])
        if len(value) <= 4:
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack(order + "L", end + len(data))
            data += value + b"\0" * (len(value) % 2)
    return table + struct.pack(order + "L", 0) + data
