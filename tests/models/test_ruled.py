"""P's that begin at a rule: which source each rule prefers, that P only adds to it, and that a warm-up is the rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import SIZE, pairs

from refusion_jax.method import meta, steps
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build

LOSS = LossSettings(sobel_form="components", proposal_form="l1", sobel_scale=0.5)


def of(name, **settings):
    modules = build.build(**{**SIZE, **settings}, proposal=f"refusion_jax.models.ruled:{name}")
    return modules, build.linen_networks(*modules)


def begin(name, a, b):
    _, networks = of(name)
    w, v = meta.propose_weights(None, networks, (jnp.asarray(a), jnp.asarray(b)), LOSS, untaught=True)
    return np.asarray(w), np.asarray(v)


def image(*rows):
    return np.asarray(rows, np.float32)[None, ..., None]


FLAT_DARK, FLAT_GREY = (np.full((1, 12, 12, 1), x, np.float32) for x in (0.1, 0.45))
STRIPES = image(*[[0.0, 0.0, 0.2, 0.2] * 3] * 12)


def test_each_rule_prefers_its_source():
    w, v = begin("BrighterSharper", FLAT_GREY, STRIPES)
    assert w[..., 0].min() > 0.9 and v[..., 1].min() > 0.9
    w, v = begin("Sharper", FLAT_GREY, STRIPES)
    np.testing.assert_array_equal(w, v)
    assert v[..., 1].min() > 0.9


def test_what_is_weaker_than_noise_decides_nothing():
    noise = np.random.default_rng(0).normal(0, 1 / 255, FLAT_DARK.shape).astype(np.float32)
    _, v = begin("BrighterSharper", FLAT_DARK + noise, FLAT_DARK)
    assert np.abs(v - 0.5).max() < 0.25
    _, v = begin("BrighterSharper", STRIPES / 4, STRIPES)
    assert v[..., 1].min() > 0.9


@pytest.mark.parametrize(("name", "symmetric"), [("BrighterSharper", True), ("Sharper", False)])
def test_p_adds_to_the_logits_of_the_rule(name, symmetric):
    (a, b), _ = pairs(size=12)
    modules, networks = of(name, symmetric=symmetric)
    plain = build.linen_networks(*build.build(**SIZE, symmetric=symmetric))
    params = build.init_params(modules, jax.random.key(0), 1)
    found = meta.propose_weights(params.p, networks, (a, b), LOSS)
    rule = meta.propose_weights(None, networks, (a, b), LOSS, untaught=True)
    alone = meta.propose_weights(params.p, plain, (a, b), LOSS)
    for x, y, z in zip(found, rule, alone, strict=True):
        logits = np.log(y) + np.log(z)
        np.testing.assert_allclose(x, np.asarray(jax.nn.softmax(logits, -1)), rtol=1e-4)
        assert np.abs(np.asarray(z) - 0.5).max() > 1e-3  # it is not the rule alone


def test_the_gradient_of_p_passes_and_halves_are_where_there_is_no_rule():
    (a, b), _ = pairs(size=12)
    plain = build.linen_networks(*build.build(**SIZE))
    for half in meta.propose_weights(None, plain, (a, b), LOSS, untaught=True):
        np.testing.assert_array_equal(half, 0.5)
    modules, networks = of("BrighterSharper", symmetric=True)
    params = build.init_params(modules, jax.random.key(0), 1)
    gradient = jax.grad(lambda p: meta.propose_weights(p, networks, (a, b), LOSS)[0][..., 0].mean())(params.p)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradient["intensity"])) > 0


def test_a_warm_up_follows_the_rule():
    modules, networks = of("BrighterSharper")
    schedule = steps.Schedule(lr_f=1e-3, lr_r=1e-3)
    optimizers = steps.make_optimizers(schedule)
    params = build.init_params(modules, jax.random.key(0), 1)
    bright = {"a": np.full((1, 12, 12, 1), 40, np.uint8), "b": np.full((1, 12, 12, 1), 200, np.uint8)}
    state = steps.init_state(params, optimizers)
    _, metrics = jax.jit(steps.make_steps(networks, LOSS, optimizers, warmup=1)[1])(state, bright)
    assert metrics["w_brighter"] == pytest.approx(1 / (1 + np.exp(-15 * 160 / 255)), abs=1e-3)
