"""Slices of two volumes: one attention and one range for all of them."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from refusion_jax.errors import InputError
from refusion_jax.fusing.volumes import SAMPLED, fuse_slices, maps_of_slices, samples


@dataclass
class Halves:
    """In place of a Model: a quarter of each source's luma, counted."""

    task: str | None = "mif"
    calls: list = field(default_factory=list)

    def network_output(self, a, b, held=None, seen=None):
        self.calls.append(held)
        if seen is not None:
            seen.append(np.float64(a.mean() + b.mean()))
        return (a / np.float32(65535) + b / np.float32(65535)).astype(np.float32) / 4

    def maps(self, a, b):
        w = np.stack([a, b], -1) / np.float32(65535)
        return w, 1 - w


def two(count=6, size=40, peak=60000):
    """Volumes whose slices grow brighter, the first and the last empty."""
    rows, columns = np.mgrid[:size, :size] / (size - 1)
    strength = np.linspace(0.2, 1, count)[:, None, None] * ((np.arange(count) % (count - 1)) > 0)[:, None, None]
    return [(peak * strength * part).astype(np.uint16) for part in (rows, columns)]


def test_one_range_for_all_slices():
    a, b = two()
    model, out = Halves(), np.empty(a.shape, np.uint16)
    fuse_slices(model, a, b, out)
    raw = (a / 65535 + b / 65535) / 4
    used = raw[:, 8:-8, 8:-8]
    slope, intercept = np.polyfit(raw[1:-1, 8:-8, 8:-8].ravel(), out[1:-1, 8:-8, 8:-8].ravel() / 65535.0, 1)
    assert slope == pytest.approx(a.max() / 65535 / (used.max() - used.min()), rel=1e-3)
    np.testing.assert_allclose(out[:, 8:-8, 8:-8] / 65535, slope * used + intercept, atol=1e-4)
    assert out[0].max() == 0


@pytest.mark.parametrize("rule", ["minmax", "clip"])
def test_other_ranges_hold_for_the_whole_volume_too(rule):
    a, b = two()
    out = np.empty(a.shape, np.uint16)
    fuse_slices(Halves(), a, b, out, rule)
    raw = (a / 65535 + b / 65535) / 4
    expected = raw if rule == "clip" else np.clip(raw / raw[:, 8:-8, 8:-8].max(), 0, 1)
    np.testing.assert_allclose(out / 65535, expected, atol=1e-4)


def test_one_attention_of_slices_that_show_something_and_air_once():
    a, b = two(count=100, size=8)
    a[10:40] = b[10:40] = 0
    model, steps = Halves(), []
    fuse_slices(model, a, b, np.empty(a.shape, np.uint16), progress=lambda: steps.append(1))
    chosen = samples(a, b)
    assert 16 < len(chosen) <= SAMPLED and not {0, 10, 39, 99} & set(chosen)
    held = [one for one in model.calls if one is not None]
    assert len(model.calls) - len(held) == len(chosen) and len(held) == 100 - 32 + 1  # all air is one
    assert len({id(one) for one in held}) == 1
    assert held[0] == [pytest.approx(sum(float(x[i].mean()) for x in (a, b) for i in chosen))]
    assert len(steps) == len(chosen) + 100


@pytest.mark.parametrize("rule", ["sources", "minmax", "clip"])
def test_two_volumes_that_show_nothing(rule):
    a, out = np.zeros((3, 8, 8), np.uint16), np.ones((3, 8, 8), np.uint16)
    assert samples(a, a) == []
    fuse_slices(Halves(), a, a, out, rule)
    assert not out.any()


def test_colour_and_depth():
    a, b = two()
    color = np.stack([a // 257, a // 257 // 2, a * 0], -1).astype(np.uint8)

    class Luma(Halves):
        def network_output(self, a, b, held=None, seen=None):
            return super().network_output(a[..., 0] * np.float32(257), b, held, seen)

    out, grey = np.empty(color.shape, np.uint8), np.empty(a.shape, np.uint8)
    fuse_slices(Luma(), color, b, out)
    fuse_slices(Luma(), color, b, grey)
    middle = out[3, 20, 20].astype(int)
    assert middle[0] > middle[1] > middle[2] and 0 < grey[3, 20, 20] < 255


def test_maps_are_the_weights_of_the_first_source():
    a, b = two()
    w, v = np.empty(a.shape, np.uint16), np.empty(a.shape, np.uint16)
    maps_of_slices(Halves(), a, b, w, v)
    assert np.abs(w.astype(int) - a).max() <= 1 and np.abs(65535 - v.astype(int) - a).max() <= 1


def test_what_does_not_go_together():
    a, b = two()
    for model, other, rule in ((Halves(), b[1:], "sources"), (Halves(), b, "run"), (Halves("meie"), b, "sources")):
        with pytest.raises(InputError):
            fuse_slices(model, a, other, np.empty(a.shape, np.uint16), rule)
