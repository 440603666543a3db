"""The two steps: what each changes, its optimisers by hand, decay of all rates, P's scale, what is recorded."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stand_in import stand_in
from tiny import batch_of, pairs

from refusion_jax.method import meta, steps
from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import MetaSettings

LOSS = LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)
# Rates that fall to a third with the second epoch of two meta and three fusion steps, each another one.
SCHEDULE = Schedule(meta_steps=2, fusion_steps=3, lr_f=1e-2, lr_r=2e-2, lr_p=3e-2, lr_decay=1 / 3, lr_decay_epochs=1)
TRAIN, TEST = map(batch_of, pairs())


@functools.cache
def made(settings=MetaSettings(), schedule=SCHEDULE):
    """(first state, meta_step, fusion_step) of the stand-in networks."""
    nets, params = stand_in()
    optimizers = steps.make_optimizers(schedule, settings)
    both = steps.make_steps(nets, LOSS, optimizers, steps.make_inner_loop(schedule, settings))
    return steps.init_state(params, optimizers), *map(jax.jit, both)


def by_step(settings=MetaSettings()):
    """[(phase, state before, state after, metrics)] of two epochs on the same batches."""
    state, meta_step, fusion_step = made(settings)
    seen = []
    for phase in (["meta"] * 2 + ["fusion"] * 3) * 2:
        after, metrics = meta_step(state, TRAIN, TEST) if phase == "meta" else fusion_step(state, TRAIN)
        seen.append((phase, state, after, metrics))
        state = after
    return seen


def test_each_step_changes_all_of_its_own_networks_and_nothing_else():
    for phase, before, after, _ in by_step():
        assert int(after.step) == int(before.step) + 1
        changing = "p" if phase == "meta" else "fr"
        for name in "frp":
            old, new = getattr(before.params, name), getattr(after.params, name)
            same = jax.tree.map(np.array_equal, old, new)
            assert all(jax.tree.leaves(same)) if name not in changing else not any(jax.tree.leaves(same)), (phase, name)
            if name not in changing:
                chex.assert_trees_all_equal(getattr(before.optimizers, name), getattr(after.optimizers, name))


def adam(gradients, rates, eps):
    """Adam's steps by hand, in float64: the gradients of a tree in order -> what each adds to it."""
    m = v = 0.0
    for k, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        yield -rate * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + eps)


def vector(tree):
    return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])


def test_f_and_r_are_trained_by_adam_at_rates_that_fall():
    nets, _ = stand_in()
    gradients_of = jax.jit(lambda params: meta.fusion_gradients(params, nets, steps.as_luma(TRAIN), LOSS)[0])
    seen = [(before.params, after.params) for phase, before, after, _ in by_step() if phase == "fusion"]
    gradients = [gradients_of(before) for before, _ in seen]
    for name, rate in (("f", 1e-2), ("r", 2e-2)):
        expected = adam([vector(getattr(g, name)) for g in gradients], [rate] * 3 + [rate / 3] * 3, 1e-8)
        for (before, after), step in zip(seen, expected, strict=True):
            moved = vector(getattr(after, name)) - vector(getattr(before, name))
            np.testing.assert_allclose(moved, step, atol=1e-3 * rate / 3)


@pytest.mark.parametrize("eps", [1e-16, 1e-2])
def test_p_is_trained_by_adam_with_its_own_eps_on_the_gradient_without_eta_f(eps):
    """Eq. 10 at eta_F and eta_R, which are F's and R's rates of the epoch."""
    nets, _ = stand_in()

    @jax.jit
    def gradient_of(params, eta_f, eta_r):
        inner = optax.sgd(eta_f), optax.sgd(eta_r)
        return meta.meta_gradient(params, nets, steps.as_luma(TRAIN), steps.as_luma(TEST), LOSS, *inner)[0]

    seen = [x for x in by_step(MetaSettings(adam_eps=eps)) if x[0] == "meta"]
    rates = [1.0, 1.0, 1 / 3, 1 / 3]
    gradients = [gradient_of(x[1].params, 1e-2 * k, 2e-2 * k) for x, k in zip(seen, rates, strict=True)]
    scaled = [vector(g) / (1e-2 * k) for g, k in zip(gradients, rates, strict=True)]
    expected = adam(scaled, [3e-2 * k for k in rates], eps)
    for (_, before, after, metrics), gradient, step in zip(seen, gradients, expected, strict=True):
        np.testing.assert_allclose(metrics["grad_norm_p"], np.linalg.norm(vector(gradient)), rtol=1e-4)
        moved = vector(after.params.p) - vector(before.params.p)
        # An entry that is zero but for rounding may go either way.
        assert np.mean(np.abs(moved - step) > 1e-3 * 3e-2) < 0.02


def test_steps_of_a_warm_up_have_equal_weights_and_later_ones_those_of_p():
    nets, params = stand_in()
    optimizers = steps.make_optimizers(SCHEDULE)
    _, fusion_step = steps.make_steps(nets, LOSS, optimizers, steps.make_inner_loop(SCHEDULE), warmup=1)
    images = steps.as_luma(TRAIN)
    state = steps.init_state(params, optimizers)
    half = np.full((*images[0].shape[:3], 2), 0.5, np.float32)
    usual = meta.propose_weights(params.p, nets, images, LOSS)
    for number, (w, v) in enumerate(((half, half), usual)):
        metrics = fusion_step(state._replace(step=np.int32(number)), TRAIN)[1]
        expected, _ = meta.fusion_objective(params.f, nets, images, w, v, LOSS)
        assert float(metrics["fusion"]) == pytest.approx(float(expected), rel=1e-5)
        assert (float(metrics["w_imbalance"]) == 0) == (number == 0)


def test_set_step_sizes_of_the_inner_loop_stay_as_they_are():
    settings = MetaSettings(eta_f=0.5, eta_r=0.25, inner_steps=2, first_order=True, inner_optimizer="momentum")
    inner = steps.make_inner_loop(SCHEDULE, settings)
    assert inner == (meta.INNER_OPTIMIZERS["momentum"], 0.5, 0.25, 2, True)
    usual = steps.make_inner_loop(SCHEDULE)
    assert usual.optimizer is optax.sgd and usual.steps == 1 and not usual.first_order
    for at, factor in ((0, 1), (4, 1), (5, 1 / 3), (10, 1 / 9)):
        assert float(usual.eta_f(at)) == pytest.approx(1e-2 * factor)
        assert float(usual.eta_r(at)) == pytest.approx(2e-2 * factor)


def test_the_normalized_update_of_p_has_its_rate_as_the_largest_entry():
    for phase, before, after, _ in by_step(MetaSettings(optimizer="normalized")):
        if phase == "meta":
            rate = 3e-2 * (1 if int(before.step) < 5 else 1 / 3)
            moved = vector(after.params.p) - vector(before.params.p)
            assert np.abs(moved).max() == pytest.approx(rate, rel=1e-4)


def test_scale_by_largest():
    optimizer = steps.scale_by_largest()
    update, _ = optimizer.update({"x": jnp.array([1e-9, -4e-9]), "y": jnp.array([2e-9])}, optimizer.init({}))
    chex.assert_trees_all_close(update, {"x": np.float32([0.25, -1]), "y": np.float32([0.5])})
    zero, _ = optimizer.update({"x": jnp.zeros(3)}, optimizer.init({}))
    assert not np.any(zero["x"])


@pytest.mark.parametrize("inner", [optax.sgd, meta.INNER_OPTIMIZERS["adam"]])
@pytest.mark.parametrize("outer", ["adam", "normalized"])
def test_the_update_of_p_does_not_depend_on_the_scale_of_eta_f(outer, inner):
    nets, params = stand_in()
    optimizers = steps.make_optimizers(meta=MetaSettings(optimizer=outer))

    @jax.jit
    def step(state, eta_f):
        loop = steps.InnerLoop(inner, eta_f)
        return steps.make_steps(nets, LOSS, optimizers, loop)[0](state, TRAIN, TEST)[0]

    def update(eta_f):
        return vector(step(steps.init_state(params, optimizers), eta_f).params.p) - vector(params.p)

    def share_moved(x, y):
        """Share of the parameters whose steps differ; rounding may turn the sign of single near-zero entries."""
        return np.mean(np.abs(x - y) > 0.02 * np.abs(y).max())

    assert share_moved(update(1e-7), update(1e-6)) < 2e-3


def test_adam_with_its_usual_eps_would_depend_on_it():
    """So the test above can fail."""
    nets, params = stand_in()

    @jax.jit
    def step(eta_f):
        inner = optax.sgd(eta_f), optax.sgd(1e-4)
        gradient, _ = meta.meta_gradient(params, nets, steps.as_luma(TRAIN), steps.as_luma(TEST), LOSS, *inner)
        usual = steps.make_optimizers(meta=MetaSettings(adam_eps=1e-8)).p
        return meta.descend(usual, gradient, usual.init(params.p), params.p)[0]

    moved = [np.linalg.norm(vector(step(eta)) - vector(params.p)) for eta in (1e-8, 1e-4)]
    assert moved[0] < 0.5 * moved[1]


def test_luma_keeps_the_order_of_the_sources():
    a, b = np.full((1, 2, 2, 1), 51, np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    first, second = steps.as_luma({"b": b, "a": a})
    assert np.all(first == np.float32(0.2)) and np.all(second == 1) and first.dtype == np.float32
    with pytest.raises(AssertionError):
        steps.as_luma({"a": a, "b": b[:, :1]})


def test_metrics_hold_every_term_norm_and_the_health_of_p_and_r():
    health = {"w_imbalance", "v_imbalance", "w_spread", "v_spread", "w_brighter", "v_sharper"}
    health |= {"rebuilt_error_a", "rebuilt_error_b", "rebuilt_distance"}
    norms = {"grad_norm_f", "grad_norm_r"}
    terms = {f"{n}{t}" for n in ("fusion", "reconstruction") for t in ("", "_intensity", "_gradient")}
    outer = {f"outer_{t}" for t in terms if t.startswith("rec")}
    expected = {
        "fusion": terms | norms | health | {"fused_mean"},
        "meta": {f"inner_{t}" for t in terms} | outer | norms | health | {"grad_norm_p"},
    }
    for phase, _, _, metrics in by_step():
        assert metrics.keys() == expected[phase]
        chex.assert_tree_all_finite(metrics)


def test_a_step_records_the_health_of_what_it_saw():
    nets, params = stand_in()
    state, meta_step, fusion_step = made()
    a, b = steps.as_luma(TRAIN)
    rebuilt_a, _ = nets.reconstruct(params.r, nets.fuse(params.f, a, b))
    error = np.mean(np.square(rebuilt_a - a)) / np.mean(np.square((a + b) / 2 - a))
    w, _ = meta.propose_weights(params.p, nets, (a, b), LOSS)
    for metrics in (meta_step(state, TRAIN, TEST)[1], fusion_step(state, TRAIN)[1]):
        assert float(metrics["rebuilt_error_a"]) == pytest.approx(float(error), rel=1e-4)
        assert float(metrics["w_imbalance"]) == pytest.approx(float(np.mean(np.abs(w[..., 0] - w[..., 1]))), rel=1e-4)


def test_the_inner_loop_is_used_as_given():
    """Nothing is compiled here."""
    assert steps.InnerLoop() == (optax.sgd, 1e-4, 1e-4, 1, False)
    nets, params = stand_in()
    optimizers = steps.make_optimizers(SCHEDULE)
    state, images = steps.init_state(params, optimizers), (steps.as_luma(TRAIN), steps.as_luma(TEST))

    def recorded(**changes):
        meta_step, _ = steps.make_steps(nets, LOSS, optimizers, steps.InnerLoop()._replace(**changes))
        return float(meta_step(state, TRAIN, TEST)[1]["grad_norm_p"])

    inner = optax.adam(0.3, eps_root=1e-6), optax.adam(0.2, eps_root=1e-6)
    expected = optax.tree.norm(meta.meta_gradient(params, nets, *images, LOSS, *inner, steps=2)[0])
    adam = functools.partial(optax.adam, eps_root=1e-6)
    assert recorded(optimizer=adam, eta_f=0.3, eta_r=0.2, steps=2) == pytest.approx(float(expected), rel=1e-4)
    assert recorded(first_order=True) == 0


def test_the_steps_of_the_method_are_the_usual_ones():
    assert steps.chosen_steps() is steps.make_steps
    assert steps.chosen_steps("refusion_jax.method.steps:several") is steps.several


def test_p_is_evaluated_anew_where_asked_for_and_nowhere_else():
    nets, params = stand_in()
    optimizers = steps.make_optimizers()
    for asked in ({}, {"recompute": False}, {"recompute": True}):
        meta_step, _ = steps.make_steps(nets, LOSS, optimizers, **asked)
        program = str(jax.make_jaxpr(meta_step)(steps.init_state(params, optimizers), TRAIN, TEST))
        assert ("is_finite" in program) == asked.get("recompute", False)  # of the cotangent, in meta.recomputed


def test_recomputing_changes_no_update():
    nets, params = stand_in()
    optimizers = steps.make_optimizers(SCHEDULE)
    loop = steps.make_inner_loop(SCHEDULE, dataclasses.replace(MetaSettings(), inner_steps=2))
    state = steps.init_state(params, optimizers)
    one, other = (
        jax.jit(steps.make_steps(nets, LOSS, optimizers, loop, recompute=x)[0])(state, TRAIN, TEST)[0].params
        for x in (False, True)
    )
    chex.assert_trees_all_close(one, other, atol=1e-6)
