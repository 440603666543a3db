"""TIFF beyond Pillow: 16 bits in several channels read exactly, any of our arrays written with its tags.

Pillow has no image mode for 16-bit colour: it opens such a file with the 8 high bits, mixes up separate planes, and
refuses grey with alpha. Its decoders (libtiff's) are sound, so the same strips or tiles are presented to it once more
under tags that call each row of N channels one grey row, N times as wide.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from refusion_jax.imaging.exif import LONG, SHORT, UNDEFINED, Entry, Exif
from refusion_jax.imaging.metadata import Metadata, sized_exif
from refusion_jax.imaging.pixels import as_stored, bands, rows_of, shown_shape

PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _CHANNELS, _ROWS_PER_STRIP, _STRIP_SIZES = 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 284, 317, 322, 323, 324, 325
_EXTRA, _SAMPLE_FORMAT = 338, 339
ICC_PROFILE = 34675

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PREMULTIPLIED, _ALPHA = 1, 2
_WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)  # LZW, deflate twice, LZMA, Zstandard: libtiff heeds the tag in these
SIGNED = 2
_SAMPLES = {1: "unsigned", SIGNED: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_COLORS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "camera raw"}


@dataclass(frozen=True)
class Layout:
    """How a TIFF stores its pixels: the values of its tags, or their defaults."""

    height: int
    width: int
    bits: tuple[int, ...]
    sample: int
    photometric: int
    channels: int
    extra: tuple[int, ...]
    separate: bool
    orientation: int

    @property
    def colors(self) -> int:
        """1 for grey, 3 for RGB, 0 for what is neither."""
        return {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}.get(self.photometric, 0)

    @property
    def is_deep(self) -> bool:
        """16 unsigned bits in every channel of grey or RGB, alone or with others after them: `decode` reads it."""
        return (
            set(self.bits) == {16}
            and self.sample == 1
            and self.colors > 0
            and 0 <= self.channels - self.colors == len(self.extra) <= (8 if self.colors == 3 else 1)
        )

    @property
    def has_alpha(self) -> bool:
        """Whether one of the channels after the colours is declared as alpha."""
        return bool({_PREMULTIPLIED, _ALPHA} & set(self.extra))

    @property
    def is_plain_grey(self) -> bool:
        """Grey that Pillow reads exactly by itself."""
        return self.channels == 1 and self.photometric == _BLACK_IS_ZERO

    def __str__(self) -> str:
        bits = str(self.bits[0]) if len(set(self.bits)) == 1 else "/".join(map(str, self.bits))
        channels = "" if self.channels == (self.colors or self.channels) else f" and {self.channels - self.colors} more"
        color = _COLORS.get(self.photometric, f"photometric {self.photometric}")
        return f"{bits} {_SAMPLES.get(self.sample, 'unknown')} bits per channel, {color}{channels}"


def read_tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """The first directory of a TIFF; tags are decoded only when they are asked for."""
    file.seek(0)
    head = file.read(8)
    if head[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        head += file.read(8)
    tags = ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    return tags


def read_layout(tags: ImageFileDirectory_v2) -> Layout:
    """The layout that the tags describe. Raises whatever damaged tags lead to."""
    channels = int(tags.get(_CHANNELS, 1))
    if not 1 <= channels <= 64:
        raise ValueError(f"{channels} channels")
    bits = _tuple(tags.get(_BITS, 1))
    orientation = tags.get(_ORIENTATION, 1)
    return Layout(
        height=int(tags[_HEIGHT]),
        width=int(tags[_WIDTH]),
        bits=bits * channels if len(bits) == 1 else bits,
        sample=max(_tuple(tags.get(_SAMPLE_FORMAT, 1))),
        photometric=int(tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO)),
        channels=channels,
        extra=_tuple(tags.get(_EXTRA, ())),
        separate=tags.get(_PLANAR, 1) == 2 and channels > 1,
        orientation=orientation if orientation in range(1, 9) else 1,
    )


def decode(file: BinaryIO, tags: ImageFileDirectory_v2, layout: Layout, orientation: int) -> np.ndarray:
    """The pixels of a deep layout, uint16 (H,W) or (H,W,3), turned as shown; other channels are dropped.

    Premultiplied alpha is divided out, and grey stored with white as zero is inverted. Raises whatever Pillow does
    when the file is damaged.
    """
    colors = layout.colors
    premultiplied = _PREMULTIPLIED in layout.extra
    shape = shown_shape(layout.height, layout.width, orientation)
    shown = np.empty(shape if colors == 1 else (*shape, colors), np.uint16)
    stored = as_stored(shown if colors > 1 else shown[..., None], orientation)
    alpha = colors + layout.extra.index(_PREMULTIPLIED) if premultiplied else None
    if layout.separate:
        for channel in range(colors):
            _fill(stored[..., channel : channel + 1], _grey(file, tags, layout, channel), layout, tags)
        if premultiplied:
            plane = np.empty((layout.height, layout.width, 1), np.uint16)
            _fill(plane, _grey(file, tags, layout, alpha), layout, tags)
            for rows in bands(layout.height, layout.width):
                stored[rows] = _divided(stored[rows], plane[rows])
    else:
        _fill(stored, _grey(file, tags, layout), layout, tags, alpha)
    if layout.photometric == _WHITE_IS_ZERO:
        np.subtract(np.uint16(65535), shown, out=shown)
    return shown


def _grey(file: BinaryIO, tags: ImageFileDirectory_v2, layout: Layout, plane: int | None = None) -> Image.Image:
    """One plane, or all interleaved channels, as Pillow's 16-bit grey image, decoded."""
    factor = 1 if layout.separate else layout.channels
    grey = ImageFileDirectory_v2(prefix=tags.prefix)
    grey[_WIDTH], grey[_HEIGHT] = layout.width * factor, layout.height
    grey[_BITS], grey[_CHANNELS], grey[_PHOTOMETRIC] = 16, 1, _BLACK_IS_ZERO
    for tag in (_COMPRESSION, _FILL_ORDER):
        if tag in tags:
            grey[tag] = tags[tag]
    # The difference to the pixel on the left would be taken to the wrong sample: undone below instead.
    if factor == 1 and _PREDICTOR in tags:
        grey[_PREDICTOR] = tags[_PREDICTOR]
    tiled = _TILE_OFFSETS in tags
    if tiled:
        grey[_TILE_WIDTH], grey[_TILE_HEIGHT] = tags[_TILE_WIDTH] * factor, tags[_TILE_HEIGHT]
    else:
        grey[_ROWS_PER_STRIP] = min(tags.get(_ROWS_PER_STRIP, layout.height), layout.height)
    offset_tag, size_tag = (_TILE_OFFSETS, _TILE_SIZES) if tiled else (_STRIP_OFFSETS, _STRIP_SIZES)
    offsets, sizes = _tuple(tags[offset_tag]), _tuple(tags[size_tag])
    if layout.separate:
        count = len(offsets) // layout.channels
        offsets, sizes = (values[plane * count : (plane + 1) * count] for values in (offsets, sizes))
    # The new directory stands before the whole file. Its length does not depend on the values.
    grey.tagtype[offset_tag] = grey.tagtype[size_tag] = LONG
    grey[size_tag], grey[offset_tag] = sizes, offsets
    shift = grey.save(io.BytesIO())
    if tiled:  # strips are shifted by Pillow on saving
        grey[offset_tag] = tuple(offset + shift for offset in offsets)
    head = io.BytesIO()
    grey.save(head)
    image = TiffImageFile(io.BufferedReader(_Prefixed(head.getvalue(), file)))
    image.load()
    return image


class _Prefixed(io.RawIOBase):
    """A file to read with other bytes before it: large pictures need not be copied for that."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self.head, self.file, self.position = head, file, 0
        self.size = len(head) + file.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        if self.position < len(self.head):
            part = self.head[self.position : self.position + len(buffer)]
        else:
            self.file.seek(self.position - len(self.head))
            part = self.file.read(len(buffer))
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)


def _fill(
    stored: np.ndarray, image: Image.Image, layout: Layout, tags: ImageFileDirectory_v2, alpha: int | None = None
) -> None:
    """Copies the first C channels of decoded rows into `stored` (H,W,C), divided by the channel `alpha` if given."""
    channels = image.width // layout.width
    differences = channels > 1 and tags.get(_PREDICTOR, 1) == 2 and tags.get(_COMPRESSION, 1) in _WITH_PREDICTOR
    step = tags[_TILE_WIDTH] if _TILE_OFFSETS in tags else layout.width
    for rows in bands(layout.height, image.width):
        values = np.asarray(rows_of(image, rows)).astype(np.uint16).reshape(-1, layout.width, channels)
        if differences:
            for left in range(0, layout.width, step):
                tile = values[:, left : left + step]
                np.cumsum(tile, axis=1, dtype=np.uint16, out=tile)
        colors = values[..., : stored.shape[2]]
        stored[rows] = colors if alpha is None else _divided(colors, values[..., alpha : alpha + 1])


def _divided(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied colours by their alpha; black where nothing is left of them."""
    scale = np.where(alpha > 0, 65535 / np.maximum(alpha, 1), 0)
    return np.minimum(np.rint(colors * scale), 65535).astype(np.uint16)


def encode(array: np.ndarray, metadata: Metadata) -> tuple[bytes, memoryview]:
    """A TIFF, not compressed, of a uint8 or uint16 array (H,W) or (H,W,3): the bytes before its pixels, and these."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    tags = sized_exif(metadata.exif, height, width) if metadata.exif else Exif()
    array = np.ascontiguousarray(array, array.dtype.newbyteorder(tags.order))
    for tag, kind, values in (
        (_WIDTH, LONG, (width,)),
        (_HEIGHT, LONG, (height,)),
        (_BITS, SHORT, (8 * array.itemsize,) * channels),
        (_COMPRESSION, SHORT, (1,)),
        (_PHOTOMETRIC, SHORT, (_BLACK_IS_ZERO if channels == 1 else _RGB,)),
        (_STRIP_OFFSETS, LONG, (0,)),
        (_CHANNELS, SHORT, (channels,)),
        (_ROWS_PER_STRIP, LONG, (height,)),
        (_STRIP_SIZES, LONG, (array.nbytes,)),
        (_PLANAR, SHORT, (1,)),
    ):
        tags.set(tags.main, tag, kind, *values)
    if metadata.icc:
        tags.main[ICC_PROFILE] = Entry(UNDEFINED, metadata.icc)
    head = tags.to_bytes()
    tags.set(tags.main, _STRIP_OFFSETS, LONG, len(head))
    return tags.to_bytes(), memoryview(array).cast("B")


def _tuple(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)
