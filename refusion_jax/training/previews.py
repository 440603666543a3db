"""Pictures of a training run: the preview grid with sources, fused image, reconstructions and P's maps."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from refusion_jax.data.batches import LumaPairs
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.models.build import Params

KEYS = ("a", "b", "fused", "rebuilt_a", "rebuilt_b", "w_a", "v_a")
COLUMNS = ("source a", "source b", "fused", "rebuilt a", "rebuilt b", "w_a", "v_a")
HEADER = 16  # pixels above each column for its name
GAP = 4


def preview_rows(
    params: Params, functions: dict[str, Callable], pairs: LumaPairs, count: int, size: int
) -> list[dict[str, np.ndarray]]:
    """The rows of `preview` for the first pairs, cut to one centre square that all of them have.

    functions: "fuse" (f, a, b), "reconstruct" (r, fused) and "propose" (p, a, b).
    """
    shown = [pairs[i] for i in range(min(count, len(pairs)))]
    size = min([size, *(min(p["a"].shape) for p in shown)])
    rows = []
    for pair in shown:
        height, width = pair["a"].shape
        top, left = (height - size) // 2, (width - size) // 2
        a, b = (pair[k][None, top : top + size, left : left + size, None].astype(np.float32) / 255 for k in "ab")
        fused = functions["fuse"](params.f, a, b)
        rebuilt_a, rebuilt_b = functions["reconstruct"](params.r, fused)
        w, v = functions["propose"](params.p, a, b)
        images = (a, b, fused, rebuilt_a, rebuilt_b, w, v)
        rows.append({name: np.asarray(x)[0, :, :, 0] for name, x in zip(KEYS, images, strict=True)})
    return rows


def grey(image: np.ndarray) -> np.ndarray:
    """(H,W) in [0,1] -> (H,W,3) uint8."""
    return np.repeat(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


def preview(rows: list[dict[str, np.ndarray]], title: str = "") -> np.ndarray:
    """A grid, one row a pair, with the columns of COLUMNS: (H,W,3) uint8.

    rows: dicts by KEYS, each value (h,w) in [0,1], one size for all. The maps are
    coloured blue (0, the weight lies on source b) - white (equal) - red (1, on source a).
    """
    height, width = rows[0]["a"].shape
    canvas = np.full((HEADER * (2 if title else 1) + len(rows) * (height + GAP), len(COLUMNS) * (width + GAP), 3), 24)
    picture = canvas.astype(np.uint8)
    top = HEADER * (2 if title else 1)
    for i, row in enumerate(rows):
        cells = [grey(row[k]) for k in KEYS[:5]]
        cells += [apply_colormap(row[k], "diverging") for k in KEYS[5:]]
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
