"""train.precision=bfloat16: narrow activations, but float32 parameters, losses, sums over pixels and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import LOSS, SIZE, batch_of, meta_gradient, pairs, tiny

from refusion_jax import config
from refusion_jax.errors import InputError
from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.meta import fusion_gradients
from refusion_jax.method.steps import init_state, make_inner_loop, make_optimizers, make_steps
from refusion_jax.models import build as networks
from refusion_jax.models.operators.depthwise import depthwise3x3, depthwise_correlation
from refusion_jax.models.operators.frames import grid_of, to_frame


def narrow():
    return networks.linen_networks(*networks.build(**SIZE), jnp.bfloat16)


def alignment(one, other):
    """Cosine of two trees, and the ratio of their norms."""
    x, y = (np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(t)]) for t in (one, other))
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y), np.linalg.norm(x) / np.linalg.norm(y)


def test_gradients_are_those_of_float32_but_for_rounding():
    """All three networks, the meta-gradient included; float32 comes out everywhere."""
    exact, params = tiny()
    train, test = pairs(batch=2, size=16)
    found = {}
    for name, nets, dtype in (("float32", exact, None), ("bfloat16", narrow(), jnp.bfloat16)):
        fusion = jax.jit(lambda params, train, nets=nets: fusion_gradients(params, nets, train, LOSS))
        (of_f, of_r, _), terms, images = fusion(params, train)
        of_p, _ = meta_gradient(dtype=dtype)(params, train, test, 1e-3, 1e-3)
        assert {x.dtype for x in jax.tree.leaves((of_f, of_r, of_p, terms, images))} == {np.dtype(np.float32)}
        found[name] = of_f, of_r, of_p, terms
    for one, other, least in zip(found["bfloat16"], found["float32"], (0.999, 0.999, 0.97, 0.999), strict=True):
        cosine, ratio = alignment(one, other)
        assert cosine > least and ratio == pytest.approx(1, abs=0.05)
    assert alignment(found["bfloat16"][0], found["float32"][0])[0] < 1 - 1e-9  # it is another arithmetic


@pytest.mark.parametrize("side", [9, 90])  # the form for small frames, and the one for large ones
def test_depthwise_sums_are_formed_in_float32(side):
    """Sums over thousands of pixels of equal sign would stop growing in bfloat16."""
    rng = np.random.default_rng(1)
    grid = grid_of(1, side, side, jnp.bfloat16)
    x, g = (to_frame(jnp.asarray(rng.random((1, side, side, 4)), jnp.bfloat16)) for _ in range(2))
    kernel = jnp.asarray(rng.random((3, 3, 4)), jnp.bfloat16)
    wide_grid = grid_of(1, side, side)
    for narrow_result, exact in (
        (depthwise3x3(x, kernel, grid), depthwise3x3(*(y.astype(jnp.float32) for y in (x, kernel)), wide_grid)),
        (depthwise_correlation(x, g, grid), depthwise_correlation(*(y.astype(jnp.float32) for y in (x, g)), wide_grid)),
    ):
        assert narrow_result.dtype == jnp.bfloat16
        np.testing.assert_allclose(narrow_result.astype(np.float32), exact, rtol=2**-8)


def test_steps_keep_parameters_in_float32():
    _, params = tiny()
    schedule = Schedule(lr_f=1e-3, lr_r=1e-3, lr_p=1e-3)
    optimizers = make_optimizers(schedule)
    meta_step, fusion_step = make_steps(narrow(), LOSS, optimizers, make_inner_loop(schedule))
    train, test = (batch_of(pair) for pair in pairs(size=16))
    state = init_state(params, optimizers)
    state, metrics = jax.eval_shape(fusion_step, state, train)
    state, more = jax.eval_shape(meta_step, state, train, test)
    kinds = {x.dtype for x in jax.tree.leaves((state.params, metrics, more))}
    assert kinds == {np.dtype(np.float32)}


def test_the_setting(tmp_path):
    assert config.resolve("meie", "paper", ["train.precision=bfloat16"]).train.precision == "bfloat16"
    with pytest.raises(InputError, match="train.precision must be float32 or bfloat16, got 'half'"):
        config.resolve("meie", "paper", ["train.precision=half"])
