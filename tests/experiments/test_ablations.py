"""The rows of Table 5: what each replaces, against the same thing by hand; and that nothing else is touched."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stand_in import stand_in
from tiny import SIZE, batch_of, pairs

from refusion_jax.experiments.ablations import equal_weights, joint, kept_inner
from refusion_jax.experiments.ablations.concatenation import ConcatenationFusion
from refusion_jax.experiments.ablations.decision import DecisionFusion
from refusion_jax.experiments.ablations.own_attention import OwnAttentionFusion
from refusion_jax.experiments.ablations.ungated import UngatedFusion
from refusion_jax.fusing.tiles import fuse_tiled, make_passes
from refusion_jax.method import meta, steps
from refusion_jax.method.losses import LossSettings
from refusion_jax.models.fusion import FusionNet

LOSS = LossSettings(alpha1=0.7, alpha2=1.3, sobel_scale=0.25)
OPTIMIZERS = steps.Optimizers(optax.sgd(0.1), optax.sgd(0.2), optax.sgd(0.3))
INNER = steps.InnerLoop(eta_f=0.5, eta_r=0.4)
TRAIN, TEST = map(batch_of, pairs())


def test_1_the_weights_are_a_half_and_there_is_nothing_to_learn():
    (a, b), _ = pairs()
    (w, v), variables = equal_weights.EqualWeights().init_with_output(jax.random.key(0), a, b, a, b)
    assert variables == {}
    np.testing.assert_array_equal(np.stack([w, v]), np.full((2, *a.shape[:3], 2), 0.5))


def test_2_one_loss_trains_f_and_r():
    networks, params = stand_in()
    networks = networks._replace(propose=lambda p, *images: equal_weights.EqualWeights().apply({}, *images))
    state = steps.init_state(params, OPTIMIZERS)
    _, joint_step = joint.make_steps(networks, LOSS, OPTIMIZERS, INNER)
    after, metrics = jax.jit(joint_step)(state, TRAIN)

    def objective(f, r):
        images = steps.as_luma(TRAIN)
        half = jnp.full((*images[0].shape[:3], 2), 0.5)
        l_f, (fused, _) = meta.fusion_objective(f, networks, images, half, half, LOSS)
        return l_f + meta.reconstruction_objective(r, networks, fused, images, LOSS)[0]

    grad_f, grad_r = jax.grad(objective, (0, 1))(params.f, params.r)
    expected = (
        meta.descend(optax.sgd(rate), g, optax.sgd(rate).init(x), x)[0]
        for rate, g, x in ((0.1, grad_f, params.f), (0.2, grad_r, params.r))
    )
    chex.assert_trees_all_close((after.params.f, after.params.r), tuple(expected), rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_equal(after.params.p, params.p)
    assert int(after.step) == 1 and {"fusion", "reconstruction", "grad_norm_f"} <= metrics.keys()
    plain = jax.jit(steps.make_steps(networks, LOSS, OPTIMIZERS, INNER)[1])(state, TRAIN)[0]
    moved = optax.tree.norm(optax.tree.sub(plain.params.f, after.params.f))
    assert moved > 1e-4  # L_r reaches F


def test_3_the_inner_updates_are_kept():
    networks, params = stand_in()
    state = steps.init_state(params, OPTIMIZERS)
    keeping, _ = kept_inner.make_steps(networks, LOSS, OPTIMIZERS, INNER)
    after, _ = jax.jit(keeping)(state, TRAIN, TEST)
    plain = jax.jit(steps.make_steps(networks, LOSS, OPTIMIZERS, INNER)[0])(state, TRAIN, TEST)[0]
    inner, _ = meta.inner_update(params, networks, steps.as_luma(TRAIN), LOSS, optax.sgd(0.5), optax.sgd(0.4))
    chex.assert_trees_all_close((after.params.f, after.params.r), (inner.f, inner.r), rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(after.params.p, plain.params.p, rtol=1e-5)
    chex.assert_trees_all_equal(plain.params.f, params.f)


def test_4_both_errors_count():
    summed = dataclasses.replace(LOSS, reconstruction="refusion_jax.experiments.ablations.sum_loss:sum_loss")
    networks, params = stand_in()
    batch = pairs()[0]
    fused = networks.fuse(params.f, *batch)
    total, ((rebuilt_a, rebuilt_b), terms) = meta.reconstruction_objective(params.r, networks, fused, batch, summed)
    errors = [np.square(x - y) for x, y in zip((rebuilt_a, rebuilt_b), batch, strict=True)]
    np.testing.assert_allclose(terms["reconstruction_intensity"], np.mean(errors[0] + errors[1]), rtol=1e-5)
    larger, (_, by_max) = meta.reconstruction_objective(params.r, networks, fused, batch, LOSS)
    assert terms.keys() == by_max.keys() and terms["reconstruction_gradient"] > by_max["reconstruction_gradient"]
    assert larger < total < 2 * larger


@functools.cache
def initialised(kind):
    """(module, parameters) of the tiny size, drawn by NumPy: nothing to compile."""
    module, rng = kind(**SIZE), np.random.default_rng(1)
    x = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(module.init, jax.random.key(1), x, x)["params"]
    return module, jax.tree.map(lambda s: rng.uniform(-0.5, 0.5, s.shape).astype(np.float32), shapes)


def test_5_the_result_lies_between_the_sources():
    module, params = initialised(DecisionFusion)
    (a, b), _ = pairs()
    fused = np.asarray(module.apply({"params": params}, a, b))
    assert (np.minimum(a, b) <= fused).all() and (fused <= np.maximum(a, b)).all() and fused.std() > 0
    weight = FusionNet(**SIZE).apply({"params": params["decision"]}, a, b)
    np.testing.assert_allclose(fused, weight * a + (1 - weight) * b, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (
            ConcatenationFusion,
            {"attention1", "attention2", "gate", "project_out1", "project_out2", "qkv1", "qkv2", "value1", "value2"},
        ),
        (OwnAttentionFusion, set()),
        (UngatedFusion, {"gate", "project_out1", "project_out2", "value1", "value2"}),
    ],
)
def test_6_to_8_only_the_afm_changes(kind, missing):
    _, whole = initialised(FusionNet)
    _, params = initialised(kind)
    assert set(whole["fusion"]) - set(params.get("fusion", ())) == missing
    shapes = [jax.tree.map(jnp.shape, {k: v for k, v in tree.items() if k != "fusion"}) for tree in (whole, params)]
    assert shapes[0] == shapes[1]


def test_7_each_source_asks_with_its_own_query():
    """Equal sources in equal branches attend alike in both ways; others do not."""
    module, params = initialised(OwnAttentionFusion)
    cross = FusionNet(**SIZE)
    for one, other in (("project_in_1", "project_in_2"), ("encoder1", "encoder2")):
        params = {**params, other: params[one]}
    params = {**params, "fusion": {**params["fusion"], "qkv2": params["fusion"]["qkv1"]}}
    (a, b), _ = pairs()
    alike, unlike = ([m.apply({"params": params}, a, x) for m in (module, cross)] for x in (a, b))
    np.testing.assert_allclose(*alike, atol=1e-6)
    assert np.abs(unlike[0] - unlike[1]).max() > 1e-6


@pytest.mark.parametrize("kind", [ConcatenationFusion, UngatedFusion])
def test_they_are_fused_in_tiles_as_ours_is(kind):
    module, params = initialised(kind)
    a, b = np.random.default_rng(0).random((2, 20, 20)).astype(np.float32)
    whole = module.apply({"params": params}, a[None, :, :, None], b[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(fuse_tiled(make_passes(module, (16, 16)), params, a, b, room=None), whole, atol=1e-5)
