"""Tests of colour: closed forms, slow references, and the released pipeline's pictures."""

import numpy as np
import pytest
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging import pixels
from refusion_jax.imaging.color import (
    finished_picture,
    fuse_chroma,
    fuse_color,
    rgb_to_ycrcb,
    to_luma,
    unit_luma,
    ycrcb_to_rgb,
)

SOURCES = {
    "IVIF": ("infrared", "visible"),
    "MIF": ("CT_PET_SPECT", "MRI"),
    "MFIF": ("near", "far"),
    "MEIF": ("under", "over"),
}
CASES = [
    "IVIF_00710N",
    "IVIF_00906N",
    "MIF_MRI_PET_14",
    "MIF_MRI_PET_37",
    "MFIF_5",
    "MFIF_14",
    "MEIF_ICCV_03",
    "MEIF_AirBellowsGap",
]


def random_image(seed, shape=(13, 17, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Conversion.


def test_ycrcb_of_known_colours():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [10, 200, 30]], np.uint8)
    expected = []
    for r, g, b in colours.astype(float):
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        expected.append([luma, 0.713 * (r - luma) + 128, 0.564 * (b - luma) + 128])
    np.testing.assert_allclose(rgb_to_ycrcb(colours), expected, atol=1e-4)


def test_grey_has_neutral_chroma_exactly():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert (rgb_to_ycrcb(grey)[:, 1:] == 128).all()
    # also where the values are no whole numbers
    assert (rgb_to_ycrcb(np.full((4, 3), 0.1234567, np.float32))[:, 1:] == 128).all()


def test_there_and_back():
    levels = np.arange(0, 256, 15)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).astype(np.uint8)
    back = ycrcb_to_rgb(rgb_to_ycrcb(rgb))
    assert back.dtype == np.float32
    assert np.abs(back - rgb).max() < 0.2


def test_inverse_of_known_values():
    np.testing.assert_allclose(ycrcb_to_rgb([100, 138, 108]), [114.03, 99.74, 64.54], atol=1e-4)


def test_luma():
    image = random_image(0)
    luma = to_luma(image)
    assert luma.dtype == np.float32 and luma.shape == (13, 17)
    slow = [[float(np.dot([0.299, 0.587, 0.114], pixel)) for pixel in row] for row in image.astype(float)]
    np.testing.assert_allclose(luma, slow, atol=1e-4)
    grey = image[..., 0]
    np.testing.assert_array_equal(to_luma(grey), grey)
    assert to_luma(grey).dtype == np.float32


@pytest.mark.parametrize("shape", [(5,), (4, 5, 1), (4, 5, 4), (2, 4, 5, 3)])
def test_luma_of_what_is_no_image(shape):
    with pytest.raises(InputError, match="shape"):
        to_luma(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("convert", [rgb_to_ycrcb, ycrcb_to_rgb])
def test_three_channels_are_expected(convert):
    for array in (np.zeros((4, 5)), np.float32(3)):
        with pytest.raises(InputError, match="3 channels"):
            convert(array)


# Eq. 15.


def slow_chroma(*values, tau=128):
    weights = [abs(c - tau) for c in values]
    return tau if sum(weights) == 0 else sum(c * w for c, w in zip(values, weights, strict=True)) / sum(weights)


def test_fused_chroma_against_slow_reference():
    values = np.array([0, 0.5, 16, 90, 127.875, 128, 128.125, 160, 255])
    chromas = np.stack(np.meshgrid(values, values, values)).reshape(3, -1)
    for n in (2, 3):
        slow = [slow_chroma(*point) for point in chromas[:n].T]
        np.testing.assert_allclose(fuse_chroma(*chromas[:n]), slow, atol=5e-5)


def test_fused_chroma_closed_forms():
    assert fuse_chroma(128, 128) == 128  # nobody has colour
    assert fuse_chroma(128, 40) == 40  # grey has no say
    assert fuse_chroma(40, 128) == 40
    assert fuse_chroma(70, 70) == 70
    assert fuse_chroma(118, 138) == 128  # opposite colours of one strength
    assert fuse_chroma(158, 118) == 148  # weights 3 : 1
    fused = fuse_chroma(np.float32(128), np.nextafter(np.float32(128), np.float32(200)))
    assert np.isfinite(fused) and abs(fused - 128) < 1e-4


def test_fused_chroma_lies_between():
    c1, c2 = np.random.default_rng(3).uniform(0, 255, (2, 1000)).astype(np.float32)
    fused = fuse_chroma(c1, c2)
    assert fused.dtype == np.float32
    assert (fused >= np.minimum(c1, c2) - 1e-3).all() and (fused <= np.maximum(c1, c2) + 1e-3).all()
    np.testing.assert_allclose(fuse_chroma(c2, c1), fused, rtol=1e-6)


# Fused pictures.


def test_grey_sources_give_grey():
    luma = np.array([[-3.0, 0.4, 0.6], [254.6, 300.0, 100.5]])
    grey = random_image(1, (2, 3))
    fused = fuse_color(luma, [grey, grey])
    np.testing.assert_array_equal(fused, np.float32([[0, 0.4, 0.6], [254.6, 255, 100.5]]))
    as_rgb = np.repeat(grey[..., None], 3, axis=-1)
    for sources in ([grey, as_rgb], [as_rgb, grey], [as_rgb, as_rgb]):
        np.testing.assert_array_equal(fuse_color(luma, sources), np.repeat(fused[..., None], 3, axis=-1))


def test_a_grey_source_has_no_say():
    colour, grey = random_image(2), random_image(3, (13, 17))
    own = fuse_color(to_luma(colour), [colour, grey])
    assert np.abs(own - colour).max() < 0.2  # its own luma and chroma
    as_rgb = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(fuse_color(to_luma(colour), [as_rgb, colour, grey]), own)


def test_order_of_sources_does_not_matter_to_colour():
    a, b = random_image(4), random_image(5)
    np.testing.assert_array_equal(fuse_color(to_luma(a), [a, b]), fuse_color(to_luma(a), [b, a]))


def test_fused_picture_against_slow_reference():
    a, b, luma = random_image(6), random_image(7), random_image(8, (13, 17)).astype(np.float32)
    fused = fuse_color(luma, [a, b])
    ycrcb_a, ycrcb_b = rgb_to_ycrcb(a).astype(float), rgb_to_ycrcb(b).astype(float)
    for y, x in np.ndindex(luma.shape):
        cr, cb = (slow_chroma(ycrcb_a[y, x, c], ycrcb_b[y, x, c]) - 128 for c in (1, 2))
        rgb = [luma[y, x] + 1.403 * cr, luma[y, x] - 0.714 * cr - 0.344 * cb, luma[y, x] + 1.773 * cb]
        assert np.abs(np.clip(rgb, 0, 255) - fused[y, x]).max() < 0.01


def as_type(image, dtype):
    return {"uint8": image, "uint16": image * np.uint16(257), "float32": image / np.float32(255)}[dtype]


@pytest.mark.parametrize(
    ("types", "expected"),
    [("uint8 uint8", "uint8"), ("uint8 uint16", "uint16"), ("uint16 float32", "float32"), ("uint8 float32", "float32")],
)
def test_the_finished_picture_is_of_the_kind_of_its_sources(types, expected):
    a, b = (as_type(random_image(i), t) for i, t in enumerate(types.split()))
    luma = random_image(2, (13, 17)) / np.float32(255)
    picture = finished_picture(luma, [a, b])
    assert picture.dtype == expected and picture.shape == (13, 17, 3)
    peak = {"uint8": 255, "uint16": 65535, "float32": 1}[expected]
    colored = fuse_color(luma * 255, [random_image(0), random_image(1)]) / 255
    np.testing.assert_allclose(picture / peak, colored, atol=0.51 / peak + 1e-5)
    grey = finished_picture(luma, [a, b], gray=True)
    np.testing.assert_allclose(grey / peak, luma, atol=0.51 / peak + 1e-6)
    np.testing.assert_allclose(unit_luma(a), unit_luma(random_image(0)), atol=1e-6)


def test_large_pictures_go_by_rows(monkeypatch):
    a, b, luma = random_image(0), random_image(1), random_image(2, (13, 17)) / np.float32(255)
    whole, levels = finished_picture(luma, [a, b]), unit_luma(a)
    monkeypatch.setattr(pixels, "BAND", 40)
    assert np.array_equal(finished_picture(luma, [a, b]), whole) and np.array_equal(unit_luma(a), levels)


def test_sources_of_another_size():
    with pytest.raises(InputError, match=r"\(13, 17\).*\(13, 16, 3\)"):
        fuse_color(np.zeros((13, 17)), [random_image(0), random_image(0, (13, 16, 3))])


# The released pipeline.


def load_case(reference, case):
    task, name = case.split("_", 1)
    images = []
    for folder in SOURCES[task]:
        (path,) = (reference / "test_cases" / task / folder).glob(f"{name}.*")
        images.append(np.asarray(Image.open(path)))
    return images, np.load(reference / "official_outputs" / f"{case}.npz")


def golden(reference, case, what):
    return np.asarray(Image.open(reference / "official_outputs" / f"{case}_{what}.png")).astype(int)


@pytest.mark.parametrize("case", CASES)
def test_luma_of_the_released_pairs(reference, case):
    (a, b), stored = load_case(reference, case)
    for image, key in ((a, "luma_a"), (b, "luma_b")):
        np.testing.assert_allclose(to_luma(image), stored[key], atol=1e-4)
        # within half a level, ties included
        np.testing.assert_allclose(to_luma(image), golden(reference, case, key), atol=0.5001)


def stretched(network_output):
    low, high = network_output.min(), network_output.max()
    return (network_output - low) / (high - low) * 255


@pytest.mark.parametrize("case", CASES)
def test_colour_of_the_released_pairs(reference, case):
    (a, b), stored = load_case(reference, case)
    expected = golden(reference, case, "fused_rgb")
    fused = np.rint(fuse_color(stretched(stored["network_output"]), [a, b]))
    difference = np.abs(fused - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 2e-3  # ties of rounding
    from_png = np.rint(fuse_color(golden(reference, case, "fused_luma"), [a, b]))
    assert np.abs(from_png - expected).max() <= 1


def test_of_many_sources_no_more_is_held_at_once_than_of_two():
    held = []

    class Frame(np.ndarray):
        def __getitem__(self, rows):
            part = super().__getitem__(rows)
            held.append(part.shape[0])
            return np.asarray(part)

    pixels = np.random.default_rng(0).integers(0, 256, (2100, 512, 3), np.uint8)
    luma = np.linspace(0, 1, 2100 * 512, dtype=np.float32).reshape(2100, 512)
    expected = finished_picture(luma, [pixels, pixels])
    finished_picture(luma, [pixels.view(Frame)] * 2)
    two = 2 * max(held)
    held.clear()
    fused = finished_picture(luma, [pixels.view(Frame)] * 8)
    assert 0 < 8 * max(held) <= two and sum(held) == 8 * 2100
    assert np.abs(fused.astype(int) - expected).max() <= 1  # as many of one picture have its colours
