"""The built-in scenes: same bytes every time, and the physics each task's pairs are meant to show."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from refusion_jax.cli import scenes as command
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import read_image
from refusion_jax.scenes import TASKS, exposure, focus, make_pair, make_pairs, medical, places, sensor, sprites, tissue

SMALL = (128, 128)


def luma(image):
    """BT.601 luma, float64, of uint8 (H,W) or (H,W,3)."""
    image = image.astype(np.float64)
    return image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114])


def edge_energy(image):
    """Squared differences of neighbours, (H-1,W-1)."""
    y = luma(image)
    return np.diff(y, axis=0)[:, :-1] ** 2 + np.diff(y, axis=1)[:-1] ** 2


# ---- interface


@pytest.mark.parametrize("task", TASKS)
def test_same_bytes_whatever_else_was_made(task):
    alone = make_pair(task, 7, 2, SMALL)
    among = make_pairs(task, 7, 3, SMALL)[2]
    again = make_pair(task, 7, 2, SMALL)
    for other in (among, again):
        assert other.name == alone.name == f"{task}_00002"
        assert np.array_equal(alone.a, other.a) and np.array_equal(alone.b, other.b)


def test_same_bytes_in_a_fresh_process():
    code = (
        "import hashlib; from refusion_jax.scenes import TASKS, make_pair\n"
        "pairs = [make_pair(t, 3, 1, (64, 80)) for t in reversed(TASKS)]\n"
        "print(' '.join(hashlib.sha256(p.a.tobytes() + p.b.tobytes()).hexdigest() for p in pairs))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [make_pair(task, 3, 1, (64, 80)) for task in TASKS]
    here = [hashlib.sha256(p.a.tobytes() + p.b.tobytes()).hexdigest() for p in here]
    assert run.stdout.split() == here[::-1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(97, 131), (131, 97), (32, 32)])
def test_shapes_and_types(task, size):
    for index in range(3):
        pair = make_pair(task, 0, index, size)
        colours = {"ivif": (0, 3), "mif": (None, 0), "mfif": (3, 3), "meie": (3, 3)}[task]
        for picture, channels in zip((pair.a, pair.b), colours, strict=True):
            assert picture.dtype == np.uint8 and picture.flags["C_CONTIGUOUS"]
            assert picture.shape[:2] == size
            if channels is not None:
                assert picture.shape == (size if channels == 0 else (*size, channels))
            assert luma(picture).std() > 4.0  # something is to be seen


@pytest.mark.parametrize("task", TASKS)
def test_seeds_and_indices_give_other_pictures(task):
    pairs = [make_pair(task, seed, index, (64, 64)) for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i, one in enumerate(pairs):
        for other in pairs[i + 1 :]:
            # sets of grey and colour pictures mix in mif: compare luma
            assert np.abs(luma(one.b) - luma(other.b)).mean() > 3.0


def test_tasks_have_streams_of_their_own():
    assert not np.array_equal(make_pair("meie", 0, 0, (64, 64)).a, make_pair("mfif", 0, 0, (64, 64)).a)


def test_meif_is_meie():
    one, other = make_pair("meif", 0, 1, (48, 48)), make_pair("meie", 0, 1, (48, 48))
    assert one.name == other.name and np.array_equal(one.a, other.a)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mfiff", 0, 0), ["mfiff", "did you mean 'mfif'"]),
        (("infrared", 0, 0), ["unknown task", "ivif, mif, mfif, meie"]),
        (("meie", -1, 0), ["seed", "-1"]),
        (("meie", 0, 1.5), ["index", "1.5"]),
        (("meie", 0, 0, (16, 300)), ["16x300", "32"]),
        (("meie", 0, 0, 256), ["(height, width)", "256"]),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InputError) as caught:
        make_pair(*arguments)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# ---- multi-exposure


@pytest.fixture(scope="module")
def exposures():
    return make_pairs("meie", 11, 24, SMALL)


def test_exposures_are_ordered_and_complementary(exposures):
    gains, rescued, lifted = [], 0, 0
    for pair in exposures:
        under, over = luma(pair.a), luma(pair.b)
        assert under.mean() < over.mean() - 12.0
        gains.append(over.mean() - under.mean())
        clipped = over >= 254.0
        if clipped.mean() > 0.02:  # what the long exposure lost, the short one holds with structure
            assert (under[clipped] >= 254.0).mean() < 0.6
            rescued += under[clipped].std() > 3.0 and (under[clipped] < 250.0).mean() > 0.8
        dark = under < np.percentile(under, 40)
        lifted += over[dark].std() > 1.3 * under[dark].std()
    assert np.mean(gains) > 70.0
    assert rescued >= 0.75 * len(exposures)
    assert lifted >= 0.85 * len(exposures)


def test_exposures_show_one_scene(exposures):
    """Brighter in one is not darker in the other: the order of levels is kept where neither is clipped."""
    agreement = []
    for pair in exposures:
        under, over = (p[..., 1].astype(float) for p in (pair.a, pair.b))
        usable = (ndimage.minimum_filter(under, 5) > 25) & (ndimage.maximum_filter(over, 5) < 240)
        under, over = (ndimage.uniform_filter(v, 5)[usable] for v in (under, over))
        if usable.sum() > 400 and under.std() > 4.0:
            ranks = [np.argsort(np.argsort(v)) for v in (under, over)]
            agreement.append(np.corrcoef(*ranks)[0, 1])
    assert len(agreement) >= 6 and min(agreement) > 0.9 and np.median(agreement) > 0.98


def test_scenes_have_the_dynamic_range_they_claim():
    decades = []
    for index in range(16):
        light = sensor.luma(np.maximum(exposure.radiance(np.random.default_rng([5, index]), SMALL), 1e-7))
        decades.append(np.log10(light.max() / np.percentile(light, 1)))
    assert np.median(decades) > 2.6 and max(decades) > 3.8


# ---- multi-focus


@pytest.mark.parametrize("build", focus.BUILDERS, ids=lambda f: f.__name__)
def test_each_focus_is_sharper_on_its_own_side(build):
    near_wins = far_wins = trials = 0
    for index in range(5):
        scene = build(np.random.default_rng([21, index]), SMALL)
        aperture = 3.0 / abs(1.0 / scene.near - 1.0 / scene.far)
        pictures = [focus.compose(scene, depth, aperture) for depth in (scene.near, scene.far)]
        white = np.percentile(pictures[0], 97)  # as a camera sees it: a glint must not outweigh the rest
        pictures = [np.moveaxis(255.0 * np.sqrt(np.clip(p / white, 0.0, 1.0)), 0, -1) for p in pictures]
        near_mask = np.zeros(SMALL, bool)
        for depth, _, alpha in scene.layers:
            if depth < 1.2 * scene.near:
                near_mask |= alpha > 0.5
        far_mask = ~ndimage.binary_dilation(near_mask, iterations=6)
        # rows of the ground that are close to the near plane are in nobody's far focus
        far_mask &= (scene.inverse < 0.5 / scene.near + 0.5 / scene.far)[:, None]
        if near_mask.sum() < 200 or far_mask.sum() < 200:
            continue
        a, b = (edge_energy(p) for p in pictures)
        trials += 1
        near_wins += a[near_mask[:-1, :-1]].sum() > b[near_mask[:-1, :-1]].sum()
        far_wins += b[far_mask[:-1, :-1]].sum() > a[far_mask[:-1, :-1]].sum()
    assert trials >= 3
    assert near_wins == trials and far_wins == trials


def test_focus_pairs_differ_in_sharpness_not_in_light():
    for pair in make_pairs("mfif", 4, 8, SMALL):
        assert abs(luma(pair.a).mean() - luma(pair.b).mean()) < 4.0
        local = [ndimage.uniform_filter(edge_energy(p), 9) for p in (pair.a, pair.b)]
        ratio = np.log((local[0] + 4.0) / (local[1] + 4.0))
        assert np.percentile(ratio, 97) > 0.2 and np.percentile(ratio, 3) < -0.2


# ---- infrared and visible


def _pixels_of_people(monkeypatch, seed, size):
    """Pair and mask of the pixels that people cover."""
    real, masks = sprites.person, []

    def spy(world, *arguments):
        before = world.canvas[3].copy()
        real(world, *arguments)
        masks.append(np.abs(world.canvas[3] - before) > 3.0)

    monkeypatch.setattr(sprites, "person", spy)
    pair = make_pair("ivif", *seed, size)
    return pair, np.any(masks, axis=0) if masks else np.zeros(size, bool)


def test_people_are_warm_in_infrared_and_dim_at_night(monkeypatch):
    warm = seen = dim = nights = 0
    times = []
    real = places.light_up

    def spy(world, rng, time, ahead=False):
        times.append(time)
        real(world, rng, time, ahead)

    monkeypatch.setattr(places, "light_up", spy)
    for index in range(30):
        pair, mask = _pixels_of_people(monkeypatch, (31, index), (160, 160))
        if mask.sum() < 60:
            continue
        around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask)
        seen += 1
        warm += pair.a[mask].mean() > pair.a[around].mean() + 10
        if times[-1] == "night":
            nights += 1
            # in visible light they stand out far less than in infrared
            contrast = abs(luma(pair.b)[mask].mean() - luma(pair.b)[around].mean())
            dim += contrast < float(pair.a[mask].mean()) - float(pair.a[around].mean())
    assert seen >= 8 and warm >= 0.85 * seen
    assert nights >= 3 and dim >= 0.75 * nights


def _street(time, thermal=True, seed=0):
    return places.outdoors(SMALL, np.random.default_rng([41, seed]), time, "street", thermal=thermal)


def test_sky_is_colder_than_the_ground():
    for seed, time in enumerate(("day", "overcast", "night", "dusk")):
        world = _street(time, seed=seed)
        up = world.view.rays()[1]
        sky, ground = world.canvas[3][up > 0.25], world.canvas[3][up < -0.1]
        assert np.percentile(sky, 10) < np.median(ground) - 4.0
        assert np.median(ground) == pytest.approx(world.air, abs=25.0)


def test_nights_are_dark_and_noisy():
    day, night = _street("day"), _street("night")
    assert np.median(night.canvas[:3]) < 0.1 * np.median(day.canvas[:3])
    # where lamps shine it is light even at night
    assert night.canvas[:3].max() > 20 * np.median(night.canvas[:3])


def test_the_two_cameras_see_different_things():
    """Neither picture can be told from the other: their edges agree in part."""
    both = []
    for pair in make_pairs("ivif", 6, 10, SMALL):
        a, b = (np.sqrt(edge_energy(p)).ravel() for p in (pair.a, pair.b))
        both.append(np.corrcoef(a, b)[0, 1])
    assert 0.05 < np.median(both) < 0.75


# ---- medical


def _rough(image, mask):
    """Share of the variance that a blur of 1.5 pixels takes away."""
    y = luma(image)
    return (y - ndimage.gaussian_filter(y, 1.5))[mask].var() / (y[mask].var() + 1e-9)


def test_functional_is_smoother_than_structural():
    smoother = counted = 0
    for pair in make_pairs("mif", 8, 18, (192, 192)):
        if pair.a.ndim == 2:
            continue
        head = ndimage.binary_erosion(ndimage.gaussian_filter(luma(pair.b), 3) > 15, iterations=10)
        counted += 1
        smoother += _rough(pair.a, head) < 0.5 * _rough(pair.b, head)
        assert luma(pair.a)[:4].max() < 25  # the air above the head is black
        colours = pair.a.reshape(-1, 3).astype(int)
        assert (np.ptp(colours, axis=1) > 40).mean() > 0.03  # a colour map, not grey
    assert counted >= 8 and smoother == counted


def test_skull_is_bright_in_ct_and_dark_in_mri():
    seen = 0
    for index in range(6):
        section = tissue.Section(np.random.default_rng([9, index]), (192, 192))
        medical.axial(section, 0.8)
        bone = ndimage.binary_erosion(section.share["skull"] > 0.9)
        brain = ndimage.binary_erosion(section.brain > 0.9, iterations=3)
        if bone.sum() < 100:
            continue
        seen += 1
        ct, mri = medical.ct(section), medical.mri(section)
        assert ct[bone].mean() > ct[brain].mean() + 60
        assert mri[bone].mean() < mri[brain].mean()
        assert np.median(mri[:6]) < 30 and ct[:3].max() == 0
    assert seen >= 5


# ---- the command


def test_command_writes_scene_folders(tmp_path, capsys):
    arguments = ["--task", "meif", "--out", str(tmp_path), "--count", "2", "--seed", "5", "--size", "40x52"]
    assert command.main([*arguments, "--start", "3"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    for index in (3, 4):
        pair = make_pair("meie", 5, index, (40, 52))
        folder = tmp_path / pair.name
        assert sorted(p.name for p in folder.iterdir()) == [f"{pair.name}_A.png", f"{pair.name}_B.png"]
        assert np.array_equal(read_image(folder / f"{pair.name}_A.png"), pair.a)
        assert np.array_equal(read_image(folder / f"{pair.name}_B.png"), pair.b)


@pytest.mark.parametrize(("task", "folders"), [("ivif", ("infrared", "visible")), ("mif", ("CT_PET_SPECT", "MRI"))])
def test_command_writes_sibling_folders(tmp_path, task, folders):
    assert command.main(["--task", task, "--out", str(tmp_path), "--count", "2", "--size", "40"]) == 0
    stems = [sorted(p.stem for p in (tmp_path / folder).iterdir()) for folder in folders]
    assert stems[0] == stems[1] == [f"{task}_00000", f"{task}_00001"]
    pair = make_pair(task, 0, 1, (40, 40))
    assert np.array_equal(read_image(tmp_path / folders[0] / f"{pair.name}.png"), pair.a)
    assert np.array_equal(read_image(tmp_path / folders[1] / f"{pair.name}.png"), pair.b)


def test_command_never_overwrites(tmp_path, capsys):
    arguments = ["--task", "mfif", "--out", str(tmp_path), "--size", "40"]
    assert command.main([*arguments, "--count", "1", "--start", "2"]) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    assert command.main([*arguments, "--count", "3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "mfif_00002" in message and message.count("\n") == 1
    # nothing was written for the pairs before it either
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == before


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--task", "mfi"], "did you mean"),
        (["--task", "mif", "--size", "big"], "--size"),
        (["--task", "mif", "--size", "8x8"], "32"),
        (["--task", "mif", "--count", "0"], "--count"),
        (["--task", "mif", "--start", "-1"], "--start"),
    ],
)
def test_command_bad_input(tmp_path, capsys, extra, word):
    assert command.main([*extra, "--out", str(tmp_path / "new")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and word in message and message.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_command_as_a_module(tmp_path, repo):
    run = [sys.executable, "-m", "refusion_jax", "scenes", "--task", "meie", "--out", str(tmp_path), "--count", "1"]
    done = subprocess.run([*run, "--size", "40"], capture_output=True, text=True, cwd=repo)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "meie_00000" / "meie_00000_A.png").is_file()
    again = subprocess.run([*run, "--size", "40"], capture_output=True, text=True, cwd=repo)
    assert again.returncode == 2 and again.stderr.startswith("error: ")
