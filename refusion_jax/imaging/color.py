"""Colour: luma of a source, YCrCb (full-range BT.601, as OpenCV), and fused chroma (Eq. 15 of the paper).

All arrays are RGB or YCrCb on 0..255, float32 unless said otherwise.
"""

from collections.abc import Sequence

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.pixels import bands

NEUTRAL = 128.0  # the chroma of grey
LUMA = (0.299, 0.587, 0.114)  # of R, G, B


def rgb_to_ycrcb(rgb: np.ndarray) -> np.ndarray:
    """RGB (...,3) on 0..255, any dtype, to Y, Cr, Cb (...,3), float32, not rounded, neutral chroma 128.

    Y = 0.299 R + 0.587 G + 0.114 B, Cr = 0.713 (R-Y) + 128, Cb = 0.564 (B-Y) + 128. R-Y and B-Y are formed
    from differences of channels, so that grey has a chroma of 128 exactly, whatever the rounding of Y.
    """
    rgb = np.asarray(rgb)
    if rgb.ndim < 1 or rgb.shape[-1] != 3:
        raise InputError(f"expected RGB with 3 channels last, got shape {rgb.shape}")
    r, g, b = np.moveaxis(rgb.astype(np.float32), -1, 0)
    red, green, blue = LUMA
    luma = red * r + green * g + blue * b
    cr = 0.713 * (green * (r - g) + blue * (r - b)) + NEUTRAL
    cb = 0.564 * (red * (b - r) + green * (b - g)) + NEUTRAL
    return np.stack([luma, cr, cb], axis=-1)


def ycrcb_to_rgb(ycrcb: np.ndarray) -> np.ndarray:
    """Y, Cr, Cb (...,3) to RGB (...,3), float32; neither clipped nor rounded.

    R = Y + 1.403 (Cr-128), G = Y - 0.714 (Cr-128) - 0.344 (Cb-128), B = Y + 1.773 (Cb-128): OpenCV's
    three-digit inverse, which returns what `rgb_to_ycrcb` was given within 0.2 of a level.
    """
    ycrcb = np.asarray(ycrcb, np.float32)
    if ycrcb.ndim < 1 or ycrcb.shape[-1] != 3:
        raise InputError(f"expected YCrCb with 3 channels last, got shape {ycrcb.shape}")
    luma, cr, cb = np.moveaxis(ycrcb, -1, 0)
    cr, cb = cr - NEUTRAL, cb - NEUTRAL
    return np.stack([luma + 1.403 * cr, luma - 0.714 * cr - 0.344 * cb, luma + 1.773 * cb], axis=-1)


def to_luma(image: np.ndarray) -> np.ndarray:
    """The luma of an image (H,W) or (H,W,3) on 0..255: float32 (H,W), not rounded; grey passes through."""
    image = np.asarray(image)
    if image.ndim == 2:
        return image.astype(np.float32)
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"expected an image (H,W) or (H,W,3), got shape {image.shape}")
    r, g, b = np.moveaxis(image.astype(np.float32), -1, 0)
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


def unit_luma(image: np.ndarray) -> np.ndarray:
    """The luma (H,W) in [0,1], float32, of an image uint8, uint16 or float in [0,1], (H,W) or (H,W,3)."""
    height, width = image.shape[:2]
    luma = np.empty((height, width), np.float32)
    for rows in bands(height, width):
        luma[rows] = to_luma(_levels(image[rows])) / np.float32(255)
    return luma


def fuse_chroma(*chromas: np.ndarray) -> np.ndarray:
    """One chroma channel out of those of the sources, Eq. 15: each weighted by its distance from neutral.

    chromas: Cr or Cb of each source, one shape, neutral at 128, which is the paper's tau. The more colourful source
    wins, a grey pixel has no say, and the result is neutral where all are grey.
    """
    weighted = total = np.float32(0)
    for chroma in chromas:
        # Weighting the distances from neutral, not the values, loses no digits where all are close to it.
        distance = np.asarray(chroma, np.float32) - np.float32(NEUTRAL)
        weight = np.abs(distance)
        weighted, total = weighted + weight * distance, total + weight
    return np.float32(NEUTRAL) + weighted / np.where(total > 0, total, 1)


def fuse_color(fused_luma: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """The fused luma with the chroma of all sources (Eq. 15): float32, clipped to 0..255, not rounded.

    fused_luma: (H,W) on 0..255. sources: (H,W) or (H,W,3) each, on 0..255, in any order.
    Returns (H,W,3) RGB, or (H,W) when all sources are (H,W). Raises InputError for a source of another size.
    """
    fused_luma = np.asarray(fused_luma, np.float32)
    for image in sources:
        if np.shape(image)[:2] != fused_luma.shape:
            raise InputError(
                f"expected sources of the fused image's size {fused_luma.shape}, got shape {np.shape(image)}"
            )
    chromas = [rgb_to_ycrcb(image)[..., 1:] for image in sources if np.ndim(image) == 3]
    if not chromas:
        return np.clip(fused_luma, 0, 255)
    return np.clip(ycrcb_to_rgb(np.concatenate([fused_luma[..., None], fuse_chroma(*chromas)], axis=-1)), 0, 255)


def finished_picture(fused_luma: np.ndarray, sources: Sequence[np.ndarray], gray: bool = False) -> np.ndarray:
    """A fused luma (H,W) in [0,1] as a picture of the kind of its sources, in colour where they have any.

    sources: uint8, uint16 or float in [0,1], (H,W) or (H,W,3), of the luma's size. gray: leave the colour out.
    Returns (H,W,3), or (H,W) when gray or when all sources are (H,W); uint8 when all sources are uint8, uint16 when
    all are integers and one is uint16, else float32 in [0,1].
    """
    whole = all(image.dtype.kind == "u" for image in sources)
    peak = max(_white(image) for image in sources) if whole else 1
    kind = {255: np.uint8, 65535: np.uint16, 1: np.float32}[peak]
    colored = not gray and any(image.ndim == 3 for image in sources)
    out = np.empty((*fused_luma.shape, 3) if colored else fused_luma.shape, kind)
    height, width = fused_luma.shape
    for rows in bands(height, width * max(1, len(sources) // 2)):  # of many sources narrower ones: all are held at once
        levels = fused_luma[rows] * np.float32(255)
        levels = fuse_color(levels, [_levels(image[rows]) for image in sources] if colored else [])
        levels = levels * np.float32(peak / 255) if peak != 255 else levels
        out[rows] = np.rint(levels) if whole else levels
    return out


def _levels(image: np.ndarray) -> np.ndarray:
    """The image on 0..255, uint8 as it is, else float32."""
    return image if image.dtype == np.uint8 else image.astype(np.float32) * np.float32(255 / _white(image))


def _white(image: np.ndarray) -> int:
    return {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
