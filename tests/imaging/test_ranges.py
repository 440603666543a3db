"""The range step: closed forms of each rule, and what black, flat and faint sources give."""

import numpy as np
import pytest

from refusion_jax.errors import InputError
from refusion_jax.imaging.ranges import RANGES, Spans, span_of, to_range


def flat(level, shape=(9, 11)):
    return np.full(shape, level, np.float32)


def ramp(low, high, shape=(9, 11)):
    return np.linspace(low, high, shape[0] * shape[1], dtype=np.float32).reshape(shape)


def test_minmax_and_clip():
    fused = np.array([[0.2, 0.3], [0.4, 0.6]], np.float32)
    np.testing.assert_allclose(to_range(fused, [fused, fused], "minmax"), [[0, 0.25], [0.5, 1]], atol=1e-6)
    assert np.array_equal(to_range(fused, [fused, fused], "clip"), fused)
    assert np.array_equal(to_range(fused * 2, [fused, fused], "clip"), np.minimum(fused * 2, 1))


def test_sources_span_the_result():
    a, b = ramp(0.1, 0.5), ramp(0.2, 0.8)
    result = to_range(ramp(0.3, 0.4), [a, b], "sources")
    # The extremes inside the border of two pixels become those of both sources; the border is clipped to them.
    np.testing.assert_allclose([result[2, 2], result[-3, -3]], [0.1, 0.8], atol=1e-5)
    np.testing.assert_allclose(result[4, 5], 0.45, atol=1e-5)
    assert result.dtype == np.float32 and result.min() >= np.float32(0.1) and result.max() <= np.float32(0.8)


def test_the_border_does_not_decide_the_scale():
    fused = ramp(0.3, 0.4)
    framed = fused.copy()
    framed[:2], framed[-2:], framed[:, :2], framed[:, -2:] = 0, 1, 1, 0
    inside = slice(2, -2), slice(2, -2)
    whole, result = (to_range(x, [ramp(0, 1), ramp(0, 1)]) for x in (fused, framed))
    assert np.array_equal(result[inside], whole[inside]) and {result.min(), result.max()} == {0, 1}


def test_noise_stays_noise():
    # What F's border does to such an output is ten times its noise, and fades over eight pixels.
    noise = np.random.default_rng(0).integers(0, 2, (64, 80)).astype(np.float32)
    y, x = np.mgrid[:64, :80]
    inward = np.minimum.reduce([y, 63 - y, x, 79 - x])
    fused = 0.5 + 1e-3 * noise + np.where(inward < 8, 0.02 * (8 - inward) / 8, 0).astype(np.float32)
    sources = [(128 + noise) / 255, (128 + noise[::-1]) / 255]
    inside = np.rint(255 * to_range(fused, sources))[8:-8, 8:-8]
    assert np.array_equal(inside, 128 + noise[8:-8, 8:-8])


def test_one_step_for_a_run():
    dark, bright = ramp(0.2, 0.3), ramp(0.25, 0.6)
    spans = Spans()
    spans.add(dark, [span_of(ramp(0, 0.2)), span_of(ramp(0.1, 0.4))])
    spans.add(bright, [span_of(ramp(0, 0.9)), span_of(ramp(0.1, 0.4))])
    step = spans.step()
    # Equal outputs give equal levels in both pictures, and the two together what they would give as one.
    as_one = to_range(np.concatenate([dark[2:-2, 2:-2], bright[2:-2, 2:-2]]), [(0.0, 0.9), (0.1, 0.4)])
    assert np.ptp(step(dark)) < np.ptp(as_one) and 0 <= step(dark).min() < step(bright).max() <= 0.9
    np.testing.assert_allclose(step(flat(0.28)), step(flat(0.28, (3, 3)))[0, 0])


@pytest.mark.parametrize("level", [0, 0.3, 1])
def test_constant_sources_give_their_level(level):
    # F's output of a constant pair is not constant: its zero padding shows at the border.
    for fused in (ramp(0.02, 0.2), flat(0.5)):
        np.testing.assert_array_equal(to_range(fused, [flat(level), flat(level)]), flat(level))


def test_two_constants_give_a_constant_between_them():
    result = to_range(ramp(0.6, 0.75), [flat(0.3), flat(0.7)])
    assert np.ptp(result) < 1e-6 and 0.3 <= result[0, 0] <= 0.7


def test_contrast_that_no_source_has_is_not_made():
    # The levels between a dark and a bright source of little contrast are in neither of them.
    result = to_range(ramp(0.2, 0.9), [ramp(0.1, 0.15), ramp(0.7, 0.72)])
    assert np.ptp(result[2:-2, 2:-2]) == pytest.approx(0.07, abs=1e-5)
    assert 0.1 <= result.min() and result.max() <= np.float32(0.72)


def test_three_sources():
    fused = ramp(0.2, 0.9)
    result = to_range(fused, [ramp(0.7, 0.9), ramp(0, 0.4), ramp(0.3, 0.75)])[2:-2, 2:-2]
    assert np.allclose([result.min(), result.max()], [0, 0.9], atol=1e-6)
    apart = to_range(fused, [ramp(0.7, 0.9), ramp(0, 0.4), ramp(0.1, 0.3)])[2:-2, 2:-2]
    assert np.ptp(apart) == pytest.approx(0.6, abs=1e-5)


def test_an_output_without_contrast_keeps_its_level():
    for rule in RANGES:
        np.testing.assert_allclose(to_range(flat(0.4), [ramp(0, 1), ramp(0, 1)], rule), 0.4, atol=1e-6)
    # Rounding noise is not raised to a picture.
    noise = flat(0.4) + 1e-7 * np.random.default_rng(0).random((9, 11)).astype(np.float32)
    assert np.ptp(to_range(noise, [ramp(0, 1), ramp(0, 1)])) < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (4, 5), (5, 5)])
def test_small_pictures(shape):
    result = to_range(ramp(0.3, 0.4, shape), [ramp(0, 1, shape), ramp(0, 1, shape)])
    assert result.shape == shape and 0 <= result.min() <= result.max() <= 1


def test_unknown_rule():
    with pytest.raises(InputError, match="range must be one of sources, minmax, clip, got 'wide'"):
        to_range(flat(0.5), [flat(0), flat(1)], "wide")
