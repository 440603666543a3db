"""Pictures of a training run: the preview grid with sources, fused image, reconstructions and P's maps."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from refusion_jax.data.batches import LumaPairs
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.models.build import Params
from refusion_jax.training.similarity import Measurement

KEYS = ("a", "b", "fused", "rebuilt_a", "rebuilt_b", "w_a", "v_a")
COLUMNS = ("source a", "source b", "fused", "rebuilt a", "rebuilt b", "w_a", "v_a")
HEADER = 16  # pixels above each column for its name
GAP = 4
BACKGROUND = 24  # grey level between the cells


def preview_rows(
    params: Params, functions: dict[str, Callable], pairs: LumaPairs, count: int, size: int
) -> list[dict[str, np.ndarray]]:
    """The rows of `preview` for the first pairs, cut to one centre square that all of them have.

    functions: "fuse" (f, a, b) of images (H,W), "reconstruct" (r, fused) and "propose" (p, a, b) of (1,H,W,1).
    """
    shown = [pairs[i] for i in range(min(count, len(pairs)))]
    size = min([size, *(min(p["a"].shape) for p in shown)])
    rows = []
    for pair in shown:
        height, width = pair["a"].shape
        top, left = (height - size) // 2, (width - size) // 2
        sources = [pair[k][top : top + size, left : left + size].astype(np.float32) / 255 for k in "ab"]
        a, b, fused = (x[None, :, :, None] for x in (*sources, functions["fuse"](params.f, *sources)))
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
    cells = [[grey(row[k]) for k in KEYS[:5]] + [apply_colormap(row[k], "diverging") for k in KEYS[5:]] for row in rows]
    return picture_grid(cells, COLUMNS, title)


def similarity_picture(measured: Measurement) -> np.ndarray:
    """G of a measurement beside what it was measured on: (H,W,3) uint8, one row a pair of the meta-train batch.

    G_w and G_v are coloured red where the reconstruction loss asks for more weight on source a and blue for source b;
    the strongest colour is the 99th percentile of the size over the batch, which the title names.
    """
    maps = {"w": measured.similarity.map_w, "v": measured.similarity.map_v}
    largest = {key: float(np.percentile(np.abs(g), 99)) or 1.0 for key, g in maps.items()}
    cells = []
    for i, (a, b) in enumerate(zip(measured.a, measured.b, strict=True)):
        row = [grey(a), grey(b)]
        row += [apply_colormap(np.clip(0.5 + g[i] / (2 * largest[key]), 0, 1), "diverging") for key, g in maps.items()]
        cells.append(row)
    reach = ", ".join(f"G_{key} to {size:.1e}" for key, size in largest.items())
    return picture_grid(cells, ("source a", "source b", "G_w", "G_v"), f"step {measured.step}: {reach}")


def picture_grid(cells: list[list[np.ndarray]], columns: tuple[str, ...], title: str = "") -> np.ndarray:
    """Cells (h,w,3) uint8 of one size in rows, with names over the columns: (H,W,3) uint8."""
    height, width = cells[0][0].shape[:2]
    top = HEADER * (2 if title else 1)
    picture = np.full((top + len(cells) * (height + GAP), len(columns) * (width + GAP), 3), BACKGROUND, np.uint8)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            y, x = top + i * (height + GAP), j * (width + GAP)
            picture[y : y + height, x : x + width] = cell
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    if title:
        draw.text((GAP, 2), title, fill=(230, 230, 230))
    for j, name in enumerate(columns):
        draw.text((j * (width + GAP) + GAP, top - HEADER + 2), name, fill=(230, 230, 230))
    return np.asarray(image)


def below(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Two pictures as one, each at the left."""
    width = max(upper.shape[1], lower.shape[1])
    padded = (np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=BACKGROUND) for x in (upper, lower))
    return np.concatenate(list(padded))
