"""Finding how pictures of one scene lie to each other, on real pairs, and bringing one onto the other."""

import re

import numpy as np
import pytest

from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import MOTIONS, Transform, read_transform, warp, write_transform
from refusion_jax.imaging.calibration import register
from refusion_jax.imaging.common_frame import largest_rectangle
from refusion_jax.imaging.files import read_luma
from refusion_jax.imaging.registration import estimate_shift, looks_misregistered

# Pairs that are shifted as published, by 2 to 6 pixels: bringing them together raises their mutual information.
SHIFTED = {
    "FLIR_00006",
    "FLIR_05027",
    "FLIR_06099",
    "newspaper",
    "savic_09",
    "savic_10",
    "savic_12",
    "Night",
    "door2",
    "flowerGate",
    "road",
}


def lumas(folder, task, every=1):
    """(name, a, b) of every n-th pair of a task."""
    for pair in find_pairs(folder / task, task)[::every]:
        yield pair.name.split("/")[-1], read_luma(pair.a), read_luma(pair.b)


def shifted(a, b, dy, dx, margin=20):
    """Both cropped, so that b lies dy, dx from a and both have real content up to the border."""
    h, w = a.shape[:2]
    return a[margin : h - margin, margin : w - margin], b[margin - dy : h - margin - dy, margin - dx : w - margin - dx]


def textured(shape=(120, 160), seed=0):
    """A picture with structure of all sizes."""
    rng = np.random.default_rng(seed)
    return sum(
        np.kron(rng.random((-(-shape[0] // n), -(-shape[1] // n))), np.ones((n, n)))[: shape[0], : shape[1]]
        for n in (1, 3, 8, 20)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@pytest.mark.parametrize("dy,dx", [(0, 0), (3, -5), (-10, 2)])
def test_a_shift_is_found_whatever_the_type_and_the_levels(dtype, dy, dx):
    scene = textured((160, 180))
    a, b = shifted(scene, 1 - 0.1 * scene**2, dy, dx)  # another contrast, reversed
    top = {np.uint8: 60, np.uint16: 16000, np.float64: 1e-3}[dtype]
    found = estimate_shift((a * top).astype(dtype), (b * top).astype(dtype))
    assert found.dy == pytest.approx(dy, abs=0.1) and found.dx == pytest.approx(dx, abs=0.1)
    assert found.confidence > 0.9


def test_large_pictures_are_looked_at_reduced():
    scene = np.kron(textured(), np.ones((12, 12)))
    found = estimate_shift(*shifted(scene, scene, 9, -26, 60))
    assert found.dy == pytest.approx(9, abs=1) and found.dx == pytest.approx(-26, abs=1)
    assert "26" in looks_misregistered(*shifted(scene, scene, 9, -26, 60))
    assert looks_misregistered(*shifted(scene, scene, 1, 0, 60)) is None


def test_a_warning_names_the_shift():
    a, b = shifted(textured(), textured(), 3, -5)
    said = looks_misregistered(a, b)
    assert said == "the second picture looks shifted by 5.0 pixels to the left and 3.0 down"
    assert "5.0 pixels to the right and 3.0 up" in looks_misregistered(b, a)


def test_pictures_that_tell_nothing_have_no_confidence():
    rng = np.random.default_rng(0)
    flat, small = np.full((100, 100), 7, np.uint8), rng.random((20, 30))
    for a, b in ((flat, flat), (flat, rng.random((100, 100))), (small, small), (small[:1], small[:1])):
        assert estimate_shift(a, b) == (0, 0, 0) and looks_misregistered(a, b) is None
    for seed in range(5):
        a, b = textured(seed=seed), textured(seed=seed + 50)
        assert estimate_shift(a, b).confidence < 0.5 and looks_misregistered(a, b) is None
    for b in (np.zeros((100, 101)), np.zeros((100, 100, 3))):
        with pytest.raises(InputError, match="of one size"):
            estimate_shift(flat, b)


@pytest.mark.parametrize(
    ("task", "every", "least", "most"),
    [("ivif", 10, 0.75, 1), ("meie", 16, 0.85, 1), ("mfif", 16, 0.6, 1), ("mif", 120, 0, 0.2)],
)
def test_real_pairs(real_data, task, every, least, most):
    """None that lies well is warned of; moved by 4 pixels most are, but for medical ones, whose edges do not agree."""
    seen = []
    for name, a, b in lumas(real_data, task, every):
        if name not in SHIFTED:
            assert looks_misregistered(a, b) is None, name
            seen.append(looks_misregistered(*shifted(a, b, -4, 1)) is not None)
    assert len(seen) >= 5 and least <= np.mean(seen) <= most


def test_real_pairs_that_are_shifted(real_data):
    pairs = {
        pair.name.split("/")[-1]: pair
        for task in ("ivif", "mfif", "meie")
        for pair in find_pairs(real_data / task, task)
    }
    for name in SHIFTED:
        warning = looks_misregistered(read_luma(pairs[name].a), read_luma(pairs[name].b))
        assert warning is not None and 1.5 < largest_number(warning) < 8, name


def largest_number(text):
    return max(map(float, re.findall(r"\d+\.\d+", text)))


# Bringing one onto the other


def motion_matrix(motion, shape, seed):
    """A slight motion of a camera: up to 6 pixels, 1.5 degrees, 2 % and a little perspective."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3)
    middle = np.array([shape[1], shape[0]]) / 2
    if motion != "translation":
        angle = np.radians(rng.uniform(-1.5, 1.5))
        matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if motion in ("affine", "homography"):
        matrix[:2, :2] += rng.uniform(-0.02, 0.02, (2, 2))
    matrix[:2, 2] = middle - matrix[:2, :2] @ middle + rng.uniform(-6, 6, 2)
    if motion == "homography":
        matrix[2, :2] = rng.uniform(-2e-5, 2e-5, 2)
    return matrix


def apply(matrix, points):
    moved = np.c_[points, np.ones(len(points))] @ matrix.T
    return moved[:, :2] / moved[:, 2:]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("task,name", [("meie", "Arno"), ("mfif", "aymaz_05"), ("ivif", "FLIR_00060")])
def test_a_known_motion_is_recovered(real_data, task, name, motion):
    """To 0.2 pixels: what registering finds after moving the second picture, against what it found before."""
    cv2 = pytest.importorskip("cv2")
    (pair,) = [p for p in find_pairs(real_data / task, task) if p.name.split("/")[-1] == name]
    a, b = read_luma(pair.a), read_luma(pair.b)
    h, w = a.shape
    known = motion_matrix(motion, a.shape, len(motion) + len(name))
    moved = cv2.warpPerspective(b, known, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    inner = slice(16, -16), slice(16, -16)
    to_inner = np.array([[1, 0, 16], [0, 1, 16], [0, 0, 1.0]])
    before, after = (register(a[inner], x[inner], motion).matrix for x in (b, moved))
    points = np.array([[x, y] for x in np.linspace(0, w - 33, 5) for y in np.linspace(0, h - 33, 5)])
    error = apply(after, points) - apply(np.linalg.inv(to_inner) @ known @ to_inner @ before, points)
    assert np.hypot(*error.T).mean() < 0.2


def test_an_old_opencv_is_named(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "__version__", "4.12.0")
    with pytest.raises(InputError, match="4.13 or later, got 4.12.0: pip install"):
        register(textured(), textured(), "affine")


def test_unrelated_pictures_are_not_aligned():
    pytest.importorskip("cv2")
    for a, b in ((textured(seed=1), textured(seed=2)), (textured(), np.zeros((120, 160)))):
        with pytest.raises(InputError, match="cannot align the pictures .*try another --align"):
            register(a, b, "affine")
    with pytest.raises(InputError, match="too small"):
        register(np.zeros((9, 50)), np.zeros((9, 50)), "affine")
    with pytest.raises(InputError, match="motion"):
        register(textured(), textured(), "spline")


def test_warping_keeps_depth_and_tells_what_is_known():
    pytest.importorskip("cv2")
    ramp = np.tile(np.arange(0, 64000, 1000, dtype=np.uint16), (30, 1))
    shift = Transform(np.array([[1, 0, 2.5], [0, 1, 0], [0, 0, 1]]), "translation", (30, 64), (30, 64))
    moved, known = warp(ramp, shift)
    assert moved.dtype == np.uint16 and known[:, :61].all() and not known[:, 62:].any()
    assert np.array_equal(moved[:, 3:58], np.tile(np.arange(5500, 60500, 1000), (30, 1)))
    color, _ = warp(np.stack([ramp, ramp // 2, ramp // 4], -1), shift)
    assert color.shape == (30, 64, 3) and np.array_equal(color[..., 0], moved)
    same = Transform(np.eye(3), "affine", (30, 64), (30, 64))
    assert np.array_equal(warp(ramp, same)[0], ramp) and warp(ramp, same)[1].all()
    with pytest.raises(InputError, match="for a second picture of 64x30 pixels, got one of 63x30"):
        warp(ramp[:, :63], same)


def test_the_largest_rectangle():
    """Against trying every rectangle of a turned square."""
    y, x = np.mgrid[:24, :30]
    mask = (abs(x - 14) + 2 * abs(y - 11) < 18) & (x > 3)
    rows, columns = largest_rectangle(mask)
    assert mask[rows, columns].all()
    areas = [
        (j - i) * (n - m)
        for i in range(24)
        for j in range(i + 1, 25)
        for m in range(30)
        for n in range(m + 1, 31)
        if mask[i, m] and mask[j - 1, n - 1] and mask[i, n - 1] and mask[j - 1, m]
    ]
    assert mask[rows, columns].size == max(areas)
    assert largest_rectangle(np.ones((5, 7), bool)) == (slice(0, 5), slice(0, 7))
    with pytest.raises(InputError, match="no area in common"):
        largest_rectangle(np.zeros((5, 7), bool))


def test_a_transform_file(tmp_path):
    transform = Transform(motion_matrix("homography", (40, 50), 0), "homography", (40, 50), (40, 50))
    write_transform(tmp_path / "new" / "t.json", transform)
    read = read_transform(tmp_path / "new" / "t.json")
    assert np.array_equal(read.matrix, transform.matrix) and read.motion == "homography" and read.size_b == (40, 50)
    assert "shifted by" in str(read) and "turned by" in str(read) and "scaled by" in str(read)
    good = (tmp_path / "new" / "t.json").read_text()
    for bad, words in (
        ("[", "as --save-transform writes"),
        ("{}", "as --save"),
        (good.replace("40", "0"), "as --save"),
        (good.replace("homography", "shear"), "as --save"),
        (good.replace("1.0", "-1.0"), "inside out"),
        (good.replace("1.0", "NaN"), "as --save"),
        (good.replace("40", "Infinity"), "as --save"),
        ("[" * 100_000, "as --save"),
    ):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(InputError, match=words):
            read_transform(tmp_path / "bad.json")
    with pytest.raises(InputError, match="cannot read the transform .*none.json"):
        read_transform(tmp_path / "none.json")
