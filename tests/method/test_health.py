"""The health numbers of P on maps, and of R on pictures, whose values are known."""

import jax
import numpy as np
import pytest

from refusion_jax.method.health import proposal_health, reconstruction_health


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


def test_maps_that_favour_either_source_here_and_there():
    """w_a is 0.9 on the left half and 0.2 on the right; a is the brighter on the left three quarters."""
    column = np.broadcast_to(np.arange(16), (16, 16))
    w_a = np.where(column < 8, 0.9, 0.2)
    a = np.where(column < 12, 0.8, 0.1).astype(np.float32)[None, ..., None]
    b = np.full((1, 16, 16, 1), 0.5, np.float32)
    found = proposal_health(maps(w_a), maps(1 - w_a), a, b)
    expected = {"w_imbalance": (0.8 + 0.6) / 2, "v_imbalance": 0.7, "w_spread": 0.35, "v_spread": 0.35}
    expected["w_brighter"] = 0.5 * 0.9 + 0.25 * 0.2 + 0.25 * 0.8
    # The only edges lie at columns 11 and 12, in a, where v gives a 0.8.
    expected["v_sharper"] = 1.0
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5), name


def test_equal_gradients_of_unequal_pictures_count_as_chance():
    a = np.random.default_rng(0).random((1, 16, 16, 1)).astype(np.float32)
    assert proposal_health(maps(np.ones((16, 16))), maps(np.ones((16, 16))), a, a + np.float32(0.5))["v_sharper"] == 0.5


def rebuilt(seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 4, 8, 8, 1)).astype(np.float32)
    return a, b


def test_rebuilt_pictures_against_known_ones():
    a, b = rebuilt()
    middle = (a + b) / 2
    perfect = reconstruction_health((a, b), a, b)
    assert (perfect["rebuilt_error_a"], perfect["rebuilt_error_b"], perfect["rebuilt_distance"]) == (0, 0, 1)
    mean = reconstruction_health((middle, middle), a, b)
    assert [float(x) for x in mean.values()] == pytest.approx([1, 1, 0], abs=1e-6)
    exchanged = reconstruction_health((b, a), a, b)
    assert [float(x) for x in exchanged.values()] == pytest.approx([4, 4, 1], rel=1e-6)
    one = reconstruction_health((a, middle), a, b)
    assert [float(x) for x in one.values()] == pytest.approx([0, 1, 0.25], rel=1e-6)


def test_equal_sources_have_nothing_to_tell_apart():
    a, b = rebuilt()
    assert [float(x) for x in reconstruction_health((a, b), a, a).values()] == [1, 1, 0]


def test_parts_of_a_batch_have_the_health_of_the_whole():
    """Over a mesh axis; emulated by vmap, whose named axis has the same collectives."""
    a, b = rebuilt()
    other_a, other_b = rebuilt(1)
    w = np.concatenate([other_a, 1 - other_a], -1)

    def both(w, a, b, other_a, other_b, axis=None):
        return proposal_health(w, w, a, b, axis) | reconstruction_health((other_a, other_b), a, b, axis)

    parts = [x.reshape(2, 2, *x.shape[1:]) for x in (w, a, b, other_a, other_b)]
    divided = jax.vmap(lambda *x: both(*x, axis="data"), axis_name="data")(*parts)
    for name, value in both(w, a, b, other_a, other_b).items():
        np.testing.assert_allclose(divided[name], [value] * 2, rtol=1e-5, err_msg=name)


def test_a_single_pixel_that_differs_is_counted_as_one():
    flat = np.full((1, 8, 8, 1), 0.5, np.float32)
    corner = flat.copy()
    corner[0, 0, 0] += 0.015  # its gradient is 0.011, that of its neighbours 0.0075 and less
    assert proposal_health(maps(np.ones((8, 8))), maps(np.ones((8, 8))), corner, flat)["v_sharper"] == 1
