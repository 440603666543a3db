"""TIFF: grey and RGB, integers and floats, read by tifffile and imagecodecs, 8 and 16 bits written with EXIF.

Palettes, CMYK, YCbCr and JPEG or fax inside a TIFF are left to Pillow.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.TiffTags import ASCII, DOUBLE, LONG, SHORT
from tifffile import TiffFile, TiffPage

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Values
from refusion_jax.imaging.metadata import (
    DROPPED_TAGS,
    GDAL_NODATA,
    GEO_TAGS,
    ICC_PROFILE,
    Metadata,
    carried_over,
    tiff_head,
)
from refusion_jax.imaging.pixels import as_shown, bands, shown_shape, valid_orientation

_COLORS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "camera raw"}
_CHANNELS = {0: 1, 1: 1, 2: 3}  # by photometric interpretation: what is read here
_SAMPLES = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_UNSIGNED, _SIGNED, _FLOAT, _UNTYPED = 1, 2, 3, 4
_BITS = {_UNSIGNED: (32,), _SIGNED: (16, 32), _FLOAT: (16, 32, 64)}  # of more than 16 unsigned bits, what is read here
_CMYK = 5
_PREMULTIPLIED, _ALPHA = 1, 2
# None, LZW, deflate twice, PackBits, LZMA, Zstandard. The decoders of others allocate what the data ask for.
_COMPRESSIONS = {1, 5, 8, 32946, 32773, 34925, 34926, 50000}
_SEGMENT_LIMIT = 2**24  # pixels of a tile of a smaller picture

# What tifffile logs of damaged files would reach the terminal; other users of it in the same process keep their logs.
_reading = threading.local()
logging.getLogger("tifffile").addFilter(lambda record: not getattr(_reading, "active", False))


@contextmanager
def _quietly() -> Iterator[None]:
    _reading.active = True
    try:
        yield
    finally:
        _reading.active = False


class TiffSource:
    """A TIFF as a `reading.Source`. Raises InputError for pixels that neither this nor Pillow reads as they are meant,
    and whatever damaged tags lead to."""

    @_quietly()
    def __init__(self, path: Path, file: BinaryIO, number: int | None = None):
        self.path, self.file, self.page = path, file, _page(file, number or 0)
        self.number, page = number, self.page
        self.bits: int = max(np.ravel(page.bitspersample).tolist())
        self.orientation = valid_orientation(page.tags.valueof(274))
        is_left_to_pillow = self.bits <= 8 or self.bits == 16 and page.photometric == _CMYK
        if not self.is_read_here and not (page.sampleformat in (_UNSIGNED, _UNTYPED) and is_left_to_pillow):
            raise InputError(
                f"{path}: expected a TIFF of 8 or 16 bits or of floats, grey or RGB, got {self._description()};"
                " save it with 8 or 16 bits"
            )

    @property
    def is_read_here(self) -> bool:
        """Whether `values` reads it: grey or RGB of integers or floats."""
        page, colors = self.page, _CHANNELS.get(self.page.photometric)
        if colors is None or isinstance(page.bitspersample, tuple):
            return False
        if self.bits <= 8 and page.compression not in _COMPRESSIONS:
            return False
        if not (self.bits <= 16 and page.sampleformat == _UNSIGNED or self.bits in _BITS.get(page.sampleformat, ())):
            return False
        return 0 <= page.samplesperpixel - colors == len(page.extrasamples) <= (8 if colors == 3 else 1)

    @property
    def is_deep(self) -> bool:
        return self.bits > 8 if self.is_read_here else self.bits == 16 and self.page.photometric != _CMYK

    @property
    def shape(self) -> tuple[int, int]:
        return shown_shape(self.page.imagelength, self.page.imagewidth, self.orientation)

    @_quietly()
    def values(self) -> Values:
        pixels = np.ascontiguousarray(as_shown(self._stored(), self.orientation))
        return Values(pixels, self._declared(pixels) if self.is_deep else None, self._no_data())

    @_quietly()
    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        metadata, notes = carried_over(self.file, self.page.tags.valueof(ICC_PROFILE))
        dropped = [name for tag, name in DROPPED_TAGS.items() if tag in self.page.tags]
        notes += (f"{', '.join(dropped)} dropped",) if dropped else ()
        return replace(metadata, geo=tuple(self._geo()), no_data=self._no_data() is not None), notes

    def _geo(self) -> Iterator[tuple[int, int, object]]:
        for number in GEO_TAGS if self.orientation == 1 else ():  # they hold for the pixels as stored
            with suppress(Exception):  # a damaged tag raises anything
                tag = self.page.tags[number]
                value = tag.value
                if int(tag.dtype) in (ASCII, SHORT, DOUBLE) and tag.count <= 2**20:
                    yield number, int(tag.dtype), value

    @_quietly()
    def remarks(self) -> list[str]:
        remarks, extra = [], set(self.page.extrasamples)
        if extra:
            is_alpha = extra & {_PREMULTIPLIED, _ALPHA}
            remarks.append("alpha dropped" if is_alpha else "channels beside the colours dropped")
        with suppress(Exception):  # a damaged second page is not ours to read
            if self.number is None and self.page.parent.pages[1]:
                remarks.append("the first of several pages used")
        return remarks

    def _declared(self, pixels: np.ndarray) -> tuple[float, float] | None:
        """Black and white as the number of bits or the tags tell them."""
        if self.page.sampleformat == _UNSIGNED and self.bits < 16:
            return 0, 2**self.bits - 1
        for low, high in ((340, 341), (280, 281)):  # smallest and largest sample value, of any type and of integers
            with suppress(Exception):  # damaged tags raise anything
                ends = [float(np.ravel(self.page.tags.valueof(tag, default=0))[0]) for tag in (low, high)]
                if math.isfinite(ends[0]) and ends[0] < ends[1] < math.inf:
                    low, high = sorted(map(self._as_inverted, ends))
                    return low, high
        return None

    def _no_data(self) -> float | None:
        """The value without meaning, as GDAL writes it."""
        with suppress(Exception):  # a damaged tag raises anything
            value = float(self.page.tags.valueof(GDAL_NODATA))
            return self._as_inverted(value) if math.isfinite(value) else None
        return None

    def _as_inverted(self, value: float) -> float:
        """A value of the file as `_stored` has it: inverted where white is zero."""
        if self.page.photometric != 0:
            return value
        return max(2**self.bits - 1, 255) - value if self.page.sampleformat == _UNSIGNED else -value

    def _description(self) -> str:
        """The kind of pixels, in words."""
        page = self.page
        bits = "/".join(map(str, np.ravel(page.bitspersample)))
        color = _COLORS.get(page.photometric, f"photometric {page.photometric}")
        more = page.samplesperpixel - _CHANNELS.get(page.photometric, page.samplesperpixel)
        sample = _SAMPLES.get(page.sampleformat, "unknown")
        return f"{bits} {sample} bits per channel, {color}{f' and {more} more' if more else ''}"

    def _stored(self) -> np.ndarray:
        """The pixels as stored, (H,W) or (H,W,3): uint8 that fill the range or, of more bits, the file's own values.

        Channels beside the colours are dropped, premultiplied alpha is divided out, and grey stored with white as zero
        is inverted.
        """
        page, channels = self.page, _CHANNELS[self.page.photometric]
        samples = self._samples()
        pixels = samples[..., 0] if channels == 1 else samples[..., :channels]
        kind = page.sampleformat
        if kind == _UNSIGNED and self.bits <= 16:
            pixels = np.array(pixels, np.uint8 if self.bits <= 8 else np.uint16)
        elif kind == _FLOAT and self.bits == 16:
            pixels = pixels.astype(np.float32)
        else:
            pixels = np.array(pixels, pixels.dtype.newbyteorder("="))
        white = 2**self.bits - 1
        if _PREMULTIPLIED in page.extrasamples and kind == _UNSIGNED:
            _divide(pixels, samples[..., channels + page.extrasamples.index(_PREMULTIPLIED)], white)
        if self.bits < 8:
            pixels = ((pixels.astype(np.uint16) * 255 + white // 2) // white).astype(np.uint8)
        if page.photometric == 0 and kind == _UNSIGNED:
            np.subtract(pixels.dtype.type(max(white, 255)), pixels, out=pixels)
        elif page.photometric == 0:
            np.negative(pixels, out=pixels)
        return pixels

    def _samples(self) -> np.ndarray:
        """All channels, (H,W,C), after checks that nothing is missing and nothing asks for too much memory."""
        page = self.page
        if page.compression not in _COMPRESSIONS:
            raise ValueError(f"its compression {page.compression} is not read; save it with LZW, deflate or without")
        segment = page.tilewidth * page.tilelength * page.tiledepth if page.is_tiled else 0
        if page.imagedepth != 1 or segment > max(_SEGMENT_LIMIT, page.imagewidth * page.imagelength):
            raise ValueError("its tiles are larger than the picture")
        segments = math.prod(page.chunked)
        if any(len(x) != segments or not all(x) for x in (page.dataoffsets, page.databytecounts)):
            raise ValueError("some of its strips or tiles are missing")
        stored = page.asarray(maxworkers=1)
        if stored.ndim == 2:
            return stored[..., None]
        return np.moveaxis(stored, 0, -1) if page.planarconfig == 2 else stored


@_quietly()
def is_raw(file: BinaryIO) -> bool:
    """Whether a TIFF is a camera's raw file, whose first page may be no more than a thumbnail."""
    with suppress(Exception):  # damaged tags raise anything
        file.seek(0)
        page = TiffFile(file).pages[0]
        if not isinstance(page, TiffPage):
            return False
        tags = page.tags
        is_thumbnail = 330 in tags and bool(tags.valueof(254, default=0) & 1)  # with the picture in a directory below
        return 50706 in tags or tags.valueof(262) in (32803, 34892) or is_thumbnail  # DNG; of single colours, linear
    return False


@_quietly()
def count_pages(file: BinaryIO) -> int:
    """How many pages of a TIFF are pictures like its first: of its size, depth and colours. 1 for what is none."""
    with suppress(Exception):  # damaged tags raise anything
        file.seek(0)
        pages = TiffFile(file).pages
        alike = [page for page in pages if isinstance(page, TiffPage)]
        kinds = [(page.shape, page.bitspersample, page.photometric) for page in alike]
        return max(1, next((i for i, kind in enumerate(kinds) if kind != kinds[0]), len(kinds)))
    return 1


def _page(file: BinaryIO, number: int) -> TiffPage:
    file.seek(0)
    with suppress(Exception):  # damaged tags raise anything
        page = TiffFile(file).pages[number]
        if isinstance(page, TiffPage) and 1 <= page.samplesperpixel <= 64:
            return page
    raise ValueError("its directory is damaged")


def _divide(pixels: np.ndarray, alpha: np.ndarray, white: int) -> None:
    """Divides premultiplied colours by their alpha, in place; black where nothing is left of them."""
    for rows in bands(*pixels.shape[:2]):
        part = alpha[rows] if pixels.ndim == 2 else alpha[rows, :, None]
        scale = np.where(part > 0, white / np.maximum(part, 1), 0)
        pixels[rows] = np.minimum(np.rint(pixels[rows] * scale), white)


def encode(array: np.ndarray, metadata: Metadata) -> tuple[bytes, memoryview]:
    """A TIFF, not compressed, of a uint8 or uint16 array (H,W) or (H,W,3): the bytes before its pixels, and these."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    tags = {
        256: (LONG, width),
        257: (LONG, height),
        258: (SHORT, (8 * array.itemsize,) * channels),
        259: (SHORT, 1),  # not compressed
        262: (SHORT, 1 if channels == 1 else 2),  # black is zero, or RGB
        277: (SHORT, channels),
        278: (LONG, height),  # rows of the one strip
        279: (LONG, array.nbytes),
        284: (SHORT, 1),  # channels side by side
    }
    if array.itemsize == 2:  # so that another reader, this one among them, need not guess
        tags |= {280: (SHORT, (0,) * channels), 281: (SHORT, (65535,) * channels)}
    head = tiff_head(metadata, height, width, tags)
    order = "<" if head.startswith(b"II") else ">"
    return head, np.ascontiguousarray(array, array.dtype.newbyteorder(order)).reshape(-1).view(np.uint8).data
