"""Picture files opened and decoded: limits before decoding, any of Pillow's modes to an array, failures as one line."""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Values
from refusion_jax.imaging.metadata import EXIF_PREFIX, Metadata, carried_over
from refusion_jax.imaging.pixels import as_shown, bands, shown_shape, valid_orientation
from refusion_jax.imaging.radiometric import FlirSource, preview_remark, require_two_pictures
from refusion_jax.imaging.raw import RAW_EXTENSIONS, RawSource
from refusion_jax.runtime.writing import reason

TIFF_PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG2000_START = 1 << 16  # bytes in which its pixels begin, unless a large profile stands before them
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_GREY_MODES = frozenset({"L", "1", "LA", "La"})
_GREY_16_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


class Source(Protocol):
    """An open picture file, its header read, its pixels not decoded."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture as shown."""
        ...

    @property
    def is_deep(self) -> bool:
        """Whether the file has more than 8 bits."""
        ...

    def values(self) -> Values:
        """The picture as shown in the file's own values, uint8 where it has 8 bits."""
        ...

    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        """The metadata to carry over, and notes on what of it is not. Before decoding."""
        ...

    def remarks(self) -> list[str]:
        """One line each on what the file has that its picture will not have. Before decoding."""
        ...


@dataclass
class PillowSource:
    """A file that Pillow reads, and its first bytes. A TIFF has its tags turned into one of Pillow's modes."""

    path: Path
    file: BinaryIO
    head: bytes
    image: Image.Image

    @property
    def is_deep_png(self) -> bool:
        """16 bits in more than one channel: Pillow would give the 8 high bits."""
        return self.image.format == "PNG" and self.head[12:16] == b"IHDR" and self.head[24] == 16 and self.head[25] != 0

    @cached_property
    def orientation(self) -> int:
        """The EXIF orientation 1..8, which has to be applied to the pixels as stored; 1 where it is damaged.

        Of a PNG only if it stands before the pixels: asking for a later one would decode the whole picture. Reading
        and sizing follow this one rule, so they agree. A TIFF is turned by Pillow.
        """
        early = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
        is_late = self.image.format == "PNG" and not any(key in self.image.info for key in early)
        if is_late or self.image.format == "TIFF":
            return 1
        with suppress(Exception):
            return valid_orientation(self.image.getexif().get(ExifTags.Base.Orientation))
        return 1

    @property
    def shape(self) -> tuple[int, int]:
        return shown_shape(self.image.height, self.image.width, self.orientation)

    @property
    def is_deep(self) -> bool:
        return self.is_deep_png or self.image.mode in _GREY_16_MODES or self.image.mode == "F"

    def values(self) -> Values:
        if self.is_deep_png:
            return self._with_declared(np.ascontiguousarray(as_shown(self._deep_png(), self.orientation)))
        image = self.image
        white = self._largest_value()
        image.load()
        if image.mode == "F":
            return Values(self._converted("F", np.float32))
        if image.mode in _GREY_16_MODES:
            pixels = self._converted(image.mode, np.int32 if image.mode == "I" else np.uint16)
            if pixels.dtype == np.int32:
                if pixels.min() < 0 or pixels.max() > 65535:
                    return Values(pixels)
                pixels = pixels.astype(np.uint16)
            if white in (0, 65535):
                return self._with_declared(pixels)
            # Of a PGM Pillow gives 0..65535, whatever largest value the file names.
            return Values(np.rint(pixels * (white / 65535)).astype(np.uint16), (0, white))
        return Values(self._converted("L" if image.mode in _GREY_MODES else "RGB", np.uint8))

    def _largest_value(self) -> int:
        """White of a PPM or PGM file that is not 255 or 65535, before it is loaded; 0 of others."""
        tile = getattr(self.image, "tile", None)
        if not tile or self.image.format != "PPM" or tile[0][0] not in ("ppm", "ppm_plain"):
            return 0
        return int(tile[0][3][1])

    def _jpeg2000_bits(self) -> int:
        """Bits of a JPEG 2000's first component, by the marker SIZ before its pixels; 0 where it is not found."""
        at = self.file.tell()
        self.file.seek(0)
        start = self.file.read(_JPEG2000_START)
        self.file.seek(at)
        siz = start.find(b"\xff\x4f\xff\x51")
        return (start[siz + 42] & 0x7F) + 1 if 0 <= siz < len(start) - 42 else 0

    def _with_declared(self, pixels: np.ndarray) -> Values:
        """Pixels of 16 bits of a PNG with the number of bits that its chunk sBIT tells, where they are not scaled."""
        bits = _significant_bits(self.file) if self.image.format == "PNG" else None
        white = 2**bits - 1 if bits else 0
        return Values(pixels, (0, white) if 8 <= (bits or 0) <= 16 and pixels.max() <= white else None)

    def _converted(self, mode: str, dtype: type) -> np.ndarray:
        """The loaded image in this mode as an array as shown, converted band by band to save memory."""
        image = self.image
        stored = np.empty((image.height, image.width, 3) if mode == "RGB" else (image.height, image.width), dtype)
        for rows in bands(image.height, image.width):
            part = image.crop((0, rows.start, image.width, rows.stop))
            if part.mode == "La":  # Pillow knows no direct way
                part = part.convert("LA")
            stored[rows] = np.asarray(part if mode == part.mode else part.convert(mode))
        return np.ascontiguousarray(as_shown(stored, self.orientation))

    def _deep_png(self) -> np.ndarray:
        """A PNG of 16 bits in several channels as stored, uint16 (H,W) or (H,W,3); alpha is dropped."""
        from imagecodecs import png_decode

        self.file.seek(0)
        pixels = png_decode(self.file.read())
        return pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]

    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        metadata, notes = carried_over(self._exif_file(), self.image.info.get("icc_profile"))
        names = {"xmp": "XMP", "XML:com.adobe.xmp": "XMP", "photoshop": "IPTC"}
        dropped = dict.fromkeys(name for key, name in names.items() if key in self.image.info)
        return metadata, (*notes, f"{', '.join(dropped)} dropped") if dropped else notes

    def _exif_file(self) -> BinaryIO | None:
        if self.image.format == "TIFF":
            return self.file
        block = self.image.info.get("exif")
        if block is None and "Raw profile type exif" in self.image.info:  # as text, by old versions of ImageMagick
            with suppress(Exception):
                block = self.image.getexif().tobytes()
        return io.BytesIO(block.removeprefix(EXIF_PREFIX)) if block else None

    def remarks(self) -> list[str]:
        image, remarks = self.image, []
        if image.format in ("JPEG", "MPO"):
            at = self.file.tell()
            remarks += filter(None, [preview_remark(self.file)])
            self.file.seek(at)
        if image.mode in _ALPHA_MODES or "transparency" in image.info:
            remarks.append("alpha dropped")
        tile = getattr(image, "tile", None)
        if image.mode == "CMYK":
            depth = " and to 8 bits" if tile and "16" in str(tile[0][3]) else ""
            remarks.append(f"CMYK converted to RGB{depth}, without colour management")
        if image.mode in ("P", "PA"):
            remarks.append("palette converted to RGB")
        if image.mode == "RGB" and self._largest_value() > 255:
            remarks.append("16 bits read as 8: PPM in colour is read with 8 bits; PNG and TIFF keep 16")
        if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA") and (bits := self._jpeg2000_bits()) > 8:
            remarks.append(f"{bits} bits read as 8: JPEG 2000 in colour is read with 8 bits; PNG and TIFF keep 16")
        if image.format == "HEIF" and image.info.get("bit_depth", 8) > 8:
            remarks.append(f"{image.info['bit_depth']} bits read as 8: HEIC is read with 8 bits; PNG and TIFF keep 16")
        with suppress(Exception):  # a damaged second frame is not ours to read
            # An MPO's others are the camera's previews.
            count = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP", "TIFF") else 1
            if count > 1:
                remarks.append(f"the first of {count} {'pages' if image.format == 'TIFF' else 'frames'} used")
        return remarks


def _significant_bits(file: BinaryIO) -> int | None:
    """The largest number of bits in a PNG's chunk sBIT, which stands before its pixels; None where there is none."""
    at = 8
    for _ in range(64):
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"sBIT" and 1 <= length <= 4:
            return max(file.read(length), default=None)
        if len(head) < 8 or kind in (b"IDAT", b"IEND"):
            return None
        at += 12 + length
    return None


@contextmanager
def opened(path: str | os.PathLike, max_pixels: int, page: int | None = None) -> Iterator[Source]:
    """The opened file, not yet decoded. Whatever opening or decoding it raises becomes an InputError of one line."""
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected an image file, got a folder")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: expected an image file, got something that is not a regular file")
        if path.name.lower().endswith((".nii", ".nii.gz", ".dcm")):
            raise InputError(
                f"{path}: expected an image file, got a volume or a slice of one; fuse.py --pair takes NIfTI files and"
                " folders of DICOM series"
            )
        if status.st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb") as file, _lifted_limit, warnings.catch_warnings():
            # Pillow warns of odd tags on the way to its error, or where nothing is wrong with the pixels. Should
            # two threads restore each other's filters, this one stays: harmless.
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            source = _read_header(path, file, page)
            height, width = source.shape
            if width * height > max_pixels:
                raise InputError(
                    f"{path}: {width}x{height} is {width * height} pixels, over the limit of {max_pixels};"
                    " scale the image down, or raise the limit (--max-pixels; in training data.max_pixels)"
                )
            yield source
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image, or in a format that Pillow cannot read") from error
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        raise InputError(f"{path}: damaged or truncated image: {one_line(error)}") from error
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory to hold the image; scale it down") from error
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged bytes
        raise InputError(f"{path}: damaged or unsupported image: {one_line(error)}") from error


def one_line(error: object) -> str:
    """Any error's text as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_header(path: Path, file: BinaryIO, page: int | None = None) -> Source:
    head = file.read(26)
    if head.startswith(TIFF_PREFIXES):
        from refusion_jax.imaging.tiff import TiffSource, is_raw

        if path.suffix.lower() in RAW_EXTENSIONS or is_raw(file):
            return RawSource(path, file)
        source = TiffSource(path, file, page)
        if source.is_read_here:
            return source
    if path.suffix.lower() in RAW_EXTENSIONS and head[:3] != b"\xff\xd8\xff" or head[4:12] == b"ftypcrx ":
        return RawSource(path, file)
    register_heif(path, head)
    if page is not None and head[:3] == b"\xff\xd8\xff":
        require_two_pictures(path)
        file.seek(0)
        return FlirSource(path, file, page, PillowSource(path, file, head, Image.open(file)))
    if page:
        raise InputError(f"{path}: expected pages in grey or RGB, got other ones; save each as a picture of its own")
    file.seek(0)
    return PillowSource(path, file, head, Image.open(file))


def register_heif(path: Path, head: bytes) -> None:
    """Lets Pillow read this file if its first 12 bytes are HEIC's; InputError where the library is missing."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise InputError(
            f"{path}: a HEIC picture; to read it, pip install 'pillow-heif>=1.0', or save it as PNG"
        ) from None
    register_heif_opener()


class _LiftedLimit:
    """Lifts Pillow's limit on pixels while any file is open here: it is a module variable, ours is an argument.

    Counted, so that threads decode at once and the last one to finish restores the value.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.previous: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.users == 0:
                self.previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.users += 1

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                Image.MAX_IMAGE_PIXELS = self.previous


_lifted_limit = _LiftedLimit()
