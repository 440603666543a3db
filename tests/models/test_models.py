"""The networks: parity with the released F, agreement with plain NumPy, sizes, flat images."""

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest

from refusion_jax.fusing import model as inference
from refusion_jax.imaging.files import read_image
from refusion_jax.models import build as networks
from refusion_jax.models.blocks import attention_matrix, attention_sums, inverse_norm
from refusion_jax.models.build import init_params
from refusion_jax.runtime.compiling import run_once
from refusion_jax.weights import trees as parameters

TASKS = ("IVIF", "MIF", "MFIF", "MEIF")
PAIRS = {
    "IVIF": ("00710N", "00906N"),
    "MIF": ("MRI_PET_14", "MRI_PET_37"),
    "MFIF": ("14", "5"),
    "MEIF": ("AirBellowsGap", "ICCV_03"),
}


@pytest.fixture(scope="module")
def modules():
    return networks.build()


@pytest.fixture(scope="module")
def params(modules):
    return run_once(lambda key: init_params(modules, key), jax.random.key(3))


def jiggled(tree, seed=0):
    """Parameters away from their initial ones and zeros, so that no scale, bias or temperature goes untested."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + 0.2 * rng.standard_normal(x.shape).astype(x.dtype), tree)


@pytest.mark.parametrize("task", TASKS)
def test_f_agrees_with_the_released_network_on_random_input(reference, task):
    model = inference.load(reference / f"official_weights/ReFusion_{task}.pth")
    stored = np.load(reference / f"official_outputs/random_{task}.npz")
    for i in range(3):  # sizes 96x80 (batch 2), 67x91, 8x200
        x = stored[f"x{i}"].transpose(0, 2, 3, 1)
        ours = networks.build()[0].apply({"params": model.params.f}, x[..., :1], x[..., 1:])
        np.testing.assert_allclose(ours, stored[f"y{i}"].transpose(0, 2, 3, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS for n in PAIRS[t]])
def test_f_agrees_with_the_released_network_on_real_pairs(reference, task, name):
    model = inference.load(reference / f"official_weights/ReFusion_{task}.pth")
    stored = np.load(reference / f"official_outputs/{task}_{name}.npz")
    folders = {
        "IVIF": ("infrared", "visible"),
        "MIF": ("CT_PET_SPECT", "MRI"),
        "MFIF": ("near", "far"),
        "MEIF": ("under", "over"),
    }[task]
    a, b = (read_image(next((reference / "test_cases" / task / f).glob(f"{name}.*"))) for f in folders)
    np.testing.assert_allclose(model.network_output(a, b), stored["network_output"], rtol=0, atol=2e-5)


def test_a_symmetric_p_exchanges_the_weights_with_the_sources():
    """Whatever its parameters; the plain P does not."""
    x = np.random.default_rng(4).random((4, 2, 9, 7, 1)).astype(np.float32)
    for symmetric in (True, False):
        module = networks.build(4, 2, 1, 1, symmetric=symmetric)[2]
        p = {"params": jiggled(run_once(module.init, jax.random.key(0), *x)["params"])}
        weights = module.apply(p, *x)
        exchanged = [y[..., ::-1] for y in module.apply(p, x[1], x[0], x[3], x[2])]
        differ = [np.abs(one - other).max() for one, other in zip(weights, exchanged, strict=True)]
        assert (max(differ) < 1e-6) if symmetric else (min(differ) > 1e-3)
        assert all(np.std(y) > 1e-3 for y in weights)


def test_parameter_counts(params):
    # F: the released network (and the paper's 0.060 M). R and P: our reading of the paper, counted by hand
    # for width 16. RTB(d), d = 16 and 32: two norms, qkv 1x1 and depthwise, temperatures, 1x1, GDFN 1x1,
    # depthwise, 1x1.
    def rtb(d):
        return 4 * d + (d * 3 * d + 9 * 3 * d) + 8 + d * d + (d * 4 * d + 9 * 4 * d) + 2 * d * d

    rtb16, rtb32 = rtb(16), rtb(32)
    assert (rtb16, rtb32) == (3_640, 12_392)
    f, r, p = map(parameters.count, params)
    assert f == 59_856
    assert r == 2 * (9 * 16 + 2 * rtb16 + 9 * 16 * 16 + 9 * 16) == 19_744
    assert p == 2 * (2 * 9 * 16 + 4 * rtb16 + 2 * rtb32 + 9 * 32 * 16 + 1 + 9 * 16 * 2) == 89_058


def test_all_three_agree_with_plain_numpy(modules, params):
    rng = np.random.default_rng(1)
    a, b, ga, gb = rng.random((4, 7, 9)).astype(np.float32)
    f, r, p = (jiggled(t) for t in params)
    double = jax.tree.map(lambda x: x.astype(np.float64), (f, r, p))

    def wide(x):
        return x[None, :, :, None]

    fused = modules[0].apply({"params": f}, wide(a), wide(b))
    np.testing.assert_allclose(fused[0, ..., 0], plain.fuse(double[0], a, b), rtol=0, atol=4e-6)
    rebuilt = modules[1].apply({"params": r}, wide(a))
    for ours, slow in zip(rebuilt, plain.reconstruct(double[1], a), strict=True):
        np.testing.assert_allclose(ours[0, ..., 0], slow, rtol=0, atol=4e-6)
    weights = modules[2].apply({"params": p}, *map(wide, (a, b, ga, gb)))
    for ours, slow in zip(weights, plain.propose(double[2], a, b, ga, gb), strict=True):
        np.testing.assert_allclose(ours[0].transpose(2, 0, 1), slow, rtol=0, atol=5e-6)
        np.testing.assert_allclose(ours.sum(-1), 1, rtol=0, atol=1e-6)


def test_images_of_a_batch_do_not_mix(modules, params):
    a, b = np.random.default_rng(2).random((2, 3, 12, 10, 1)).astype(np.float32)
    together = modules[0].apply({"params": params[0]}, a, b)
    alone = modules[0].apply({"params": params[0]}, a[1:2], b[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=0, atol=1e-6)


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
