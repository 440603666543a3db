"""F on images of any size, tile by tile, with the result of the whole image (paper, Section 3.4).

Channel attention needs an image's sums alone (blocks.attention_sums). So F runs in passes, one for each attention in a
row: pass p carries every tile from attention p-1 to attention p and adds up the sums of p; the last pass ends in the
fused luma. Between passes the features at attention p are kept, of the largest images partly in a file (features.py).
All tiles have one shape: one compilation serves every image size. Tiles overlap by the reach of the convolutions; there
are no seams.
"""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from refusion_jax.fusing.tile_store import Features
from refusion_jax.models.blocks import TransformerBlock
from refusion_jax.models.fusion import AttentionalFusion
from refusion_jax.models.operators.dense import dense3x3
from refusion_jax.models.operators.frames import Grid
from refusion_jax.runtime.compiling import jit

# A tile's own pixels, rows and columns. Small enough that the widest features stay in a processor's cache and a step's
# working memory under the 32 MiB from which the C library fetches it anew from the system each time.
OWN = 120, 128
MARGIN = 4  # reach of a step: at most four 3x3 convolutions, in the last one
TILE_BYTES = 60 * 2**20  # working memory of a step, about


class Passes(NamedTuple):
    """F cut at its attentions: compiled steps[p](params, x, mask, sums) -> (x, sums).

    A tile is a frame (N,C) of models/frames.py, N the pixels of a tile with its overlap, that has no border of zeros:
    what the convolutions make of its outermost pixels is wrong, and the overlap covers it. x: frames, what step p-1
    gave, for step 0 the luma of both sources. mask (N,1): 1 inside the image; beyond it x is 0. sums: of attention p-1
    over the whole image, None for step 0. Given back: the features that attention p is of, of each source or of both
    together, and its sums over the tile's own pixels; by the last step the fused luma (N,1) and no sums.
    """

    steps: tuple[Callable, ...]
    own: tuple[int, int]  # rows and columns of a tile
    margin: int  # its overlap on each side
    channels: int  # of what is kept between two steps

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a tile with its overlap."""
        return tuple(side + 2 * self.margin for side in self.own)


def make_passes(width: int = 16, heads: int = 8, blocks: int = 2, expansion: int = 2) -> Passes:
    """The passes of F at one size. Nothing is compiled before the first call."""
    block = TransformerBlock(heads, expansion)
    fusion = AttentionalFusion(heads)
    rows, columns = (side + 2 * MARGIN for side in OWN)
    own = np.pad(np.ones(OWN, np.float32), MARGIN).reshape(-1, 1)

    # Each layer takes x and what is kept as tuples, of both sources or, in the decoder, of one stream.
    def blocks_of(names, i, params, x, grid, kept=None, window=None):
        kept = [None] * len(names) if kept is None else zip(*kept, strict=True)
        results = [
            block.apply({"params": params[name][str(i)]}, x, grid, kept, window)
            for name, x, kept in zip(names, x, kept, strict=True)
        ]
        return tuple(results) if window is None else tuple(zip(*results, strict=True))

    def merge(params, x, grid, kept=None, window=None):
        merged = fusion.apply({"params": params["fusion"]}, *x, grid, kept, window)
        return (merged,) if window is None else merged

    layers = [
        *(functools.partial(blocks_of, ("encoder1", "encoder2"), i) for i in range(blocks)),
        merge,
        *(functools.partial(blocks_of, ("decoder",), i) for i in range(blocks)),
    ]

    def read(params, images, grid):
        """The sources' first convolutions."""
        names = "project_in_1", "project_in_2"
        return tuple(dense3x3(x, params[name]["kernel"], grid) for x, name in zip(images, names, strict=True))

    def write(params, x, grid):
        """The last convolutions: the fused luma."""
        x = nn.leaky_relu(dense3x3(x, params["project_out_0"]["kernel"], grid), 0.01)
        return nn.sigmoid(dense3x3(x, params["project_out_1"]["kernel"], grid))

    def step(p, params, x, mask, sums):
        grid = Grid(mask, 1, rows - 2, columns - 2)  # the outermost rows and columns take the place of a border
        if p == 0:
            x = read(params, x, grid)
        else:
            # Here v is needed and in the step before the sums were: XLA drops the rest of what an attention opens with.
            _, v = layers[p - 1](params, x, grid, window=own)
            x = layers[p - 1](params, x, grid, kept=(sums, v))
        if p == len(layers):
            return write(params, *x, grid), None
        sums, _ = layers[p](params, x, grid, window=own)
        return x, sums

    steps = tuple(jit(functools.partial(step, p)) for p in range(len(layers) + 1))
    return Passes(steps, OWN, MARGIN, 2 * width)


class Tile(NamedTuple):
    """Where a tile lies: its row and column among tiles, its own pixels (rows, columns) of the image."""

    place: tuple[int, int]
    rows: slice
    columns: slice


def tiles_of(shape: tuple[int, int], own: tuple[int, int]) -> list[list[Tile]]:
    """Tiles whose own parts cover the image once, row by row."""
    (height, width), (rows, columns) = shape, own
    return [
        [
            Tile((y // rows, x // columns), slice(y, min(y + rows, height)), slice(x, min(x + columns, width)))
            for x in range(0, width, columns)
        ]
        for y in range(0, height, rows)
    ]


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An array that XLA's CPU backend takes as it is, without a copy: it lies at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    memory = np.empty(size + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    return memory[first : first + size].reshape(shape)


def _cut(image: np.ndarray | None, shape: tuple[int, int], tile: Tile, passes: Passes) -> np.ndarray:
    """The tile's frame (N,1) of an image (H,W) of this shape, None: of ones; zeros beyond it."""
    frame = np.zeros(passes.shape, np.float32)
    top, left = tile.rows.start - passes.margin, tile.columns.start - passes.margin
    inside = [
        slice(max(-first, 0), min(size - first, side))
        for first, size, side in zip((top, left), shape, passes.shape, strict=True)
    ]
    rows, columns = (
        slice(first + part.start, first + part.stop) for first, part in zip((top, left), inside, strict=True)
    )
    frame[tuple(inside)] = 1 if image is None else image[rows, columns]
    return frame.reshape(-1, 1)


def workers() -> int:
    """Tiles under way at a time. On a CPU one more than there are cores, so that none waits while tiles are cut; not
    more than 16, since each takes memory (TILE_BYTES)."""
    if jax.default_backend() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(1 + cores, 16)


def fuse_tiled(
    passes: Passes,
    params: Any,
    a: np.ndarray,
    b: np.ndarray,
    *,
    room: int | None = None,
    progress: Callable | None = None,
) -> np.ndarray:
    """F's raw output (H,W) float32 for luma a, b (H,W) float32 in [0,1]; equal to the network's on the whole image.

    room: bytes of memory for features, None: as needed; the rest goes to a temporary file. progress(done, total) is
    called after each tile of each pass. Raises InputError where the disk has no room.
    """
    shape = a.shape
    tiles = tiles_of(shape, passes.own)
    last = len(passes.steps) - 1
    fused = np.empty(shape, np.float32)
    features = Features(shape, passes.own, passes.margin, passes.channels, workers(), room)
    params = jax.device_put(params)
    sums: list[Any] = [None]
    kinds: dict[int, list[int]] = {}  # channels of each frame that a step takes, as the one before gave them
    buffers = threading.local()

    def frames_of(p: int, tile: Tile) -> tuple[np.ndarray, ...]:
        """What step p takes, in memory that belongs to the thread."""
        if p == 0:
            return tuple(_cut(image, shape, tile, passes) for image in (a, b))
        if getattr(buffers, "kinds", None) != kinds[p]:
            buffers.kinds = kinds[p]
            buffers.maps = [_aligned((*passes.shape, channels)) for channels in kinds[p]]
        features.read(p - 1, tile.place, buffers.maps)
        return tuple(x.reshape(-1, x.shape[-1]) for x in buffers.maps)

    def run(p: int, tile: Tile):
        """One step of one tile -> its sums."""
        given = frames_of(p, tile)
        frames, added = passes.steps[p](params, given, _cut(None, shape, tile, passes), sums[p])
        if p == last:
            size = [part.stop - part.start for part in (tile.rows, tile.columns)]
            own = tuple(slice(passes.margin, passes.margin + side) for side in size)
            fused[tile.rows, tile.columns] = np.asarray(frames).reshape(passes.shape)[own]
            return None
        maps = [np.asarray(x).reshape(*passes.shape, -1) for x in frames]
        features.write(p, tile.place, maps)
        kinds[p + 1] = [x.shape[-1] for x in maps]
        return jax.device_get(added)

    done, total = 0, (last + 1) * sum(map(len, tiles))
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for p in range(last + 1):
                parts = []
                for part in _in_order(pool, functools.partial(run, p), tiles, features.ahead):
                    parts.append(part)
                    done += 1
                    if progress is not None:
                        progress(done, total)
                # In the tiles' order and in float64, so that the sum does not depend on which tile was ready first.
                sums.append(jax.tree.map(lambda *x: np.sum(x, 0, dtype=np.float64).astype(np.float32), *parts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return fused


def _in_order(pool: ThreadPoolExecutor, run: Callable, tiles: list[list[Tile]], ahead: int) -> Iterator:
    """run's results for all tiles. A row of tiles is begun when all but the last ahead-1 rows before it are done."""
    begun = deque()
    for row in tiles:
        if len(begun) == ahead:
            yield from (future.result() for future in begun.popleft())
        begun.append([pool.submit(run, tile) for tile in row])
    for futures in begun:
        yield from (future.result() for future in futures)
