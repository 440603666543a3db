"""Image files: read any common format as uint8, write atomically, read a size from the header alone."""

import errno
import io
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from refusion_jax.errors import InputError

# Extensions that count as images when a folder is searched.
READABLE_EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"}
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

_GREY_MODES = frozenset({"L", "1", "LA", "La"})
_GREY_16_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

# Pillow keeps its limit on pixels in a module variable; ours is an argument, so theirs is lifted while one
# file is opened. The lock keeps two threads from restoring each other's value.
_pillow_limit = threading.Lock()


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file as uint8: (H,W) if it is grey, else (H,W,3) RGB.

    The EXIF orientation is applied. Alpha is dropped, a palette and CMYK become RGB, 16-bit grey is scaled to
    8 bits (65535 -> 255, rounded). Of several frames or pages the first is read.

    Raises InputError if the file is missing, is no regular file, cannot be read, is no image or a damaged
    one, holds floating-point pixels, or has more than `max_pixels` pixels.
    """
    path = Path(path)
    with _opened(path, max_pixels) as image:
        oriented = _has_header_orientation(image)
        image.load()
        if oriented:
            image = ImageOps.exif_transpose(image)
        return _to_uint8(image, path)


def image_size(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(H, W) of the array that `read_image` gives, from the header alone. Raises InputError as it does."""
    with _opened(Path(path), max_pixels) as image:
        width, height = image.size
        # Pillow's TIFF reader has exchanged the two already.
        if image.format != "TIFF" and _has_header_orientation(image):
            if image.getexif().get(ExifTags.Base.Orientation) in _ROTATED:
                width, height = height, width
        return height, width


def write_image(path: str | os.PathLike, array: np.ndarray, quality: int = 95) -> Path:
    """Write a uint8 image, (H,W) or (H,W,3), whole or not at all; returns the path written.

    The extension chooses the format (see WRITABLE_FORMATS); without one, `.png` is added. `quality` is for
    JPEG and WebP. Missing parent folders are made. The bytes go to a temporary file in the same folder that
    then takes the name, so a failure leaves neither half a file nor a lost old one.

    Raises InputError for another array or extension and wherever the file cannot be written.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_name(path.name + ".png")
    image_format = WRITABLE_FORMATS.get(path.suffix.lower())
    if image_format is None:
        known = " ".join(sorted(WRITABLE_FORMATS))
        raise InputError(f"{path}: cannot write an image as '{path.suffix}'; use one of {known}")
    array = np.asarray(array)
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3):
        raise InputError(f"{path}: expected a uint8 array (H,W) or (H,W,3), got {array.dtype} {array.shape}")
    if array.size == 0:
        raise InputError(f"{path}: the image to write is empty, shape {array.shape}")
    options = {}
    if image_format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if image_format == "JPEG":
        options["subsampling"] = 0  # full chroma resolution: fused edges keep their colour
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(array)).save(buffer, image_format, **options)
    except (OSError, ValueError, KeyError) as error:  # too large for the format, or no such encoder
        raise InputError(
            f"{path}: cannot encode {array.shape} as {image_format}: {_one_line(error)}"
        ) from error
    write_bytes(path, buffer.getvalue())
    return path


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically: a temporary file in the same folder, flushed to disk, then renamed.

    Missing parent folders are made; a link is followed. Raises InputError with the reason; the temporary file
    is removed and an older file at `path` is kept.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    # os.path, unlike Path, answers False where it cannot look; the writing then fails and says why.
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "not a regular file"
        raise InputError(f"cannot write {path}: it is {kind}; give a file name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: its folder cannot be made: {_reason(error)}") from error
    # A short name of our own: the target's may already be as long as the file system allows.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {_reason(error)}") from error
        raise


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The opened image, not yet decoded. Whatever opening or decoding it raises becomes an InputError."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected an image file, got a folder")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: expected an image file, got something that is not a regular file")
        if status.st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb") as file:
            image = _open_header(file)
            width, height = image.size
            if width * height > max_pixels:
                raise InputError(
                    f"{path}: {width}x{height} is {width * height} pixels, over the limit of {max_pixels};"
                    " scale the image down or raise max_pixels"
                )
            yield image
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image, or in a format that Pillow cannot read") from error
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"cannot read {path}: {_reason(error)}") from error
        raise InputError(f"{path}: damaged or truncated image: {_one_line(error)}") from error
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged bytes
        raise InputError(f"{path}: damaged or unsupported image: {_one_line(error)}") from error


def _open_header(file: io.BufferedReader) -> Image.Image:
    with _pillow_limit:
        previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = previous


def _has_header_orientation(image: Image.Image) -> bool:
    """Whether the orientation is to be looked for: always, but in a PNG only if it stands before the pixels.

    Asking a PNG without it would decode the whole picture; reading and sizing follow the same rule, so they
    agree.
    """
    if image.format != "PNG":
        return True
    keys = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
    return any(key in image.info for key in keys)


def _to_uint8(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode in _GREY_MODES:
        return np.array(image.convert("L"))
    if image.mode in _GREY_16_MODES:
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError(
                f"{path}: expected grey values of 16 bits, got {values.min()}..{values.max()};"
                " save the image with 8 or 16 bits"
            )
        return ((values + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257; + 128 rounds to the nearest
    if image.mode == "F":
        raise InputError(f"{path}: floating-point pixels have no known range; save it with 8 or 16 bits")
    return np.array(image.convert("RGB"))


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(error.errno).lower()}; choose a place that you may use"
    return _one_line(error.strerror or error)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
