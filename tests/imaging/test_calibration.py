"""One transform from the pairs of two cameras of other scale, turn and number of pixels; what is refused."""

import numpy as np
import pytest
from test_registration import apply, textured

from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import Transform, warp
from refusion_jax.imaging.calibration import calibrate, register
from refusion_jax.imaging.files import read_luma
from refusion_jax.imaging.overlays import alignment_check

cv2 = pytest.importorskip("cv2")


def known(scale, turn, offset):
    """From pixels of the first picture to those of the second."""
    c, s = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    return np.array([[c, -s, offset[0]], [s, c, offset[1]], [0, 0, 1.0]])


def seen_through(matrix, scene, size):
    """What a camera of another size (H, W) shows of a scene, reduced without aliasing where that is needed."""
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    source = cv2.GaussianBlur(scene, (0, 0), 0.5 * np.sqrt(scale**2 - 1)) if scale > 1.1 else scene
    return cv2.warpPerspective(source, matrix, size[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def mean_error(found, matrix, size):
    points = np.array([[x, y] for x in np.linspace(0, size[1] - 1, 5) for y in np.linspace(0, size[0] - 1, 5)])
    return float(np.hypot(*(apply(found, points) - apply(matrix, points)).T).mean())


def test_a_rig_is_calibrated_from_all_its_pairs():
    """Contrast reversed, 1.9 times as many pixels, another field, 6 degrees; the last pair shows two scenes."""
    matrix, size = known(1.9, 6, (45, 20)), (110, 140)
    scenes = [cv2.resize(textured((130, 170), seed), (340, 260), interpolation=cv2.INTER_AREA) for seed in range(3)]
    pairs = [(5 - seen_through(matrix, scene, size), scene) for scene in scenes]
    pairs[2] = pairs[2][0], np.ascontiguousarray(scenes[0][::-1])
    found = calibrate(pairs, "affine")
    assert found.used == (0, 1) and found.spread < 0.5 and found.transform.confidence > 0.25
    assert (found.transform.size_a, found.transform.size_b) == (size, (260, 340))
    assert mean_error(found.transform.matrix, matrix, size) < 0.3
    check = alignment_check(pairs[:2], found.transform)
    assert check.dtype == np.uint8 and check.shape == (2 * (377 + 4), 3 * (480 + 4), 3)


def test_thermal_and_visible_at_another_turn(real_data):
    """Within 1 pixel of where registering finds the pair as published, moved in a known way. From where both show the
    same field ECC stops half way, between rows of palms, with a good correlation."""
    name, matrix, size = "FLIR_00060", known(1, 8.5, (74, 41)), (251, 386)
    (pair,) = [p for p in find_pairs(real_data / "ivif", "ivif") if p.name.split("/")[-1] == name]
    thermal, visible = read_luma(pair.a), read_luma(pair.b)
    published = register(thermal, visible, "affine").matrix
    found = register(seen_through(matrix, thermal, size), visible, "affine")
    assert found.confidence > 0.3 and mean_error(found.matrix, published @ matrix, size) < 1


def test_a_field_beyond_the_search_is_refused():
    """Of a small part of the scene the likeliest place within the search is a wrong one."""
    scene = cv2.resize(textured((130, 170)), (340, 260), interpolation=cv2.INTER_AREA)
    part = seen_through(known(0.8, 0, (100, 80)), scene, (100, 130))
    with pytest.raises(InputError, match="cannot align the pictures"):
        register(part, scene, "affine")


def test_a_transform_at_other_sizes_shows_the_same():
    scene = cv2.GaussianBlur(textured((120, 160)).astype(np.float32), (0, 0), 3)
    transform = Transform(known(1.3, 4, (10, 5)), "affine", (80, 100), (120, 160), 0.5)
    larger = transform.at_sizes((160, 200), (240, 320))
    shown, _ = warp(cv2.resize(scene, (320, 240), interpolation=cv2.INTER_CUBIC), larger)
    expected = cv2.resize(warp(scene, transform)[0], (200, 160), interpolation=cv2.INTER_CUBIC)
    assert larger.confidence == 0.5 and np.abs(shown - expected)[8:-8, 8:-8].max() < 0.03
    transform.check_sizes((80, 100), (120, 160))
    with pytest.raises(InputError, match="100x80 and 160x120 pixels, got 100x80 and 160x121"):
        transform.check_sizes((80, 100), (121, 160))


def test_pairs_of_other_cameras_are_named():
    picture = textured((60, 80))
    with pytest.raises(InputError, match="second pictures of one size.*80x50, 80x60"):
        calibrate([(picture, picture), (picture, picture[:50])], "affine")
