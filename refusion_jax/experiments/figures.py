"""The paper's figures as PNG and PDF at print quality: P's weights (Fig. 8-14), methods side by side with magnified
regions (Fig. 4-7). Needs the extra `figures` (Matplotlib)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.runtime.writing import whole_file
from refusion_jax.tasks import SOURCES

WIDTH = 7.0  # inches, that of a printed page's text
DPI = 300
HEADS = SOURCES | {"mfif": ("near focus", "far focus")}  # over the sources
WEIGHTS = ("$w_a$", "$w_b$", "$v_a$", "$v_b$")


@dataclass(frozen=True)
class Region:
    """A rectangle of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The part of a picture (H,W,...) that it covers."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """InputError unless it lies in a picture of that shape."""
        height, width = shape[:2]
        inside = 0 <= self.x <= width - self.width and 0 <= self.y <= height - self.height
        if min(self.width, self.height) < 2 or not inside:
            given = f"{self.x} {self.y} {self.width} {self.height}"
            raise InputError(f"--region {given}: expected a rectangle in the {width}x{height} pixels of {name}")


def most_different(pictures: Sequence[np.ndarray], share: float = 0.2) -> Region:
    """The rectangle, `share` of each side, in which the detail of the pictures differs most.

    That is the mean of the standard deviation over the pictures of what each has beyond its local mean: an even shift
    in brightness does not count. pictures: uint8, (H,W) or (H,W,3), of one size.
    """
    luma = np.stack([x if x.ndim == 2 else x.mean(-1) for x in pictures]).astype(np.float64)
    height, width = (max(2, round(share * side)) for side in luma.shape[1:])
    detail = luma - mean_around(luma, height, width)
    # The mean over the rectangle that begins at each pixel; only those inside count.
    means = mean_around(detail.std(0), height, width, begin=True)
    means = means[: means.shape[0] - height + 1, : means.shape[1] - width + 1]
    y, x = np.unravel_index(np.argmax(means), means.shape)
    return Region(int(x), int(y), width, height)


def mean_around(values: np.ndarray, height: int, width: int, begin: bool = False) -> np.ndarray:
    """The mean of (...,H,W) over a rectangle around each pixel, or with `begin` over the one that begins there."""
    for axis, size in ((-2, height), (-1, width)):
        values = uniform_filter1d(values, size, axis, mode="nearest", origin=-(size // 2) if begin else 0)
    return values


def weight_figure(rows: Sequence[tuple[str, Sequence[np.ndarray], Sequence[np.ndarray]]], heads: Sequence[str]) -> Any:
    """Pictures, then maps of weights in [0,1] with a colour bar; as Fig. 8-14. A row: (name, pictures, maps).

    heads: over the pictures; those over the maps are WEIGHTS.
    """
    count = len(heads) + len(WEIGHTS)
    shape = rows[0][1][0].shape
    plt = pyplot()
    cell = WIDTH / (count + 0.6)
    height = len(rows) * cell * shape[0] / shape[1] + 0.3
    figure, axes = plt.subplots(len(rows), count, figsize=(WIDTH, height), squeeze=False, layout="constrained")
    for line, (name, pictures, maps) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, pictures, strict=False):
            show(axis, picture)
        for axis, values in zip(line[len(pictures) :], maps, strict=True):
            show(axis, apply_colormap(values, "diverging"))
        line[0].set_ylabel(name, fontsize=6)
    for axis, head in zip(axes[0], (*heads, *WEIGHTS), strict=True):
        axis.set_title(head, fontsize=7)
    scale = apply_colormap(np.linspace(0, 1, 256)[None])[0] / 255
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(scale)), ax=axes, aspect=30, pad=0.01, fraction=0.02)
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=6)
    return figure


def comparison_figure(pictures: Mapping[str, np.ndarray], region: Region, columns: int = 4) -> Any:
    """Pictures side by side with their names, a region framed in each and magnified below it; as Fig. 4-7."""
    from matplotlib.patches import Rectangle

    plt = pyplot()
    columns = min(columns, len(pictures))
    lines = -(-len(pictures) // columns)
    shape = next(iter(pictures.values())).shape
    ratio = shape[0] / shape[1]
    height = lines * (WIDTH / columns * 2 * ratio + 0.25)
    figure, axes = plt.subplots(2 * lines, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for i, (name, picture) in enumerate(pictures.items()):
        whole, part = axes[2 * (i // columns)][i % columns], axes[2 * (i // columns) + 1][i % columns]
        show(whole, picture)
        whole.set_title(name, fontsize=7)
        frame = {"fill": False, "edgecolor": "#d62728", "linewidth": 0.8}
        whole.add_patch(Rectangle((region.x - 0.5, region.y - 0.5), region.width, region.height, **frame))
        show(part, region.of(picture))
        for spine in part.spines.values():
            spine.set(edgecolor="#d62728", linewidth=0.8)
    return figure


def show(axis, picture: np.ndarray) -> None:
    """A uint8 picture, grey or RGB, in an axis without ticks."""
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.4)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def save(figure, path: Path) -> list[Path]:
    """Writes PATH.png and PATH.pdf, whole or not at all, and returns them."""
    paths = [path.parent / f"{path.name}.{kind}" for kind in ("png", "pdf")]
    for target in paths:
        with whole_file(target) as file:
            figure.savefig(file, format=target.suffix[1:], dpi=DPI)
    pyplot().close(figure)
    return paths


def pyplot() -> Any:
    """Matplotlib's pyplot, drawing to files alone. InputError where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise InputError('figures need matplotlib>=3.10; pip install "matplotlib>=3.10"') from None
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt
