"""A decoded frame's pixels as the files of pictures have them: grey in the stream's own values, colour as RGB."""

from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Values
from refusion_jax.video.library import require_av

LIMITED, FULL = 1, 2  # AVColorRange
BT709, BT601 = 1, 6  # AVColorSpace, and the same numbers of its primaries and its transfer
HD = 720  # rows from which a stream that does not say so has the matrix of BT.709, as players take it


def exact(deep: bool = False) -> Any:
    """What makes FFmpeg's conversion of colours exact to half a level; its default is off by up to three.

    deep: to RGB of 16 bits, for which whole chroma gives zeros (FFmpeg 8).
    """
    kind = require_av().video.reformatter.Interpolation
    return kind.BILINEAR | kind.ACCURATE_RND | (0 if deep else kind.FULL_CHR_H_INT)


def bits_of(frame: Any) -> int:
    """Bits of a channel."""
    return max(part.bits for part in frame.format.components)


def is_grey(frame: Any) -> bool:
    """Whether a frame has no colour channels at all."""
    form = frame.format
    return not form.has_palette and not form.is_bayer and sum(not part.is_alpha for part in form.components) == 1


def values_of(frame: Any) -> Values:
    """The pixels of PyAV's frame, turned as its rotation says: (H,W) or (H,W,3).

    Grey stays in the stream's own values, with black and white where the stream declares them: 8 bits become uint8 of
    0..255, 10 to 14 bits declare their largest value, 16 bits declare nothing, since thermal cameras write counts so.
    YUV becomes RGB by the matrix and the range that the stream names (without a name: BT.709 from 720 rows on, else
    BT.601; limited), uint8, or of more than 8 bits uint16 that spans 0..65535. Raises InputError for a form of pixels
    that FFmpeg cannot convert.
    """
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    try:
        pixels, declared = _grey(frame) if is_grey(frame) else _colour(frame)
    except require_av().FFmpegError:
        raise InputError(f"pixels of the form {frame.format.name} cannot be converted; convert the video") from None
    return Values(np.ascontiguousarray(np.rot90(pixels, turns)), declared)


def _colour(frame: Any) -> tuple[np.ndarray, tuple[float, float] | None]:
    if frame.colorspace == 2 and frame.height >= HD and not frame.format.is_rgb:
        frame.colorspace = BT709
    deep = bits_of(frame) > 8
    rgb = frame.reformat(format="rgb48le" if deep else "rgb24", interpolation=exact(deep))
    return rgb.to_ndarray(), (0, 65535) if deep else None


def _grey(frame: Any) -> tuple[np.ndarray, tuple[float, float] | None]:
    bits, name = bits_of(frame), frame.format.name
    if not name.startswith("gray"):  # with alpha, or of one bit
        frame = frame.reformat(format="gray16le" if bits > 8 else "gray", dst_color_range=FULL)
        bits, name = bits_of(frame), frame.format.name
    kind = "f4" if name.startswith("grayf") else "u1" if bits <= 8 else "u2"
    plane = frame.planes[0]
    rows = np.frombuffer(plane, (">" if name.endswith("be") else "<") + kind).reshape(plane.height, -1)
    pixels = rows[:, : frame.width].astype(np.dtype(kind))
    limited = frame.color_range == LIMITED
    if bits <= 8:
        return (_full_range()[pixels] if limited else pixels), None
    if limited:
        return pixels, (16 << (bits - 8), 235 << (bits - 8))
    return pixels, (0, 2**bits - 1) if bits < 16 else None


def _full_range() -> np.ndarray:
    """0..255 of each of the 256 levels of a limited range."""
    return np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
