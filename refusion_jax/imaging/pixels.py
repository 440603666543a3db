"""Arrays of pixels: one size, depths, orientations, and large ones in bands of rows."""

from collections.abc import Iterator, Sequence

import numpy as np

from refusion_jax.errors import InputError

BAND = 2**20  # pixels converted at once: colour takes several times the picture


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


def valid_orientation(value: object) -> int:
    """An EXIF orientation 1..8; 1 for what is none."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def as_shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """A view of pixels as stored, (H,W) or (H,W,C), turned as the EXIF orientation 1..8 asks for."""
    if orientation >= 5:
        stored = stored.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return stored[::rows, ::columns]


def bands(height: int, width: int) -> Iterator[slice]:
    """Row ranges of about BAND pixels that cover a picture from the top."""
    rows = max(1, BAND // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
