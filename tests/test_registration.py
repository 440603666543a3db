"""Finding how pictures of one scene lie to each other, on real pairs, and bringing one onto the other."""

import numpy as np
import pytest

from refusion_jax.data.pairs import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import read_image
from refusion_jax.imaging.registration import estimate_shift, looks_misregistered

# Pairs that are shifted as published, by 2 to 6 pixels: bringing them together raises their mutual information.
SHIFTED = {"FLIR_00006", "FLIR_05027", "FLIR_06099", "newspaper", "savic_09", "savic_10", "savic_12",
           "Night", "door2", "flowerGate", "road"}  # fmt: skip


def lumas(folder, task, every=1):
    """(name, a, b) of every n-th pair of a task."""
    for pair in find_pairs(folder / task, task)[::every]:
        yield pair.name.split("/")[-1], to_luma(read_image(pair.a)), to_luma(read_image(pair.b))


def shifted(a, b, dy, dx, margin=20):
    """Both cropped, so that b lies dy, dx from a and both have real content up to the border."""
    h, w = a.shape[:2]
    return a[margin : h - margin, margin : w - margin], b[margin - dy : h - margin - dy, margin - dx : w - margin - dx]


def textured(shape=(120, 160), seed=0):
    """A picture with structure of all sizes."""
    rng = np.random.default_rng(seed)
    return sum(np.kron(rng.random((-(-shape[0] // n), -(-shape[1] // n))), np.ones((n, n)))[: shape[0], : shape[1]]
               for n in (1, 3, 8, 20))  # fmt: skip


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


@pytest.mark.parametrize("task,every,found", [("ivif", 5, 0.75), ("meie", 8, 0.85), ("mfif", 8, 0.75), ("mif", 60, 0)])
def test_real_pairs(real_data, task, every, found):
    """None that lies well is warned of; of those moved by 4 pixels most are, where the sources share edges."""
    seen = []
    for name, a, b in lumas(real_data, task, every):
        if name not in SHIFTED:
            assert looks_misregistered(a, b) is None, name
            seen.append(looks_misregistered(*shifted(a, b, -4, 1)) is not None)
    assert len(seen) >= 6 and np.mean(seen) >= found


def test_real_pairs_that_are_shifted(real_data):
    pairs = {pair.name.split("/")[-1]: pair for task in ("ivif", "mfif", "meie")
             for pair in find_pairs(real_data / task, task)}  # fmt: skip
    for name in SHIFTED & pairs.keys():
        assert looks_misregistered(to_luma(read_image(pairs[name].a)), to_luma(read_image(pairs[name].b))), name
