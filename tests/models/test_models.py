"""The networks: parity with the released F, agreement with plain NumPy, sizes, initial parameters, flat images."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from flax import traverse_util

from refusion_jax.fusing import model as inference
from refusion_jax.models import build as networks
from refusion_jax.models.blocks import attention_matrix, attention_sums, inverse_norm
from refusion_jax.models.build import init_params
from refusion_jax.weights import trees as parameters

SMALL = {"width": 6, "heads": 3, "blocks": 2, "expansion": 1}


@pytest.fixture(scope="module")
def modules():
    return networks.build(**SMALL)


def drawn(shapes, seed=0):
    """Parameters of these shapes, none at a special value, so that no scale, bias or temperature goes untested."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (0.4 * rng.standard_normal(x.shape)).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def params(modules):
    return drawn(networks.expected_shapes(modules))


@pytest.fixture(scope="module")
def released_f():
    """F of the released size, compiled once for all tasks."""
    return jax.jit(networks.build()[0].apply)


# The pictures of real pairs are compared in tests/fusing/test_model.py.
@pytest.mark.parametrize("task", ("IVIF", "MIF", "MFIF", "MEIF"))
def test_f_agrees_with_the_released_network_on_random_input(reference, released_f, task):
    model = inference.load(reference / f"official_weights/ReFusion_{task}.pth")
    stored = np.load(reference / f"official_outputs/random_{task}.npz")
    for i in range(3):  # sizes 96x80 (batch 2), 67x91, 8x200
        x = stored[f"x{i}"].transpose(0, 2, 3, 1)
        ours = released_f({"params": model.params.f}, x[..., :1], x[..., 1:])
        np.testing.assert_allclose(ours, stored[f"y{i}"].transpose(0, 2, 3, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_symmetric_p_exchanges_the_weights_with_the_sources(symmetric):
    """Whatever its parameters; the plain P does not."""
    x = np.random.default_rng(4).random((4, 2, 9, 7, 1)).astype(np.float32)
    modules = networks.build(width=4, heads=2, blocks=1, expansion=1, symmetric=symmetric)
    p = {"params": drawn(networks.expected_shapes(modules, 1, ("P",)).p)}
    apply = jax.jit(modules[2].apply)
    weights = apply(p, *x)
    exchanged = [y[..., ::-1] for y in apply(p, x[1], x[0], x[3], x[2])]
    differ = [np.abs(one - other).max() for one, other in zip(weights, exchanged, strict=True)]
    assert (max(differ) < 1e-6) if symmetric else (min(differ) > 1e-3)
    assert all(np.std(y) > 1e-3 for y in weights)


def test_parameter_counts():
    # F: the released network (and the paper's 0.060 M). R and P: our reading of the paper, counted by hand
    # for width 16. RTB(d), d = 16 and 32: two norms, qkv 1x1 and depthwise, temperatures, 1x1, GDFN 1x1,
    # depthwise, 1x1.
    def rtb(d):
        return 4 * d + (d * 3 * d + 9 * 3 * d) + 8 + d * d + (d * 4 * d + 9 * 4 * d) + 2 * d * d

    rtb16, rtb32 = rtb(16), rtb(32)
    assert (rtb16, rtb32) == (3_640, 12_392)
    f, r, p = map(parameters.count, networks.expected_shapes(networks.build()))
    assert f == 59_856
    assert r == 2 * (9 * 16 + 2 * rtb16 + 9 * 16 * 16 + 9 * 16) == 19_744
    assert p == 2 * (2 * 9 * 16 + 4 * rtb16 + 2 * rtb32 + 9 * 32 * 16 + 1 + 9 * 16 * 2) == 89_058


def test_initial_parameters():
    """Kernels as PyTorch draws them, uniform in +-1/sqrt(fan-in); norms and attention without effect; by the key."""
    modules = networks.build(width=4, heads=2, blocks=1, expansion=1)
    one, other = (init_params(modules, jax.random.key(seed)) for seed in (3, 4))
    chex.assert_trees_all_equal_shapes(one, networks.expected_shapes(modules))
    kernels = {}
    for (name, x), (_, y) in zip(*(traverse_util.flatten_dict(t._asdict()).items() for t in (one, other)), strict=True):
        if name[-1] in ("kernel", "pointwise", "depthwise", "project_out"):
            kernels[name] = np.asarray(x) * np.sqrt(np.prod(x.shape[:-1]))
            assert not np.array_equal(x, y), name
        else:
            value = {"scale": 1, "temperature": 1, "bias": 0, "negative_slope": 0.25}[name[-1]]
            np.testing.assert_array_equal(x, np.full(x.shape, value, np.float32))
    pooled = np.concatenate([np.ravel(x) for x in kernels.values()])
    assert np.abs(pooled).max() <= 1 and np.abs(pooled).mean() == pytest.approx(0.5, abs=0.02)
    assert len({x.tobytes() for x in kernels.values()}) == len(kernels), "no two are drawn alike"


def test_all_three_agree_with_plain_numpy(modules, params):
    rng = np.random.default_rng(1)
    a, b, ga, gb = rng.random((4, 7, 9)).astype(np.float32)
    double = jax.tree.map(lambda x: x.astype(np.float64), params)
    f, r, p = (jax.jit(module.apply) for module in modules)

    def wide(x):
        return x[None, :, :, None]

    fused = f({"params": params.f}, wide(a), wide(b))
    np.testing.assert_allclose(fused[0, ..., 0], plain.fuse(double.f, a, b), rtol=0, atol=4e-6)
    for ours, slow in zip(r({"params": params.r}, wide(a)), plain.reconstruct(double.r, a), strict=True):
        np.testing.assert_allclose(ours[0, ..., 0], slow, rtol=0, atol=4e-6)
    weights = p({"params": params.p}, *map(wide, (a, b, ga, gb)))
    for ours, slow in zip(weights, plain.propose(double.p, a, b, ga, gb), strict=True):
        np.testing.assert_allclose(ours[0].transpose(2, 0, 1), slow, rtol=0, atol=5e-6)
        np.testing.assert_allclose(ours.sum(-1), 1, rtol=0, atol=1e-6)
        assert np.std(ours) > 1e-3


def test_images_of_a_batch_do_not_mix(modules, params):
    a, b = np.random.default_rng(2).random((2, 3, 12, 10, 1)).astype(np.float32)
    f = jax.jit(modules[0].apply)
    together = f({"params": params.f}, a, b)
    alone = f({"params": params.f}, a[1:2], b[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=0, atol=1e-5)
    assert np.std(alone) > 1e-3


def test_attention_mixes_within_heads_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 30, 8))
    matrix = attention_matrix(attention_sums(q, k, 1), jnp.ones(4))
    blocks = np.kron(np.eye(4), np.ones((2, 2)))
    assert np.all((np.asarray(matrix[0]) > 0) == (blocks > 0))
    np.testing.assert_allclose(matrix.sum(-1), 1, rtol=1e-6)


def test_inverse_norm_is_finite_at_zero_to_third_order():
    def total(x):
        return jnp.sum(inverse_norm(jnp.sum(x * x, 0)) * x)

    third = jax.grad(lambda y: jnp.sum(jax.grad(lambda x: jnp.sum(jax.grad(total)(x)))(y)))
    for x in (jnp.zeros((4, 2)), jnp.full((4, 2), 1e-30), jnp.ones((4, 2))):
        assert np.all(np.isfinite(third(x)))


def test_inverse_norm_is_zero_up_to_its_threshold_and_exact_above():
    """At eps = 1e-12, where PyTorch's normalisation clips the norm; smaller ones mean a feature that is zero."""
    norms = np.array([0, 1e-20, 0.99e-12, 1.01e-12, 1e-6, 1, 1e15], np.float32)
    np.testing.assert_allclose(
        inverse_norm(jnp.square(norms)), np.where(norms > 1e-12, 1 / np.maximum(norms, 1e-30), 0), rtol=1e-6
    )
    np.testing.assert_allclose(inverse_norm(jnp.square(norms), 0.5), [0, 0, 0, 0, 0, 1, 1e-15], rtol=1e-6)
