"""The tile store: what is written comes back with its overlap, from memory and from a file."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from refusion_jax.errors import InputError
from refusion_jax.fusing import tile_store
from refusion_jax.fusing.tile_store import TileStore, scratch_folder
from refusion_jax.fusing.tiles import tiles_of


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    monkeypatch.setattr(tile_store, "scratch_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("room", [None, 0, 15_000])
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_maps_come_back_with_their_overlap_pass_after_pass(scratch, workers, room):
    """Against plain arrays; within a pass in the worst order that is allowed: rows of tiles as late as may be."""
    own, margin, shape, rng = (6, 5), 2, (33, 12), np.random.default_rng(0)
    store = TileStore(shape, own, margin, 4, workers, room)
    tiles = tiles_of(shape, own)
    side = own[0] + 2 * margin, own[1] + 2 * margin

    def part(image, tile):
        return image[tile.rows.start :, tile.columns.start :][: side[0], : side[1]]

    def compare(turn, row, images):
        for tile in row:
            maps = [np.full((*side, x.shape[-1]), 7, np.float32) for x in images]
            store.read(turn, tile.place, maps)
            for got, image in zip(maps, images, strict=True):
                np.testing.assert_array_equal(got, part(image, tile))

    late = store.ahead - 1  # rows of tiles that may still have to read when one writes
    before = []
    for turn, kinds in enumerate([(1, 3), (2, 2), (4,), (4,), (1, 3)]):
        # Beyond the image there are zeros, in what is written as in what is read.
        size = [n * o + 2 * margin for n, o in zip((len(tiles), len(tiles[0])), own, strict=True)]
        images = [np.zeros((*size, c), np.float32) for c in kinds]
        for image in images:
            image[margin : margin + shape[0], margin : margin + shape[1]] = rng.random((*shape, image.shape[-1]))

        for i, row in enumerate(tiles):
            for tile in row:
                store.write(turn, tile.place, [part(image, tile) for image in images])
            if before and i >= late:
                compare(turn - 1, tiles[i - late], before)
        for row in tiles[max(len(tiles) - late, 0) :] if before else []:
            compare(turn - 1, row, before)
        before = images


def test_only_what_does_not_fit_into_memory_goes_to_the_file(scratch, monkeypatch):
    sizes = []

    def files(shapes, columns):
        sizes.append(columns)
        return [[None] * 3] * columns

    monkeypatch.setattr(tile_store, "_files", files)
    column = 4 * (100 + 100) * (20 + 2 * 4) * 8  # one image of values read and one written, edges twice
    for room, in_file in ((None, 0), (5 * column, 0), (5 * column - 1, 1), (column, 4), (0, 5)):
        TileStore((100, 90), (100, 20), 4, 8, 1, room)
        assert sum(sizes) == in_file
        sizes.clear()


def test_a_full_disk_is_named(monkeypatch, scratch):
    monkeypatch.setattr(tile_store.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(InputError, match=r"0\.1 GiB of free disk in .*TMPDIR"):
        TileStore((400, 1000), (120, 128), 4, 32, 1, 0)
    monkeypatch.undo()
    monkeypatch.setattr(tile_store, "scratch_folder", lambda: scratch / "missing")
    with pytest.raises(InputError, match="missing: cannot hold a temporary file"):
        TileStore((40, 10), (120, 128), 4, 32, 1, 0)


def test_large_files_do_not_go_to_a_folder_in_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tile_store.tempfile, "tempdir", None)
    assert scratch_folder() == tmp_path
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(tile_store.tempfile, "tempdir", None)
    if os.access("/var/tmp", os.W_OK):
        assert str(scratch_folder()) == "/var/tmp"
