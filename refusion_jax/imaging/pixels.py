"""Pixels between depths, orientations and Pillow: in bands of rows, so that a large picture is held twice, not more."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError

BAND = 2**20  # pixels converted at once: colour takes several times the picture

# How rows and columns as stored lie in the picture as shown, by EXIF orientation: a view of the shown array
# that is indexed as the file is. Orientations from 5 exchange height and width.
_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


def check_one_size(images: Sequence[np.ndarray], advice: str = "resize or crop one of them") -> None:
    """InputError, which names the sizes and ends with the advice, unless all images have one height and width."""
    sizes = list(dict.fromkeys(np.shape(image)[:2] for image in images))
    if len(sizes) > 1:
        named = " and ".join(f"{width}x{height}" for height, width in sizes)
        raise InputError(
            f"{'both' if len(images) == 2 else 'all'} images must have one size, got {named} pixels; {advice}"
        )


def to_depth(array: np.ndarray, bits: int) -> np.ndarray:
    """A picture of 8 or 16 bits (uint8 or uint16, any shape) with `bits` = 8 or 16; itself if it has that already.

    8 to 16 bits multiplies by 257, so that 255 becomes 65535; 16 to 8 divides by it and rounds to the nearest, so
    that 8 bits survive both ways exactly. Raises InputError for another type or depth.
    """
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16) or bits not in (8, 16):
        raise InputError(f"expected a uint8 or uint16 picture and a depth of 8 or 16, got {array.dtype} and {bits}")
    if array.dtype.itemsize * 8 == bits:
        return array
    if bits == 16:
        return array * np.uint16(257)
    # In 16 bits throughout: values above 65407 become 255 anyway, and adding 128 to them would run over.
    values = np.minimum(array, np.uint16(65407))
    values += np.uint16(128)
    values //= np.uint16(257)
    return values.astype(np.uint8)


def shown_shape(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(H, W) of a picture as shown, from the size as stored and the EXIF orientation 1..8."""
    return (width, height) if orientation >= 5 else (height, width)


def as_stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the array as shown, (H,W) or (H,W,C), whose rows and columns are those of the file."""
    return _STORED[orientation](shown)


def bands(height: int, width: int) -> Iterator[slice]:
    """Row ranges of about BAND pixels that cover a picture from the top."""
    rows = max(1, BAND // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def rows_of(image: Image.Image, rows: slice) -> Image.Image:
    """These rows of a Pillow image; the image itself if they are all."""
    if rows.start == 0 and rows.stop == image.height:
        return image
    return image.crop((0, rows.start, image.width, rows.stop))


def filled(
    image: Image.Image, channels: int, dtype: type, orientation: int, convert: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """An array as shown, (H,W) or (H,W,3), filled band by band with what `convert` makes of the loaded image's rows."""
    shape = shown_shape(image.height, image.width, orientation)
    shown = np.empty(shape if channels == 1 else (*shape, channels), dtype)
    stored = as_stored(shown, orientation)
    for rows in bands(image.height, image.width):
        stored[rows] = convert(rows_of(image, rows))
    return shown
