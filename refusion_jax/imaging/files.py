"""Image files: read with 8 bits or in full, size from the header alone, written with metadata, whole or not at all."""

import io
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import putchunk

from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.metadata import EXIF_PREFIX, Metadata, exif_block, fitted
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.reading import one_line, opened
from refusion_jax.runtime.writing import whole_file

# Extensions that count as images when a folder is searched.
READABLE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"})
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


@dataclass(frozen=True)
class Picture:
    """A picture as its file has it.

    Attributes:
      pixels: uint8 or uint16, (H,W) grey or (H,W,3) RGB, the EXIF orientation applied. Values are the file's: they
        are not converted between colour profiles.
      metadata: EXIF and the profile of these pixels, for `write_image`.
      notes: one-line remarks on what the file has and the picture has not, such as "alpha dropped".
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file as uint8: (H,W) if it is grey, else (H,W,3) RGB.

    The EXIF orientation is applied. Alpha is dropped, a palette and CMYK become RGB, 16 bits are scaled to
    8 (65535 -> 255, rounded). Of several frames or pages the first is read.

    Raises InputError if the file is missing, is no regular file, cannot be read, is no image or a damaged
    one, holds negative, wider or floating-point values, or has more than `max_pixels` pixels.
    """
    with opened(path, max_pixels) as source:
        return to_depth(source.pixels(), 8)


def read_luma(path: str | os.PathLike) -> np.ndarray:
    """The luma (H,W) of an image file, float32 on 0..255, not rounded. Raises InputError as `read_image` does."""
    return to_luma(read_image(path))


def read_picture(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file in full: 16 bits stay 16 bits, in grey and in RGB, with its metadata.

    Otherwise as `read_image`; premultiplied alpha is divided out before it is dropped. Raises InputError as it does.
    """
    with opened(path, max_pixels) as source:
        notes = source.remarks()
        metadata, more = source.metadata()
        return Picture(source.pixels(), metadata, (*notes, *more))


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
    if metadata.icc:
        putchunk(head, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        putchunk(head, b"eXIf", exif_block(metadata, *array.shape[:2]).removeprefix(EXIF_PREFIX))
    return head.getvalue(), data[end_of_header:]
