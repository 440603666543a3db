"""From an opened file to an array: each of Pillow's modes, 8 bits or full depth, turned as shown; and what is lost."""

from contextlib import suppress

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging import deep, tiff
from refusion_jax.imaging.opening import Source
from refusion_jax.imaging.pixels import as_stored, filled, to_depth

_GREY_MODES = frozenset({"L", "1", "LA", "La"})
_GREY_16_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def pixels_of(source: Source, full_depth: bool) -> np.ndarray:
    """The picture as shown: (H,W) or (H,W,3), uint8, or with `full_depth` uint16 where the file has more than 8 bits.

    Raises InputError for pixels without a known range and for a missing OpenCV, anything for a damaged file.
    """
    if source.is_deep_tiff:
        pixels = tiff.decode(source.file, source.tags, source.layout, source.orientation)
        return pixels if full_depth else to_depth(pixels, 8)
    if source.is_deep_png and full_depth:
        return _deep_png(source)
    image, orientation = source.image, source.orientation
    bits = _tiff_bits(source)
    image.load()
    if image.format == "TIFF":
        orientation = 1  # Pillow has turned it
    if image.mode == "F":
        raise InputError(f"{source.path}: floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode in _GREY_16_MODES:
        _require_16_bits(source, image)
        if full_depth:
            return filled(image, 1, np.uint16, orientation, lambda rows: _grey_16(rows, bits))
        return filled(image, 1, np.uint8, orientation, lambda rows: to_depth(_grey_16(rows, bits), 8))
    if image.mode in _GREY_MODES:
        return filled(image, 1, np.uint8, orientation, lambda rows: np.asarray(_converted(rows, "L")))
    if source.is_deep_png and deep.is_grey(source.head):  # Pillow makes grey with alpha RGBA
        return filled(image, 1, np.uint8, orientation, lambda rows: np.asarray(rows)[..., 0])
    return filled(image, 3, np.uint8, orientation, lambda rows: np.asarray(_converted(rows, "RGB")))


def remarks_on(source: Source) -> tuple[str, ...]:
    """One line each on what the file has that its picture will not have. Before decoding."""
    remarks = []
    image, layout = source.image, source.layout
    if source.is_deep_tiff and layout.extra:
        remarks.append("alpha dropped" if layout.has_alpha else "channels beside the colours dropped")
    elif image is not None and (image.mode in _ALPHA_MODES or "transparency" in image.info):
        remarks.append("alpha dropped")
    if image is None:
        return tuple(remarks)
    if image.mode == "CMYK":
        depth = " and to 8 bits" if layout is not None and set(layout.bits) == {16} else ""
        remarks.append(f"CMYK converted to RGB{depth}, without colour management")
    if image.mode in ("P", "PA"):
        remarks.append("palette converted to RGB")
    if image.format == "PPM" and image.mode == "RGB" and _ppm_maximum(image) > 255:
        remarks.append("16 bits read as 8: PPM in colour is read with 8 bits; PNG and TIFF keep 16")
    if image.mode == "I" and image.format == "TIFF":
        remarks.append("signed or 32-bit grey read as 16 bits: its values fit")
    frames = _frames(image)
    if frames:
        remarks.append(f"the first of {frames} used")
    return tuple(remarks)


def _deep_png(source: Source) -> np.ndarray:
    try:
        source.image.verify()  # the checksums: OpenCV may give half a picture of half a file
        pixels = deep.decode_png(source.file, source.head)
    except ImportError as error:
        what = "reading a 16-bit PNG in colour"
        raise deep.missing_opencv(source.path, what, "save it as TIFF or with 8 bits") from error
    if source.orientation == 1:
        return pixels
    shown = np.empty((*source.shape, *pixels.shape[2:]), np.uint16)
    as_stored(shown, source.orientation)[...] = pixels
    return shown


def _tiff_bits(source: Source) -> int:
    return source.layout.bits[0] if source.layout is not None else 16


def _require_16_bits(source: Source, image: Image.Image) -> None:
    if image.mode != "I":
        return
    low, high = image.getextrema()
    if low < 0 or high > 65535:
        raise InputError(
            f"{source.path}: expected grey values of 16 bits, got {low}..{high}; save the image with 8 or 16 bits"
        )


def _grey_16(image: Image.Image, bits: int) -> np.ndarray:
    """Grey of 16 bits as it is; Pillow gives 12 bits as they are stored, 0..4095."""
    values = np.asarray(image)
    if bits == 12:
        values = (values.astype(np.uint32) * 65535 + 2047) // 4095
    return values.astype(np.uint16)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    return image.convert(mode)


def _ppm_maximum(image: Image.Image) -> int:
    arguments = image.tile[0][3] if image.tile else None
    return arguments[1] if isinstance(arguments, tuple) and len(arguments) > 1 else 255


def _frames(image: Image.Image) -> str | None:
    """How many frames or pages there are, in words, if more than one. An MPO's others are the camera's previews."""
    if image.format == "TIFF":
        return "several pages" if image.tag_v2.next else None
    if image.format in ("GIF", "PNG", "WEBP"):
        with suppress(Exception):  # a damaged second frame is not ours to read
            count = getattr(image, "n_frames", 1)
            return f"{count} frames" if count > 1 else None
    return None
