"""Eq. 7-12: the meta-gradient against finite differences and the paper's product, inner optimisers, flat images."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from stand_in import Fuse, Rebuild, stand_in
from tiny import LOSS, meta_gradient, pairs, tiny

from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings, fusion_loss, reconstruction_loss, sobel
from refusion_jax.models.build import Networks, init_params, linen_networks

INNER = optax.sgd(2.0), optax.sgd(0.1)


def direction(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape), tree)


def dot(x, y):
    return sum(float(np.sum(a * b)) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


def check_against_differences(gradient_of, params, *batches):
    """gradient_of: as meta.meta_gradient; along random directions of P, in float64, with the objective it reports."""
    gradient, _ = gradient_of(params, *batches)
    assert jax.tree.leaves(gradient)[0].dtype == np.float64
    for seed in range(3):
        # Small against the kinks of the leaky units and of max, large against rounding.
        d, h = direction(params.p, seed), 1e-6
        moved = (jax.tree.map(lambda x, y, k=k: x + k * y, params.p, d) for k in (h, -h))
        up, down = (gradient_of(params._replace(p=p), *batches)[1][0]["reconstruction"] for p in moved)
        expected = float(up - down) / (2 * h)
        assert abs(expected) > 1e-6  # a difference worth comparing
        np.testing.assert_allclose(dot(gradient, d), expected, rtol=1e-4)


def test_inner_update_is_plain_gradient_descent():
    nets, params = stand_in()

    @jax.jit
    def both(params, a, b):
        f, r, p = params
        (new_f, new_r, _), report = meta.inner_update(params, nets, (a, b), LOSS, *INNER)
        w, v = nets.propose(p, a, b, sobel(a, scale=0.25), sobel(b, scale=0.25))

        def loss_f(q):
            return fusion_loss(nets.fuse(q, a, b), a, b, w, v, LOSS)[0]

        def loss_r(q):
            rebuilt = nets.reconstruct(q, nets.fuse(f, a, b))
            return reconstruction_loss(*rebuilt, a, b, LOSS)[0]

        expected = [jax.tree.map(lambda x, g: x - 2.0 * g, f, jax.grad(loss_f)(f))]
        expected += [jax.tree.map(lambda x, g: x - 0.1 * g, r, jax.grad(loss_r)(r))]
        return [new_f, new_r, report.terms["fusion"]], [*expected, loss_f(f)]

    ours, expected = both(params, *pairs()[0])
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-7)


def inner(name, steps):
    """meta.meta_gradient of small networks with an inner optimiser by name, as (params, train, test)."""
    nets, _ = stand_in()
    optimizers = meta.INNER_OPTIMIZERS[name](0.5), meta.INNER_OPTIMIZERS[name](0.1)
    return jax.jit(lambda *given: meta.meta_gradient(given[0], nets, *given[1:], LOSS, *optimizers, steps=steps))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", list(meta.INNER_OPTIMIZERS))
def test_every_inner_optimizer_against_float64_finite_differences(name, steps):
    with jax.enable_x64(True):
        check_against_differences(inner(name, steps), stand_in(dtype=np.float64)[1], *pairs(dtype=np.float64))


def test_inner_adam_has_finite_derivatives_where_gradients_vanish():
    """Flat pictures, and parameters without any influence: gradients of zero, at which Adam's root must not fail."""
    gradient = inner("adam", 2)
    params = stand_in()[1]._replace(f=jax.tree.map(np.zeros_like, stand_in()[1].f))
    flat = tuple(np.full((2, 8, 8, 1), 0.5, np.float32) for _ in range(2))
    for batches in ((flat, flat), pairs()):
        chex.assert_tree_all_finite(gradient(params, *batches)[0])


def test_the_inner_optimizer_keeps_its_state_from_step_to_step():
    """Two steps with momentum, by hand: F'' = F' - eta (g' + 0.9 g)."""
    nets, params = stand_in()
    train = pairs()[0]

    def gradients(f, r):
        w, v = meta.propose_weights(params.p, nets, train, LOSS)
        grad_f, (fused, _) = jax.grad(meta.fusion_objective, has_aux=True)(f, nets, train, w, v, LOSS)
        return grad_f, jax.grad(meta.reconstruction_objective, has_aux=True)(r, nets, fused, train, LOSS)[0]

    def two_steps():
        first = gradients(params.f, params.r)
        once = [step(x, g, eta) for x, g, eta in zip(params[:2], first, (0.5, 0.1), strict=True)]
        kept = [jax.tree.map(lambda g, old: g + 0.9 * old, *both) for both in zip(gradients(*once), first, strict=True)]
        return [step(x, g, eta) for x, g, eta in zip(once, kept, (0.5, 0.1), strict=True)]

    def step(x, g, eta):
        return jax.tree.map(lambda x, g: x - eta * g, x, g)

    momentum = [meta.INNER_OPTIMIZERS["momentum"](eta) for eta in (0.5, 0.1)]
    ours = jax.jit(lambda: meta.inner_update(params, nets, train, LOSS, *momentum, steps=2)[0])()
    chex.assert_trees_all_close([ours.f, ours.r], jax.jit(two_steps)(), rtol=1e-5, atol=1e-7)


def test_the_report_is_that_of_the_first_inner_step():
    nets, params = stand_in()
    train = pairs()[0]

    def report(steps):
        return jax.jit(lambda: meta.inner_update(params, nets, train, LOSS, *INNER, steps=steps)[1])()

    chex.assert_trees_all_close(report(3), report(1), rtol=1e-6)
    gradients = jax.jit(lambda params, train: meta.fusion_gradients(params, nets, train, LOSS))
    (grad_f, grad_r, _), terms, (w, v, fused, rebuilt) = gradients(params, train)
    expected = meta.InnerReport(terms, optax.tree.norm(grad_f), optax.tree.norm(grad_r), w, v, rebuilt)
    chex.assert_trees_all_close(report(1), expected, rtol=1e-5)
    chex.assert_trees_all_close(rebuilt, nets.reconstruct(params.r, nets.fuse(params.f, *train)), rtol=1e-5)


class DeepProposal(nn.Module):
    """A P whose derivative needs many maps."""

    @nn.compact
    def __call__(self, *images):
        x = jnp.concatenate(images, -1)
        for _ in range(8):
            x = nn.tanh(nn.Dense(8)(x))
        return nn.softmax(nn.Dense(2)(x), -1), nn.softmax(nn.Dense(2)(x), -1)


def test_recomputing_p_gives_the_same_in_less_memory():
    """XLA must not find the second evaluation of P equal to the first one: then nothing would be saved."""
    modules, (train, test) = (Fuse(), Rebuild(), DeepProposal()), pairs(size=24)
    params, nets = init_params(modules, jax.random.key(0)), linen_networks(*modules)

    def compiled(recompute):
        def gradient(params, train, test):
            return meta.meta_gradient(params, nets, train, test, LOSS, *INNER, recompute=recompute)[0]

        return jax.jit(gradient).lower(params, train, test).compile()

    programs = [compiled(x) for x in (False, True)]
    plain, recomputed = (program(params, train, test) for program in programs)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(plain))
    chex.assert_trees_all_close(plain, recomputed, rtol=1e-3, atol=1e-5 * largest)
    kept, less = (program.memory_analysis().temp_size_in_bytes for program in programs)
    assert less < 0.8 * kept


def test_what_is_recomputed_for_a_gradient_that_is_not_finite_is_nan():
    square = meta.recomputed(lambda params, x: params["k"] ** 2 * x)
    gradient = jax.grad(lambda params, scale: jnp.sum(scale * square(params, jnp.ones(3))))
    assert gradient({"k": jnp.float32(3)}, 1.0)["k"] == 18
    assert np.isnan(gradient({"k": jnp.float32(3)}, jnp.inf)["k"])


def test_meta_gradient_equals_the_papers_product_of_derivatives():
    """Eq. 10 read literally for one step: -eta_F times the P-derivative of <dL_f/dF, dL_r/dF'>."""
    with jax.enable_x64(True):
        nets, params = stand_in(dtype=np.float64)
        train, test = pairs(1, dtype=np.float64)

        @jax.jit
        def literal(params, train, test):
            (new_f, new_r, _), _ = meta.inner_update(params, nets, train, LOSS, *INNER)
            outer = jax.grad(lambda q: meta.reconstruction_objective(new_r, nets, nets.fuse(q, *test), test, LOSS)[0])
            outer = jax.lax.stop_gradient(outer(new_f))

            def product(q):
                w, v = meta.propose_weights(q, nets, train, LOSS)
                inner = jax.grad(meta.fusion_objective, has_aux=True)(params.f, nets, train, w, v, LOSS)[0]
                return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(inner), jax.tree.leaves(outer), strict=True))

            return jax.tree.map(lambda x: -2.0 * x, jax.grad(product)(params.p))

        ours = jax.jit(lambda *given: meta.meta_gradient(*given, LOSS, *INNER)[0], static_argnums=1)
        ours, expected = ours(params, nets, train, test), literal(params, train, test)
        assert optax.tree.norm(expected) > 1e-6
        chex.assert_trees_all_close(ours, expected, rtol=1e-8, atol=1e-16)


def test_first_order_drops_the_only_way_to_p():
    nets, params = stand_in()

    def norm(first_order):
        gradient = jax.jit(lambda *x: meta.meta_gradient(params, nets, *x, LOSS, *INNER, first_order=first_order)[0])
        return optax.tree.norm(gradient(*pairs()))

    assert norm(False) > 1e-6
    assert norm(True) == 0


FLAT = [(0, 0, 0, 0), (1, 1, 1, 1), (0.5, 0.5, 0.5, 0.5), (0, 1, 0.3, 0.3)]


def flat(levels, size):
    """Two batches of pictures that have one level each."""
    a, b, c, d = (np.full((2, size, size, 1), x, np.float32) for x in levels)
    return (a, b), (c, d)


@pytest.mark.parametrize("form", ["magnitude", "components"])
def test_every_form_of_gradients_is_finite_on_flat_images(form):
    nets, params = stand_in(channels=2 if form == "components" else 1)
    loss = dataclasses.replace(LOSS, sobel_form=form)
    gradient_of = jax.jit(lambda *batches: meta.meta_gradient(params, nets, *batches, loss, *INNER)[0])
    for levels in FLAT:
        chex.assert_tree_all_finite(gradient_of(*flat(levels, 8)))


def same(x, y):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


def test_the_reconstruction_loss_never_reaches_f():
    """Another R, another alpha2: the gradient of F stays the same to the bit; so does R's when P changes L_f."""
    nets, params = stand_in()
    _, other_r, other_p = stand_in(9)[1]
    batch = pairs()[0]

    @jax.jit
    def gradients(params, alpha2):
        return meta.fusion_gradients(params, nets, batch, dataclasses.replace(LOSS, alpha2=alpha2))[0]

    expected = gradients(params, 1.0)
    assert same(expected.f, gradients(params._replace(r=other_r), 50.0).f)
    assert same(expected.r, gradients(params._replace(p=other_p), 1.0).r)
    assert not same(expected.f, gradients(params._replace(p=other_p), 1.0).f)
    assert not same(expected.r, gradients(params, 50.0).r)


def test_p_may_see_another_form_of_the_gradients():
    """loss.proposal_form; without it P sees what the losses compare."""
    a, b = pairs()[0]
    seen = []

    def propose(params, a, b, *gradients):
        seen[:] = gradients
        return np.zeros((2, *a.shape[:3], 2))

    networks = Networks(None, None, propose)
    for given, form in (("", "components"), ("l1", "l1")):
        settings = LossSettings(sobel_form="components", sobel_scale=0.5, proposal_form=given)
        meta.propose_weights(None, networks, (a, b), settings)
        for gradient, image in zip(seen, (a, b), strict=True):
            np.testing.assert_array_equal(gradient, sobel(image, form, 0.5))


def test_a_floor_keeps_w_from_collapsing():
    """loss.w_floor: w within [floor, 1 - floor], in the order P has them; v as P proposes it."""
    a, b = pairs()[0]
    w = np.linspace(0, 1, 2 * 64, dtype=np.float32).reshape(2, 8, 8)
    proposed = np.stack([w, 1 - w], -1)
    fixed = Networks(None, None, lambda *_: (proposed, proposed))
    new, v = meta.propose_weights(None, fixed, (a, b), LossSettings(w_floor=0.2))
    np.testing.assert_allclose([new.min(), new.max()], [0.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(new.sum(-1), 1, rtol=1e-6)
    assert np.all(np.diff(new[..., 0].ravel()) > 0)
    np.testing.assert_array_equal(v, proposed)


def test_images_of_other_shapes_are_refused_at_once():
    nets, params = stand_in()
    (a, b), _ = pairs()
    with pytest.raises(AssertionError):
        meta.propose_weights(params.p, nets, (a, b[:, :4]), LOSS)
    with pytest.raises(AssertionError):
        meta.fusion_objective(params.f, nets, (a, b), np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8, 2)), LOSS)
    whole = Networks(nets.fuse, lambda r, fused: (fused, fused[:, :4]), nets.propose)
    with pytest.raises(AssertionError):
        meta.reconstruction_objective(params.r, whole, a, (a, b), LOSS)


# The real networks last: they take the longest, and what is wrong shows in the small ones first.


def test_meta_gradient_of_the_real_networks_is_finite_on_flat_images():
    gradient_of, params = meta_gradient(), tiny()[1]
    for levels in FLAT:
        chex.assert_tree_all_finite(gradient_of(params, *flat(levels, 16), 2.0, 0.1)[0])


def test_meta_gradient_of_the_real_networks_against_float64_finite_differences():
    """As a training on a CPU has it, P evaluated anew; other forms and several steps: above, with small networks."""
    with jax.enable_x64(True):
        params = tiny(dtype=np.float64, channels=2)[1]
        batches = pairs(dtype=np.float64)
        check_against_differences(meta_gradient("components", recompute=True), params, *batches, 2.0, 0.1)
