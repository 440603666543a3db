"""Colour maps for weight maps: values in [0,1] to RGB, diverging around 0.5 or sequential."""

import numpy as np

from refusion_jax.errors import InputError

# Evenly spaced anchors, sRGB. CIE lightness rises and falls by even steps and alike on both sides of the
# diverging map's middle, so equal distances from 0.5 look equally strong (tests/test_imaging.py holds it to
# that).
_ANCHORS = {
    "diverging": [
        (27, 67, 143),
        (66, 112, 182),
        (124, 158, 201),
        (186, 203, 224),
        (244, 243, 241),
        (235, 192, 177),
        (213, 136, 112),
        (184, 78, 67),
        (142, 14, 37),
    ],
    "sequential": [
        (11, 11, 36),
        (62, 21, 94),
        (122, 34, 113),
        (183, 54, 104),
        (225, 97, 77),
        (238, 153, 77),
        (234, 207, 121),
        (250, 248, 214),
    ],
}


def apply_colormap(values: np.ndarray, name: str = "diverging") -> np.ndarray:
    """Colour a map (H,W) of values in [0,1]: uint8 RGB (H,W,3).

    `diverging`: blue at 0, near-white at 0.5, red at 1, for weights of which two sum to 1. `sequential`: dark
    to light. Values outside [0,1] take the colour of the nearer end; a value that is not a number is black.
    """
    if name not in _ANCHORS:
        raise InputError(f"expected a colour map out of {', '.join(sorted(_ANCHORS))}, got '{name}'")
    values = np.asarray(values, np.float32)
    if values.ndim != 2:
        raise InputError(f"expected a map (H,W), got shape {values.shape}")
    anchors = np.asarray(_ANCHORS[name], np.float32)
    positions = np.linspace(0, 1, len(anchors))
    known = ~np.isnan(values)
    clean = np.where(known, values, 0)
    channels = [np.interp(clean, positions, anchors[:, channel]) for channel in range(3)]
    return np.where(known[..., None], np.rint(np.stack(channels, axis=-1)), 0).astype(np.uint8)
