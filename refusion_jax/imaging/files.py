"""Image files: read with 8 bits or in full, size from the header alone, written with metadata, whole or not at all."""

import io
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging import deep, tiff
from refusion_jax.imaging.decoding import pixels_of, remarks_on
from refusion_jax.imaging.metadata import Metadata, cleaned_exif, exif_block, fitted, icc_space
from refusion_jax.imaging.opening import Source, one_line, opened, reason
from refusion_jax.imaging.pixels import to_depth as to_depth  # part of what this module offers

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
    8 (65535 -> 255, rounded; of a PNG in colour the 8 high bits are taken). Of several frames or pages the first is
    read.

    Raises InputError if the file is missing, is no regular file, cannot be read, is no image or a damaged
    one, holds signed, 32-bit or floating-point pixels, or has more than `max_pixels` pixels.
    """
    with opened(path, max_pixels) as source:
        return pixels_of(source, full_depth=False)


def read_picture(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file in full: 16 bits stay 16 bits, in grey and in RGB, with its metadata.

    Otherwise as `read_image`; premultiplied alpha is divided out before it is dropped. Raises InputError as it
    does, and for a 16-bit PNG in colour (or grey with alpha) when OpenCV, the extra `photo`, is not installed.
    """
    with opened(path, max_pixels) as source:
        notes = remarks_on(source)
        metadata, remarks = _metadata_of(source)  # first: decoding takes the orientation out of a TIFF
        return Picture(pixels_of(source, full_depth=True), metadata, (*notes, *remarks))


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

    Raises InputError for another array or extension, for a 16-bit PNG in colour when OpenCV, the extra `photo`, is
    not installed, and wherever the file cannot be written.
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
    except ImportError as error:
        raise deep.missing_opencv(path, "a 16-bit PNG in colour", "write .tif or 8 bits") from error
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory to encode {array.shape} as {image_format}") from error
    except (OSError, ValueError, KeyError) as error:  # too large for the format, or no such encoder
        raise InputError(f"{path}: cannot encode {array.shape} as {image_format}: {one_line(error)}") from error
    _write_parts(path, parts)
    return path


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically: a temporary file in the same folder, flushed to disk, then renamed.

    Missing parent folders are made; a link is followed. Raises InputError with the reason; the temporary file
    is removed and an older file at `path` is kept.
    """
    _write_parts(path, (data,))


def _write_parts(path: str | os.PathLike, parts: Iterable[bytes | memoryview]) -> None:
    path = Path(path)
    target = Path(os.path.realpath(path))
    # os.path, unlike Path, answers False where it cannot look; the writing then fails and says why.
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "not a regular file"
        raise InputError(f"cannot write {path}: it is {kind}; give a file name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: its folder cannot be made: {reason(error)}") from error
    # A short name of our own: the target's may already be as long as the file system allows.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        raise


def _encoded(array: np.ndarray, image_format: str, quality: int, metadata: Metadata) -> tuple[bytes | memoryview, ...]:
    """The file's bytes, in parts: a large picture is not copied once more only to be joined."""
    if image_format == "TIFF":
        return tiff.encode(array, metadata)
    if image_format == "PNG" and array.dtype == np.uint16 and array.ndim == 3:
        return deep.encode_png(array, metadata)
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


def _metadata_of(source: Source) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata to carry over, and notes on what of it is not."""
    notes = []
    exif = icc = None
    try:
        block = source.exif_file()
        exif = cleaned_exif(block) if block else None
    except Exception:  # noqa: BLE001 - a damaged block raises anything; the pixels are worth having without it
        notes.append("EXIF dropped: it cannot be read")
    if source.image is not None:
        icc = source.image.info.get("icc_profile")
    elif tiff.ICC_PROFILE in source.tags:
        icc = source.tags[tiff.ICC_PROFILE]
    if not isinstance(icc, bytes) or not icc:
        icc = None
    elif icc_space(icc) is None:
        icc, notes = None, [*notes, "colour profile dropped: it is damaged"]
    elif icc_space(icc) not in ("grey", "RGB"):
        notes.append(f"colour profile dropped: it is for {icc_space(icc)} pixels, not for these")
        icc = None
    return Metadata(exif, icc), tuple(notes)
