"""P's maps tile by tile: those of the whole image, for both forms of P and with a rule, in little memory."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from tiny import SIZE, tiny

from refusion_jax.fusing.model import Model
from refusion_jax.fusing.proposing import make_propose
from refusion_jax.fusing.tiles import fuse_tiled, make_passes
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import propose_weights
from refusion_jax.models import build as networks
from refusion_jax.models.proposal import ProposalNet, WeightProposal
from refusion_jax.models.ruled import BrighterSharper

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("symmetric", "channels"), [(False, 1), (True, 2)])
def test_logits_in_tiles_are_those_of_the_whole_image(symmetric, channels):
    module = WeightProposal(**SIZE, symmetric=symmetric)
    a, b = RNG.random((2, 45, 37, channels)).astype(np.float32)
    params = module.init(jax.random.key(1), a[None], b[None])["params"]
    whole = np.asarray(module.apply({"params": params}, a[None], b[None]))[0]
    passes = make_passes(module, (16, 12))
    for room in (None, 0):
        tiled = fuse_tiled(passes, params, a, b, room=room)
        assert tiled.shape == whole.shape == (45, 37, 2) and np.abs(tiled - whole).max() < 1e-5


def maps_of(module, loss, shape=(30, 23)):
    """(w and v by make_propose, w and v of the whole image)."""
    modules = networks.build(**SIZE)[:2]
    nets = networks.linen_networks(*modules, module)
    channels = networks.gradient_channels(loss.sobel_form, loss.proposal_form)
    params = networks.init_params((*modules, module), jax.random.key(2), channels).p
    a, b = RNG.random((2, *shape)).astype(np.float32)
    whole = propose_weights(params, nets, (a[None, :, :, None], b[None, :, :, None]), loss)
    seen = []
    found = make_propose(module, nets, loss)(params, a, b, progress=lambda *x: seen.append(x))
    assert not seen or seen[-1][0] == seen[-1][1] == len(seen)
    return found, [np.asarray(x)[0] for x in whole]


@pytest.mark.parametrize(
    ("module", "loss"),
    [
        (ProposalNet(**SIZE), LossSettings(proposal_form="components", w_floor=0.2)),
        (BrighterSharper(**SIZE, symmetric=True), LossSettings()),
    ],
)
def test_maps_are_those_of_the_whole_image(module, loss):
    for found, expected in zip(*maps_of(module, loss), strict=True):
        assert found.shape == (30, 23, 2) and found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-5


class Own(ProposalNet):
    """A P of one's own that is more than its rules."""

    def __call__(self, a, b, gradient_a, gradient_b):
        w, v = super().__call__(a, b, gradient_a, gradient_b)
        return w[..., ::-1], nn.softmax(v, -1)


def test_a_p_of_one_s_own_sees_the_whole_image():
    for found, expected in zip(*maps_of(Own(**SIZE), LossSettings()), strict=True):
        assert np.abs(found - expected).max() < 1e-6


def test_the_limit_on_memory_counts():
    seen = []
    functions = {"propose": lambda p, a, b, room, progress: seen.append(room) or (np.zeros((*a.shape, 2)),) * 2}
    for limit in (2**20, 2**32):
        model = Model(tiny()[1], settings=networks.ModelSettings(**SIZE), max_memory=limit)
        model._functions.update(functions)
        model.maps(*RNG.random((2, 16, 16)))
    assert seen[0] == 0 and 2**31 < seen[1] < 2**32
