"""Grey volumes in the colours that nuclear medicine shows them in."""

import numpy as np

from refusion_jax.errors import InputError

# The colour palettes of DICOM (PS3.6, Annex B), which viewers know by these names, and their UIDs.
PALETTES = {
    "hot-iron": "1.2.840.10008.1.5.1",
    "pet": "1.2.840.10008.1.5.2",
    "hot-metal-blue": "1.2.840.10008.1.5.3",
    "pet-20-step": "1.2.840.10008.1.5.4",
}


def pseudocolored(grey: np.ndarray, name: str) -> np.ndarray:
    """A grey volume, uint8 or uint16 of any shape, in a palette: uint8 RGB, one axis more. InputError for another name
    and where pydicom, which has the palettes, is missing."""
    if name not in PALETTES:
        raise InputError(f"expected a palette out of {', '.join(PALETTES)}, got {name!r}")
    try:
        from pydicom.pixels.processing import apply_color_lut
    except ImportError:
        raise InputError("--pseudocolour takes DICOM's palettes from pydicom: pip install 'pydicom>=3.0'") from None
    levels = np.arange(256, dtype=np.uint8)[None]
    palette = apply_color_lut(levels, palette=PALETTES[name])[0].astype(np.uint8)
    return palette[grey if grey.dtype == np.uint8 else (grey.astype(np.uint32) + 128) // 257]
