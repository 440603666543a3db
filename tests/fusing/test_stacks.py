"""Brackets and focus stacks: what one picture of many frames must hold, and that it beats any two of them."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scripts import picture, tiny_info, tiny_trees

from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.fusing import model as inference
from refusion_jax.fusing.stacks import distinct, fuse_lumas, fuse_stack
from refusion_jax.imaging.blending import Blend
from refusion_jax.imaging.color import rgb_to_ycrcb, to_luma
from refusion_jax.imaging.files import read_image
from refusion_jax.metrics import mef_ssim
from refusion_jax.scenes.rooms import room
from refusion_jax.scenes.sensors import Sensor
from refusion_jax.weights.trees import from_names


@pytest.fixture(scope="module")
def model():
    return inference.from_params(from_names(tiny_trees()), tiny_info(), "tiny")


def bracket(color=True, n=4):
    return [picture(3, color=color, mean=mean) for mean in np.linspace(40, 210, n)]


def test_two_frames_are_a_pair(model):
    a, b = bracket(n=2)
    for how in ({}, {"gray": True}, {"range": "clip"}):
        assert np.array_equal(fuse_stack(model, [a, b], **how), model.fuse(a, b, **how))
    assert np.array_equal(fuse_stack(model, [a, b, a.copy(), b]), model.fuse(a, b))


def test_the_order_of_a_bracket_does_not_matter(model):
    frames = bracket(n=5)
    first = fuse_stack(model, frames)
    assert first.dtype == np.uint8 and first.shape == frames[0].shape
    for order in ([4, 2, 0, 1, 3], [1, 0, 4, 3, 2]):
        assert np.abs(fuse_stack(model, [frames[i] for i in order]).astype(int) - first).max() <= 1
    as_floats = fuse_stack(model, [frame / np.float32(255) for frame in frames])
    assert as_floats.dtype == np.float32 and np.abs(as_floats * 255 - first).max() <= 0.51
    gray = fuse_stack(model, frames, gray=True)
    lumas = [to_luma(frame) for frame in frames]
    low, high = min(map(np.min, lumas)), max(map(np.max, lumas))
    assert gray.ndim == 2 and low - 1 <= gray.min() and gray.max() <= high + 1
    assert abs(gray[2:-2, 2:-2].min() - low) <= 1 and abs(gray[2:-2, 2:-2].max() - high) <= 1
    stretched = fuse_stack(model, frames, "minmax", gray=True)
    assert stretched.min() == 0 and stretched.max() == 255
    assert np.array_equal(fuse_stack(model, [*map(to_luma, [f / np.float32(255) for f in frames])]).ndim, 2)


def test_what_the_network_is_given():
    """meie: the darker and the brighter half, once; mfif: each frame with the next; never a result again."""
    lumas = [np.full((20, 24), level, np.float32) for level in (0.9, 0.1, 0.5, 0.3, 0.7)]
    for task, n, expected in (
        ("meie", 5, [(3, 7)]),
        ("meie", 4, [(3, 7)]),
        ("meie", 2, [(1, 9)]),
        ("mfif", 5, [(9, 1), (1, 5), (5, 3), (3, 7)]),
    ):
        seen = []
        frames = lumas[:n] if n != 4 else [lumas[i] for i in (0, 1, 2, 4)]
        fuse_lumas(frames, task, lambda a, b, seen=seen: seen.append((a.mean(), b.mean())) or a)
        means = [(1, 3, 5), (5, 7, 9)] if n == 5 else [(1, 5), (7, 9)]
        if task == "meie" and n > 2:
            expected = [tuple(np.mean(half) for half in means)]
        assert np.allclose(np.multiply(seen, 10), expected, atol=0.01)


def test_a_blend_takes_each_part_from_where_it_is_and_shows_no_seam():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 37, 64)).astype(np.float32)
    weight = np.where(np.arange(64) < 32, 1, 1e-6) * np.ones((37, 1))
    blend = Blend(one.shape)
    blend.add(one, weight)
    blend.add(other + 1, weight[:, ::-1])
    blended = blend.result()
    rows = blended.mean(0)
    assert np.corrcoef(blended[:, :20].ravel(), one[:, :20].ravel())[0, 1] > 0.9
    assert np.corrcoef(blended[:, -20:].ravel(), other[:, -20:].ravel())[0, 1] > 0.9
    assert rows[:16].mean() < 0.75 and rows[-16:].mean() > 1.25  # levels follow, over a wide band
    same = Blend(one.shape)
    for weight in (rng.random(one.shape) + 0.1, rng.random(one.shape) + 0.1):
        same.add(one, weight)
    assert np.abs(same.result() - one).max() < 1e-5


def test_the_colour_of_all_frames(model):
    """A frame without colour has no say, and the colour is that of the one that has it."""
    grey = [picture(1, mean=60), picture(2, mean=120)]
    red = np.stack([picture(3, mean=180), picture(3, mean=90), picture(3, mean=90)], -1)
    fused = fuse_stack(model, [*grey, red], range="clip")
    inside = (fused > 0).all(-1) & (fused < 255).all(-1)
    assert inside.any()
    assert np.abs(rgb_to_ycrcb(fused)[..., 1:] - rgb_to_ycrcb(red)[..., 1:])[inside].max() < 1.5


def test_stacks_that_cannot_be_fused(model):
    a, b, c = bracket(n=3)
    for frames, words in (
        ([a], "at least two different"),
        ([a, a], "at least two different"),
        ([], "at least two"),
        ([a, b, c[1:]], "must have one size"),
    ):
        with pytest.raises(InputError, match=words):
            fuse_stack(model, frames)
    other = inference.from_params(from_names(tiny_trees()), tiny_info("ivif"), "tiny")
    with pytest.raises(InputError, match="stacks are for the tasks meie and mfif, got ivif"):
        fuse_stack(other, [a, b])
    assert distinct([a, b, a, b[:, :, 0], b]) == [0, 1, 3]


def exposures(seed, count):
    """A bracket of a built-in room: luma uint8, three to eight stops from the first to the last."""
    rng = np.random.default_rng(seed)
    light = np.maximum(room(rng, (96, 128), "evening").canvas[:3], 1e-6)
    low, high = np.log2(0.6 / np.percentile(light[1], 98)), np.log2(0.25 / np.percentile(light[1], 15))
    sensor = Sensor.random(rng, 20000, 20000)
    stops = np.linspace(low, np.clip(high, low + 3, low + 8), count)
    return [np.rint(to_luma(255 * sensor.expose(light, 2.0**stop, rng))).astype(np.uint8) for stop in stops]


def test_brackets_beat_any_two_of_their_frames(reference):
    """By the information of all frames, against the pair that is best with hindsight; the mean of some brackets."""
    model = inference.load(reference / "official_weights" / "ReFusion_MEIF.pth")
    gains, over_ends = [], []
    for seed in range(10, 14):
        frames = exposures(seed, 3 + seed % 2)
        stack = mef_ssim(frames, fuse_stack(model, frames))
        pairs = {
            (i, j): mef_ssim(frames, model.fuse(frames[i], frames[j]))
            for i, j in itertools.combinations(range(len(frames)), 2)
        }
        gains.append(stack - max(pairs.values()))
        over_ends.append(stack - pairs[0, len(frames) - 1])
    assert np.mean(gains) > 0 and min(gains) > -0.02, gains
    assert np.mean(over_ends) > 0.05 and min(over_ends) > 0, over_ends


def test_a_focus_stack_beats_any_two_of_its_frames(reference, real_data):
    """A real picture blurred by a thin lens at four distances: nearer to the sharp one than any pair's result."""
    model = inference.load(reference / "official_weights" / "ReFusion_MFIF.pth")
    sharp = to_luma(read_image(find_pairs(real_data / "ivif", "ivif")[31].b))[:128, :160] / np.float32(255)
    depth = np.rint(np.linspace(0, 3, 160))
    blurred = [sharp, *(gaussian_filter(sharp, 1.2 * k) for k in (1, 2, 3))]
    frames = [np.stack([blurred[int(abs(d - k))][:, x] for x, d in enumerate(depth)], 1) for k in range(4)]
    error = {"stack": fuse_stack(model, frames, range="clip") - sharp}
    error |= {
        pair: model.fuse(*(frames[i] for i in pair), range="clip") - sharp
        for pair in itertools.combinations(range(4), 2)
    }
    squares = {name: float((e**2).mean()) for name, e in error.items()}
    assert squares["stack"] < 0.8 * min(squares[pair] for pair in squares if pair != "stack")


def test_copies_of_a_frame_count_once_on_real_pictures(real_data, model):
    """MEFB's BelgiumHouse: two exposures, each there under two names."""
    folder = real_data / "meie" / "MEFB" / "input" / "BelgiumHouse"
    frames = [read_image(path)[:48, :64] for path in sorted(folder.iterdir())]
    assert len(frames) == 4 and len(distinct(frames)) == 2
    assert np.array_equal(fuse_stack(model, frames), model.fuse(frames[0], frames[1]))
