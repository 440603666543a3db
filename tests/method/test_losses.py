"""Sobel and the losses against slow NumPy, and finite derivatives on flat images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from refusion_jax.method.losses import (
    LossSettings,
    chosen_reconstruction_loss,
    fusion_loss,
    reconstruction_loss,
    safe_sqrt,
    sobel,
    squared_error,
)

KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def slow_sobel(x, form, scale):
    """One (H,W) image, pixel by pixel, float64 -> (H,W,C)."""
    h, w = x.shape
    out = np.zeros((h, w, 2))
    for i in range(h):
        for j in range(w):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    value = float(x[min(max(i + di, 0), h - 1), min(max(j + dj, 0), w - 1)])
                    out[i, j, 0] += KERNEL[di + 1, dj + 1] * value * scale
                    out[i, j, 1] += KERNEL.T[di + 1, dj + 1] * value * scale
    if form == "components":
        return out
    return (np.abs(out).sum(-1) if form == "l1" else np.sqrt((out**2).sum(-1)))[..., None]


@pytest.fixture
def images():
    return np.random.default_rng(0).random((5, 2, 6, 5, 1)).astype(np.float32)


@pytest.mark.parametrize("form", ["l1", "magnitude", "components"])
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_sobel(images, form, scale):
    ours = sobel(images[0], form, scale)
    for n in range(2):
        np.testing.assert_allclose(ours[n], slow_sobel(images[0, n, :, :, 0], form, scale), rtol=0, atol=2e-6)


def test_sobel_of_a_step_and_its_largest_value():
    step = jnp.zeros((1, 6, 6, 1)).at[:, :, 3:].set(1.0)
    assert sobel(step)[0, 2, :, 0].tolist() == [0, 0, 4, 4, 0, 0]
    noise = np.random.default_rng(0).integers(0, 2, (1, 64, 64, 1)).astype(np.float32)
    assert sobel(noise, scale=1 / 8).max() <= 1


def test_sobel_refuses_an_unknown_form():
    with pytest.raises(ValueError, match="l1, magnitude, components, got 'L2'"):
        sobel(jnp.zeros((1, 4, 4, 1)), "L2")


@pytest.mark.parametrize("form", ["l1", "magnitude", "components"])
def test_losses_against_loops(images, form):
    a, b, fused, rebuilt_a, rebuilt_b = images
    rng = np.random.default_rng(1)
    w, v = (np.stack([x, 1 - x], -1) for x in rng.random((2, 2, 6, 5)).astype(np.float32))
    alpha, scale = 0.7, 0.5
    intensity = edges = rec_intensity = rec_edges = 0.0
    for n in range(2):
        g = [slow_sobel(x[n, :, :, 0], form, scale) for x in (a, b, fused, rebuilt_a, rebuilt_b)]
        for i in range(6):
            for j in range(5):
                p = [float(x[n, i, j, 0]) for x in (a, b, fused, rebuilt_a, rebuilt_b)]
                e = [x[i, j] for x in g]
                intensity += w[n, i, j, 0] * (p[0] - p[2]) ** 2 + w[n, i, j, 1] * (p[1] - p[2]) ** 2
                edges += v[n, i, j, 0] * ((e[0] - e[2]) ** 2).sum() + v[n, i, j, 1] * ((e[1] - e[2]) ** 2).sum()
                rec_intensity += max((p[0] - p[3]) ** 2, (p[1] - p[4]) ** 2)
                rec_edges += max(((e[0] - e[3]) ** 2).sum(), ((e[1] - e[4]) ** 2).sum())
    settings = LossSettings(alpha1=alpha, alpha2=2 * alpha, sobel_form=form, sobel_scale=scale)
    total, terms = fusion_loss(fused, a, b, w, v, settings)
    np.testing.assert_allclose(terms["fusion_intensity"], intensity / 60, rtol=1e-5)
    np.testing.assert_allclose(terms["fusion_gradient"], edges / 60, rtol=1e-5)
    np.testing.assert_allclose(total, (intensity + alpha * edges) / 60, rtol=1e-5)
    total, terms = reconstruction_loss(rebuilt_a, rebuilt_b, a, b, settings)
    np.testing.assert_allclose(terms["reconstruction_intensity"], rec_intensity / 60, rtol=1e-5)
    np.testing.assert_allclose(terms["reconstruction_gradient"], rec_edges / 60, rtol=1e-5)
    np.testing.assert_allclose(total, (rec_intensity + 2 * alpha * rec_edges) / 60, rtol=1e-5)


def test_l_r_may_be_a_function_of_ones_own():
    assert chosen_reconstruction_loss(LossSettings()) is reconstruction_loss
    own = LossSettings(reconstruction="refusion_jax.method.losses:squared_error")
    assert chosen_reconstruction_loss(own) is squared_error


def test_losses_are_zero_at_a_perfect_result(images):
    a = images[0]
    w = np.full((2, 6, 5, 2), 0.5, np.float32)
    assert fusion_loss(a, a, a, w, w)[0] == 0
    assert reconstruction_loss(a, images[1], a, images[1])[0] == 0


@pytest.mark.parametrize("form", ["l1", "magnitude", "components"])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_second_derivatives_are_finite_on_flat_images(form, level):
    flat = jnp.full((1, 6, 6, 1), level)
    w, settings = jnp.full((1, 6, 6, 2), 0.5), LossSettings(sobel_form=form)

    def both(x):
        lf = fusion_loss(x, flat, flat, w, w, settings)[0]
        return lf + reconstruction_loss(x, x, flat, flat, settings)[0]

    first = jax.grad(both)(flat)
    second = jax.jvp(jax.grad(both), (flat,), (jnp.ones_like(flat),))[1]
    assert np.all(np.isfinite(first)) and np.all(np.isfinite(second))


def test_safe_sqrt():
    assert safe_sqrt(jnp.float32(4)) == 2 and jax.grad(safe_sqrt)(0.0) == 0
    assert jax.grad(jax.grad(safe_sqrt))(0.0) == 0
