"""The built-in scenes: the same every time, the physics each task's pairs are meant to show, and their ground truth."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from refusion_jax.cli import scenes as command
from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import read_image
from refusion_jax.scenes import make_pair, pairs, places
from refusion_jax.tasks import TASKS

SMALL = (128, 128)


def luma(image):
    """BT.601 luma, float64, of (H,W) or (H,W,3)."""
    image = image.astype(np.float64)
    return image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114])


def edges(image):
    """Squared differences of neighbours, (H-1,W-1)."""
    y = luma(image)
    return np.diff(y, axis=0)[:, :-1] ** 2 + np.diff(y, axis=1)[:-1] ** 2


def some(task, seed, count, size=SMALL):
    return [make_pair(task, seed, index, size) for index in range(count)]


# ---- interface


def test_same_pair_in_a_fresh_process_whatever_else_was_made():
    code = (
        "import hashlib; from refusion_jax.scenes import make_pair; from refusion_jax.tasks import TASKS\n"
        "for t in TASKS:\n"
        "    p = make_pair(t, 3, 1, (64, 80))\n"
        "    print(hashlib.sha256(b''.join(x.tobytes() for x in p[:3])).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = []
    for task in reversed(TASKS):
        make_pair(task, 3, 0, (40, 40))
        pair = make_pair(task, 3, 1, (64, 80))
        here.append(hashlib.sha256(b"".join(x.tobytes() for x in pair[:3])).hexdigest())
        assert pair.name == f"{task}_00001"
    assert run.stdout.split() == here[::-1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(97, 131), (131, 97), (32, 32)])
def test_shapes_ranges_and_something_to_see(task, size):
    for index in range(3):
        pair = make_pair(task, 0, index, size)
        colours = {"ivif": (0, 3), "mif": (3 if pair.a.ndim == 3 else 0, 0), "mfif": (3, 3), "meie": (3, 3)}[task]
        for picture, channels in zip((pair.a, pair.b), colours, strict=True):
            assert picture.dtype == np.uint8 and picture.flags["C_CONTIGUOUS"]
            assert picture.shape == (size if channels == 0 else (*size, channels))
            assert luma(picture).std() > 4.0
        layers = sum(max(channels, 1) for channels in colours) if task in ("ivif", "mif") else 3
        assert pair.truth.shape == (*size, layers) and pair.truth.dtype == np.float32
        assert pair.truth.min() >= 0.0 and np.isfinite(pair.truth).all()
        assert task == "meie" or pair.truth.max() <= 1.0


@pytest.mark.parametrize("task", TASKS)
def test_seeds_and_indices_give_other_pictures(task):
    made = [luma(make_pair(task, seed, index, (64, 64)).b) for seed in range(3) for index in range(3)]
    assert min(np.abs(one - other).mean() for i, one in enumerate(made) for other in made[i + 1 :]) > 3.0


def test_tasks_have_streams_of_their_own_and_meif_is_meie():
    one = make_pair("meie", 0, 1, (48, 48))
    other, focus = make_pair("meif", 0, 1, (48, 48)), make_pair("mfif", 0, 1, (48, 48))
    assert one.name == other.name and np.array_equal(one.a, other.a) and not np.array_equal(one.a, focus.a)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mfiff", 0, 0), ["mfiff", "did you mean 'mfif'"]),
        (("meie", -1, 0), ["seed", "-1"]),
        (("meie", 0, 1.5), ["index", "1.5"]),
        (("meie", 0, True), ["index", "True"]),
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


@pytest.mark.parametrize("time", places.TIMES)
def test_every_time_of_day_paints_everywhere(time):
    for seed in range(3):
        canvas = places.open_air(np.random.default_rng(seed), (48, 64), time).canvas
        assert np.isfinite(canvas).all() and canvas[:3].min() >= 0.0 and canvas[4].min() > 0.999


# ---- multi-exposure


@pytest.fixture(scope="module")
def exposures():
    return some("meie", 11, 16)


def test_exposures_are_ordered_and_complementary(exposures):
    rescued, lifted = [], []
    for pair in exposures:
        under, over = luma(pair.a), luma(pair.b)
        assert under.mean() < over.mean() - 12.0
        clipped, dark = over >= 254.0, under < np.percentile(under, 40)
        if clipped.mean() > 0.02:  # what the long exposure lost, the short one holds with structure
            assert (under[clipped] >= 254.0).mean() < 0.6
            rescued.append(under[clipped].std() > 3.0 and (under[clipped] < 250.0).mean() > 0.8)
        lifted.append(over[dark].std() > 1.3 * under[dark].std())
    assert np.mean([luma(p.b).mean() - luma(p.a).mean() for p in exposures]) > 60.0
    assert len(rescued) >= 8 and np.mean(rescued) >= 0.7 and np.mean(lifted) >= 0.8


def test_both_exposures_are_one_curve_of_the_radiance(exposures):
    """1 saturates the short exposure; the long one follows the same curve after a gain of 2 to 6 stops."""
    for pair in exposures:
        light, under, over = pair.truth[..., 1], pair.a[..., 1].astype(float), pair.b[..., 1].astype(float)
        assert (under[light >= 1.1] > 250).all() and under[light < 0.1].max(initial=0) < 200
        order = np.argsort(light.ravel())
        blocks = [b for b in np.array_split(order, 40) if light.ravel()[b].max() < 0.9]
        level = np.array([[v.ravel()[b].mean() for v in (light, under, over)] for b in blocks])
        assert np.all(np.diff(level[:, 1]) > -1.5) and np.all(np.diff(level[:, 2]) > -1.5)
        # a gain at which the curve that the long exposure shows passes through what the short one shows
        usable = (level[:, 1] > 25) & (level[:, 1] < 230)
        curve = level[level[:, 2] < 245]
        if usable.sum() > 5 and len(curve) > 8 and curve[-1, 2] > 200:
            gains = np.interp(level[usable, 1], curve[:, 2], curve[:, 0])
            inside = level[usable, 1] < curve[-1, 2]
            stops = np.log2(level[usable, 0] / gains)[inside & (level[usable, 1] > curve[0, 2])]
            assert stops.size == 0 or (1.7 < np.median(stops) < 6.3 and np.ptp(stops) < 0.7)


def test_scenes_have_a_wide_dynamic_range(exposures):
    decades = [np.log10(p.truth[..., 1].max() / np.percentile(p.truth[..., 1], 1)) for p in exposures]
    assert np.median(decades) > 1.8 and max(decades) > 3.0


# ---- multi-focus


@pytest.fixture(scope="module")
def focused():
    return some("mfif", 4, 8)


def test_what_is_in_focus_in_one_is_the_truth(focused):
    """Nearly everywhere one of both pictures agrees with the all-in-focus one; neither does alone."""
    for pair in focused:
        truth = luma(255.0 * pair.truth)
        errors = [np.sqrt(ndimage.uniform_filter((luma(p) - truth) ** 2, 7)) for p in (pair.a, pair.b)]
        best = np.minimum(*errors)
        assert np.percentile(best, 80) < 5.0
        assert best.mean() < 0.9 * min(e.mean() for e in errors)
        assert edges(255.0 * pair.truth).mean() > 1.03 * max(edges(pair.a).mean(), edges(pair.b).mean())


def test_focus_pairs_differ_in_sharpness_not_in_light(focused):
    for pair in focused:
        assert abs(luma(pair.a).mean() - luma(pair.b).mean()) < 5.0
        near, far = (ndimage.uniform_filter(edges(p), 9) for p in (pair.a, pair.b))
        ratio = np.log((near + 4.0) / (far + 4.0))
        assert np.percentile(ratio, 97) > 0.2 and np.percentile(ratio, 3) < -0.2


# ---- infrared and visible


@pytest.fixture(scope="module")
def thermal():
    return some("ivif", 6, 10)


def test_people_are_warm_in_infrared_and_dim_at_night(monkeypatch):
    """By the pixels that people cover, seen from what their painting changed."""
    masks, real = [], places.figure

    def figure(world, *arguments):
        before = world.canvas[3].copy()
        real(world, *arguments)
        masks.append(np.abs(world.canvas[3] - before) > 2.0)

    monkeypatch.setattr(places, "figure", figure)
    times = []
    monkeypatch.setattr(
        pairs,
        "open_air",
        lambda rng, size, time, **how: (times.append(time), places.open_air(rng, size, time, **how))[1],
    )
    warm, dim = [], []
    for index in range(20):
        masks.clear()
        pair = make_pair("ivif", 31, index, (160, 160))
        mask = np.any(masks, axis=0)
        if mask.sum() < 80:
            continue
        around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask)
        infrared = pair.a[mask].mean() - pair.a[around].mean()
        warm.append(infrared > 10)
        if times[-1] == "night":
            visible = luma(pair.b)
            dim.append(abs(visible[mask].mean() - visible[around].mean()) < infrared)
    assert len(warm) >= 8 and np.mean(warm) >= 0.8
    assert len(dim) >= 3 and np.mean(dim) >= 0.7


def test_sky_is_colder_than_the_ground_and_nights_are_dark():
    dark = {}
    for time in places.TIMES:
        world = places.open_air(np.random.default_rng(4), SMALL, time)
        sky, ground = world.canvas[3][:20], world.canvas[3][-30:]
        assert np.percentile(sky, 10) < np.median(ground) - 4.0
        assert np.median(ground) == pytest.approx(world.light.air, abs=25.0)
        dark[time] = np.median(world.canvas[:3])
    assert dark["night"] < dark["dusk"] < 0.3 * dark["sunset"] < dark["day"]


def test_clean_layers_are_the_pictures_without_noise(thermal):
    for pair in thermal:
        for picture, clean in ((pair.a[..., None], pair.truth[..., :1]), (pair.b, pair.truth[..., 1:])):
            error = picture - 255.0 * clean
            assert np.abs(ndimage.gaussian_filter(error, (3, 3, 0))).mean() < 6.0  # no offset: they are one picture
            assert error.std() > 1.0
            clean = edges(255.0 * np.squeeze(clean))
            flat = clean < 1.0
            assert edges(np.squeeze(picture))[flat].mean() > clean[flat].mean()


def test_the_two_cameras_see_one_scene_differently(thermal):
    """Edges agree in part and best without a shift."""
    agreement = []
    for pair in thermal:
        a, b = (np.sqrt(edges(layer)) for layer in (pair.truth[..., 0], pair.truth[..., 1:]))
        shifted = np.roll(b, 7, axis=1)
        here, there = (np.corrcoef(a.ravel(), other.ravel())[0, 1] for other in (b, shifted))
        agreement.append(here)
        assert here > there
    assert 0.1 < np.median(agreement) < 0.85


# ---- medical


def test_functional_pictures_are_smooth_and_coloured_structural_ones_sharp():
    counted = 0
    for pair in some("mif", 8, 10, (160, 160)):
        layers = pair.truth[..., :-1], pair.truth[..., -1:]
        for picture, clean in zip((pair.a, pair.b), layers, strict=True):
            assert np.abs(luma(picture) - 255.0 * luma(np.squeeze(clean))).mean() < 12.0
        assert luma(pair.a)[:4].max() < 25 and np.median(pair.b[:6]) < 30  # air
        if pair.a.ndim == 2:
            continue
        counted += 1
        head = ndimage.binary_erosion(ndimage.gaussian_filter(luma(pair.b), 3) > 15, iterations=10)
        rough = [(y - ndimage.gaussian_filter(y, 1.5))[head].var() / y[head].var() for y in map(luma, (pair.a, pair.b))]
        assert rough[0] < 0.5 * rough[1]
        assert (np.ptp(pair.a.reshape(-1, 3).astype(int), axis=1) > 40).mean() > 0.03
    assert counted >= 4


# ---- the command


@pytest.mark.parametrize("task", TASKS)
def test_command_writes_pairs_that_are_found_and_their_truth_that_is_not(task, tmp_path, capsys):
    arguments = ["--task", task, "--out", str(tmp_path), "--count", "2", "--seed", "5", "--size", "40x52"]
    assert command.main([*arguments, "--start", "3", "--truth"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    found = find_pairs(tmp_path, task)
    assert len(found) == 2 and len(list(tmp_path.rglob("*.*"))) == (8 if task in command.FOLDERS else 6)
    for index, files in zip((3, 4), found, strict=True):
        pair = make_pair(task, 5, index, (40, 52))
        assert np.array_equal(read_image(files.a), pair.a) and np.array_equal(read_image(files.b), pair.b)
        truth = [p for p in command.truth_paths(tmp_path, task, pair.name)]
        if task == "meie":
            assert np.array_equal(tifffile.imread(truth[0]), pair.truth)
        else:
            layers = [read_image(path) for path in truth]
            stored = np.dstack([layer.reshape(40, 52, -1) for layer in layers])
            assert np.abs(stored - 255.0 * pair.truth).max() <= 0.5 + 1e-4


def test_command_without_truth_and_never_over_files(tmp_path, capsys):
    arguments = ["--task", "mfif", "--out", str(tmp_path), "--size", "40"]
    assert command.main([*arguments, "--count", "1", "--start", "2"]) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    assert len(before) == 2
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
    (tmp_path / "file").write_bytes(b"")
    run = [sys.executable, "-m", "refusion_jax", "scenes", "--task", "meie", "--count", "1", "--size", "40", "--out"]
    done = subprocess.run([*run, str(tmp_path)], capture_output=True, text=True, cwd=repo)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "meie_00000" / "meie_00000_A.png").is_file()
    for folder in (tmp_path, tmp_path / "file"):
        again = subprocess.run([*run, str(folder)], capture_output=True, text=True, cwd=repo)
        assert again.returncode == 2 and again.stderr.startswith("error: ") and again.stderr.count("\n") == 1
