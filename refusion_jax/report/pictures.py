"""Pictures of a page: arrays made small enough, encoded, and written as data URIs."""

import base64
import io

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.imaging.pixels import to_depth

LONGEST_SIDE = 1600  # pixels; a picture with a longer side is scaled down to it
LOSSLESS_PIXELS = 256 * 256  # up to so many pixels PNG costs little, and small pictures are looked at enlarged
# At 92 with full chroma resolution JPEG is 2-10 times faster than WebP and nearer to the original at equal size.
QUALITY = 92
THUMBNAIL_SIDE = 96


def checked_picture(array: np.ndarray, name: str) -> np.ndarray:
    """The picture as uint8, (H,W) or (H,W,3); uint16 is rounded to 8 bits. InputError for anything else."""
    array = np.asarray(array)
    if not (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3) or 0 in array.shape:
        raise InputError(f"{name}: expected a picture (H,W) or (H,W,3), got shape {array.shape}")
    if array.dtype == np.uint16:
        return to_depth(array, 8)
    if array.dtype != np.uint8:
        raise InputError(f"{name}: expected uint8 or uint16, got {array.dtype}")
    return array


def checked_map(array: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    """A weight map (H,W) as float32. InputError for another shape."""
    array = np.asarray(array)
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected numbers {shape} like the pictures, got {array.dtype} {array.shape}")
    return array.astype(np.float32)


def shown_size(shape: tuple[int, ...], longest_side: int) -> tuple[int, int]:
    """(width, height) in which a picture of shape (H,W,...) is shown."""
    height, width = shape[:2]
    factor = min(1, longest_side / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def scaled_down(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in a size no larger than its own, filtered so that detail does not turn into moiré."""
    if image.size == size:
        return image
    # Box and bilinear stay within the range of the pixels, which a map must.
    resampling = Image.Resampling.BILINEAR if image.mode == "F" else Image.Resampling.LANCZOS
    return image.resize(size, resampling, reducing_gap=3.0)


def picture_uri(pixels: np.ndarray, size: tuple[int, int]) -> str:
    """A uint8 picture scaled down to `size` (width, height): "data:image/...". Small ones are kept without loss."""
    return _uri(scaled_down(Image.fromarray(np.ascontiguousarray(pixels)), size))


def map_uri(values: np.ndarray, size: tuple[int, int]) -> str:
    """A map (H,W) of weights of source a in [0,1], coloured blue (0) - white (0.5) - red (1)."""
    small = np.asarray(scaled_down(Image.fromarray(values), size))
    return _uri(Image.fromarray(apply_colormap(small, "diverging")))


def map_scale_uri() -> str:
    """The colours of a map from 0 at the left to 1 at the right, for a legend."""
    return _uri(Image.fromarray(apply_colormap(np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1)))))


def thumbnail_uri(pixels: np.ndarray) -> str:
    """A small JPEG for lists."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _encoded(scaled_down(image, shown_size(pixels.shape, THUMBNAIL_SIDE)), "JPEG", quality=75)


def _uri(image: Image.Image) -> str:
    if image.width * image.height <= LOSSLESS_PIXELS:
        return _encoded(image, "PNG")
    return _encoded(image, "JPEG", quality=QUALITY, subsampling=0)


def _encoded(image: Image.Image, kind: str, **options) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
