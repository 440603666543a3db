"""TIFF: grey and RGB of any depth read by tifffile and imagecodecs, 8 and 16 bits written with EXIF.

Palettes, CMYK, YCbCr and JPEG or fax inside a TIFF are left to Pillow.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.TiffTags import LONG, SHORT
from tifffile import TiffFile, TiffPage

from refusion_jax.errors import InputError
from refusion_jax.imaging.metadata import ICC_PROFILE, Metadata, carried_over, tiff_head
from refusion_jax.imaging.pixels import as_shown, bands, shown_shape, valid_orientation

_COLORS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "camera raw"}
_CHANNELS = {0: 1, 1: 1, 2: 3}  # by photometric interpretation: what is read here
_SAMPLES = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_UNSIGNED, _SIGNED, _UNTYPED = 1, 2, 4
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
    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file, self.page = path, file, _first_page(file)
        page = self.page
        self.bits: int = max(np.ravel(page.bitspersample).tolist())
        self.orientation = valid_orientation(page.tags.valueof(274))
        is_left_to_pillow = self.bits <= 8 or self.bits == 16 and page.photometric == _CMYK
        if not self.is_read_here and not (page.sampleformat in (_UNSIGNED, _UNTYPED) and is_left_to_pillow):
            raise InputError(
                f"{path}: expected a TIFF of 8 or 16 unsigned bits per channel, grey or RGB, got {self._description()};"
                " save it with 8 or 16 bits"
            )

    @property
    def is_read_here(self) -> bool:
        """Whether `pixels` reads it: grey or RGB of unsigned integers, or grey of others whose values may fit."""
        page, colors = self.page, _CHANNELS.get(self.page.photometric)
        if colors is None or isinstance(page.bitspersample, tuple):
            return False
        if self.bits <= 8 and page.compression not in _COMPRESSIONS:
            return False
        if self.bits <= 16 and page.sampleformat == _UNSIGNED:
            return 0 <= page.samplesperpixel - colors == len(page.extrasamples) <= (8 if colors == 3 else 1)
        return page.samplesperpixel == 1 and page.sampleformat in (_UNSIGNED, _SIGNED) and self.bits in (16, 32)

    @property
    def shape(self) -> tuple[int, int]:
        return shown_shape(self.page.imagelength, self.page.imagewidth, self.orientation)

    @_quietly()
    def pixels(self) -> np.ndarray:
        return np.ascontiguousarray(as_shown(self._stored(), self.orientation))

    @_quietly()
    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        return carried_over(self.file, self.page.tags.valueof(ICC_PROFILE))

    @_quietly()
    def remarks(self) -> list[str]:
        remarks, extra = [], set(self.page.extrasamples)
        if self._may_not_fit:
            remarks.append("signed or 32-bit grey read as 16 bits: its values fit")
        if extra:
            is_alpha = extra & {_PREMULTIPLIED, _ALPHA}
            remarks.append("alpha dropped" if is_alpha else "channels beside the colours dropped")
        with suppress(Exception):  # a damaged second page is not ours to read
            if self.page.parent.pages[1]:
                remarks.append("the first of several pages used")
        return remarks

    @property
    def _may_not_fit(self) -> bool:
        """Whether there may be values that 16 bits cannot hold."""
        return self.page.sampleformat != _UNSIGNED or self.bits > 16

    def _description(self) -> str:
        """The kind of pixels, in words."""
        page = self.page
        bits = "/".join(map(str, np.ravel(page.bitspersample)))
        color = _COLORS.get(page.photometric, f"photometric {page.photometric}")
        more = page.samplesperpixel - _CHANNELS.get(page.photometric, page.samplesperpixel)
        sample = _SAMPLES.get(page.sampleformat, "unknown")
        return f"{bits} {sample} bits per channel, {color}{f' and {more} more' if more else ''}"

    def _stored(self) -> np.ndarray:
        """The pixels as stored, (H,W) or (H,W,3), uint8 or, of more than 8 bits, uint16.

        Channels beside the colours are dropped, premultiplied alpha is divided out, grey stored with white as zero is
        inverted, and other numbers of bits than 8 and 16 fill the range.
        """
        page, channels = self.page, _CHANNELS[self.page.photometric]
        samples = self._samples()
        pixels = samples[..., 0] if channels == 1 else samples[..., :channels]
        low, high = (int(pixels.min()), int(pixels.max())) if self._may_not_fit else (0, 0)
        if low < 0 or high > 65535:
            raise InputError(
                f"{self.path}: expected grey values of 16 bits, got {low}..{high}; save the image with 8 or 16 bits"
            )
        pixels = np.array(pixels, np.uint8 if self.bits <= 8 else np.uint16)
        peak, white = np.iinfo(pixels.dtype).max, 2**self.bits - 1
        if _PREMULTIPLIED in page.extrasamples:
            _divide(pixels, samples[..., channels + page.extrasamples.index(_PREMULTIPLIED)], white)
        if white < peak:
            for rows in bands(*pixels.shape[:2]):
                pixels[rows] = (pixels[rows].astype(np.uint32) * peak + white // 2) // white
        return np.subtract(pixels.dtype.type(peak), pixels, out=pixels) if page.photometric == 0 else pixels

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


def _first_page(file: BinaryIO) -> TiffPage:
    file.seek(0)
    with suppress(Exception):  # damaged tags raise anything
        page = TiffFile(file).pages[0]
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
    head = tiff_head(metadata, height, width, tags)
    order = "<" if head.startswith(b"II") else ">"
    return head, np.ascontiguousarray(array, array.dtype.newbyteorder(order)).reshape(-1).view(np.uint8).data
