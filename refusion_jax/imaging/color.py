"""Colour: luma of a source, YCrCb (full-range BT.601, as OpenCV), and fused chroma (Eq. 15 of the paper).

All arrays are RGB or YCrCb on 0..255, float32 unless said otherwise.
"""

import numpy as np

from refusion_jax.errors import InputError

NEUTRAL = 128.0  # the chroma of grey


def rgb_to_ycrcb(rgb: np.ndarray) -> np.ndarray:
    """RGB (...,3) on 0..255, any dtype, to Y, Cr, Cb (...,3), float32, not rounded, neutral chroma 128.

    Y = 0.299 R + 0.587 G + 0.114 B, Cr = 0.713 (R-Y) + 128, Cb = 0.564 (B-Y) + 128. R-Y and B-Y are formed
    from differences of channels, so that grey has a chroma of 128 exactly, whatever the rounding of Y.
    """
    rgb = np.asarray(rgb)
    if rgb.ndim < 1 or rgb.shape[-1] != 3:
        raise InputError(f"expected RGB with 3 channels last, got shape {rgb.shape}")
    r, g, b = np.moveaxis(rgb.astype(np.float32), -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    cr = 0.713 * (0.587 * (r - g) + 0.114 * (r - b)) + NEUTRAL
    cb = 0.564 * (0.299 * (b - r) + 0.587 * (b - g)) + NEUTRAL
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
    return 0.299 * r + 0.587 * g + 0.114 * b


def fuse_chroma(c1: np.ndarray, c2: np.ndarray, tau: float = NEUTRAL) -> np.ndarray:
    """One fused chroma channel, Eq. 15: c1 and c2 weighted by |c1-tau| and |c2-tau|; tau where both are 0.

    c1 and c2 are Cr or Cb of the two sources, same shape, neutral at 128. With tau = 128 the more colourful
    source wins and a grey pixel has no say.
    """
    c1, c2 = np.asarray(c1, np.float32), np.asarray(c2, np.float32)
    w1, w2 = np.abs(c1 - np.float32(tau)), np.abs(c2 - np.float32(tau))
    total = w1 + w2
    # Weighting the distances from tau, not the values, loses no digits where both are close to tau.
    distance = w1 * (c1 - np.float32(tau)) + w2 * (c2 - np.float32(tau))
    return np.float32(tau) + distance / np.where(total > 0, total, 1)


def fuse_color(fused_luma: np.ndarray, image_a: np.ndarray, image_b: np.ndarray, tau: float = NEUTRAL) -> np.ndarray:
    """`fuse_color_float` rounded to the nearest level: uint8."""
    return _to_uint8(fuse_color_float(fused_luma, image_a, image_b, tau))


def fuse_color_float(
    fused_luma: np.ndarray, image_a: np.ndarray, image_b: np.ndarray, tau: float = NEUTRAL
) -> np.ndarray:
    """The fused picture in colour: fused luma with the chroma of both sources (Eq. 15).

    Args:
      fused_luma: (H,W) on 0..255, best not rounded.
      image_a, image_b: the sources, (H,W) or (H,W,3), on 0..255, in either order.
      tau: neutral chroma of Eq. 15.

    Returns (H,W,3) RGB, or (H,W) when both sources are (H,W). Rounded to the nearest level, clipped to
    0..255. A source that is grey all over, of whichever shape, has no say for any tau.
    """
    fused_luma = np.asarray(fused_luma, np.float32)
    for image in (image_a, image_b):
        if np.shape(image)[:2] != fused_luma.shape:
            raise InputError(
                f"expected sources of the fused image's size {fused_luma.shape}, got shape {np.shape(image)}"
            )
    if np.ndim(image_a) == 2 and np.ndim(image_b) == 2:
        return np.clip(fused_luma, 0, 255)
    chromas = [chroma for chroma in (_chroma(image_a), _chroma(image_b)) if chroma is not None]
    if not chromas:
        fused = np.full((*fused_luma.shape, 2), NEUTRAL, np.float32)
    elif len(chromas) == 1:
        fused = chromas[0]
    else:
        fused = fuse_chroma(*chromas, tau)
    return np.clip(ycrcb_to_rgb(np.concatenate([fused_luma[..., None], fused], axis=-1)), 0, 255)


def _chroma(image: np.ndarray) -> np.ndarray | None:
    """Cr and Cb (H,W,2), or None for an image that is grey all over."""
    if np.ndim(image) == 2:
        return None
    chroma = rgb_to_ycrcb(image)[..., 1:]
    return None if np.all(chroma == NEUTRAL) else chroma


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
