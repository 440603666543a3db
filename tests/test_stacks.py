"""Brackets and focus stacks: what one picture of many frames must hold, and that it beats any two of them."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scripts import picture, tiny_info, tiny_trees

from refusion_jax import inference, metrics
from refusion_jax.data.pairs import find_pairs
from refusion_jax.data.scenes import exposure, sensor
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import rgb_to_ycrcb, to_luma
from refusion_jax.imaging.files import read_image
from refusion_jax.stacks import distinct, fuse_lumas, fuse_stack


@pytest.fixture(scope="module")
def model():
    return inference.from_trees(tiny_trees(), tiny_info(), "tiny")


def bracket(color=True, n=4):
    return [picture(3, color=color, mean=mean) for mean in np.linspace(40, 210, n)]


def test_two_frames_are_a_pair(model):
    a, b = bracket(n=2)
    for how in ({}, {"gray": True}, {"range": "clip", "chroma": "vivid"}):
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
    assert gray.ndim == 2 and gray.min() == 0 and gray.max() == 255
    assert np.array_equal(fuse_stack(model, [*map(to_luma, [f / np.float32(255) for f in frames])]).ndim, 2)


def test_every_frame_goes_through_the_network(model):
    """With the next, for meie the next brighter one; never a result with anything."""
    lumas = [np.full((4, 5), level, np.float32) for level in (0.9, 0.1, 0.5, 0.3, 0.7)]
    for task, expected in (("meie", [(1, 3), (3, 5), (5, 7), (7, 9)]), ("mfif", [(9, 1), (1, 5), (5, 3), (3, 7)])):
        seen = []
        fuse_lumas(lumas, task, lambda a, b, seen=seen: seen.append((round(10 * a[0, 0]), round(10 * b[0, 0]))) or a)
        assert seen == expected


def test_the_colour_of_all_frames(model):
    """A frame without colour has no say, and the colour is that of the one that has it."""
    grey = [picture(1, mean=60), picture(2, mean=120)]
    red = np.stack([picture(3, mean=180), picture(3, mean=90), picture(3, mean=90)], -1)
    fused = fuse_stack(model, [*grey, red], range="clip", chroma="vivid")
    inside = (fused > 0).all(-1) & (fused < 255).all(-1)
    assert inside.any()
    assert np.abs(rgb_to_ycrcb(fused)[..., 1:] - rgb_to_ycrcb(red)[..., 1:])[inside].max() < 1.5


def test_stacks_that_cannot_be_fused(model):
    a, b, c = bracket(n=3)
    for frames, words in (([a], "at least two different"), ([a, a], "at least two different"), ([], "at least two"),
                          ([a, b, c[1:]], "must have one size")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            fuse_stack(model, frames)
    with pytest.raises(InputError, match="chroma must be one of"):
        fuse_stack(model, [a, b], chroma="loud")
    other = inference.from_trees(tiny_trees(), tiny_info("ivif"), "tiny")
    with pytest.raises(InputError, match="stacks are for the tasks meie and mfif, got ivif"):
        fuse_stack(other, [a, b])
    assert distinct([a, b, a, b[:, :, 0], b]) == [0, 1, 3]


def kept(frames, fused):
    """What of all frames' information is in the picture: edges kept (QABF) and structure (SSIM), means over frames."""
    return np.array([np.mean([metric(frame, frame, fused) for frame in frames])
                     for metric in (metrics.qabf, metrics.ssim)])  # fmt: skip


def test_a_bracket_beats_any_two_of_its_frames(reference):
    model = inference.load(reference / "official_weights" / "ReFusion_MEIF.pth")
    rng = np.random.default_rng(1)
    light = np.maximum(exposure.radiance(rng, (96, 128)), 1e-6)
    level = sensor.luma(light)
    low, high = np.log2(0.5 / np.percentile(level, 99)), np.log2(0.15 / np.percentile(level, 20))
    curve = sensor.response(rng)
    frames = [to_luma(sensor.expose(rng, light, 2.0**stop, curve, 20000.0, 4.0, np.ones(3)))
              for stop in np.linspace(low, max(high, low + 3), 5)]  # fmt: skip
    frames = [np.rint(frame).astype(np.uint8) for frame in frames]
    stack = kept(frames, fuse_stack(model, frames))
    pairs = [kept(frames, model.fuse(a, b)) for a, b in itertools.combinations(frames, 2)]
    assert (stack > np.max(pairs, 0)).all()


def test_a_focus_stack_beats_any_two_of_its_frames(reference, real_data):
    """A real picture blurred by a thin lens at four distances: nearer to the sharp one than any pair's result."""
    model = inference.load(reference / "official_weights" / "ReFusion_MFIF.pth")
    sharp = to_luma(read_image(find_pairs(real_data / "ivif", "ivif")[31].b))[:128, :160] / np.float32(255)
    depth = np.rint(np.linspace(0, 3, 160))
    blurred = [sharp, *(gaussian_filter(sharp, 1.2 * k) for k in (1, 2, 3))]
    frames = [np.stack([blurred[int(abs(d - k))][:, x] for x, d in enumerate(depth)], 1) for k in range(4)]
    error = {"stack": fuse_stack(model, frames, range="clip") - sharp}
    error |= {pair: model.fuse(*(frames[i] for i in pair), range="clip") - sharp
              for pair in itertools.combinations(range(4), 2)}  # fmt: skip
    squares = {name: float((e**2).mean()) for name, e in error.items()}
    assert squares["stack"] < 0.8 * min(squares[pair] for pair in squares if pair != "stack")


def test_copies_of_a_frame_count_once_on_real_pictures(real_data, model):
    """MEFB's BelgiumHouse: two exposures, each there under two names."""
    folder = real_data / "meie" / "MEFB" / "input" / "BelgiumHouse"
    frames = [read_image(path)[:48, :64] for path in sorted(folder.iterdir())]
    assert len(frames) == 4 and len(distinct(frames)) == 2
    assert np.array_equal(fuse_stack(model, frames), model.fuse(frames[0], frames[1]))
