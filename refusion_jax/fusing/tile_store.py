"""What fusing tile by tile keeps of every pixel between two passes: in memory, or where that is short in a file.

One copy serves all passes. A pass reads tiles with their overlap and writes their own pixels; so that it does not
overwrite what tiles below still have to read, it writes every row some rows further up than it read it (the first ones
behind the last, in a circle). See `TileStore.ahead` for what that asks of the order of the work.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.runtime.disk import scratch_folder


class TileStore:
    """Maps (H,W,C) of float32, read and written in tiles of `own` (rows, columns) pixels and an overlap of `margin`.

    Pixels lie in columns of tiles: of one column and row, `own` pixels are next to each other, map by map, and once
    more those at its left and right edge, which its neighbours need. So a tile is three contiguous pieces each to read
    and to write. channels: C of all maps together; how many maps share them may change from pass to pass.
    workers: how many tiles may be under way at a time. room: bytes of memory to take, None: all that is needed. What
    does not fit goes to a temporary file in scratch_folder(). Raises InputError where the disk has no room.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        own: tuple[int, int],
        margin: int,
        channels: int,
        workers: int = 1,
        room: int | None = None,
    ):
        self._height, self._own, self._margin = shape[0], own[0], margin
        self._across = -(-shape[1] // own[1])
        # Rows of tiles under way at a time: those before must be done, see the head of this file.
        self.ahead = 1 + -(-workers // self._across)
        self._shift = min(self.ahead * own[0] + margin, shape[0])
        self._slots = shape[0] + self._shift
        inner, edge = slice(margin, -margin), slice(margin, 2 * margin)
        self._columns = inner, edge, slice(-2 * margin, -margin)  # of a tile, as stored in these three:
        shapes = [(self._slots, columns * channels) for columns in (own[1], margin, margin)]
        fitting = self._across if room is None else min(room // _column_bytes(shapes), self._across)
        stores = [[_Memory(shape) for shape in shapes] for _ in range(fitting)]
        stores += _files(shapes, self._across - fitting) if fitting < self._across else []
        self._stores = list(zip(*stores, strict=True))  # of the tiles' insides, left and right edges, by column

    def read(self, turn: int, tile: tuple[int, int], maps: list[np.ndarray]) -> None:
        """Fills maps (rows, columns, C) with the tile (its row and column among tiles) as pass `turn` wrote it, overlap
        included, zeros beyond the image."""
        down, across = tile
        inner, left, right = self._stores
        top, margin = down * self._own - self._margin, self._margin
        start, stop = max(top, 0), min(top + len(maps[0]), self._height)
        sources = [(inner[across], slice(margin, -margin))]
        if across > 0:
            sources.append((right[across - 1], slice(0, margin)))
        if across < self._across - 1:
            sources.append((left[across + 1], slice(-margin, None)))
        if len(sources) < 3 or stop - start < len(maps[0]):
            for part in maps:
                part.fill(0)
        for first, slots in self._places(turn, start, stop):
            rows = slice(first - top, first - top + slots.stop - slots.start)
            for store, columns in sources:
                for record, part in _pairs(store.get(slots), maps, rows, columns):
                    part[...] = record

    def write(self, turn: int, tile: tuple[int, int], maps: list[np.ndarray]) -> None:
        """Stores the tile's own pixels of maps (rows, columns, C), zero beyond the image, as pass `turn` made them."""
        down, across = tile
        start, stop = down * self._own, min((down + 1) * self._own, self._height)
        for first, slots in self._places(turn, start, stop):
            top = self._margin + first - start
            rows = slice(top, top + slots.stop - slots.start)
            for stores, columns in zip(self._stores, self._columns, strict=True):
                store = stores[across]
                records = store.blank(slots)
                for record, part in _pairs(records, maps, rows, columns):
                    record[...] = part
                store.put(slots, records)

    def _places(self, turn: int, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Where the image's rows from start to stop lie: (first row, slots), in one or two pieces."""
        while start < stop:
            slot = (start - turn * self._shift) % self._slots
            count = min(stop - start, self._slots - slot)
            yield start, slice(slot, slot + count)
            start += count


def _pairs(records: np.ndarray, maps: list[np.ndarray], rows: slice, columns: slice) -> Iterator[tuple]:
    """For each map its part of the records, (rows, columns, C), and of the tile."""
    first = 0
    for whole in maps:
        part = whole[rows, columns]
        size = part.shape[1] * part.shape[2]
        yield records[:, first : first + size].reshape(part.shape), part
        first += size


class _Memory:
    """An array (slots, values) whose pieces are views."""

    def __init__(self, shape: tuple[int, int]):
        self._array = np.empty(shape, np.float32)

    def get(self, slots: slice) -> np.ndarray:
        return self._array[slots]

    blank = get

    def put(self, slots: slice, records: np.ndarray) -> None:
        pass


class _File:
    """The same in a file, from `offset` on. Not mapped into memory: what is mapped counts as the process's own."""

    def __init__(self, shape: tuple[int, int], file, offset: int):
        self._values, self._file, self._offset = shape[1], file, offset

    def blank(self, slots: slice) -> np.ndarray:
        return np.empty((slots.stop - slots.start, self._values), np.float32)

    def get(self, slots: slice) -> np.ndarray:
        records = self.blank(slots)
        os.preadv(self._file.fileno(), [records.data], self._offset + 4 * slots.start * self._values)
        return records

    def put(self, slots: slice, records: np.ndarray) -> None:
        left, position = records.data.cast("B"), self._offset + 4 * slots.start * self._values
        try:
            while left:
                written = os.pwrite(self._file.fileno(), left, position)
                left, position = left[written:], position + written
        except OSError as error:
            raise InputError(f"cannot write to a temporary file: {error.strerror}; {ADVICE}") from None


ADVICE = "set TMPDIR to a folder on a disk with more room, or allow more memory (--max-memory)"


def _column_bytes(shapes: list[tuple[int, int]]) -> int:
    """Of one column of tiles."""
    return 4 * sum(slots * values for slots, values in shapes)


def _files(shapes: list[tuple[int, int]], columns: int) -> list[list[_File]]:
    """Stores for so many columns of tiles one after the other, in a file that vanishes with the process."""
    folder, size = scratch_folder(), columns * _column_bytes(shapes)
    try:
        free = shutil.disk_usage(folder).free
        if free < size:
            raise InputError(
                f"expected {size / 2**30:.1f} GiB of free disk in {folder} for what does not fit into memory, "
                f"got {free / 2**30:.1f} GiB; {ADVICE}"
            )
        file = tempfile.TemporaryFile(dir=folder, prefix="refusion-")
    except OSError as error:
        raise InputError(f"{folder}: cannot hold a temporary file: {error.strerror}; {ADVICE}") from None
    stores, offset = [], 0
    for _ in range(columns):
        stores.append([])
        for shape in shapes:
            stores[-1].append(_File(shape, file, offset))
            offset += _column_bytes([shape])
    return stores
