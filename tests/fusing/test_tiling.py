"""Fusing tile by tile: equal to the whole image's network, at any size, with one compilation, in little memory."""

import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scripts import tiny_trees
from tiny import SIZE, tiny

from refusion_jax.errors import InputError
from refusion_jax.fusing import tile_store as features_module
from refusion_jax.fusing import tiles as tiling
from refusion_jax.fusing.model import from_trees
from refusion_jax.fusing.tile_store import Features, scratch_folder
from refusion_jax.fusing.tiles import fuse_tiled, make_passes, tiles_of


@pytest.fixture(scope="module")
def passes():
    return make_passes(**SIZE)


@pytest.fixture(scope="module")
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "OWN", (32, 24))
        return make_passes(**SIZE)


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    monkeypatch.setattr(features_module, "scratch_folder", lambda: tmp_path)
    return tmp_path


def whole(a, b):
    networks, (params, _, _) = tiny(3)
    return np.asarray(networks.fuse(params, a[None, :, :, None], b[None, :, :, None]))[0, :, :, 0]


def sources(height, width, seed=0):
    return np.random.default_rng(seed).random((2, height, width)).astype(np.float32)


# Smaller than a tile, one row of tiles, one column, several of both with a narrow rest.
@pytest.mark.parametrize("shape", [(5, 7), (30, 95), (110, 20), (70, 66)])
@pytest.mark.parametrize("room", [None, 0, 100_000])
def test_tiles_equal_the_whole_image(small_tiles, scratch, shape, room):
    a, b = sources(*shape)
    tiled = fuse_tiled(small_tiles, tiny(3)[1][0], a, b, room=room)
    np.testing.assert_allclose(tiled, whole(a, b), rtol=0, atol=1e-5)
    assert tiled.std() > 1e-4
    assert not list(scratch.iterdir()), "the file is gone"


def test_every_pixel_belongs_to_one_tile():
    for shape in ((1, 1), (168, 168), (161, 500), (333, 160)):
        covered = np.zeros(shape, int)
        for i, row in enumerate(tiles_of(shape, (60, 50))):
            for j, tile in enumerate(row):
                assert tile.place == (i, j)
                covered[tile.rows, tile.columns] += 1
        assert np.all(covered == 1)


@pytest.mark.parametrize("room", [None, 0, 15_000])
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_features_come_back_with_their_overlap_pass_after_pass(scratch, workers, room):
    """Against plain arrays; within a pass in the worst order that is allowed: rows of tiles as late as may be."""
    own, margin, shape, rng = (6, 5), 2, (33, 12), np.random.default_rng(0)
    features = Features(shape, own, margin, 4, workers, room)
    tiles = tiles_of(shape, own)
    side = own[0] + 2 * margin, own[1] + 2 * margin

    def part(image, tile):
        return image[tile.rows.start :, tile.columns.start :][: side[0], : side[1]]

    def compare(turn, row, images):
        for tile in row:
            maps = [np.full((*side, x.shape[-1]), 7, np.float32) for x in images]
            features.read(turn, tile.place, maps)
            for got, image in zip(maps, images, strict=True):
                np.testing.assert_array_equal(got, part(image, tile))

    late = features.ahead - 1  # rows of tiles that may still have to read when one writes
    before = []
    for turn, kinds in enumerate([(1, 3), (2, 2), (4,), (4,), (1, 3)]):
        # Beyond the image there are zeros, in what is written as in what is read.
        size = [n * o + 2 * margin for n, o in zip((len(tiles), len(tiles[0])), own, strict=True)]
        images = [np.zeros((*size, c), np.float32) for c in kinds]
        for image in images:
            image[margin : margin + shape[0], margin : margin + shape[1]] = rng.random((*shape, image.shape[-1]))

        for i, row in enumerate(tiles):
            for tile in row:
                features.write(turn, tile.place, [part(image, tile) for image in images])
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

    monkeypatch.setattr(features_module, "_files", files)
    column = 4 * (100 + 100) * (20 + 2 * 4) * 8  # one image of values read and one written, edges twice
    for room, in_file in ((None, 0), (5 * column, 0), (5 * column - 1, 1), (column, 4), (0, 5)):
        Features((100, 90), (100, 20), 4, 8, 1, room)
        assert sum(sizes) == in_file
        sizes.clear()


def test_a_full_disk_is_named(monkeypatch, scratch):
    monkeypatch.setattr(features_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(InputError, match=r"0\.1 GiB of free disk in .*TMPDIR"):
        Features((400, 1000), (120, 128), 4, 32, 1, 0)
    monkeypatch.undo()
    monkeypatch.setattr(features_module, "scratch_folder", lambda: scratch / "missing")
    with pytest.raises(InputError, match="missing: cannot hold a temporary file"):
        Features((40, 10), (120, 128), 4, 32, 1, 0)


def test_one_compilation_serves_all_sizes(passes):
    import jax

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **rest: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    params = tiny(3)[1][0]
    fuse_tiled(passes, params, *sources(20, 30))
    assert compiled, "the first picture compiles"
    compiled.clear()
    for i, shape in enumerate([(21, 33), (190, 171), (9, 300)]):
        fuse_tiled(passes, params, *sources(*shape, seed=i))
    assert not compiled


def test_the_order_of_the_tiles_does_not_show(passes):
    a, b = sources(180, 350)
    results = [fuse_tiled(passes, tiny(3)[1][0], a, b) for _ in range(3)]
    assert all(np.array_equal(results[0], r) for r in results[1:])


def test_progress_counts_every_tile_of_every_pass(passes):
    seen = []
    fuse_tiled(passes, tiny(3)[1][0], *sources(10, 200), progress=lambda *x: seen.append(x))
    tiles, steps = 2, len(passes.steps)
    assert seen == [(i + 1, tiles * steps) for i in range(tiles * steps)]


def test_max_memory_decides_how_much_is_kept_in_memory():
    model = from_trees({"F": tiny_trees()["F"]}, {"model": SIZE}, "test")
    image = np.zeros((600, 800), np.uint8)
    for limit, low, high in ((2**40, 2**39, 2**40), (2**30, 0, 2**29), (2**20, 0, 0)):
        limited, kept = dataclasses.replace(model, max_memory=limit), []
        limited._functions["fuse"] = lambda params, a, b, kept=kept, **how: kept.append(how["room"]) or a
        limited.network_output(image, image)
        assert low <= kept[0] <= high


def test_large_files_do_not_go_to_a_folder_in_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(features_module.tempfile, "tempdir", None)
    assert scratch_folder() == tmp_path
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(features_module.tempfile, "tempdir", None)
    if os.access("/var/tmp", os.W_OK):
        assert str(scratch_folder()) == "/var/tmp"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_features_leave_the_memory_where_it_is_short(repo):
    """Two real processes on one picture, whose features take 200 MB."""
    code = """
import dataclasses, re, sys
import numpy as np
sys.path.insert(0, "tests")
from scripts import tiny_trees
from tiny import SIZE
from refusion_jax.fusing.model import from_trees
model = from_trees({"F": tiny_trees()["F"]}, {"model": SIZE}, "test")
model = dataclasses.replace(model, max_memory=int(sys.argv[1]))
x = np.random.default_rng(0).integers(0, 255, (2400, 2400, 3), dtype=np.uint8)
total = model.fuse(x, x[::-1]).sum()
# Not ru_maxrss: a child's begins with its parent's.
print(total, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""
    found = []
    for limit in (2**40, 2**20):
        command = [sys.executable, "-c", code, str(limit)]
        # Compiled as a user's: unoptimised code takes more memory of its own.
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        out = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        found.append([int(word) for word in out.stdout.split()])
    (kept_sum, kept), (short_sum, short) = found
    assert short < kept - 100
    assert abs(short_sum - kept_sum) <= 1e-6 * kept_sum
