"""The operators with derivative rules of their own against plain ones: values, gradients, second-order gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from refusion_jax.models.blocks import gated
from refusion_jax.models.operators import depthwise
from refusion_jax.models.operators.dense import conv3x3, dense3x3
from refusion_jax.models.operators.depthwise import depthwise3x3, depthwise_correlation, depthwise_parts
from refusion_jax.models.operators.frames import from_frame, grid_of, to_frame
from refusion_jax.models.operators.pointwise import channel_mean, pointwise, pointwise_correlation


def plain_depthwise(x, kernel):
    """XLA's grouped convolution of (B,H,W,C)."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision="highest",
    )


def plain_conv(x, kernel):
    """XLA's convolution of (B,H,W,C)."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def framed_depthwise(x, kernel):
    grid = grid_of(*x.shape[:3])
    return from_frame(depthwise3x3(to_frame(x), kernel, grid), grid)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def orders(operator, x, k):
    """Value, gradients and a second-order gradient of a nonlinear function of operator(x, k), as the meta step nests
    them: the derivative in x and k of what the first derivatives are."""

    def inner(x, k):
        return jnp.sum(jnp.tanh(operator(jnp.sin(x), k)) ** 2)

    def outer(x, k):
        gx, gk = jax.grad(inner, (0, 1))(x, k)
        return jnp.sum(gx**3) + jnp.sum(gk**2) + jnp.sum(operator(x, k - 0.1 * gk) ** 2)

    return operator(x, k), jax.grad(inner, (0, 1))(x, k), jax.grad(outer, (0, 1))(x, k)


# The second size has more pixels than two blocks of the correlation, which overlap; in the last by more than a term.
@pytest.mark.parametrize(
    ("shape", "block"), [((2, 5, 7, 3), None), ((2, 19, 23, 2), (16, 20)), ((1, 19, 26, 1), (16, 3))]
)
def test_depthwise_equals_grouped_convolution_to_second_order(monkeypatch, shape, block):
    if block:
        monkeypatch.setattr(depthwise, "SMALL", 1)
        monkeypatch.setattr(depthwise, "TERMS", block[0])
        monkeypatch.setattr(depthwise, "PLACES", block[1])
        depthwise._correlate.clear_cache()
        depthwise._convolve.clear_cache()
    x, kernel = arrays(shape, (3, 3, shape[-1]))
    ours = jax.jit(lambda x, k: orders(framed_depthwise, x, k))(x, kernel)
    plain = jax.jit(lambda x, k: orders(plain_depthwise, x, k))(x, kernel)
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(plain))
    chex.assert_trees_all_close(ours, plain, rtol=2e-5, atol=2e-6 * scale)


@pytest.fixture
def cpp():
    """depthwise.cc, where it can be built."""
    if reason := depthwise.cpp().reason:
        pytest.skip(f"depthwise.cc: {reason}")


@pytest.mark.usefixtures("cpp")
@pytest.mark.parametrize(("shape", "parts"), [((1, 40, 41, 16), 1), ((3, 33, 47, 96), 3), ((2, 70, 31, 64), 2)])
def test_the_functions_in_cpp_equal_grouped_convolution_to_second_order(shape, parts):
    """What is traced within kernels() is theirs, on more pixels than a thread takes at a time."""
    x, kernel = arrays(shape, (3, 3, shape[-1]))

    def in_parts(x, kernel):
        grid = grid_of(*x.shape[:3])
        return from_frame(jnp.concatenate(depthwise_parts(to_frame(x), kernel, grid, parts), -1), grid)

    program = jax.jit(depthwise.kernels()(lambda x, k: orders(in_parts, x, k))).lower(x, kernel)
    assert program.as_text().count("custom_call @refusion_con") and program.as_text().count("@refusion_corr")
    assert "refusion_" not in jax.jit(lambda x, k: orders(in_parts, x, k)).lower(x, kernel).as_text()
    plain = jax.jit(lambda x, k: orders(plain_depthwise, x, k))(x, kernel)
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(plain))
    chex.assert_trees_all_close(program.compile()(x, kernel), plain, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.usefixtures("cpp")
def test_the_functions_in_cpp_are_for_float32_and_whole_groups_of_channels():
    for dtype, channels, pixels in ((jnp.bfloat16, 16, 40), (jnp.float32, 24, 40), (jnp.float32, 16, 8)):
        x = jnp.ones((1, pixels, pixels, channels), dtype)
        kernel = jnp.ones((3, 3, channels), dtype)
        program = jax.jit(depthwise.kernels()(framed_depthwise)).lower(x, kernel)
        assert "refusion_" not in program.as_text()


@pytest.mark.parametrize("small", [1, 10**6])
def test_a_convolution_in_parts_equals_one_of_all_channels(monkeypatch, small):
    monkeypatch.setattr(depthwise, "SMALL", small)
    depthwise._convolve.clear_cache()
    x, kernel, weight = arrays((1, 5, 6, 6), (3, 3, 6), (56, 6))
    grid = grid_of(1, 5, 6)

    def in_parts(x, kernel):
        return jnp.concatenate(depthwise_parts(to_frame(x), kernel, grid, 3), -1) * weight

    def together(x, kernel):
        return depthwise3x3(to_frame(x), kernel, grid) * weight

    chex.assert_trees_all_close(orders(in_parts, x, kernel), orders(together, x, kernel), rtol=1e-5, atol=1e-5)


def test_correlation_in_blocks_equals_the_plain_sum():
    grid = grid_of(2, 96, 60)
    x, g = (to_frame(v) for v in arrays((2, 96, 60, 3), (2, 96, 60, 3)))
    assert x.shape[0] > depthwise.TERMS * depthwise.PLACES, "the blocks must be in use"
    ours = depthwise_correlation(x, g, grid)
    plain = depthwise._correlation_plain(*(np.asarray(v, np.float64) for v in (x, g)), grid.pitch).reshape(3, 3, 3)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-2)


def test_depthwise_keeps_the_border_zero():
    grid = grid_of(2, 6, 5)
    x, kernel = arrays((2, 6, 5, 4), (3, 3, 4))
    out = np.asarray(depthwise3x3(to_frame(x), kernel, grid))
    assert np.all(out[np.asarray(grid.mask)[:, 0] == 0] == 0)
    assert np.any(out != 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_kernel_that_is_not_finite_shows_in_the_result(bad):
    grid = grid_of(1, 4, 4)
    x, kernel = arrays((1, 4, 4, 2), (3, 3, 2))
    for place in ((0, 0, 0), (1, 1, 0)):
        assert not np.all(np.isfinite(depthwise3x3(to_frame(x), kernel.at[place].set(bad), grid)))


def test_pointwise_equals_a_product_to_second_order():
    x, kernel = arrays((11, 5), (5, 3))
    chex.assert_trees_all_close(orders(pointwise, x, kernel), orders(jnp.matmul, x, kernel), rtol=1e-4, atol=1e-5)
    x, g = arrays((2, 3, 4), (2, 3, 5))
    np.testing.assert_allclose(pointwise_correlation(x, g), jnp.einsum("abc,abd->cd", x, g), rtol=1e-5)


def test_channel_mean_equals_a_mean_to_second_order():
    x, scale = arrays((11, 5), (5,))

    def plain(x, k):
        return jnp.broadcast_to(jnp.mean(x * k, -1, keepdims=True), x.shape)

    ours = orders(lambda x, k: channel_mean(x * k), x, scale)
    chex.assert_trees_all_close(ours, orders(plain, x, scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [(1, 3), (4, 2), (5, 1)])
def test_dense_convolution_of_frames_equals_that_of_images(channels):
    x, kernel = arrays((2, 6, 5, channels[0]), (3, 3, *channels))
    grid = grid_of(2, 6, 5)
    framed = dense3x3(to_frame(x), kernel, grid)
    np.testing.assert_allclose(from_frame(framed, grid), plain_conv(x, kernel), rtol=0, atol=1e-5)
    assert np.all(np.asarray(framed)[np.asarray(grid.mask)[:, 0] == 0] == 0)


@pytest.mark.parametrize("channels", [(1, 3), (4, 1), (4, 2), (3, 4)])  # the last one is XLA's own
def test_convolution_of_images_equals_xlas_to_second_order(channels):
    with jax.enable_x64(True):
        x, kernel = (np.asarray(v, np.float64) for v in arrays((2, 6, 5, channels[0]), (3, 3, *channels)))
        ours = jax.jit(lambda x, k: orders(conv3x3, x, k))(x, kernel)
        plain = jax.jit(lambda x, k: orders(plain_conv, x, k))(x, kernel)
        assert jax.tree.leaves(ours)[0].dtype == np.float64
        chex.assert_trees_all_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_gating_equals_gelu_times_value_to_second_order():
    gate, value = arrays((11, 5), (11, 5))
    plain = orders(lambda g, v: jax.nn.gelu(g, approximate=False) * v, gate, value)
    chex.assert_trees_all_close(orders(gated, gate, value), plain, rtol=1e-4, atol=1e-5)
