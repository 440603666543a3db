"""Fusing tile by tile: equal to the whole image's network, at any size, with one compilation, in little memory."""

import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from flax import linen as nn
from scripts import tiny_trees
from stand_in import Fuse
from tiny import SIZE, tiny

from refusion_jax.fusing import tile_store, tiles
from refusion_jax.fusing.model import from_params
from refusion_jax.fusing.tiles import fuse_tiled, make_fuse, make_passes, tiles_of
from refusion_jax.models.blocks import Conv3x3, PointwiseDepthwise
from refusion_jax.models.build import Params
from refusion_jax.models.fusion import FusionNet
from refusion_jax.models.layer_list import LayerList, fuse_whole


def small_passes(module):
    """Its passes with tiles of a few pixels, which are compiled sooner."""
    return make_passes(module, (32, 24))


@pytest.fixture(scope="module")
def passes():
    return small_passes(FusionNet(**SIZE))


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    monkeypatch.setattr(tile_store, "scratch_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def params():
    return tiny(3)[1][0]


def whole(module, params, a, b):
    return np.asarray(module.apply({"params": params}, a[None, :, :, None], b[None, :, :, None]))[0, :, :, 0]


def sources(height, width, seed=0):
    return np.random.default_rng(seed).random((2, height, width)).astype(np.float32)


@functools.cache
def plain_result(height, width):
    """The whole image's network in plain NumPy: another size is nothing to compile."""
    return plain.fuse(tiny(3, np.float64)[1].f, *sources(height, width).astype(np.float64))


# Smaller than a tile, one row of tiles, one column, several of both with a narrow rest.
@pytest.mark.parametrize("shape", [(5, 7), (30, 95), (110, 20), (70, 66)])
@pytest.mark.parametrize("room", [None, 0, 100_000])
def test_tiles_equal_the_whole_image(passes, params, scratch, shape, room):
    a, b = sources(*shape)
    tiled = fuse_tiled(passes, params, a, b, room=room)
    np.testing.assert_allclose(tiled, plain_result(*shape), rtol=0, atol=1e-5)
    assert tiled.std() > 1e-4
    assert not list(scratch.iterdir()), "the file is gone"


class Contrast(nn.Module):
    """A layer that is no attention: what differs from the mean over the image, in `factor` times the channels."""

    factor: int

    def sums(self, streams, grid):
        x = jnp.concatenate(streams, -1)
        counted = jnp.broadcast_to(grid.summed.mask, x.shape)
        return tuple(y.reshape(grid.batch, -1, x.shape[-1]).sum(1) for y in (x * counted, counted)), x

    @nn.compact
    def result(self, streams, sums, values, grid):
        total, count = sums
        centred = values.reshape(grid.batch, -1, values.shape[-1]) - (total / count)[:, None]
        return PointwiseDepthwise(self.factor)(centred.reshape(values.shape) * grid.mask, grid)


class OwnList(nn.Module):
    """One stem for both sources, layers of another kind that widen the features, a head for any number of streams."""

    factors: tuple[int, ...]

    def setup(self):
        self.stem, self.last = Conv3x3(3), Conv3x3(1)
        self.layers = [Contrast(factor) for factor in self.factors]

    def layer_list(self):
        return LayerList((self.stem, self.stem), self.layers, self.head, 2)

    def head(self, streams, grid=None):
        return nn.sigmoid(self.last(jnp.concatenate(streams, -1), grid))

    def __call__(self, a, b):
        return fuse_whole(self.layer_list(), (a, b))


@pytest.mark.parametrize(
    "module",
    [FusionNet(6, 3, 2, 1), FusionNet(4, 1, 0, 1), OwnList((2, 3)), OwnList(())],
    ids=["two blocks", "no blocks", "own layers", "no layers"],
)
def test_both_ways_through_any_list_agree(module):
    a, b = sources(70, 66)
    shapes = jax.eval_shape(module.init, jax.random.key(0), a[None, ..., None], b[None, ..., None])["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: (0.2 * rng.standard_normal(x.shape)).astype(np.float32), shapes)
    tiled = fuse_tiled(small_passes(module), params, a, b)
    assert tiled.std() > 1e-3
    np.testing.assert_allclose(tiled, whole(module, params, a, b), rtol=0, atol=1e-5)


def test_a_network_without_a_list_runs_on_the_whole_image():
    module, (a, b), seen = Fuse(), sources(21, 33), []
    params = module.init(jax.random.key(0), *(np.zeros((1, 8, 8, 1), np.float32),) * 2)["params"]
    fused = make_fuse(module)(params, a, b, room=0, progress=lambda *x: seen.append(x))
    np.testing.assert_allclose(fused, whole(module, params, a, b), rtol=0, atol=1e-6)
    assert fused.shape == (21, 33) and fused.dtype == np.float32 and seen == [(1, 1)]


def test_an_accelerator_takes_a_picture_as_one_tile_where_it_can(monkeypatch):
    assert tiles.own_pixels((480, 640)) == tiles.OWN
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert tiles.own_pixels((480, 641)) == (512, 768)
    assert tiles.own_pixels((4000, 100)) == (tiles.MOST, 128)


def test_every_pixel_belongs_to_one_tile():
    for shape in ((1, 1), (168, 168), (161, 500), (333, 160)):
        covered = np.zeros(shape, int)
        for i, row in enumerate(tiles_of(shape, (60, 50))):
            for j, tile in enumerate(row):
                assert tile.place == (i, j)
                covered[tile.rows, tile.columns] += 1
        assert np.all(covered == 1)


def test_one_compilation_serves_all_sizes(params):
    passes = small_passes(FusionNet(**SIZE))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **rest: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    fuse_tiled(passes, params, *sources(20, 30))
    assert compiled, "the first picture compiles"
    compiled.clear()
    for i, shape in enumerate([(21, 33), (190, 171), (9, 300)]):
        fuse_tiled(passes, params, *sources(*shape, seed=i))
    assert not compiled


def test_the_order_of_the_tiles_does_not_show(passes, params):
    a, b = sources(90, 90)
    results = [fuse_tiled(passes, params, a, b) for _ in range(3)]
    assert all(np.array_equal(results[0], r) for r in results[1:])


def test_progress_counts_every_tile_of_every_pass(passes, params):
    seen = []
    fuse_tiled(passes, params, *sources(10, 40), progress=lambda *x: seen.append(x))
    count = 2 * len(passes.steps)
    assert seen == [(i + 1, count) for i in range(count)]


def test_max_memory_decides_how_much_is_kept_in_memory():
    model = from_params(Params(tiny_trees()["F"]), {"model": SIZE}, "test")
    image = np.zeros((600, 800), np.uint8)
    for limit, low, high in ((2**40, 2**39, 2**40), (2**30, 0, 2**29), (2**20, 0, 0)):
        limited, kept = dataclasses.replace(model, max_memory=limit), []
        limited._functions["fuse"] = lambda params, a, b, kept=kept, **how: kept.append(how["room"]) or a
        limited.network_output(image, image)
        assert low <= kept[0] <= high


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_what_lies_between_passes_leaves_the_memory_where_it_is_short(repo):
    """Two real processes on one picture, between whose passes 200 MB lie."""
    code = """
import dataclasses, re, sys
import numpy as np
sys.path.insert(0, "tests")
from scripts import tiny_trees
from tiny import SIZE
from refusion_jax.fusing.model import from_params
from refusion_jax.models.build import Params
model = from_params(Params(tiny_trees()["F"]), {"model": SIZE}, "test")
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
