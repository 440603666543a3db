"""F, and the parts of P, on images of any size, tile by tile, with the result of the whole image (paper, Section 3.4).

A network that offers its list of layers (models/layer_list.py) runs in passes from one sum over the image to the next:
each pass carries every tile on and adds up the tiles' sums; the last one ends in the fused luma. What lies between two
passes is kept for every pixel, of the largest images partly in a file (tile_store.py). All tiles have one shape, so one
compilation serves every image size. Tiles overlap by the reach of a pass: there are no seams. An accelerator takes a
picture as one tile, where it can, and keeps what lies between passes itself. A network without such a list runs on the
whole image at once.
"""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from refusion_jax.fusing.tile_store import TileStore
from refusion_jax.models.cpp_layers import in_cpp
from refusion_jax.models.layer_list import fuse_part
from refusion_jax.models.operators.frames import Grid
from refusion_jax.runtime.compiling import jit

# A tile's own pixels, rows and columns: so few that the widest features fit into a processor's cache and a step's
# working memory stays below 32 MiB, from which on the C library asks the system for it each time.
OWN = 120, 128
TILE_BYTES = 60 * 2**20  # working memory of a step, about
# An accelerator's tile is the picture with its sides rounded up to multiples of SIDE, so that few sizes are compiled,
# and of a larger one MOST rows and columns: a step then takes 1.5 GiB, as XLA counts it for a CPU.
SIDE, MOST = 128, 1024


def own_pixels(shape: tuple[int, int]) -> tuple[int, int]:
    """A tile's own rows and columns for images (H,W) of this shape."""
    if jax.default_backend() == "cpu":
        return OWN
    rows, columns = (min(-(-side // SIDE) * SIDE, MOST) for side in shape)
    return rows, columns


def make_fuse(module) -> Callable:
    """fuse(params, a, b, *, room=None, progress=None, held=None, seen=None) -> F's output: `fuse_tiled`, or where the
    module has no `layer_list` the whole image at once, in as much memory as that takes; that has no sums to hold."""
    if hasattr(module, "layer_list"):
        passes = functools.cache(functools.partial(make_passes, module))

        def tiled(params, a, b, **options):
            return fuse_tiled(passes(own_pixels(a.shape[:2])), params, a, b, **options)

        return tiled
    network = jit(lambda params, *images: module.apply({"params": params}, *images))

    def fuse(params, a, b, *, room=None, progress=None, held=None, seen=None):
        del room, held, seen
        fused = np.asarray(network(params, a[None, :, :, None], b[None, :, :, None]), np.float32)[0, :, :, 0]
        if progress is not None:
            progress(1, 1)
        return fused

    return fuse


class Passes(NamedTuple):
    """A network cut at its sums: compiled steps[turn](params, streams, mask, sums) -> (streams, sums), see
    layer_list.fuse_part.

    A tile is a frame (N,C) of models/operators/frames.py, N the pixels of a tile with its overlap, that has no border
    of zeros: what the convolutions make of its outermost pixels is wrong, and the overlap covers it. mask (N,1): 1
    inside the image; beyond it the streams are 0. The sums given are of the whole image, those given back of the tile's
    own pixels.
    """

    steps: tuple[Callable, ...]
    own: tuple[int, int]  # rows and columns of a tile
    margin: int  # its overlap on each side

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a tile with its overlap."""
        rows, columns = self.own
        return rows + 2 * self.margin, columns + 2 * self.margin

    def channels(self, params, images: Sequence[np.ndarray]) -> list[list[int]]:
        """Channels of each stream that each step takes, and of the result. Nothing is compiled."""
        pixels = self.shape[0] * self.shape[1]
        mask, *given = (jax.ShapeDtypeStruct((pixels, count), np.float32) for count in (1, *map(_channels_of, images)))
        streams: Any = tuple(given)
        sums, found = None, []
        for step in self.steps:
            found.append([x.shape[-1] for x in streams])
            streams, sums = step.eval_shape(params, streams, mask, sums)
        return [*found, [streams.shape[-1]]]


def make_passes(module, own: tuple[int, int] = OWN) -> Passes:
    """The passes of a network with a `layer_list`, for tiles of `own` pixels. Nothing is compiled before a call."""

    def count_and_reach(network):
        layers = network.layer_list()
        return len(layers.attention), layers.reach

    count, reach = module.apply({}, method=count_and_reach)
    margin = max(reach, 1)
    rows, columns = (side + 2 * margin for side in own)
    counted = np.pad(np.ones(own, np.float32), margin).reshape(-1, 1)

    def step(turn, params, streams, mask, sums):
        # The outermost rows and columns take the place of a border.
        grid = Grid(mask, 1, rows - 2, columns - 2, jnp.asarray(counted))

        def part(network):
            return fuse_part(in_cpp(network.layer_list()), turn, streams, sums, grid)

        return module.apply({"params": params}, method=part)

    return Passes(tuple(jit(functools.partial(step, turn)) for turn in range(count + 1)), own, margin)


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


def added_sums(pictures: Sequence[Sequence[Any]]) -> list[Any] | None:
    """The sums of F's attention over several pictures, from what `fuse_tiled` saw of each; None where F has none."""
    return [jax.tree.map(lambda *x: np.sum(x, 0), *turn) for turn in zip(*pictures, strict=True)] or None


def _added(parts: Sequence[Any]) -> Any:
    """In the tiles' order and in float64, so that the sum does not depend on which tile was ready first."""
    return jax.tree.map(lambda *x: np.sum(x, 0, dtype=np.float64).astype(np.float32), *parts)


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
    held: Sequence[Any] | None = None,
    seen: list[Any] | None = None,
) -> np.ndarray:
    """F's raw output (H,W) float32 for luma a, b (H,W) float32 in [0,1]; equal to the network's on the whole image.

    Of another network with a list of layers (P's parts): a, b (H,W,C) -> (H,W,D).
    params: F's, better on the device than NumPy arrays, which every step would put there.
    held: sums, one for each pass but the last, that take the place of the image's own. seen: gets the image's own.
    room: bytes of memory for what lies between passes, None: as needed; the rest goes to a temporary file.
    progress(done, total) is called after each tile of each pass. Raises InputError where the disk has no room.
    """
    tiles = tiles_of(a.shape[:2], passes.own)
    count = sum(map(len, tiles))
    work = _Whole(passes, params, (a, b)) if count == 1 else _Work(passes, params, (a, b), room)
    done, total = 0, len(passes.steps) * count
    sums = None
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for turn in range(len(passes.steps)):
                parts = []
                for part in _in_order(pool, functools.partial(work.run, turn, sums), tiles, work.ahead):
                    parts.append(part)
                    done += 1
                    if progress is not None:
                        progress(done, total)
                sums = parts[0] if count == 1 else _added(parts)
                if seen is not None and turn < len(passes.steps) - 1:
                    seen.append(sums)
                if held is not None and turn < len(passes.steps) - 1:
                    sums = held[turn]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return work.fused[..., 0] if work.fused.shape[2] == 1 else work.fused


class _Work:
    """One pair under way: what lies between two passes, and the result (H,W,C) as it comes."""

    def __init__(self, passes: Passes, params: Any, images: tuple[np.ndarray, ...], room: int | None):
        self.passes, self.params, self.images = passes, params, images
        self.shape = images[0].shape[:2]
        *self.channels, result = passes.channels(params, images)
        most = max(map(sum, self.channels[1:]), default=1)
        self.store = TileStore(self.shape, passes.own, passes.margin, most, workers(), room)
        self.ahead = self.store.ahead
        self.fused = np.empty((*self.shape, *result), np.float32)
        self._buffers = threading.local()

    def run(self, turn: int, sums: Any, tile: Tile) -> Any:
        """One step of one tile -> its sums."""
        mask = _cut(None, self.shape, tile, self.passes)
        streams, sums = self.passes.steps[turn](self.params, self._streams(turn, tile), mask, sums)
        if turn < len(self.passes.steps) - 1:
            self.store.write(turn, tile.place, [np.asarray(x).reshape(*self.passes.shape, -1) for x in streams])
            return jax.device_get(sums)
        margin = self.passes.margin
        own = tuple(slice(margin, margin + part.stop - part.start) for part in (tile.rows, tile.columns))
        self.fused[tile.rows, tile.columns] = np.asarray(streams).reshape(*self.passes.shape, -1)[own]
        return None

    def _streams(self, turn: int, tile: Tile) -> tuple[np.ndarray, ...]:
        """What the step takes, in memory that belongs to the thread."""
        if turn == 0:
            return tuple(_cut(image, self.shape, tile, self.passes) for image in self.images)
        channels = self.channels[turn]
        if getattr(self._buffers, "channels", None) != channels:
            self._buffers.channels = channels
            self._buffers.maps = [_aligned((*self.passes.shape, count)) for count in channels]
        self.store.read(turn - 1, tile.place, self._buffers.maps)
        return tuple(x.reshape(-1, x.shape[-1]) for x in self._buffers.maps)


class _Whole:
    """A pair that is a single tile: what lies between two passes stays where it was computed."""

    ahead = 1

    def __init__(self, passes: Passes, params: Any, images: tuple[np.ndarray, ...]):
        self.passes, self.params, self.shape = passes, params, images[0].shape[:2]
        ((tile,),) = tiles_of(self.shape, passes.own)
        self.mask = jax.device_put(_cut(None, self.shape, tile, passes))
        self.streams = tuple(jax.device_put(_cut(image, self.shape, tile, passes)) for image in images)

    def run(self, turn: int, sums: Any, tile: Tile) -> Any:
        """One step -> its sums."""
        del tile
        self.streams, sums = self.passes.steps[turn](self.params, self.streams, self.mask, sums)
        return sums

    @property
    def fused(self) -> np.ndarray:
        """The last step's result (H,W,C), within the image."""
        own = tuple(slice(self.passes.margin, self.passes.margin + side) for side in self.shape)
        return np.asarray(self.streams).reshape(*self.passes.shape, -1)[own].copy()


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An array that XLA's CPU backend takes as it is, without a copy: it lies at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    memory = np.empty(size + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    return memory[first : first + size].reshape(shape)


def _cut(image: np.ndarray | None, shape: tuple[int, int], tile: Tile, passes: Passes) -> np.ndarray:
    """The tile's frame (N,C) of an image (H,W) or (H,W,C) of this shape, None: of ones; zeros beyond it."""
    frame = np.zeros((*passes.shape, 1 if image is None else _channels_of(image)), np.float32)
    top, left = tile.rows.start - passes.margin, tile.columns.start - passes.margin
    inside = [
        slice(max(-first, 0), min(size - first, side))
        for first, size, side in zip((top, left), shape, passes.shape, strict=True)
    ]
    rows, columns = (
        slice(first + part.start, first + part.stop) for first, part in zip((top, left), inside, strict=True)
    )
    frame[tuple(inside)] = 1 if image is None else image[rows, columns].reshape(frame[tuple(inside)].shape)
    return frame.reshape(-1, frame.shape[2])


def _channels_of(image: np.ndarray) -> int:
    """C of (H,W,C), 1 of (H,W)."""
    return image.shape[2] if image.ndim == 3 else 1


def _in_order(pool: ThreadPoolExecutor, run: Callable, tiles: list[list[Tile]], ahead: int) -> Iterator:
    """run's results for all tiles. A row of tiles is begun when all but the last ahead-1 rows before it are done."""
    begun = deque()
    for row in tiles:
        if len(begun) == ahead:
            yield from (future.result() for future in begun.popleft())
        begun.append([pool.submit(run, tile) for tile in row])
    for futures in begun:
        yield from (future.result() for future in futures)
