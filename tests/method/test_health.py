"""The health numbers of P on maps whose values are known."""

import numpy as np

from refusion_jax.method.health import proposal_health


def maps(first):
    return np.stack([first, 1 - first], -1)[None].astype(np.float32)


def test_collapsed_equal_and_ideal_maps():
    rng = np.random.default_rng(0)
    textured, flat = rng.random((16, 16)), np.full((16, 16), 0.5)
    a = np.where(np.arange(16) < 8, textured, flat).astype(np.float32)[None, ..., None]
    b = np.where(np.arange(16) < 8, flat, textured).astype(np.float32)[None, ..., None]
    sharper_a = np.broadcast_to(np.arange(16) < 8, (16, 16)).astype(float)

    good = proposal_health(maps(np.ones((16, 16))), maps(sharper_a), a, b)
    assert good["w_imbalance"] == 1 and good["w_spread"] == 0
    assert good["v_sharper"] > 0.95 and abs(good["v_spread"] - 0.5) < 1e-6
    bad = proposal_health(maps(flat), maps(1 - sharper_a), a, b)
    assert bad["w_imbalance"] == 0 and bad["v_sharper"] < 0.05 and bad["v_imbalance"] == 1
    brighter = proposal_health(maps((a > b)[0, ..., 0]), maps(flat), a, b)
    assert brighter["w_brighter"] == 1


def test_no_gradient_anywhere_counts_as_chance():
    flat = np.full((1, 8, 8, 1), 0.5, np.float32)
    assert proposal_health(maps(np.ones((8, 8))), maps(np.ones((8, 8))), flat, flat)["v_sharper"] == 0.5
