"""models/cpp_layers.py: F's attention layers in C++ give what those of blocks.py and fusion.py give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from refusion_jax.fusing import tiles
from refusion_jax.models import blocks, cpp_layers
from refusion_jax.models import build as networks
from refusion_jax.models.cpp_layers import Projection, attention_sums, in_cpp, merged
from refusion_jax.models.fusion import AttentionalFusion, FusionNet
from refusion_jax.models.operators.frames import Grid

ROWS, COLUMNS = 11, 13  # of a frame


@pytest.fixture(autouse=True)
def cpp():
    """cpp_layers.cc, where it can be built."""
    if reason := cpp_layers.cpp().reason:
        pytest.skip(f"cpp_layers.cc: {reason}")


def parameters(module):
    """Parameters of F, none at a special value."""
    rng = np.random.default_rng(0)
    shapes = networks.expected_shapes((module, *networks.build()[1:]), 1, ("F",)).f
    return jax.tree.map(lambda x: (0.4 * rng.standard_normal(x.shape)).astype(np.float32), shapes)


def frame(*channels):
    """Random arrays (ROWS * COLUMNS, channels) and the grid of a part of an image: its first rows lie beyond the image,
    and it counts the inner ones."""
    rng = np.random.default_rng(1)
    inside, counted = np.ones((2, ROWS, COLUMNS, 1), np.float32)
    inside[:3], counted[:], counted[4:-2, 3:-3] = 0, 0, 1
    grid = Grid(jnp.asarray(inside.reshape(-1, 1)), 1, ROWS - 2, COLUMNS - 2, jnp.asarray(counted.reshape(-1, 1)))
    return grid, [rng.standard_normal((ROWS * COLUMNS, c)).astype(np.float32) * grid.mask for c in channels]


@pytest.mark.parametrize(
    "size",
    [
        {"width": 16, "heads": 8, "blocks": 1},
        {"width": 16, "heads": 16, "blocks": 2, "expansion": 1},
        {"width": 48, "heads": 3, "blocks": 1, "expansion": 1},
    ],
)
def test_f_in_tiles_equals_the_network_on_the_whole(size):
    """Of an image that tiles do not divide, so that some reach beyond it."""
    module = FusionNet(**size)
    params, (a, b) = parameters(module), np.random.default_rng(0).random((2, 70, 41)).astype(np.float32)
    passes = tiles.make_passes(module, (32, 24))
    whole = jax.jit(module.apply)({"params": params}, a[None, :, :, None], b[None, :, :, None])
    fused = tiles.fuse_tiled(passes, params, a, b)
    np.testing.assert_allclose(fused, whole[0, :, :, 0], rtol=0, atol=3e-6)
    pixels = jax.ShapeDtypeStruct((passes.shape[0] * passes.shape[1], 1), np.float32)
    program = passes.steps[0]._ready().lower(params, (pixels, pixels), pixels, None)
    assert "@refusion_sums" in program.as_text()


def test_parameters_of_another_type_are_taken_as_float32():
    grid, (x,) = frame(16)
    rng = np.random.default_rng(3)
    kernels = rng.standard_normal((16, 16)), rng.standard_normal((3, 3, 1, 16))
    half = Projection(x, *(jnp.asarray(k, jnp.float16) for k in kernels))
    full = Projection(x, *(jnp.asarray(k, jnp.float16).astype(jnp.float32) for k in kernels))
    found, expected = (merged(x, p.pointwise, grid, p) for p in (half, full))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)


def kinds(module) -> list[str]:
    """Where each of a network's attention layers is done."""
    layers = in_cpp(module.bind({"params": parameters(module)}).layer_list()).attention
    parts = [part for layer in layers for part in getattr(layer, "blocks", [layer])]
    return [type(part).__module__.rpartition(".")[-1] for part in parts]


class Merging(AttentionalFusion):
    """Another one."""


def test_layers_that_do_not_fit_stay_as_they_are():
    assert set(kinds(FusionNet())) == {"cpp_layers"}
    assert kinds(FusionNet(width=8, heads=4, blocks=1)) == ["blocks", "blocks", "fusion", "cpp_layers"]
    assert kinds(FusionNet(width=48, heads=2, blocks=1)) == ["blocks", "blocks", "fusion", "blocks"]  # heads of 24
    others = kinds(FusionNet(blocks=1, merging=Merging))
    assert others[2] != "cpp_layers" and set(others[:2] + others[3:]) == {"cpp_layers"}


def test_without_the_library_all_stay(monkeypatch):
    monkeypatch.setattr(cpp_layers, "cpp", lambda: cpp_layers.Native({}, "no compiler"))
    assert "cpp_layers" not in kinds(FusionNet())


def test_the_gate_is_the_exact_gelu():
    grid, (base,) = frame(16)
    grid = grid.replace(mask=jnp.ones_like(grid.mask))
    gates = np.linspace(-9, 9, base.size, dtype=np.float32).reshape(base.shape)
    alone = jnp.zeros((3, 3, 1, 16)).at[1, 1].set(1)  # the pixel itself
    one = Projection(jnp.ones_like(base), jnp.eye(16), alone)
    found = merged(jnp.zeros_like(base), jnp.eye(16), grid, one, Projection(gates, jnp.eye(16), alone))
    expected = gates.astype(float) * 0.5 * (1 + erf(gates / np.sqrt(2.0)))
    inner = np.s_[COLUMNS:-COLUMNS]
    np.testing.assert_allclose(found[inner], expected[inner], rtol=4e-7, atol=1e-6)
    np.testing.assert_array_equal(found[:COLUMNS], 0)  # rows that lack neighbours: the base alone


def test_sums_are_those_of_the_counted_pixels_within_groups_of_channels():
    grid, (x, y) = frame(32, 32)
    rng = np.random.default_rng(2)
    (wide_q, wide_k), (deep_q, deep_k) = rng.standard_normal((2, 32, 32)), rng.standard_normal((2, 3, 3, 1, 32))
    query, key = Projection(x, wide_q, deep_q), Projection(y, wide_k, deep_k)
    query, key = (jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), p) for p in (query, key))
    counted = grid.summed
    q, k = (blocks.depthwise3x3(p.x @ p.pointwise, p.depthwise[:, :, 0], counted) for p in (query, key))
    expected = blocks.attention_sums(q, k, 1)
    found = attention_sums(query, key, grid)
    together = np.kron(np.eye(2), np.ones((16, 16)))
    for ours, theirs in zip(found, (expected[0] * together, *expected[1:]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * float(jnp.abs(theirs).max()))
