"""Pictures of a training run: the preview grid with sources, fused image, reconstructions and P's maps."""

import numpy as np
from PIL import Image, ImageDraw

from refusion_jax.imaging.colormaps import apply_colormap

COLUMNS = ("source a", "source b", "fused", "rebuilt a", "rebuilt b", "w_a", "v_a")
HEADER = 16  # pixels above each column for its name
GAP = 4


def grey(image: np.ndarray) -> np.ndarray:
    """(H,W) in [0,1] -> (H,W,3) uint8."""
    return np.repeat(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


def preview(rows: list[dict[str, np.ndarray]], title: str = "") -> np.ndarray:
    """A grid, one row a pair, with the columns of COLUMNS: (H,W,3) uint8.

    rows: dicts with a, b, fused, rebuilt_a, rebuilt_b, w_a, v_a, each (h,w) in [0,1], one size for all. The maps are
    coloured blue (0, the weight lies on source b) - white (equal) - red (1, on source a).
    """
    height, width = rows[0]["a"].shape
    canvas = np.full((HEADER * (2 if title else 1) + len(rows) * (height + GAP), len(COLUMNS) * (width + GAP), 3), 24)
    picture = canvas.astype(np.uint8)
    top = HEADER * (2 if title else 1)
    for i, row in enumerate(rows):
        cells = [grey(row[k]) for k in ("a", "b", "fused", "rebuilt_a", "rebuilt_b")]
        cells += [apply_colormap(row[k], "diverging") for k in ("w_a", "v_a")]
        for j, cell in enumerate(cells):
            y, x = top + i * (height + GAP), j * (width + GAP)
            picture[y : y + height, x : x + width] = cell
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    if title:
        draw.text((GAP, 2), title, fill=(230, 230, 230))
    for j, name in enumerate(COLUMNS):
        draw.text((j * (width + GAP) + GAP, top - HEADER + 2), name, fill=(230, 230, 230))
    return np.asarray(image)
