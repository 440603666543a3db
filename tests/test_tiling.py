"""Fusing tile by tile: equal to the network on the whole image, at any size, with one compilation, in little memory."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from scripts import tiny_trees
from tiny import SIZE, tiny

from refusion_jax import tiling
from refusion_jax.inference import from_trees
from refusion_jax.tiling import fuse_tiled, make_passes, tiles_of


@pytest.fixture(scope="module")
def passes():
    return make_passes(**SIZE)


def whole(a, b):
    networks, (params, _, _) = tiny(3)
    return np.asarray(networks.fuse(params, a[None, :, :, None], b[None, :, :, None]))[0, :, :, 0]


def sources(height, width, seed=0):
    return np.random.default_rng(seed).random((2, height, width)).astype(np.float32)


# With 40 pixels a side: smaller than a tile, one row of tiles, several of both, sizes that leave a narrow rest.
@pytest.mark.parametrize("shape", [(5, 7), (30, 95), (70, 66), (65, 33)])
@pytest.mark.parametrize("keep_features", [True, False])
def test_tiles_equal_the_whole_image(monkeypatch, shape, keep_features):
    monkeypatch.setattr(tiling, "SIDE", 40)
    a, b = sources(*shape)
    tiled = fuse_tiled(make_passes(**SIZE), tiny(3)[1][0], a, b, keep_features=keep_features)
    np.testing.assert_allclose(tiled, whole(a, b), rtol=0, atol=1e-5)
    assert tiled.std() > 1e-4


def test_every_pixel_belongs_to_one_tile():
    for shape in ((1, 1), (168, 168), (161, 500), (333, 160)):
        for margin in (4, 13):
            covered = np.zeros(shape, int)
            for tile in tiles_of(*shape, margin):
                covered[tile.rows, tile.columns] += 1
                assert tile.rows.start - tile.top == margin
            assert np.all(covered == 1)


def test_one_compilation_serves_all_sizes(passes):
    import jax

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **rest: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    params = tiny(3)[1][0]
    fuse_tiled(passes, params, *sources(20, 30), keep_features=True)
    assert compiled, "the first picture compiles"
    compiled.clear()
    for i, shape in enumerate([(21, 33), (190, 171), (9, 300)]):
        fuse_tiled(passes, params, *sources(*shape, seed=i), keep_features=True)
    assert not compiled


def test_the_order_of_the_tiles_does_not_show(passes):
    a, b = sources(180, 350)
    results = [fuse_tiled(passes, tiny(3)[1][0], a, b, keep_features=True) for _ in range(3)]
    assert all(np.array_equal(results[0], r) for r in results[1:])


def test_progress_counts_every_tile_of_every_pass(passes):
    seen = []
    fuse_tiled(passes, tiny(3)[1][0], *sources(10, 200), keep_features=True, progress=lambda *x: seen.append(x))
    tiles, steps = 2, len(passes.steps)
    assert seen == [(i + 1, tiles * steps) for i in range(tiles * steps)]


def test_max_memory_decides_whether_features_are_kept():
    model = from_trees({"F": tiny_trees()["F"]}, {"model": SIZE}, "test")
    image = np.zeros((600, 800), np.uint8)
    for limit, expected in ((2**40, True), (2**20, False)):
        limited, kept = dataclasses.replace(model, max_memory=limit), []
        limited._functions["fuse"] = lambda params, a, b, kept=kept, **how: kept.append(how["keep_features"]) or a
        limited.network_output(image, image)
        assert kept == [expected]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_features_are_not_kept_where_memory_is_short(repo):
    """Two real processes on one picture, whose kept features take 370 MB."""
    code = """
import dataclasses, re, sys
import numpy as np
sys.path.insert(0, "tests")
from scripts import tiny_trees
from tiny import SIZE
from refusion_jax.inference import from_trees
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
    assert short < kept - 150
    assert abs(short_sum - kept_sum) <= 1e-6 * kept_sum
