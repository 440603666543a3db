"""The metrics against stored values, closed forms and invariances; what they refuse."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from refusion_jax import metrics
from refusion_jax.errors import InputError
from refusion_jax.metrics import PAPER_METRICS, PROTOCOLS, TASK_METRICS, protocol_metrics, score
from refusion_jax.metrics.protocols import task_metrics, task_name

ALL = tuple(PROTOCOLS["paper"])
PAIRS = (
    "IVIF_00710N",
    "IVIF_00906N",
    "MEIF_AirBellowsGap",
    "MEIF_ICCV_03",
    "MFIF_14",
    "MFIF_5",
    "MIF_MRI_PET_14",
    "MIF_MRI_PET_37",
)
# A black surround leaves QCB's contrast to rounding errors (see `qcb`): programs differ by up to 1e-4.
QCB_TOLERANCE = {"MIF_MRI_PET_14": 1e-4, "MIF_MRI_PET_37": 1e-4}


def textured(height: int = 64, width: int = 72, seed: int = 0) -> list[np.ndarray]:
    """Two sources with common content and their mean, uint8, contrast everywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 100 + 50 * np.sin(x / 3) * np.cos(y / 4) + 20 * rng.standard_normal((height, width))
    a, b = np.clip(base, 0, 255), np.clip(0.6 * base + 60 + x / 2, 0, 255)
    return [np.rint(image).astype(np.uint8) for image in (a, b, (a + b) / 2)]


def luma(folder, name: str) -> list[np.ndarray]:
    """Luma of both sources and of what the released network made of them, as stored."""
    kinds = ("luma_a", "luma_b", "fused_luma")
    return [np.asarray(Image.open(folder / f"{name}_{kind}.png")) for kind in kinds]


@pytest.mark.parametrize("name", PAIRS)
def test_stored_values(reference, name):
    # *_py.json: the Python conventions of the field; *_mefb.json: the MEFB toolbox run in Octave, in double
    # precision throughout. Both measured on the released network's output.
    folder = reference / "official_outputs"
    images = luma(folder, name)
    python = json.loads((folder / f"{name}_py.json").read_text())
    toolbox = json.loads((folder / f"{name}_mefb.json").read_text())
    shared = {key: toolbox[key] for key in ("VIF", "QCB", "QNCIE", "QABF")}
    ours = {"paper": score(*images, "paper", [*PAPER_METRICS, "QABF"]), "mefb": score(*images, "mefb", list(toolbox))}
    for protocol, stored in (("paper", python | shared), ("mefb", toolbox)):
        for metric, value in stored.items():
            tolerance = QCB_TOLERANCE.get(name, 1e-6) if metric == "QCB" else 1e-6
            assert ours[protocol][metric] == pytest.approx(value, rel=tolerance, abs=0), (protocol, metric)


def test_stored_values_cover_the_nine(reference):
    folder = reference / "official_outputs"
    names = {path.name.removesuffix("_py.json") for path in folder.glob("*_py.json")}
    assert names == set(PAIRS)
    stored = set(json.loads((folder / "MFIF_5_py.json").read_text()))
    stored |= set(json.loads((folder / "MFIF_5_mefb.json").read_text()))
    assert set(PAPER_METRICS) | {"QABF"} == stored


def test_cddfuse_differs_where_its_script_does():
    images = textured()
    paper, cddfuse = (score(*images, protocol, None) for protocol in ("paper", "cddfuse"))
    assert cddfuse["SSIM"] == pytest.approx(2 * paper["SSIM"], rel=1e-14)
    assert cddfuse["VIF"] == metrics.vifp_sum(*images) != paper["VIF"]
    assert {k: cddfuse[k] for k in ("EN", "SD", "SF", "AG", "SCD")} == {
        k: paper[k] for k in ("EN", "SD", "SF", "AG", "SCD")
    }
    bits, nats = (score(*images, protocol, ["MI"])["MI"] for protocol in ("paper", "cddfuse"))
    assert nats == pytest.approx(bits * math.log(2), rel=1e-14)


@pytest.mark.parametrize("levels", [1, 2, 16, 256])
def test_entropy_of_equally_frequent_levels(levels):
    image = (np.arange(64 * 64) % levels).astype(np.uint8).reshape(64, 64)
    assert metrics.entropy(image) == pytest.approx(math.log2(levels), abs=1e-14)
    assert math.copysign(1, metrics.entropy(image)) == 1


def test_two_levels():
    half = np.zeros((40, 40), np.uint8)
    half[:, 20:] = 255
    assert metrics.standard_deviation(half) == 127.5
    quarter = np.zeros((40, 40), np.uint8)
    quarter[:10] = 10
    assert metrics.entropy(quarter) == pytest.approx(2 - 0.75 * math.log2(3), rel=1e-14)
    # Rows and columns are independent, so neither source tells of the other.
    across = half.T.copy()
    assert metrics.mutual_information(half, across, half) == pytest.approx(1, abs=1e-12)
    assert metrics.qncie(half, half.T, np.zeros_like(half)) == pytest.approx(1 - math.log2(3) / 8, rel=1e-12)


def test_ramp():
    ramp = np.tile(np.arange(0, 120, 3, dtype=np.uint8), (30, 1))
    assert metrics.spatial_frequency(ramp) == pytest.approx(3, rel=1e-14)
    assert metrics.average_gradient(ramp) == pytest.approx(3 / math.sqrt(2), rel=1e-14)
    assert metrics.spatial_frequency_mefb(ramp) == pytest.approx(3 * math.sqrt(39 / 40), rel=1e-14)
    assert metrics.average_gradient_mefb(ramp) == pytest.approx(3 / math.sqrt(2) * 1200 / (29 * 39), rel=1e-14)


def test_known_errors():
    a, b, f = (np.full((8, 8), level, np.uint8) for level in (100, 110, 103))
    assert metrics.mse(a, b, f) == (9 + 49) / 2
    assert metrics.psnr(a, b, f) == pytest.approx(10 * math.log10(255**2 / 29), rel=1e-14)


def test_identical_images():
    image = textured()[0]
    values = score(image, image, image, metrics=ALL)
    entropy = metrics.entropy(image)
    assert values["SSIM"] == pytest.approx(1, abs=1e-12)
    assert values["VIF"] == pytest.approx(1, abs=1e-9)
    assert values["QCB"] == 1
    assert values["MEF-SSIM"] == pytest.approx(1, abs=1e-4)  # strengths have 0.001 levels added
    assert values["CC"] == pytest.approx(1, abs=1e-14)
    assert values["SCD"] == 0
    assert values["MSE"] == 0
    assert values["PSNR"] == math.inf
    assert values["MI"] == pytest.approx(2 * entropy, rel=1e-12)
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert metrics.qncie(every_level, every_level, every_level) == pytest.approx(1, abs=1e-12)
    # All three off-diagonal entries are h = EN / 8: eigenvalues 1 + 2h, 1 - h, 1 - h.
    h = entropy / 8
    shares = [(1 + 2 * h) / 3, (1 - h) / 3, (1 - h) / 3]
    assert values["QNCIE"] == pytest.approx(1 + sum(s * math.log2(s) for s in shares) / 8, rel=1e-12)
    # Strength counts as itself where it is equal, which the sigmoid takes for full marks.
    full = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert values["QABF"] == pytest.approx(full, rel=2e-3)
    cddfuse = score(image, image, image, "cddfuse", ["SSIM", "VIF"])
    assert cddfuse["SSIM"] == pytest.approx(2, abs=1e-12)
    assert cddfuse["VIF"] == pytest.approx(2, abs=1e-8)


# What the authors' MATLAB code (version 1.0 of 2015, as in the MEFB toolbox) gives in Octave, double precision.
MEF_SSIM = {"MEIF_AirBellowsGap": 0.9156836573367566}


@pytest.mark.parametrize("name", MEF_SSIM)
def test_mef_ssim_is_that_of_its_authors(reference, name):
    a, b, f = luma(reference / "official_outputs", name)
    assert score(a, b, f, metrics=["mef-ssim"])["MEF-SSIM"] == pytest.approx(MEF_SSIM[name], rel=1e-12)


def test_mef_ssim_of_three_exposures(reference):
    # The third is the released network's picture; the fused one the mean of the others, rounded down.
    a, b, f = (x[:97, :128] for x in luma(reference / "official_outputs", "MEIF_AirBellowsGap"))
    mean = ((a.astype(int) + b) // 2).astype(np.uint8)
    assert metrics.mef_ssim([a, b, f], mean) == pytest.approx(0.9768103193825742, rel=1e-12)
    assert metrics.mef_ssim([b, f, a], mean) == pytest.approx(0.9768103193825742, rel=1e-12)


def test_mef_ssim_sees_structure_and_not_brightness():
    a, b, f = (x // 2 for x in textured())
    assert metrics.mef_ssim([a, b], f + 60) == pytest.approx(metrics.mef_ssim([a, b], f), rel=1e-10)
    assert metrics.mef_ssim([a, b + 60], f) == pytest.approx(metrics.mef_ssim([a, b], f), rel=1e-10)
    assert metrics.mef_ssim([a, b], 255 - f) == 0  # every scale is below zero
    # Sources that cancel leave nothing to ask for, and a flat picture is all that they allow.
    assert metrics.mef_ssim([a, 255 - a], np.full_like(a, 90)) == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match="two sources or more, got 1"):
        metrics.mef_ssim([a], f)
    with pytest.raises(InputError, match="source 3: expected finite"):
        metrics.mef_ssim([a, b, a * np.nan], f)


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_constant_images(level):
    flat = np.full((48, 50), level, np.uint8)
    values = score(flat, flat, flat, metrics=ALL)
    expected = {"EN": 0, "SD": 0, "SF": 0, "AG": 0, "SCD": 0, "SSIM": 1, "VIF": 1, "QCB": 1, "MI": 0, "CC": 0, "MSE": 0}
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert values["PSNR"] == math.inf
    assert values["QNCIE"] == pytest.approx(1 - math.log2(3) / 8, rel=1e-14)
    # Beyond the border lies zero, so only a black image is without edges.
    assert values["QABF"] == 0 if level == 0 else values["QABF"] > 0.9
    assert score(flat, flat, flat, "cddfuse", ["VIF"])["VIF"] == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("which", range(3))
def test_one_constant_image_leaves_all_finite(protocol, which):
    images = textured()
    images[which] = np.full_like(images[which], 90)
    values = score(*images, protocol, list(PROTOCOLS[protocol]))
    assert all(math.isfinite(value) for value in values.values()), values


def test_flat_fused_image_keeps_nothing():
    a, b, _ = textured()
    flat = np.full_like(a, 120)
    assert metrics.vif(a, b, flat) < 1e-5
    assert metrics.vifp_sum(a, b, flat) < 1e-8
    assert metrics.correlation_coefficient(a, b, flat) == 0
    assert metrics.mutual_information(a, b, flat) == 0


def test_more_contrast_than_the_sources_is_above_one():
    a, b, f = (100 + x.astype(float) / 10 for x in textured())
    stretched = 100 + 3 * (f - f.mean())
    images = [np.rint(np.clip(x, 0, 255)).astype(np.uint8) for x in (a, b, stretched)]
    assert metrics.vif(*images) > 1


def test_noise_lowers_what_measures_fidelity():
    a, b, f = textured()
    rng = np.random.default_rng(1)
    noisy = np.clip(f + 25 * rng.standard_normal(f.shape), 0, 255).astype(np.uint8)
    clean, worse = (score(a, b, x, metrics=ALL) for x in (f, noisy))
    for metric in ("SSIM", "VIF", "QCB", "QNCIE", "MI", "CC", "PSNR", "QABF", "MEF-SSIM"):
        assert worse[metric] < clean[metric], metric
    assert worse["MSE"] > clean["MSE"]


def test_sources_may_change_places():
    a, b, f = textured()
    assert score(b, a, f, metrics=ALL) == pytest.approx(score(a, b, f, metrics=ALL), rel=1e-12, abs=0)
    for protocol in ("cddfuse", "mefb"):
        assert score(b, a, f, protocol) == pytest.approx(score(a, b, f, protocol), rel=1e-12, abs=0)


def test_visual_information_takes_source_b_on_a_tie():
    # The fused image reverses both: either gain is 0, and what source b holds counts.
    f = textured()[0]
    strong, weak = 255 - f, (255 - f) // 4
    assert metrics.vif(strong, weak, f) != metrics.vif(weak, strong, f)


def test_transposed_images_score_the_same():
    images = textured(61, 74)
    names = [name for name in ALL if name != "QABF"]  # its directions are not compared around the circle
    turned = score(*(x.T.copy() for x in images), metrics=names)
    assert turned == pytest.approx(score(*images, metrics=names), rel=1e-10, abs=0)


def test_edges_do_not_change_when_all_images_turn_around():
    images = textured()
    turned = metrics.qabf(*(x[::-1, ::-1] for x in images))
    assert turned == pytest.approx(metrics.qabf(*images), rel=1e-12)


def test_depth_does_not_matter():
    images = textured()
    eight = score(*images, metrics=ALL)
    assert score(*(x.astype(np.uint16) * 257 for x in images), metrics=ALL) == eight
    for dtype in (np.float16, np.float32, np.float64):
        assert score(*((x / 255).astype(dtype) for x in images), metrics=ALL) == eight, dtype
    assert score(images[0], images[1].astype(np.uint16) * 257, images[2] / 255, metrics=ALL) == eight


def test_rounding_to_levels():
    sixteen = np.array([[0, 128, 129, 385, 386, 65535]], np.uint16)
    assert metrics.as_levels(sixteen).tolist() == [[0, 0, 1, 1, 2, 255]]
    # Halves to the even level, as the 8-bit files were rounded.
    assert metrics.as_levels(np.array([[0.5, 1.5, 2.5, 254.5]]) / 255).tolist() == [[0, 2, 2, 254]]
    assert metrics.as_levels(np.array([[-1e-7, 1 + 1e-7]])).tolist() == [[0, 255]]


def test_images_are_not_changed():
    images = textured()
    before = [x.copy() for x in images]
    for x in images:
        x.setflags(write=False)
    score(*images, metrics=ALL)
    assert all((x == y).all() for x, y in zip(images, before, strict=True))


def test_views_and_other_orders_score_the_same():
    a, b, f = textured()
    wide = np.zeros((128, 144), np.uint8)
    wide[::2, ::2] = f
    assert score(a, np.asfortranarray(b), wide[::2, ::2], metrics=ALL) == score(a, b, f, metrics=ALL)


SMALLEST = {"SF": 2, "AG": 2, "SSIM": 7, "VIF": 41, "QABF": 3, "MEF-SSIM": 44}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_smallest_images(protocol):
    rng = np.random.default_rng(2)
    for name in PROTOCOLS[protocol]:
        side = SMALLEST.get(name, 1)
        for shape in ((side, side), (side, side + 3), (side + 3, side)):
            value = score(*rng.integers(0, 256, (3, *shape), np.uint8), protocol, [name])[name]
            assert math.isfinite(value), (name, shape)
        if side > 1:
            for shape in ((side - 1, 90), (90, side - 1)):
                with pytest.raises(InputError, match=f"{name} needs images of at least {side}x{side} pixels"):
                    score(*rng.integers(0, 256, (3, *shape), np.uint8), protocol, [name])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: np.stack([x] * 3, -1), r"fused image: expected one luma plane \(H, W\), got shape \(64, 72, 3\)"),
        (lambda x: np.where(x > 90, np.nan, x / 255), "fused image: expected finite values, got [0-9]+ NaN"),
        (lambda x: np.where(x > 90, np.inf, x / 255), "fused image: expected finite values"),
        (lambda x: x.astype(float), r"fused image: expected floats in \[0, 1\], got .* to 1?[0-9]+"),
        (lambda x: x / 255 - 0.5, r"fused image: expected floats in \[0, 1\]"),
        (lambda x: x.astype(np.int64), "fused image: expected uint8, uint16 or float"),
        (lambda x: x > 90, "fused image: expected uint8, uint16 or float"),
        (lambda x: x[:0], "fused image: expected at least one pixel"),
        (lambda x: x[:-1], "one size, got source a 72x64, source b 72x64, fused image 72x63"),
    ],
)
def test_unusable_images(spoil, message):
    a, b, f = textured()
    with pytest.raises(InputError, match=message) as error:
        score(a, b, spoil(f))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        metrics.vif(a, b, spoil(f))


def test_unknown_names():
    images = textured()
    with pytest.raises(InputError, match="unknown metric 'VIFF'; did you mean 'VIF'"):
        score(*images, metrics=["EN", "VIFF"])
    with pytest.raises(InputError, match="unknown protocol 'papr'; did you mean 'paper'"):
        score(*images, "papr")
    with pytest.raises(InputError, match="'cddfuse' does not define QCB .* use protocol paper or mefb"):
        score(*images, "cddfuse", ["QCB"])
    with pytest.raises(InputError, match="EN is given twice"):
        score(*images, metrics=["EN", "en"])
    with pytest.raises(InputError, match="at least one metric"):
        score(*images, metrics=[])
    with pytest.raises(InputError, match="'bits' or 'nats'"):
        metrics.mutual_information(*images, unit="bytes")
    with pytest.raises(InputError, match="'mean' or 'sum'"):
        metrics.ssim(*images, combine="max")
    with pytest.raises(InputError, match="unknown task 'mfi'; did you mean 'mfif'"):
        task_name("mfi")


def test_order_and_defaults():
    assert [metric.name for metric in protocol_metrics()] == list(PAPER_METRICS)
    assert [metric.name for metric in protocol_metrics("paper", ["vif", "EN"])] == ["VIF", "EN"]
    assert [metric.name for metric in protocol_metrics("cddfuse")] == ["EN", "SD", "SF", "AG", "SCD", "SSIM", "VIF"]
    assert list(score(*textured(), metrics=["SD", "EN"])) == ["SD", "EN"]
    assert set(ALL) == set(PAPER_METRICS) | {"MI", "CC", "MSE", "PSNR", "QABF", "MEF-SSIM"}


def test_tasks_have_the_metrics_of_their_tables():
    assert task_name("MEIF") == "meie"
    modality, photography = ["EN", "SD", "SF", "AG", "SCD", "SSIM"], ["EN", "SD", "SF", "VIF", "QCB", "QNCIE"]
    assert task_metrics("ivif") == [*modality, "VIF", "QABF"] and task_metrics("mif") == modality
    assert task_metrics("mfif") == photography and task_metrics("meif") == [*photography, "MEF-SSIM"]
    assert task_metrics("mfif", "cddfuse") == ["EN", "SD", "SF", "VIF"]
    assert set(TASK_METRICS) == {"ivif", "mif", "mfif", "meie"}


def test_direction_and_unit_are_told():
    for protocol in PROTOCOLS.values():
        for name, metric in protocol.items():
            assert metric.name == name
            assert metric.higher_is_better == (name != "MSE")
            assert metric.arrow == ("↓" if name == "MSE" else "↑")
    assert PROTOCOLS["paper"]["MI"].unit == "bits" == PROTOCOLS["mefb"]["MI"].unit
    assert PROTOCOLS["cddfuse"]["MI"].unit == "nats"
    assert PROTOCOLS["paper"]["PSNR"].unit == "dB"
