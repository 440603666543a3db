"""Eq. 7-12: the meta-gradient against finite differences, what each update touches, P's scale, flat images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import batch_of, pairs, tiny

from refusion_jax import meta
from refusion_jax.losses import fusion_loss, sobel
from refusion_jax.training.steps import Rates, init_state, make_optimizers, make_steps, scale_by_largest

LOSS = meta.LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)
INNER = {"eta_f": 2.0, "eta_r": 0.1}


def direction(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape), tree)


def dot(x, y):
    return sum(float(np.sum(a * b)) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


@pytest.mark.parametrize(("steps", "form"), [(1, "l1"), (2, "components")])
def test_meta_gradient_against_float64_finite_differences(steps, form):
    loss = LOSS._replace(sobel_form=form)
    with jax.enable_x64(True):
        nets, (f, r, p) = tiny(dtype=np.float64, channels=2 if form == "components" else 1)
        train, test = pairs(dtype=np.float64)

        # Everything is an argument: XLA would spend long on folding networks of constants.
        @jax.jit
        def objective(q, f, r, train, test):
            return meta.outer_objective(q, f, r, nets, train, test, loss, steps=steps, **INNER)[0]

        @jax.jit
        def analytic(q, f, r, train, test):
            return meta.meta_gradient(q, f, r, nets, train, test, loss, steps=steps, **INNER)[0]

        gradient = analytic(p, f, r, train, test)
        assert jax.tree.leaves(gradient)[0].dtype == np.float64
        for seed in range(3):
            # Small against the kinks of the leaky units and of max, large against rounding.
            h = 1e-5
            step = jax.tree.map(lambda x: h * x, direction(p, seed))  # noqa: B023
            up, down = (
                objective(jax.tree.map(lambda x, y, s=s: x + s * y, p, step), f, r, train, test) for s in (1, -1)
            )
            expected = float(up - down) / (2 * h)
            d = direction(p, seed)
            assert abs(expected) > 1e-6  # a difference worth comparing
            np.testing.assert_allclose(dot(gradient, d), expected, rtol=1e-4)


def test_meta_gradient_equals_the_papers_product_of_derivatives():
    """Eq. 10 read literally for one step: -eta_F times the P-derivative of <dL_f/dF, dL_r/dF'>."""
    with jax.enable_x64(True):
        nets, (f, r, p) = tiny(1, np.float64)
        train, test = pairs(1, dtype=np.float64)

        @jax.jit
        def literal(p, f, r, train, test):
            new_f, new_r, _ = meta.inner_update(f, r, p, nets, train, LOSS, **INNER)
            outer = jax.grad(lambda q: meta.reconstruction_objective(new_r, nets, nets.fuse(q, *test), test, LOSS)[0])
            outer = jax.lax.stop_gradient(outer(new_f))

            def product(q):
                w, v = meta.propose_weights(q, nets, train, LOSS)
                inner = jax.grad(meta.fusion_objective, has_aux=True)(f, nets, train, w, v, LOSS)[0]
                return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(inner), jax.tree.leaves(outer), strict=True))

            return jax.tree.map(lambda x: -INNER["eta_f"] * x, jax.grad(product)(p))

        @jax.jit
        def ours(p, f, r, train, test):
            return meta.meta_gradient(p, f, r, nets, train, test, LOSS, **INNER)[0]

        ours, expected = (g(p, f, r, train, test) for g in (ours, literal))
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-16)


def test_first_order_drops_the_only_way_to_p():
    nets, (f, r, p) = tiny()
    train, test = pairs()

    def gradient(**how):
        compiled = jax.jit(lambda q, f, r: meta.meta_gradient(q, f, r, nets, train, test, LOSS, **INNER, **how)[0])
        return compiled(p, f, r)

    full, first = gradient(), gradient(first_order=True)
    assert meta.global_norm(full) > 1e-6
    assert meta.global_norm(first) == 0


def test_inner_update_is_plain_gradient_descent():
    nets, (f, r, p) = tiny()
    (a, b), _ = pairs()
    new_f, new_r, report = jax.jit(lambda *q: meta.inner_update(*q, nets, (a, b), LOSS, **INNER))(f, r, p)
    w, v = jax.jit(nets.propose)(p, a, b, sobel(a, scale=0.25), sobel(b, scale=0.25))

    def loss_f(q):
        return fusion_loss(nets.fuse(q, a, b), a, b, w, v, alpha1=0.7, sobel_scale=0.25)[0]

    expected = jax.tree.map(lambda x, g: x - 2.0 * g, f, jax.jit(jax.grad(loss_f))(f))
    for x, y in zip(jax.tree.leaves(new_f), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    fused = jax.jit(nets.fuse)(f, a, b)
    gradient_r = jax.jit(jax.grad(lambda q: meta.reconstruction_objective(q, nets, fused, (a, b), LOSS)[0]))(r)
    for x, y, g in zip(*map(jax.tree.leaves, (new_r, r, gradient_r)), strict=True):
        np.testing.assert_allclose(x, y - 0.1 * g, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(report.terms["fusion"], jax.jit(loss_f)(f), rtol=1e-6)


@pytest.mark.parametrize("form", ["l1", "magnitude", "components"])
def test_meta_gradient_is_finite_on_flat_images(form):
    nets, (f, r, p) = tiny(channels=2 if form == "components" else 1)
    loss = LOSS._replace(sobel_form=form)

    @jax.jit
    def everything(p, f, r, train, test):
        return meta.meta_gradient(p, f, r, nets, train, test, loss, **INNER)

    for levels in [(0, 0, 0, 0), (1, 1, 1, 1), (0.5, 0.5, 0.5, 0.5), (0, 1, 0.3, 0.3)]:
        a, b, c, d = (np.full((2, 8, 8, 1), x, np.float32) for x in levels)
        for x in jax.tree.leaves(everything(p, f, r, (a, b), (c, d))):
            assert np.all(np.isfinite(x))


@pytest.fixture(scope="module")
def made():
    """(state, meta_step, fusion_step), compiled once; the learning rates fall to a tenth every 5 steps."""
    nets, params = tiny()
    optimizers = make_optimizers()
    meta_step, fusion_step = make_steps(nets, LOSS, optimizers, Rates(decay=0.1, decay_steps=5))
    return init_state(*params, optimizers), jax.jit(meta_step), jax.jit(fusion_step)


def same(x, y):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


def test_each_step_changes_its_own_networks_only(made):
    state, meta_step, fusion_step = made
    train, test = map(batch_of, pairs())
    after, _ = meta_step(state, train, test)
    assert same((after.params_f, after.params_r, after.opt_f, after.opt_r),
                (state.params_f, state.params_r, state.opt_f, state.opt_r))  # fmt: skip
    assert not same(after.params_p, state.params_p) and int(after.step) == 1
    after, _ = fusion_step(state, train)
    assert same((after.params_p, after.opt_p), (state.params_p, state.opt_p))
    assert not same(after.params_f, state.params_f) and not same(after.params_r, state.params_r)


def test_the_reconstruction_loss_never_reaches_f():
    """Another R, another alpha2: the gradient of F stays the same to the bit; so does R's when P changes L_f."""
    nets, (f, r, p) = tiny()
    other_r, other_p = tiny(9)[1][1:]
    batch = pairs()[0]

    @jax.jit
    def gradients(r, p, alpha2, f=f):
        return meta.fusion_gradients(f, r, p, nets, batch, LOSS._replace(alpha2=alpha2))[:2]

    grad_f, grad_r = gradients(r, p, 1.0)
    assert same(grad_f, gradients(other_r, p, 50.0)[0])
    assert same(grad_r, gradients(r, other_p, 1.0)[1])
    assert not same(grad_f, gradients(r, other_p, 1.0)[0])
    assert not same(grad_r, gradients(r, p, 50.0)[1])


def test_the_update_of_p_does_not_depend_on_the_scale_of_eta_f():
    train, test = pairs()
    nets, params = tiny()

    @jax.jit
    def gradient_at(eta_f, f, r, p):
        return meta.meta_gradient(p, f, r, nets, train, test, LOSS, eta_f=eta_f, eta_r=1e-4)[0]

    def update(optimizer, gradient):
        direction, _ = optimizer.update(gradient, optimizer.init(params[2]), params[2])
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(direction)]).astype(np.float64)

    def distance(optimizer):
        x, y = (update(optimizer, gradient_at(eta, *params)) for eta in (1e-5, 1e-4))
        return np.linalg.norm(x - y) / np.linalg.norm(y)

    assert distance(make_optimizers("adam").p) < 0.02
    assert distance(make_optimizers("normalized").p) < 0.02
    # With Adam's usual eps the same change of scale decides the step: this test can fail.
    assert distance(make_optimizers("adam", 1e-8).p) > 0.3


def test_scale_by_largest():
    optimizer = scale_by_largest()
    update, _ = optimizer.update({"x": jnp.array([1e-9, -4e-9]), "y": jnp.array([2e-9])}, optimizer.init({}))
    np.testing.assert_allclose(update["x"], [0.25, -1])
    np.testing.assert_allclose(update["y"], [0.5])
    zero, _ = optimizer.update({"x": jnp.zeros(3)}, optimizer.init({}))
    assert not np.any(zero["x"])


def test_learning_rates_decay_by_the_step(made):
    state, _, fusion_step = made
    batch = batch_of(pairs()[0])

    def moved(s):
        after, _ = fusion_step(s, batch)
        return float(meta.global_norm(jax.tree.map(lambda x, y: x - y, after.params_f, s.params_f)))

    at = [moved(state.replace(step=jnp.asarray(k, jnp.int32))) for k in (0, 4, 5, 10)]
    np.testing.assert_allclose(at, [at[0], at[0], at[0] / 10, at[0] / 100], rtol=1e-2)


def test_metrics_hold_every_term_norm_and_the_health_of_p(made):
    state, meta_step, fusion_step = made
    train, test = map(batch_of, pairs())
    health = {"w_imbalance", "v_imbalance", "w_spread", "v_spread", "w_brighter", "v_sharper"}
    norms = {"grad_norm_f", "grad_norm_r"}
    terms = {f"{n}{t}" for n in ("fusion", "reconstruction") for t in ("", "_intensity", "_gradient")}
    _, metrics = fusion_step(state, train)
    assert metrics.keys() == terms | norms | health | {"fused_mean"}
    _, metrics = meta_step(state, train, test)
    outer = {f"outer_{t}" for t in terms if t.startswith("rec")}
    assert metrics.keys() == {f"inner_{t}" for t in terms} | outer | norms | health | {"grad_norm_p"}
    assert all(np.isfinite(x) for x in metrics.values())
