"""Eq. 7-12: the meta-gradient against finite differences, what each update touches, P's scale, flat images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import batch_of, pairs, tiny

from refusion_jax.method import meta
from refusion_jax.method.losses import fusion_loss, reconstruction_loss, sobel
from refusion_jax.method.steps import Rates, init_state, make_optimizers, make_steps, scale_by_largest
from refusion_jax.models.build import Networks

LOSS = meta.LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)


def direction(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape), tree)


def dot(x, y):
    return sum(float(np.sum(a * b)) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


@functools.cache
def compiled(steps=1, form="l1", recompute=False):
    """(networks, objective, gradient) of the tiny networks, jitted: both take (params, train, test, eta_f, eta_r).

    Compilation is what these tests spend their time on, so they share it. Nothing is a constant of the program: XLA
    would spend long on folding networks of constants.
    """
    nets, _ = tiny()
    loss = LOSS._replace(sobel_form=form)

    def objective(params, train, test, eta_f, eta_r):
        return meta.outer_objective(params, nets, train, test, loss, eta_f=eta_f, eta_r=eta_r, steps=steps)[0]

    def gradient(params, train, test, eta_f, eta_r):
        return meta.meta_gradient(
            params, nets, train, test, loss, eta_f=eta_f, eta_r=eta_r, steps=steps, recompute=recompute
        )

    return nets, jax.jit(objective), jax.jit(gradient)


@pytest.mark.parametrize(("steps", "form", "recompute"), [(1, "l1", False), (2, "components", True)])
def test_meta_gradient_against_float64_finite_differences(steps, form, recompute):
    with jax.enable_x64(True):
        _, objective, gradient_of = compiled(steps, form, recompute)
        params = tiny(dtype=np.float64, channels=2 if form == "components" else 1)[1]
        rest = (*pairs(dtype=np.float64), 2.0, 0.1)
        gradient, _ = gradient_of(params, *rest)
        assert jax.tree.leaves(gradient)[0].dtype == np.float64
        for seed in range(3):
            # Small against the kinks of the leaky units and of max, large against rounding.
            d, h = direction(params.p, seed), 1e-6
            up, down = (
                objective(params._replace(p=jax.tree.map(lambda x, y, k=k: x + k * y, params.p, d)), *rest)
                for k in (h, -h)
            )
            expected = float(up - down) / (2 * h)
            assert abs(expected) > 1e-6  # a difference worth comparing
            np.testing.assert_allclose(dot(gradient, d), expected, rtol=1e-4)


def test_recomputing_p_gives_the_same_in_less_memory():
    """XLA must not find the second evaluation of P equal to the first one: then nothing would be saved."""
    params, (train, test) = tiny()[1], pairs(size=24)
    programs = [compiled(recompute=x)[2].lower(params, train, test, 0.5, 0.1).compile() for x in (False, True)]
    plain, recomputed = (program(params, train, test, 0.5, 0.1)[0] for program in programs)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(plain))
    for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(recomputed), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5 * largest)
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
        nets, _, gradient_of = compiled()
        params = tiny(1, np.float64)[1]
        train, test = pairs(1, dtype=np.float64)

        @jax.jit
        def literal(params, train, test):
            (new_f, new_r, _), _ = meta.inner_update(params, nets, train, LOSS, eta_f=2.0, eta_r=0.1)
            outer = jax.grad(lambda q: meta.reconstruction_objective(new_r, nets, nets.fuse(q, *test), test, LOSS)[0])
            outer = jax.lax.stop_gradient(outer(new_f))

            def product(q):
                w, v = meta.propose_weights(q, nets, train, LOSS)
                inner = jax.grad(meta.fusion_objective, has_aux=True)(params.f, nets, train, w, v, LOSS)[0]
                return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(inner), jax.tree.leaves(outer), strict=True))

            return jax.tree.map(lambda x: -2.0 * x, jax.grad(product)(params.p))

        ours, expected = gradient_of(params, train, test, 2.0, 0.1)[0], literal(params, train, test)
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-16)


def test_first_order_drops_the_only_way_to_p():
    nets, _, gradient_of = compiled()
    params = tiny()[1]
    train, test = pairs()

    @jax.jit
    def first_order(params):
        return meta.meta_gradient(params, nets, train, test, LOSS, eta_f=2.0, eta_r=0.1, first_order=True)[0]

    full, _ = gradient_of(params, train, test, 2.0, 0.1)
    assert meta.global_norm(full) > 1e-6
    assert meta.global_norm(first_order(params)) == 0


def test_inner_update_is_plain_gradient_descent():
    nets, params = tiny()

    @jax.jit
    def both(params, a, b):
        f, r, p = params
        (new_f, new_r, _), report = meta.inner_update(params, nets, (a, b), LOSS, eta_f=2.0, eta_r=0.1)
        w, v = nets.propose(p, a, b, sobel(a, scale=0.25), sobel(b, scale=0.25))

        def loss_f(q):
            return fusion_loss(nets.fuse(q, a, b), a, b, w, v, alpha1=0.7, sobel_scale=0.25)[0]

        def loss_r(q):
            rebuilt = nets.reconstruct(q, nets.fuse(f, a, b))
            return reconstruction_loss(*rebuilt, a, b, alpha2=1.3, sobel_scale=0.25)[0]

        expected = [jax.tree.map(lambda x, g: x - 2.0 * g, f, jax.grad(loss_f)(f))]
        expected += [jax.tree.map(lambda x, g: x - 0.1 * g, r, jax.grad(loss_r)(r))]
        return [new_f, new_r, report.terms["fusion"]], [*expected, loss_f(f)]

    ours, expected = both(params, *pairs()[0])
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["l1", "magnitude", "components"])
def test_meta_gradient_is_finite_on_flat_images(form):
    _, _, gradient_of = compiled(1, form)
    params = tiny(channels=2 if form == "components" else 1)[1]
    for levels in [(0, 0, 0, 0), (1, 1, 1, 1), (0.5, 0.5, 0.5, 0.5), (0, 1, 0.3, 0.3)]:
        a, b, c, d = (np.full((2, 8, 8, 1), x, np.float32) for x in levels)
        for x in jax.tree.leaves(gradient_of(params, (a, b), (c, d), 2.0, 0.1)):
            assert np.all(np.isfinite(x))


@pytest.fixture(scope="module")
def made():
    """(state, meta_step, fusion_step), compiled once; the learning rates fall to a tenth every 5 steps."""
    nets, params = tiny()
    optimizers = make_optimizers()
    meta_step, fusion_step = make_steps(nets, LOSS, optimizers, Rates(decay=0.1, decay_steps=5))
    return init_state(params, optimizers), jax.jit(meta_step), jax.jit(fusion_step)


def same(x, y):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


def test_each_step_changes_its_own_networks_only(made):
    state, meta_step, fusion_step = made
    train, test = map(batch_of, pairs())
    after, _ = meta_step(state, train, test)
    assert same((after.params[:2], after.optimizers[:2]), (state.params[:2], state.optimizers[:2]))
    assert not same(after.params.p, state.params.p) and int(after.step) == 1
    after, _ = fusion_step(state, train)
    assert same((after.params.p, after.optimizers.p), (state.params.p, state.optimizers.p))
    assert not same(after.params.f, state.params.f) and not same(after.params.r, state.params.r)


def test_the_reconstruction_loss_never_reaches_f():
    """Another R, another alpha2: the gradient of F stays the same to the bit; so does R's when P changes L_f."""
    nets, params = tiny()
    _, other_r, other_p = tiny(9)[1]
    batch = pairs()[0]

    @jax.jit
    def gradients(params, alpha2):
        return meta.fusion_gradients(params, nets, batch, LOSS._replace(alpha2=alpha2))[0]

    expected = gradients(params, 1.0)
    assert same(expected.f, gradients(params._replace(r=other_r), 50.0).f)
    assert same(expected.r, gradients(params._replace(p=other_p), 1.0).r)
    assert not same(expected.f, gradients(params._replace(p=other_p), 1.0).f)
    assert not same(expected.r, gradients(params, 50.0).r)


@pytest.mark.parametrize("outer", ["adam", "normalized"])
def test_the_update_of_p_does_not_depend_on_the_scale_of_eta_f(outer):
    train, test = pairs()
    nets, params = tiny()
    optimizers = make_optimizers(outer)
    state = init_state(params, optimizers)

    @jax.jit
    def step(state, eta_f):
        return make_steps(nets, LOSS, optimizers, Rates(eta_f=eta_f))[0](state, *map(batch_of, (train, test)))[0]

    def update(eta_f):
        after = step(state, eta_f)
        moved = jax.tree.map(lambda x, y: np.ravel(np.float64(x) - np.float64(y)), after.params.p, params.p)
        return np.concatenate(jax.tree.leaves(moved))

    def share_moved(x, y):
        """Share of the parameters whose steps differ; rounding may turn the sign of single near-zero entries."""
        return np.mean(np.abs(x - y) > 0.02 * np.abs(y).max())

    assert share_moved(update(1e-6), update(1e-4)) < 2e-3
    # Adam with its usual eps on the bare gradient is another matter: so this test can fail.
    bare = [compiled()[2](params, train, test, eta, 1e-4)[0] for eta in (1e-6, 1e-4)]
    usual = make_optimizers("adam", 1e-8).p
    steps = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(usual.update(g, usual.init(params.p))[0])]) for g in bare
    ]
    assert np.linalg.norm(steps[0]) < 0.1 * np.linalg.norm(steps[1])


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
        return float(meta.global_norm(jax.tree.map(lambda x, y: x - y, after.params.f, s.params.f)))

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


def test_p_may_see_another_form_of_the_gradients():
    """loss.proposal_form; without it P sees what the losses compare."""
    a, b = pairs()[0]
    seen = Networks(None, None, lambda params, a, b, *gradients: gradients)
    for given, form in (("", "components"), ("l1", "l1")):
        settings = meta.LossSettings(sobel_form="components", sobel_scale=0.5, proposal_form=given)
        for gradient, image in zip(meta.propose_weights(None, seen, (a, b), settings), (a, b), strict=True):
            np.testing.assert_array_equal(gradient, sobel(image, form, 0.5))


def test_a_floor_keeps_w_from_collapsing():
    """loss.w_floor: w within [floor, 1 - floor], in the order P has them; v as P proposes it."""
    a, b = pairs()[0]
    w = np.linspace(0, 1, 2 * 64, dtype=np.float32).reshape(2, 8, 8)
    proposed = np.stack([w, 1 - w], -1)
    fixed = Networks(None, None, lambda *_: (proposed, proposed))
    new, v = meta.propose_weights(None, fixed, (a, b), meta.LossSettings(w_floor=0.2))
    np.testing.assert_allclose([new.min(), new.max()], [0.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(new.sum(-1), 1, rtol=1e-6)
    assert np.all(np.diff(new[..., 0].ravel()) > 0)
    np.testing.assert_array_equal(v, proposed)
