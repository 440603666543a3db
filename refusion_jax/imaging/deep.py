"""16 bits of colour in PNG files, which Pillow cannot hold: read and written by OpenCV (the extra `photo`)."""

import io
import zlib
from types import ModuleType
from typing import BinaryIO

import numpy as np
from PIL.PngImagePlugin import putchunk

from refusion_jax.errors import InputError
from refusion_jax.imaging.exif import BLOCK_PREFIX
from refusion_jax.imaging.metadata import Metadata, exif_block

_HEADER_END = 33  # the signature and the chunk IHDR
_GREY_WITH_ALPHA = 4


def is_deep(head: bytes) -> bool:
    """Whether these first 26 bytes of a PNG declare 16 bits in more than one channel."""
    return head[12:16] == b"IHDR" and head[24] == 16 and head[25] != 0


def is_grey(head: bytes) -> bool:
    """Whether these first bytes of a deep PNG declare grey (with alpha)."""
    return head[25] == _GREY_WITH_ALPHA


def decode_png(file: BinaryIO, head: bytes) -> np.ndarray:
    """A deep PNG as uint16 (H,W) or (H,W,3) RGB; alpha is dropped. The file has been checked for damage.

    Raises ImportError without OpenCV, ValueError where it cannot decode the file.
    """
    cv2 = _opencv()
    file.seek(0)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"OpenCV: {error.err}") from error
    if bgr is None or bgr.dtype != np.uint16:
        raise ValueError("OpenCV cannot decode it")
    if is_grey(head):
        return np.ascontiguousarray(bgr[..., 0])
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def encode_png(array: np.ndarray, metadata: Metadata) -> tuple[bytes, memoryview]:
    """A PNG of a uint16 array (H,W,3) RGB with its EXIF and profile, in two parts.

    Raises ImportError without OpenCV, ValueError where it cannot encode the array.
    """
    cv2 = _opencv()
    try:
        done, encoded = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f"OpenCV: {error.err}") from error
    if not done:
        raise ValueError("OpenCV cannot encode it")
    data = memoryview(encoded).cast("B")
    head = io.BytesIO()
    head.write(data[:_HEADER_END])
    # Both chunks have to stand before the pixels.
    if metadata.icc:
        putchunk(head, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        putchunk(head, b"eXIf", exif_block(metadata, *array.shape[:2]).removeprefix(BLOCK_PREFIX))
    return head.getvalue(), data[_HEADER_END:]


def missing_opencv(path: object, what: str, instead: str) -> InputError:
    """The error for a file that needs OpenCV where it is not installed."""
    return InputError(f"{path}: {what} needs OpenCV; pip install opencv-python-headless, or {instead}")


def _opencv() -> ModuleType:
    import cv2  # slow to import, and large: only these files need it

    return cv2
