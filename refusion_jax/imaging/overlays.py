"""Pictures to check by eye whether an alignment is right."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from refusion_jax.imaging.alignment import Transform, require_opencv, warp
from refusion_jax.imaging.resizing import resize

_WIDTH = 480  # pixels of one panel
_EDGES = (255, 140, 0)
_STRONGEST = 0.08  # part of the pixels that are drawn as edges
_FIELDS = 8  # of the checkerboard, across


def alignment_check(pairs: Sequence[tuple[np.ndarray, np.ndarray]], transform: Transform) -> np.ndarray:
    """A row for each pair, (H,W,3) uint8: the first picture's edges over the second one as it is, over the second one
    as the transform brings it, and both in a checkerboard.

    pairs: luma pictures (H,W) of any range, of the transform's sizes. It is right where edges lie on edges and lines go
    on from field to field.
    """
    rows = []
    for a, b in pairs:
        first, second = _stretched(a), _stretched(b)
        size = round(_WIDTH * a.shape[0] / a.shape[1]), _WIDTH
        moved, known = warp(second, transform)
        moved = np.where(known, moved, 0)
        first, before, after = (resize(np.ascontiguousarray(x), size) for x in (first, second, moved))
        panels = {
            "before": _with_edges(first, before),
            "after": _with_edges(first, after),
            "checkerboard, after": _checkerboard(first, after),
        }
        rows.append(np.concatenate([_titled(panel, title) for title, panel in panels.items()], 1))
    return np.concatenate(rows)


def _stretched(luma: np.ndarray) -> np.ndarray:
    """From the darkest to the brightest hundredth, so that night shows."""
    low, high = np.percentile(luma, (1, 99))
    return np.clip(np.rint((luma - low) * (255 / max(high - low, 1e-6))), 0, 255).astype(np.uint8)


def _with_edges(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    cv2 = require_opencv()
    smooth = cv2.GaussianBlur(first.astype(np.float32), (0, 0), 1.0)
    strength = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    shown = np.repeat(second[..., None], 3, 2)
    shown[strength > max(1e-6, float(np.quantile(strength, 1 - _STRONGEST)))] = _EDGES
    return shown


def _checkerboard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    y, x = np.indices(first.shape) * _FIELDS // first.shape[1]
    return np.repeat(np.where((x + y) % 2, first, second)[..., None], 3, 2)


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    image = Image.fromarray(panel)
    ImageDraw.Draw(image).text((6, 4), title, fill="white", stroke_width=2, stroke_fill="black")
    return np.pad(np.asarray(image), ((0, 4), (0, 4), (0, 0)), constant_values=255)
