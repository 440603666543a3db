"""F on images of any size, tile by tile, with the result of the whole image (paper, Section 3.4).

Channel attention needs an image's sums alone (blocks.attention_sums). So F runs in passes, one for each attention in a
row: pass p carries every tile up to attention p and adds up its sums; the last pass ends in the fused luma. Between
passes either the features of the whole image are kept (256 bytes a pixel, each tile's work is done once), or nothing is
and every pass starts from the sources (bounded memory, about three times the work). All tiles have one shape: one
compilation serves every image size. Tiles overlap by the reach of the convolutions; there are no seams.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from refusion_jax.compiling import jit
from refusion_jax.models.blocks import TransformerBlock, conv3x3
from refusion_jax.models.frames import Grid, from_frame, to_frame
from refusion_jax.models.fusion import AttentionalFusion

SIDE = 168  # pixels of a tile's side, overlap included: its widest features stay in a processor's cache
MARGIN_STORED = 4  # reach of one pass: at most four 3x3 convolutions


class Tile(NamedTuple):
    """Where a tile lies: its own pixels (rows, columns) of the image, and its first row and column with the overlap."""

    rows: slice
    columns: slice
    top: int
    left: int


class Passes(NamedTuple):
    """F cut at its attentions: steps[p](params, x, mask, sums, counted) -> (features, sums of attention p).

    x: what step p-1 gave, features (N,2C), or for step 0 the luma of both sources, a pair of (SIDE,SIDE). mask
    (SIDE,SIDE): 1 inside the image. sums: of attention p-1 over the whole image, None for step 0. counted (SIDE,SIDE):
    1 where the tile's pixels count in the sums to form; None forms none. The last step gives the fused luma.
    """

    steps: tuple[Callable, ...]
    reach: int  # pixels that a result depends on in each direction


def make_passes(width: int = 16, heads: int = 8, blocks: int = 2, expansion: int = 2) -> Passes:
    """The compiled steps of F at one size. Nothing is compiled before the first call."""
    block = TransformerBlock(heads, expansion)
    fusion = AttentionalFusion(heads)

    def encode(i, params, x, grid, **how):
        """Block i of both encoders on the two halves of x."""
        sums = how.pop("sums", (None, None))
        both = [
            block.apply({"params": params[f"encoder{s + 1}"][str(i)]}, half, grid, sums=sums[s], **how)
            for s, half in enumerate(jnp.split(x, 2, -1))
        ]
        return both if how else jnp.concatenate(both, -1)

    def merge(params, x, grid, **how):
        return fusion.apply({"params": params["fusion"]}, *jnp.split(x, 2, -1), grid, **how)

    def decode(i, params, x, grid, **how):
        return block.apply({"params": params["decoder"][str(i)]}, x, grid, **how)

    layers = [
        *(functools.partial(encode, i) for i in range(blocks)),
        merge,
        *(functools.partial(decode, i) for i in range(blocks)),
    ]

    def read(params, images, grid):
        """The sources' first convolutions."""
        kernels = params["project_in_1"]["kernel"], params["project_in_2"]["kernel"]
        x = [to_frame(conv3x3(x[None, :, :, None], k)) for x, k in zip(images, kernels, strict=True)]
        return jnp.concatenate(x, -1) * grid.mask

    def write(params, x, mask, grid):
        """The last convolutions: the fused luma."""
        x = nn.leaky_relu(conv3x3(from_frame(x, grid), params["project_out_0"]["kernel"]), 0.01)
        # Beyond the image there is zero padding, not what the first convolution makes of it.
        return nn.sigmoid(conv3x3(x * mask[None, :, :, None], params["project_out_1"]["kernel"]))[0, :, :, 0]

    def step(p, params, x, mask, sums, counted):
        grid = Grid(to_frame(mask[None, :, :, None]), 1, *mask.shape)
        x = layers[p - 1](params, x, grid, sums=sums) if p else read(params, x, grid)
        if p == len(layers):
            return write(params, x, mask, grid), None
        if counted is None:
            return x, None
        return x, layers[p](params, x, grid, counted=to_frame(counted[None, :, :, None]))

    steps = tuple(jit(functools.partial(step, p)) for p in range(len(layers) + 1))
    return Passes(steps, reach=1 + 2 * len(layers) + 2)


def tiles_of(height: int, width: int, margin: int) -> list[Tile]:
    """Tiles of SIDE pixels a side whose own parts cover the image once."""
    own = SIDE - 2 * margin
    return [
        Tile(slice(y, min(y + own, height)), slice(x, min(x + own, width)), y - margin, x - margin)
        for y in range(0, height, own)
        for x in range(0, width, own)
    ]


def _cut(image: np.ndarray, tile: Tile) -> np.ndarray:
    """The tile's part of an (H,W) or (H,W,C) array with the overlap, zeros beyond the image."""
    out = np.zeros((SIDE, SIDE, *image.shape[2:]), np.float32)
    top, left = max(tile.top, 0), max(tile.left, 0)
    bottom, right = min(tile.top + SIDE, image.shape[0]), min(tile.left + SIDE, image.shape[1])
    inside = slice(top - tile.top, bottom - tile.top), slice(left - tile.left, right - tile.left)
    out[inside] = image[top:bottom, left:right]
    return out


def _own(tile: Tile) -> tuple[slice, slice]:
    """The tile's own pixels within the tile."""
    rows = slice(tile.rows.start - tile.top, tile.rows.stop - tile.top)
    return rows, slice(tile.columns.start - tile.left, tile.columns.stop - tile.left)


def _inside(tile: Tile, shape: tuple[int, int]) -> np.ndarray:
    """1 where the tile lies in the image, 0 beyond."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[max(-tile.top, 0) : shape[0] - tile.top, max(-tile.left, 0) : shape[1] - tile.left] = 1
    return mask


def feature_bytes(params: Any) -> int:
    """Bytes a pixel that keeping the features between passes takes: two float32 arrays, one read and one written."""
    return 2 * 4 * _channels(params)


def _channels(params: Any) -> int:
    """Of the features of both sources together."""
    return 2 * params["project_in_1"]["kernel"].shape[-1]


def fuse_tiled(
    passes: Passes, params: Any, a: np.ndarray, b: np.ndarray, *, keep_features: bool, progress: Callable | None = None
) -> np.ndarray:
    """F's raw output (H,W) float32 for luma a, b (H,W) float32 in [0,1]; equal to the network's on the whole image.

    keep_features: hold all features in memory between passes (see feature_bytes), or begin each pass anew.
    progress(done, total) is called after each tile of each pass.
    """
    shape = a.shape
    tiles = tiles_of(*shape, MARGIN_STORED if keep_features else passes.reach)
    last = len(passes.steps) - 1
    fused = np.empty(shape, np.float32)
    # Features are read with overlap from one array while those of the next pass are written to the other.
    size = (*shape, _channels(params))
    kept, new = (np.empty(size, np.float32), np.empty(size, np.float32)) if keep_features else (None, None)
    sums: list[Any] = [None]
    params = jax.device_put(params)

    def run(p: int, tile: Tile):
        mask, own = _inside(tile, shape), _own(tile)
        counted = np.zeros((SIDE, SIDE), np.float32)
        counted[own] = 1
        begin = p if keep_features else 0
        x = _framed(_cut(kept, tile)) if begin else (_cut(a, tile), _cut(b, tile))
        for q in range(begin, p + 1):
            x, added = passes.steps[q](params, x, mask, sums[q], counted if q == p else None)
        if p == last:
            fused[tile.rows, tile.columns] = np.asarray(x)[own]
        elif keep_features:
            new[tile.rows, tile.columns] = np.asarray(x).reshape(SIDE + 2, SIDE + 2, -1)[1:-1, 1:-1][own]
        return jax.device_get(added)

    done, total = 0, (last + 1) * len(tiles)
    # On a CPU, as many tiles at a time as there are cores: XLA runs much of a tile on one.
    workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2
    with ThreadPoolExecutor(workers) as pool:
        for p in range(last + 1):
            parts = []
            for part in pool.map(functools.partial(run, p), tiles):
                parts.append(part)
                done += 1
                if progress is not None:
                    progress(done, total)
            # In the tiles' order and in float64, so that the sum does not depend on which tile was ready first.
            sums.append(jax.tree.map(lambda *x: np.sum(x, 0, dtype=np.float64).astype(np.float32), *parts))
            kept, new = new, kept
    return fused


def _framed(features: np.ndarray) -> np.ndarray:
    """(SIDE,SIDE,C) as a frame, see models/frames.py."""
    return np.pad(features, ((1, 1), (1, 1), (0, 0))).reshape(-1, features.shape[-1])
