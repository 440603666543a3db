"""JPEG files of thermal cameras, which hold measured values beside the picture they show; FLIR's taken apart.

FLIR's files are read by flyr. Those of other makers are recognised, so that the user is told what to run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Values
from refusion_jax.imaging.metadata import Metadata

THERMAL, VISIBLE = 0, 1  # the pages of a FLIR file
_SEGMENTS = 256  # looked at; FLIR's values take at most 256
_ADVICE = {
    "DJI": "DJI's Thermal SDK writes its temperatures (dji_irp -s {name} -a measure -o thermal.raw: 16 bits, tenths of"
    " a degree); save them as TIFF and give --pair thermal.tif visible.jpg --align affine",
    "InfiRay": "exiftool -b -ImagingData {name} > data.bin writes what it holds; save the thermal picture as TIFF and"
    " give --pair thermal.tif visible.jpg --align affine",
    "FLIR": "exiftool -b -RawThermalImage {name} > thermal.png and exiftool -b -EmbeddedImage {name} > visible.jpg"
    " write what it holds, for --pair thermal.png visible.jpg --align affine",
}


class HasMetadata(Protocol):
    """The file as the picture that it shows."""

    def metadata(self) -> tuple[Metadata, tuple[str, ...]]: ...


def maker_of(file: BinaryIO) -> str | None:
    """Whose radiometric JPEG an open file is: "FLIR", "DJI" or "InfiRay"; None of any other file."""
    is_dji = False
    for marker, head in _segments(file):
        if marker == 0xE1 and head.startswith(b"FLIR\0"):
            return "FLIR"
        if marker == 0xE2 and head[4:10] == b"IJPEG\0":
            return "InfiRay"
        if marker == 0xE1 and head.startswith(b"Exif\0\0"):
            is_dji = b"DJI" in head
        if marker == 0xE3 and is_dji:
            return "DJI"
    return None


def advice(maker: str, name: str) -> str:
    """What to run to have the pictures of a file that is not read here."""
    return _ADVICE[maker].format(name=name)


def preview_remark(file: BinaryIO) -> str | None:
    """A line for a radiometric JPEG of which the picture that it shows is read, None for any other file."""
    maker = maker_of(file)
    if maker is None:
        return None
    what = (
        "--pair with this file alone fuses its thermal and its visible picture"
        if maker == "FLIR"
        else "no temperatures"
    )
    return f"a radiometric JPEG ({maker}), read as the picture that it shows: {what}"


def require_two_pictures(path: Path) -> None:
    """InputError that says what to do, unless a file is a FLIR radiometric JPEG."""
    with open(path, "rb") as file:
        maker = maker_of(file)
    if maker is None:
        raise InputError(f"{path}: expected a second picture, or a FLIR radiometric JPEG, which holds two")
    if maker != "FLIR":
        raise InputError(f"{path}: a radiometric JPEG ({maker}) that is not read here; {advice(maker, path.name)}")


@dataclass
class FlirSource:
    """One of the two pictures of a FLIR radiometric JPEG, page THERMAL or VISIBLE.

    Both show the same field at the visible picture's scale, as the file tells it (Real2IR, OffsetX, OffsetY); where it
    does not tell, each has its own size. The thermal one is in degrees Celsius, float32.
    """

    path: Path
    file: BinaryIO
    page: int
    preview: HasMetadata

    @property
    def shape(self) -> tuple[int, int]:
        return self._pictures[self.page].shape[:2]

    @property
    def is_deep(self) -> bool:
        return self.page == THERMAL

    def values(self) -> Values:
        return Values(np.ascontiguousarray(self._pictures[self.page]))

    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        return self.preview.metadata()

    def remarks(self) -> list[str]:
        if self.page == VISIBLE:
            return []
        _, boxes, (h, w) = self._unpacked
        if boxes is None:
            return ["the file does not tell how its pictures lie to each other; add --align affine"]
        return [f"its thermal picture ({w}x{h}) laid on its visible one as the file tells; --align affine goes closer"]

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, np.ndarray]:
        (thermal, visible), boxes, _ = self._unpacked
        if boxes is None:
            return thermal, visible
        (x, y, right, bottom), box = boxes
        size = right - x, bottom - y
        enlarged = Image.fromarray(thermal).resize(size, Image.Resampling.BICUBIC, box)
        return np.asarray(enlarged), visible[y:bottom, x:right]

    @cached_property
    def _unpacked(self):
        """((thermal, visible), the parts of the visible and of the thermal one that show the same, thermal's size)."""
        try:
            from flyr import unpack
        except ImportError:
            raise InputError(
                f"{self.path}: a FLIR radiometric JPEG; to take its pictures apart, pip install 'flyr>=5.1'"
            ) from None
        self.file.seek(0)
        try:
            held = unpack(self.file)
            thermal, visible, relation = held.celsius.astype(np.float32), held.optical, held.pip_info
        except Exception as error:  # noqa: BLE001 - the library raises anything on files that it does not know
            raise InputError(
                f"{self.path}: a FLIR radiometric JPEG that flyr does not read; {advice('FLIR', self.path.name)}"
            ) from error
        if visible is None:
            raise InputError(
                f"{self.path}: a FLIR radiometric JPEG without a visible picture; exiftool -b -RawThermalImage"
                f" {self.path.name} > thermal.png, and give --pair thermal.png visible.jpg --align affine"
            )
        boxes = None
        if relation is not None:
            offset = relation.offset_x, relation.offset_y
            boxes = shared_field(thermal.shape, visible.shape[:2], relation.real_to_ir, offset)
        return (thermal, visible[..., :3] if visible.ndim == 3 else visible), boxes, thermal.shape


def shared_field(thermal: tuple[int, int], visible: tuple[int, int], real_to_ir: float, offset: tuple[int, int]):
    """The parts of a FLIR file's two pictures that show the same.

    thermal, visible: sizes (H, W). real_to_ir: how much wider the visible picture's field is. offset: x, y of the
    thermal picture's middle from the visible one's, in pixels of that. Returns (left, top, right, bottom) in whole
    pixels of the visible and in parts of pixels of the thermal one; None where these values make no sense.
    """
    if not 0.2 < real_to_ir < 5:
        return None
    scale = visible[1] / (thermal[1] * real_to_ir)
    outer, inner = [], []
    for shown, held, shift in zip(visible[::-1], thermal[::-1], offset, strict=True):
        start = shown / 2 + shift - held * scale / 2
        first = int(np.ceil(max(0, start) - 1e-6))
        last = int(np.floor(min(shown, start + held * scale) + 1e-6))
        if last - first < max(16, 0.25 * held * scale):
            return None
        outer.append((first, last))
        inner.append((max(0.0, (first - start) / scale), min(float(held), (last - start) / scale)))
    return tuple((x[0], y[0], x[1], y[1]) for x, y in (outer, inner))


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, first bytes) of the segments of a JPEG file before its pixels."""
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    for _ in range(_SEGMENTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:
            return
        length = int.from_bytes(head[2:], "big") - 2
        start = file.tell()
        yield head[1], file.read(min(max(length, 0), 512))
        file.seek(start + length)
