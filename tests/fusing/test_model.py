"""The Python interface: the released pairs, types and shapes, order of sources, colour, maps, what is refused."""

import numpy as np
import pytest
from PIL import Image
from scripts import picture, tiny_info, tiny_trees

import refusion_jax as rj
from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.fusing import model as inference
from refusion_jax.imaging.color import rgb_to_ycrcb, to_luma
from refusion_jax.imaging.files import read_image
from refusion_jax.imaging.ranges import RANGES, to_range
from refusion_jax.runtime import compiling
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names

TASKS = ("IVIF", "MIF", "MFIF", "MEIF")
PAIRS = (
    "IVIF_00710N",
    "IVIF_00906N",
    "MIF_MRI_PET_14",
    "MIF_MRI_PET_37",
    "MFIF_14",
    "MFIF_5",
    "MEIF_AirBellowsGap",
    "MEIF_ICCV_03",
)


@pytest.fixture(scope="module")
def released(reference):
    """NAME -> (model, a, b) of the eight released pairs; the network's output of each pair is computed once, by code
    that is optimised as a user's: these pictures are large."""
    optimised = compiling.cpu_options() | {"xla_backend_optimization_level": "3"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "cpu_options", lambda: optimised)
        yield _released(reference)


def _released(reference):
    found = {}
    for task in TASKS:
        model = rj.load(reference / "official_weights" / f"ReFusion_{task}.pth")
        network, outputs = model._functions["fuse"], {}

        def remembered(params, a, b, network=network, outputs=outputs, **how):
            key = a.tobytes() + b.tobytes()
            if key not in outputs:
                outputs[key] = network(params, a, b, **how)
            return outputs[key]

        model._functions["fuse"] = remembered
        for pair in find_pairs(reference / "test_cases" / task):
            found[f"{task}_{pair.name}"] = model, read_image(pair.a), read_image(pair.b)
    assert set(found) == set(PAIRS)
    return found


def difference(result, path):
    """The largest difference in levels from a stored picture of the same shape."""
    stored = np.asarray(Image.open(path))
    assert result.dtype == np.uint8 and result.shape == stored.shape
    return int(np.abs(result.astype(int) - stored).max())


@pytest.mark.parametrize("name", PAIRS)
def test_released_pairs(reference, released, name):
    """The released network's pictures, made with its authors' code (float32 differs in the last bits)."""
    model, a, b = released[name]
    stored = reference / "official_outputs"
    expected = np.load(stored / f"{name}.npz")["network_output"]
    np.testing.assert_allclose(model.network_output(a, b), expected, rtol=0, atol=2e-5)
    assert difference(model.fuse(a, b, "minmax", gray=True), stored / f"{name}_fused_luma.png") <= 1
    assert difference(model.fuse(a, b, "minmax"), stored / f"{name}_fused_rgb.png") <= 2
    # The default shows the same picture at the levels of its sources.
    luma = model.fuse_luma(a, b)
    assert np.corrcoef(luma.ravel(), model.fuse_luma(a, b, "minmax").ravel())[0, 1] > 0.999
    lumas = [to_luma(image) / 255 for image in (a, b)]
    assert min(x.min() for x in lumas) - 1e-6 <= luma.min() < luma.max() <= max(x.max() for x in lumas) + 1e-6


def test_released_multi_exposure_pairs_in_any_order(released):
    for name in PAIRS[-2:]:
        model, a, b = released[name]
        assert model.task == "meie" and np.array_equal(model.fuse(a, b), model.fuse(b, a))


def tiny(task, nets="FRP"):
    """A model of the tiny size; those of two tasks differ in nothing but the task."""
    trees = tiny_trees()
    return inference.from_params(from_names({n: trees[n] for n in nets}), tiny_info("meie") | {"task": task}, "test")


@pytest.fixture(scope="module")
def model():
    return tiny("mfif")


@pytest.fixture(scope="module")
def exposure():
    return tiny("meie")


GREY, COLOR = picture(0), picture(1, color=True)


def as_type(image, dtype):
    return image if dtype == np.uint8 else (image / 255).astype(dtype)


@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint8, np.float32), (np.float64, np.float16)])
@pytest.mark.parametrize(("a", "b"), [(GREY, GREY[::-1]), (GREY, COLOR), (COLOR, GREY), (COLOR, COLOR[::-1])])
def test_types_and_shapes_of_the_result(model, a, b, dtypes):
    for gray in (False, True):
        fused = model.fuse(as_type(a, dtypes[0]), as_type(b, dtypes[1]), gray=gray)
        assert fused.shape == ((20, 24, 3) if not gray and 3 in (a.ndim, b.ndim) else (20, 24))
        assert fused.dtype == (np.uint8 if dtypes == (np.uint8, np.uint8) else np.float32)
        whole = model.fuse(a, b, gray=gray)
        close = fused if fused.dtype == np.uint8 else 255 * fused
        assert close.min() >= 0 and close.max() <= 255
        np.testing.assert_allclose(close, whole, rtol=0, atol=1.5 if np.float16 in dtypes else 0.51)


def test_inputs_in_unusual_memory_are_read_and_left_alone(model):
    expected = model.fuse(GREY, COLOR)
    a, b = np.asfortranarray(GREY), np.repeat(COLOR, 2, axis=1)[:, ::2]
    a.flags.writeable = False
    before = b.copy()
    assert np.array_equal(model.fuse(a, b), expected) and np.array_equal(b, before)
    swapped = (GREY / 255).astype(">f4")
    np.testing.assert_allclose(model.fuse(swapped, swapped), model.fuse(GREY, GREY) / 255, atol=0.51 / 255)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2)])
def test_tiny_and_odd_sizes(model, shape):
    fused = model.fuse(GREY[: shape[0], : shape[1]], COLOR[: shape[0], : shape[1]])
    assert fused.shape == (*shape, 3) and fused.dtype == np.uint8


def test_ranges(model):
    raw = model.network_output(GREY, COLOR)
    assert raw.shape == (20, 24) and raw.dtype == np.float32 and 0 < raw.min() < raw.max() < 1
    assert raw.max() - raw.min() < 0.99  # else the two ranges would be alike
    lumas = GREY / np.float32(255), to_luma(COLOR) / np.float32(255)
    for rule in RANGES:
        expected = to_range(raw, lumas, rule)
        np.testing.assert_allclose(model.fuse_luma(GREY, COLOR, rule), expected, atol=1e-6)
        fused = model.fuse(GREY, COLOR, range=rule, gray=True)
        assert np.abs(fused - 255 * expected).max() <= 0.501
    assert np.array_equal(model.fuse(GREY, COLOR), model.fuse(GREY, COLOR, "sources"))
    with pytest.raises(InputError, match="range must be one of"):
        model.fuse(GREY, COLOR, "wide")


@pytest.mark.parametrize("level", [0, 90])
def test_flat_sources_give_a_flat_picture(model, level):
    flat = np.full((20, 24), level, np.uint8)
    assert np.array_equal(model.fuse(flat, flat), flat)


def test_colour_keeps_the_fused_luma_and_the_chroma_of_the_sources(model):
    luma = 255 * model.fuse_luma(GREY, COLOR, "clip")
    fused = model.fuse(GREY, (COLOR / 255).astype(np.float32), "clip")
    inside = np.all((fused > 0) & (fused < 1), -1)  # elsewhere RGB was clipped and chroma is lost
    assert inside.mean() > 0.5
    ycrcb, chroma = rgb_to_ycrcb(fused * 255), rgb_to_ycrcb(COLOR)[..., 1:]
    np.testing.assert_allclose(ycrcb[inside][:, 0], luma[inside], atol=0.2)  # the three digits of the way back
    np.testing.assert_allclose(ycrcb[inside][:, 1:], chroma[inside], atol=0.2)
    three = np.repeat(GREY[..., None], 3, -1)  # grey in three channels has no colour to give
    assert np.array_equal(model.fuse(three, COLOR), model.fuse(GREY, COLOR))
    both = model.fuse(three, three)
    assert both.shape == (20, 24, 3) and np.array_equal(both, np.repeat(model.fuse(GREY, GREY)[..., None], 3, -1))


def test_the_more_colourful_source_wins(model):
    # Cr is 128 + 15 and 128 + 5; Eq. 15 with tau at neutral gives (15^2 + 5^2) / 20 above 128.
    a = np.full((20, 24, 3), (130, 100, 100), np.uint8)
    b = np.full((20, 24, 3), (130, 120, 120), np.uint8)
    fused = model.fuse(a / 255, b / 255, "clip")
    inside = np.all((fused > 0) & (fused < 1), -1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(rgb_to_ycrcb(fused * 255)[inside][:, 1] - 128, 12.5, atol=0.1)


def test_the_order_of_exposures_does_not_matter_and_that_of_others_does(model, exposure):
    a, b = picture(3, color=True, mean=60), picture(4, mean=190)
    for options in ({}, {"gray": True}, {"range": "clip"}):
        assert exposure.fuse(a, b, **options).tobytes() == exposure.fuse(b, a, **options).tobytes()
    assert not np.array_equal(model.fuse(a, b), model.fuse(b, a))
    # The darker is the first source, whichever colour it has.
    expected = model.network_output(a, b)
    np.testing.assert_allclose(exposure.network_output(b, a), expected, atol=1e-6)


def test_maps_belong_to_the_sources_as_given(model, exposure):
    a, b = picture(3, mean=60), picture(4, mean=190)
    for one in (model, exposure):
        for weights in one.maps(a, b):
            assert weights.shape == (20, 24, 2) and weights.dtype == np.float32
            assert weights.min() > 0 and weights[..., 0].std() > 1e-3
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    for first, second, expected in zip(exposure.maps(a, b), exposure.maps(b, a), model.maps(a, b), strict=True):
        assert np.array_equal(first, second[..., ::-1])
        np.testing.assert_allclose(first, expected, atol=1e-6)


def test_maps_and_picture_agree_on_the_order_where_the_means_are_alike(exposure):
    # Equal means: the order given counts. A hair's breadth apart in float64, as large means of float32 may not be.
    a = np.full((20, 24), 0.7, np.float32)
    a[::2] = 0.1
    b = a[::-1].copy()
    assert a.mean(dtype=np.float64) == b.mean(dtype=np.float64)
    w = exposure.maps(a, b)[0]
    assert not np.allclose(w, exposure.maps(b, a)[0][..., ::-1])
    b[3, 5] = np.nextafter(b[3, 5], np.float32(1))
    assert np.array_equal(exposure.maps(a, b)[0], exposure.maps(b, a)[0][..., ::-1])
    assert np.array_equal(exposure.network_output(a, b), exposure.network_output(b, a))


def test_reconstructions(model):
    raw = model.network_output(GREY, COLOR)
    for rebuilt in model.reconstruct(raw):
        assert rebuilt.shape == (20, 24) and 0 < rebuilt.min() < rebuilt.max() < 1


def test_a_checkpoint_of_f_alone():
    alone = tiny("mfif", "F")
    assert alone.fuse(GREY, COLOR).shape == (20, 24, 3)
    with pytest.raises(InputError, match="no loss proposal network"):
        alone.maps(GREY, COLOR)
    with pytest.raises(InputError, match="no source reconstruction network"):
        alone.reconstruct(GREY / 255)


def test_networks_that_are_not_wanted_are_neither_kept_nor_checked(tmp_path):
    trees = tiny_trees()
    trees["R"] = {"another": trees["R"]}
    write_safetensors(tmp_path / "odd.safetensors", from_names(trees), tiny_info("mfif"))
    with pytest.raises(InputError, match="network R"):
        rj.load(tmp_path / "odd.safetensors")
    model = rj.load(tmp_path / "odd.safetensors", ("F", "P"))
    assert model.params.r is None and model.maps(GREY, COLOR)[0].shape == (20, 24, 2)
    assert np.array_equal(model.fuse(GREY, COLOR), tiny("mfif", "F").fuse(GREY, COLOR))


BAD = [
    (np.zeros((20, 24, 4), np.uint8), r"must be \(H,W\) or \(H,W,3\), got shape \(20, 24, 4\)"),
    (np.zeros((20, 24, 1), np.uint8), r"got shape \(20, 24, 1\)"),
    (np.zeros((2, 20, 24, 3), np.uint8), r"got shape \(2, 20, 24, 3\)"),
    (np.zeros(24, np.uint8), r"got shape \(24,\)"),
    (np.zeros((0, 24), np.uint8), r"got shape \(0, 24\)"),
    (np.zeros((20, 24), np.int32), "must be uint8, uint16 or float .* got int32"),
    (np.zeros((20, 24), np.uint32), "got uint32"),
    (np.zeros((20, 24), bool), "got bool"),
    (np.zeros((20, 24), complex), "got complex128"),
    (np.full((20, 24), 200.0), r"must lie in \[0,1\] when it is float, got values from 200 to 200"),
    (np.full((20, 24), -0.01), r"must lie in \[0,1\]"),
    (np.full((20, 24), np.nan), r"must lie in \[0,1\]"),
    (np.where(np.arange(24) == 3, np.inf, np.full((20, 24), 0.5)), r"must lie in \[0,1\]"),
    ("text", r"got shape \(\)"),
    (np.zeros((24, 20), np.uint8), "one size, got .*24x20.*; resize or crop one of them"),
]


@pytest.mark.parametrize(("image", "words"), BAD)
def test_images_that_are_refused(model, image, words):
    for pair, which in (((image, GREY), "first"), ((GREY, image), "second")):
        for call in (model.fuse, model.maps, model.network_output):
            with pytest.raises(InputError, match=words) as caught:
                call(*pair)
            assert "\n" not in str(caught.value) and (f"the {which} image" in str(caught.value) or "one size" in words)


def test_the_package_offers_load_and_model():
    assert rj.load is inference.load and rj.Model is inference.Model and issubclass(rj.InputError, ValueError)
    assert to_luma(GREY).dtype == np.float32
    with pytest.raises(AttributeError, match="no attribute 'fuse_everything'"):
        _ = rj.fuse_everything


def test_16_bits_stay_16_bits(model):
    """The same picture with 8 and with 16 bits: the result has its depth, and finer levels than 8 bits can hold."""
    a, b = picture(1, color=True), picture(2, color=True)
    deep = [image.astype(np.uint16) * 257 for image in (a, b)]
    fused, rough = model.fuse(*deep), model.fuse(a, b)
    assert fused.dtype == np.uint16 and rough.dtype == np.uint8
    assert np.max(np.abs(fused / 257 - rough)) <= 0.51
    assert len(np.unique(fused)) > 300
    assert model.fuse(deep[0], b).dtype == np.uint16
    assert model.fuse(deep[0], b / np.float32(255)).dtype == np.float32
