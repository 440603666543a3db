"""Eq. 13-14's G against the meta-gradient itself, against finite differences, and read as what L_r asks of a weight."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stand_in import stand_in
from tiny import pairs

from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.similarity import gradient_similarity

LOSS = LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)
ETA = 2.0
INNER = optax.sgd(ETA), optax.sgd(0.1)


def measured(params, networks, batches, loss=LOSS, **inner):
    return jax.jit(lambda p, *b: gradient_similarity(p, networks, *b, loss, *INNER, **inner))(params, *batches)


@pytest.fixture(scope="module")
def free():
    """(networks, params, batches) in float64, with a P that is a free number at each pixel for w and for v."""
    networks, params = stand_in(dtype=np.float64)
    batches = pairs(dtype=np.float64)
    maps = np.random.default_rng(1).uniform(0.2, 0.8, (2, *batches[0][0].shape[:3]))

    def propose(p, *_):
        return tuple(jnp.stack([x, 1 - x], -1) for x in p)

    return networks._replace(propose=propose), params._replace(p=tuple(maps)), batches


def test_for_a_free_map_the_meta_gradient_is_minus_eta_times_g(free):
    with jax.enable_x64(True):
        networks, params, batches = free
        gradient = jax.jit(lambda p: meta.meta_gradient(p, networks, *batches, LOSS, *INNER)[0])(params)
        found = measured(params, networks, batches)
        for expected, g in zip(gradient, (found.map_w, found.map_v), strict=True):
            assert np.abs(expected).max() > 1e-6
            np.testing.assert_allclose(-ETA * g, expected, rtol=1e-9, atol=1e-16)


def test_where_g_is_positive_more_weight_for_source_a_lowers_the_reconstruction_loss(free):
    with jax.enable_x64(True):
        networks, params, batches = free
        objective = jax.jit(lambda p: meta.outer_objective(p, networks, *batches, LOSS, *INNER)[0])
        found = measured(params, networks, batches)
        for i, g in enumerate((found.map_w, found.map_v)):
            at = np.unravel_index(np.argmax(g), g.shape)
            assert g[at] > 0
            moved = [np.array(x) for x in params.p]
            moved[i][at] += 1e-4
            change = objective(params._replace(p=tuple(moved))) - objective(params)
            np.testing.assert_allclose(change, -1e-4 * ETA * g[at], rtol=1e-2)


def test_for_any_p_the_meta_gradient_is_the_vector_jacobian_product_with_g():
    with jax.enable_x64(True):
        networks, params = stand_in(dtype=np.float64)
        batches = pairs(dtype=np.float64)
        found = measured(params, networks, batches)

        def first_weights(p):
            w, v = meta.propose_weights(p, networks, batches[0], LOSS)
            return w[..., 0], v[..., 0]

        (expected,) = jax.vjp(first_weights, params.p)[1]((-ETA * found.map_w, -ETA * found.map_v))
        ours = jax.jit(lambda p: meta.meta_gradient(p, networks, *batches, LOSS, *INNER)[0])(params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-15), ours, expected)


def test_inner_products_and_cosines_are_those_of_the_two_gradients():
    """By hand: both gradients of L_f's terms in F, and that of L_r at F'."""
    networks, params = stand_in()
    train, test = pairs()
    found = measured(params, networks, (train, test))
    updated, report = meta.inner_update(params, networks, train, LOSS, *INNER)

    def rebuilt(f):
        fused = networks.fuse(f, *test)
        return meta.reconstruction_objective(updated.r, networks, fused, test, LOSS)[0]

    toward = np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.grad(rebuilt)(updated.f))])
    for key, weight, product, cosine in (
        ("fusion_intensity", 1.0, found.inner_w, found.cosine_w),
        ("fusion_gradient", LOSS.alpha1, found.inner_v, found.cosine_v),
    ):

        def term(f, key=key, weight=weight):
            return weight * meta.fusion_objective(f, networks, train, report.w, report.v, LOSS)[1][1][key]

        own = np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.grad(term)(params.f))])
        np.testing.assert_allclose(product, toward @ own, rtol=1e-4)
        np.testing.assert_allclose(cosine, toward @ own / np.linalg.norm(toward) / np.linalg.norm(own), rtol=1e-4)
        assert abs(cosine) > 1e-3


def test_without_any_gradient_g_is_zero():
    networks, params = stand_in()
    still = params._replace(f=jax.tree.map(np.zeros_like, params.f))
    flat = tuple(np.full((2, 8, 8, 1), 0.5, np.float32) for _ in range(2))
    for x in measured(still, networks, (flat, flat)):
        np.testing.assert_array_equal(x, 0)
