"""Image files: read with 8 bits or in full, size from the header alone, written with metadata, whole or not at all."""

import io
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.levels import AUTO, EIGHT_BITS, Levels, Rule, Values, common, find_levels, has_data, scaled
from refusion_jax.imaging.metadata import EXIF_PREFIX, Metadata, exif_block, fitted
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.raw import RAW_EXTENSIONS
from refusion_jax.imaging.reading import TIFF_PREFIXES, one_line, opened
from refusion_jax.runtime.writing import whole_file

# Extensions that count as images when a folder is searched.
READABLE_EXTENSIONS = RAW_EXTENSIONS | frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"}
    | {".jp2", ".j2k", ".avif", ".heic", ".heif"}
)
WRITABLE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
MAX_PIXELS = int(400e6)
_ALL_BITS = b"\x10"  # of a PNG's chunk sBIT: 16, so that a reader need not guess


@dataclass(frozen=True)
class Picture:
    """A picture as its file has it.

    Attributes:
      pixels: uint8 or uint16, (H,W) grey or (H,W,3) RGB, the EXIF orientation applied. Of more than 8 bits, black is 0
        and white 65535 (`levels`). Values are not converted between colour profiles.
      metadata: EXIF and the profile of these pixels, for `write_image`.
      notes: one-line remarks on what the file has and the picture has not, such as "alpha dropped".
      levels: which of the file's values are black and white.
      no_data: (H,W), True where the file says that there is no data; None where it says nothing of the kind.
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    levels: Levels = EIGHT_BITS
    no_data: np.ndarray | None = None


def read_picture(path: str | os.PathLike, rule: Rule = AUTO, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file in full, with its metadata: 8 bits as uint8, all else as uint16 between its levels.

    rule: which of the values of a file of more than 8 bits are black and white (`imaging.levels`). The EXIF orientation
    is applied. Alpha is dropped, premultiplied alpha divided out first; a palette and CMYK become RGB. Of several
    frames or pages the first is read.

    Raises InputError if the file is missing, is no regular file, cannot be read, is no image or a damaged one, or has
    more than `max_pixels` pixels.
    """
    return read_pictures([path], [rule], max_pixels=max_pixels)[0]


def read_pictures(
    paths: Sequence[str | os.PathLike],
    rules: Sequence[Rule],
    together: bool = False,
    max_pixels: int = MAX_PIXELS,
    pages: Sequence[int | None] | None = None,
) -> list[Picture]:
    """Read several image files as `read_picture` does, by a rule each.

    pages: of TIFF files, from 0; None: the first, with a note where there are more.
    together: they have one black and one white, as the frames of one camera do, so that a dark frame stays dark.
    """
    found: list[tuple[Values, Levels]] = []
    remarks: list[tuple[Metadata, tuple[str, ...]]] = []
    for path, rule, page in zip(paths, rules, pages or [None] * len(paths), strict=True):
        with opened(path, max_pixels, page) as source:
            notes = source.remarks()
            metadata, more = source.metadata()
            remarks.append((metadata, (*notes, *more)))
            values = source.values()
            found.append((values, find_levels(values, rule)))
    levels = [one for _, one in found]
    pictures = []
    for (metadata, notes), one in zip(remarks, common(levels) if together else levels, strict=True):
        values, _ = found.pop(0)  # no two copies of all
        pictures.append(Picture(scaled(values, one), metadata, notes, one, _without_data(values)))
    return pictures


def _without_data(values: Values) -> np.ndarray | None:
    """Where a file that names a value for it has no data, (H,W)."""
    if values.no_data is None:
        return None
    mask = has_data(values)
    if mask is None:
        return np.zeros(values.pixels.shape[:2], bool)
    return np.logical_not(mask if mask.ndim == 2 else mask.any(-1))


def pages_of(path: str | os.PathLike) -> int:
    """How many pictures a file holds: the pages of a TIFF that are like its first, 1 of any other."""
    with suppress(OSError), open(path, "rb") as file:
        if file.read(4) in TIFF_PREFIXES:
            from refusion_jax.imaging.tiff import count_pages

            return count_pages(file)
    return 1


def levels_of_file(
    path: str | os.PathLike, rule: Rule = AUTO, max_pixels: int = MAX_PIXELS, page: int | None = None
) -> Levels:
    """The levels that `read_picture` takes; of 8 bits without decoding the file. Raises InputError as it does."""
    with opened(path, max_pixels, page) as source:
        return find_levels(source.values(), rule) if source.is_deep else EIGHT_BITS


def read_image(path: str | os.PathLike, rule: Rule = AUTO, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file as uint8: (H,W) if it is grey, else (H,W,3) RGB. Otherwise as `read_picture`."""
    return to_depth(read_picture(path, rule, max_pixels).pixels, 8)


def read_luma(path: str | os.PathLike, rule: Rule = AUTO) -> np.ndarray:
    """The luma (H,W) of an image file, float32 on 0..255, not rounded. Raises InputError as `read_image` does."""
    return to_luma(read_image(path, rule))


def image_size(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(H, W) of the array that `read_image` gives, from the header alone. Raises InputError as it does."""
    with opened(path, max_pixels) as source:
        return source.shape


def supports_16_bits(path: str | os.PathLike) -> bool:
    """Whether `write_image` writes 16 bits to this path, by its extension; a path without one becomes a PNG."""
    return Path(path).suffix.lower() in (".png", ".tif", ".tiff", "")


def write_image(
    path: str | os.PathLike, array: np.ndarray, quality: int = 95, metadata: Metadata | None = None
) -> Path:
    """Write an image, uint8 or uint16, (H,W) or (H,W,3) RGB, whole or not at all; returns the path written.

    The extension chooses the format (see WRITABLE_FORMATS); without one, `.png` is added. 16 bits go into PNG and
    TIFF. `quality`, 1 to 100, is for JPEG and WebP. Of `metadata` is written what fits (`metadata.fitted`, which also
    says what does not). Missing parent folders are made. The bytes go to a temporary file in the same folder
    that then takes the name, so a failure leaves neither half a file nor a lost old one.

    Raises InputError for another array or extension, and wherever the file cannot be written.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_name(path.name + ".png")
    image_format = WRITABLE_FORMATS.get(path.suffix.lower())
    if image_format is None:
        known = " ".join(sorted(WRITABLE_FORMATS))
        raise InputError(f"{path}: cannot write an image as '{path.suffix}'; use one of {known}")
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16) or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3):
        raise InputError(f"{path}: expected a uint8 or uint16 array (H,W) or (H,W,3), got {array.dtype} {array.shape}")
    if array.size == 0:
        raise InputError(f"{path}: the image to write is empty, shape {array.shape}")
    if array.dtype == np.uint16 and not supports_16_bits(path):
        raise InputError(f"{path}: {image_format} holds 8 bits, the picture has 16; write .png or .tif, or 8 bits")
    fitting, _ = fitted(metadata or Metadata(), path, array)
    try:
        parts = _encoded(array, image_format, quality, fitting)
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory to encode {array.shape} as {image_format}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # too large for the format, or no such encoder
        raise InputError(f"{path}: cannot encode {array.shape} as {image_format}: {one_line(error)}") from error
    with whole_file(path) as file:
        file.writelines(parts)
    return path


def _encoded(array: np.ndarray, image_format: str, quality: int, metadata: Metadata) -> Sequence[bytes | memoryview]:
    """The file's bytes, in parts: a large picture is not copied once more only to be joined."""
    if image_format == "TIFF":
        from refusion_jax.imaging import tiff

        return tiff.encode(array, metadata)
    if image_format == "PNG" and array.dtype == np.uint16 and array.ndim == 3:
        return _deep_png(array, metadata)
    options: dict[str, object] = {}
    if image_format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if image_format == "JPEG":
        options["subsampling"] = 0  # full chroma resolution: fused edges keep their colour
    if metadata.exif:
        options["exif"] = exif_block(metadata, *array.shape[:2])
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if image_format == "PNG" and array.dtype == np.uint16:
        options["pnginfo"] = info = PngInfo()
        info.add(b"sBIT", _ALL_BITS)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, image_format, **options)
    return (buffer.getbuffer(),)


def _deep_png(array: np.ndarray, metadata: Metadata) -> tuple[bytes, memoryview]:
    """A PNG of 16 bits of colour, which Pillow cannot write: EXIF and profile are put in before the pixels."""
    from imagecodecs import png_encode

    data = memoryview(png_encode(np.ascontiguousarray(array)))
    end_of_header = 33  # the signature and the chunk IHDR
    head = io.BytesIO()
    head.write(data[:end_of_header])
    putchunk(head, b"sBIT", 3 * _ALL_BITS)
    if metadata.icc:
        putchunk(head, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        putchunk(head, b"eXIf", exif_block(metadata, *array.shape[:2]).removeprefix(EXIF_PREFIX))
    return head.getvalue(), data[end_of_header:]
