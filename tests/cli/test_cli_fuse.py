"""fuse.py as a user runs it: where results go, what they hold, what it says of every bad input."""

import errno
import os

import numpy as np
import pytest
from fuse_command import fuse, images, refused
from PIL import Image
from scripts import picture, script, tiny_info, tiny_run, tiny_trees

from refusion_jax.cli.common import printable, run_command
from refusion_jax.cli.fuse import main
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.imaging.files import read_image, write_image
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory with two checkpoints."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny run.v1", seeds=(0, 1))


# Where results go and what they hold


def test_one_pair_to_a_file_and_to_a_folder(tmp_path, weights, model, pair, capsys):
    expected = model.fuse(*map(read_image, pair))
    out = tmp_path / "deep" / "er" / "fused.png"
    fuse("--ckpt", weights, "--pair", *pair, "--out", out)
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert np.array_equal(np.asarray(Image.open(out)), expected) and expected.shape == (20, 24, 3)
    for folder in (tmp_path / "new", tmp_path / "new.v2", tmp_path / "in"):
        fuse("--ckpt", weights, "--pair", *pair, "--out", folder)
        assert np.array_equal(read_image(folder / "scene.png"), expected)
    for path in pair:  # results beside the sources left them alone
        assert read_image(path).shape == (20, 24, 3)
    assert images(tmp_path / "in") == ["scene.png", "scene_A.png", "scene_B.png"]


def test_a_folder_named_as_a_picture_is_a_folder(tmp_path, weights, pair):
    (tmp_path / "x.png").mkdir()
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.png")
    assert images(tmp_path / "x.png") == ["scene.png"]


def test_the_default_folder_and_an_older_result(tmp_path, weights, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("fused/scene.png", np.zeros((3, 3), np.uint8))
    fuse("--ckpt", weights, "--pair", *pair)
    assert read_image("fused/scene.png").shape == (20, 24, 3)


@pytest.mark.parametrize("extension", ["jpg", "tif", "webp", "bmp", "PNG"])
def test_formats(tmp_path, weights, model, pair, extension):
    out = tmp_path / f"fused.{extension}"
    fuse("--ckpt", weights, "--pair", *pair, "--out", out)
    error = np.abs(read_image(out).astype(int) - model.fuse(*map(read_image, pair)))
    assert error.max() == 0 if extension in ("tif", "bmp", "PNG") else error.mean() < 8


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (["--gray"], {"gray": True}),
        (["--range", "clip"], {"range": "clip"}),
        (["--range", "minmax"], {"range": "minmax"}),
        (["--gray", "--range", "clip"], {"gray": True, "range": "clip"}),
    ],
)
def test_options(tmp_path, weights, model, pair, options, how):
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.png", *options)
    a, b = map(read_image, pair)
    stored = np.asarray(Image.open(tmp_path / "x.png"))
    assert np.array_equal(stored, model.fuse(a, b, **how)) and not np.array_equal(stored, model.fuse(a, b))
    assert stored.ndim == (2 if "--gray" in options else 3)


def test_grey_pictures_give_a_grey_one(tmp_path, weights):
    a, b = (write_image(tmp_path / f"{n}.png", picture(i)) for i, n in enumerate("ab"))
    fuse("--ckpt", weights, "--pair", a, b, "--out", tmp_path / "out")
    (name,) = images(tmp_path / "out")
    assert name == "a_b.png" and Image.open(tmp_path / "out" / name).mode == "L"


def test_maps(tmp_path, weights, model, pair, capsys):
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "out.d" / "fused.x.jpg", "--maps")
    folder = tmp_path / "out.d"
    assert images(folder) == ["fused.x.jpg", "fused.x_v.png", "fused.x_w.png"]
    assert capsys.readouterr().out.count(str(folder)) == 3
    a, b = map(read_image, pair)
    for name, weights in zip("wv", model.maps(a, b), strict=True):
        stored = read_image(folder / f"fused.x_{name}.png")
        assert np.array_equal(stored, apply_colormap(weights[..., 0]))
        # Red where the loss follows the first file, blue where it follows the second, whichever is the darker.
        first = weights[..., 0] > 0.6
        assert first.any() and np.all(stored[first][:, 0] > stored[first][:, 2].astype(int))


def test_a_run_and_a_checkpoint_inside_one(tmp_path, run_dir, model, pair):
    fuse("--ckpt", run_dir, "--pair", *pair, "--out", tmp_path / "run.png")
    for step in ("10", "20"):
        fuse("--ckpt", run_dir / "checkpoints" / step, "--pair", *pair, "--out", tmp_path / f"{step}.png")
    first = model.fuse(*map(read_image, pair))
    assert np.array_equal(read_image(tmp_path / "10.png"), first)
    assert not np.array_equal(read_image(tmp_path / "20.png"), first)
    assert np.array_equal(read_image(tmp_path / "20.png"), read_image(tmp_path / "run.png"))


@pytest.fixture
def folders(tmp_path):
    """Two folders of two pairs in several formats, with names of every kind."""
    for i, name in enumerate(["day 1.v2", "nächt"]):
        write_image(tmp_path / "under" / f"{name}.png", picture(i, mean=80))
        write_image(tmp_path / "over" / f"{name}.{'bmp' if i else 'png'}", picture(i + 5, mean=180, color=True))
    for side in ("under", "over"):
        (tmp_path / side / "notes.txt").write_text("not a picture")
    return tmp_path / "under", tmp_path / "over"


def test_folders_of_pairs(tmp_path, weights, model, folders, capsys):
    fuse("--ckpt", weights, "--pair", *folders, "--out", tmp_path / "out")
    assert images(tmp_path / "out") == ["day 1.v2.png", "nächt.png"]
    assert capsys.readouterr().out.count("wrote ") == 2
    a, b = read_image(folders[0] / "nächt.png"), read_image(folders[1] / "nächt.bmp")
    assert np.array_equal(read_image(tmp_path / "out" / "nächt.png"), model.fuse(a, b))


def test_several_pairs_and_folders(tmp_path, weights, pair):
    # Folders without pictures of their own: those further below count, and names tell where they lay.
    for side in ("a", "b"):
        write_image(tmp_path / side / "park" / "05.png", picture(ord(side)))
    more = ["--pair", tmp_path / "a", tmp_path / "b"]
    fuse("--ckpt", weights, "--pair", *pair, *more, "--out", tmp_path / "out", "--maps")
    assert images(tmp_path / "out") == [
        "park/05.png",
        "park/05_v.png",
        "park/05_w.png",
        "scene.png",
        "scene_v.png",
        "scene_w.png",
    ]


def test_as_a_process(tmp_path, repo, weights, model):
    folder = tmp_path / "été 1.5"
    a, b = (write_image(folder / f"scène v1.{n}.png", picture(i, color=True)) for i, n in enumerate("12"))
    done = script(repo, "fuse.py", "--ckpt", weights, "--pair", a, b, "--out", folder)
    assert done.returncode == 0, done.stderr
    (made,) = set(images(folder)) - {a.name, b.name}
    assert done.stdout == f"wrote {folder / made}\n" and made == "scène v1.png" and done.stderr == ""
    error = np.abs(read_image(folder / made).astype(int) - model.fuse(read_image(a), read_image(b)))
    assert error.max() <= 1  # the process compiles with other options

    b.write_bytes(b.read_bytes()[:60])
    (folder / made).unlink()
    done = script(repo, "fuse.py", "--ckpt", weights, "--pair", a, b, "--out", folder)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith(f"error: {b}: damaged or truncated")
    assert done.stderr.count("\n") == 1 and not (folder / made).exists()


def test_a_released_file_as_a_process(tmp_path, repo, reference):
    folder, name = reference / "test_cases" / "MIF", "MRI_PET_14.png"
    weights = reference / "official_weights" / "ReFusion_MIF.pth"
    sources = folder / "CT_PET_SPECT" / name, folder / "MRI" / name
    done = script(
        repo,
        "fuse.py",
        "--ckpt",
        weights,
        "--pair",
        *sources,
        "--out",
        tmp_path / "x.png",
        "--gray",
        "--range",
        "minmax",
        XLA_FLAGS="",
    )
    assert done.returncode == 0, done.stderr
    stored = np.asarray(Image.open(reference / "official_outputs" / "MIF_MRI_PET_14_fused_luma.png"))
    assert np.abs(np.asarray(Image.open(tmp_path / "x.png")).astype(int) - stored).max() <= 1


# What is refused


def test_results_that_collide(tmp_path, weights, pair, capsys):
    other = [write_image(tmp_path / "other" / path.name, picture(3)) for path in pair]
    said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--pair", *other, "--out", tmp_path / "out")
    assert str(pair[0]) in said and str(other[0]) in said and str(tmp_path / "out" / "scene.png") in said
    assert "different --out folders" in said
    # A map of one pair and the picture of another.
    third = [write_image(tmp_path / "third" / f"scene_w_{n}.png", picture(3)) for n in "AB"]
    both = ["--ckpt", weights, "--pair", *pair, "--pair", *third, "--out", tmp_path / "out"]
    assert f"both be written to {tmp_path / 'out' / 'scene_w.png'}" in refused(capsys, *both, "--maps")
    assert not (tmp_path / "out").exists()
    fuse(*both)
    assert images(tmp_path / "out") == ["scene.png", "scene_w.png"]


def test_results_that_would_overwrite_an_input(tmp_path, weights, pair, capsys):
    before = [path.read_bytes() for path in pair]
    (tmp_path / "link.png").symlink_to(pair[1])
    for out in (pair[0], tmp_path / "in" / ".." / "in" / pair[1].name, tmp_path / "link.png"):
        said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--out", out)
        assert "would overwrite an input; choose another --out" in said and str(out) in said
    a = write_image(tmp_path / "in" / "x.png", picture(0))
    b = write_image(tmp_path / "in" / "x_v.png", picture(1))
    said = refused(capsys, "--ckpt", weights, "--pair", a, b, "--out", tmp_path / "in" / "x.jpg", "--maps")
    assert f"the result {b} would overwrite an input" in said
    assert refused(capsys, "--ckpt", weights, "--pair", a, a, "--out", tmp_path / "in")
    assert [path.read_bytes() for path in pair] == before
    assert images(tmp_path / "in") == ["scene_A.png", "scene_B.png", "x.png", "x_v.png"]


def test_out_that_can_be_neither_picture_nor_folder(tmp_path, weights, pair, capsys):
    (tmp_path / "file.txt").write_text("kept")
    base = ["--ckpt", weights, "--pair", *pair, "--out"]
    for out in (tmp_path / "x.gif", tmp_path / "x.PPM", tmp_path / "file.txt"):
        said = refused(capsys, *base, out)
        assert f"cannot write pictures to --out {out}" in said and ".png" in said
    for out in (tmp_path / "file.txt" / "sub", tmp_path / "file.txt" / "x.png"):
        assert "cannot make the folder" in refused(capsys, *base, out)
    said = refused(capsys, *base[:-1], "--pair", *pair, "--out", tmp_path / "x.png")
    assert "names one picture, but there are 2 pairs; give a folder" in said
    assert (tmp_path / "file.txt").read_text() == "kept" and sorted(os.listdir(tmp_path)) == ["file.txt", "in"]


def test_one_bad_pair_among_several(tmp_path, weights, pair, capsys):
    bad = write_image(tmp_path / "in" / "bad_A.png", picture(3))
    other = write_image(tmp_path / "in" / "bad_B.png", picture(3, (20, 25)))
    broken = write_image(tmp_path / "in" / "broken_A.png", picture(3))
    broken.write_bytes(broken.read_bytes()[:-40])
    whole = write_image(tmp_path / "in" / "broken_B.png", picture(3))
    last = [write_image(tmp_path / "in" / f"last_{n}.png", picture(4)) for n in "AB"]
    pairs = [word for two in ((bad, other), pair, (broken, whole), last) for word in ("--pair", *two)]
    status = main([*map(str, ("--ckpt", weights, *pairs, "--out", tmp_path / "out"))])
    said = capsys.readouterr()
    assert status == 1 and images(tmp_path / "out") == ["last.png", "scene.png"]
    assert "error: pair bad: both images must have one size, got 24x20 and 25x20 pixels" in said.err
    assert f"error: pair broken: {broken}: damaged or truncated" in said.err
    assert "error: 2 of 4 pairs could not be fused (named above)" in said.err
    assert "Traceback" not in said.err and said.out.count("wrote ") == 2


def test_pictures_that_cannot_be_fused(tmp_path, weights, pair, capsys):
    larger = write_image(tmp_path / "in" / "larger.png", picture(3, (21, 24)))
    text = tmp_path / "in" / "text.png"
    text.write_text("not a picture")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    for b, words in (
        (larger, "both images must have one size, got 24x20 and 24x21 pixels; --resize a brings"),
        (text, f"{text}: not an image"),
        (tmp_path / "in" / "empty.png", "the file is empty"),
        (tmp_path / "in" / "none.png", "none.png: no such file"),
        (tmp_path / "in", "expected two files or two folders"),
    ):
        assert words in refused(capsys, "--ckpt", weights, "--pair", pair[0], b, "--out", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_folders_that_do_not_match(tmp_path, weights, folders, capsys):
    base = ["--ckpt", weights, "--out", tmp_path / "out", "--pair"]
    (folders[1] / "nächt.bmp").unlink()
    said = refused(capsys, *base, *folders)
    assert f"1 unpaired: {folders[0] / 'nächt.png'}" in said
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: expected images" in refused(capsys, *base, folders[0], tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_are_none(tmp_path, weights, pair, capsys):
    rest = ["--pair", *pair, "--out", tmp_path / "out"]
    (tmp_path / "x.npz").write_bytes(b"PK")
    (tmp_path / "folder").mkdir()
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
    for ckpt, words in (
        ("missing", "no such checkpoint; expected a run directory, a .safetensors or a .pth file"),
        ("missing.pth", "no such checkpoint"),
        ("x.npz", "expected a run directory, a .safetensors or a .pth file, got a .npz file"),
        ("folder", "there is no complete checkpoint here"),
        ("x.pth", "not a PyTorch checkpoint"),
        ("x.safetensors", "not a readable .safetensors file"),
    ):
        said = refused(capsys, "--ckpt", tmp_path / ckpt, *rest)
        assert words in said and str(tmp_path / ckpt) in said
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_another_kind(tmp_path, pair, capsys):
    path = tmp_path / "x.safetensors"
    rest = ["--ckpt", path, "--pair", *pair, "--out", tmp_path / "out"]
    trees = tiny_trees()
    trees["F"]["surplus"] = {"kernel": np.zeros(2, np.float32)}
    del trees["F"]["project_in_2"]
    trees["F"]["project_in_1"] = {"kernel": np.zeros((3, 3, 1, 5), np.float32)}
    write_safetensors(path, from_names(trees), tiny_info())
    said = refused(capsys, *rest)
    for words in (
        "another architecture",
        "missing project_in_2/kernel",
        "extra surplus/kernel",
        "mis-shaped project_in_1/kernel (3, 3, 1, 5) instead of (3, 3, 1, 4)",
    ):
        assert words in said

    trees = tiny_trees()
    del trees["P"][min(trees["P"])]
    write_safetensors(path, from_names(trees), tiny_info())
    assert "network P: a checkpoint of another architecture (missing " in refused(capsys, *rest, "--maps")

    trees = tiny_trees()
    trees["F"]["project_in_1"]["kernel"][0, 0, 0, 0] = np.nan
    write_safetensors(path, from_names(trees), tiny_info())
    assert "must be finite, but project_in_1/kernel hold NaN or infinity" in refused(capsys, *rest)

    write_safetensors(path, from_names({"F": tiny_trees()["F"]}), tiny_info())
    assert f"--maps needs the loss proposal network P, which {path} does not have" in refused(capsys, *rest, "--maps")
    assert not (tmp_path / "out").exists()
    fuse(*rest)
    assert images(tmp_path / "out") == ["scene.png"]


def test_names_that_no_terminal_shows(tmp_path, weights, capsys):
    """File names may hold any bytes but / and NUL; what is printed stays on one line and can be encoded."""
    name = os.fsdecode(b"caf\xe9\x1bnoir")
    image = picture(0)
    a, b = (write_image(tmp_path / f"{name}_{n}.png", image) for n in "AB")
    fuse("--ckpt", weights, "--pair", a, b, "--out", tmp_path / "out")
    assert images(tmp_path / "out") == [f"{name}.png"]
    assert capsys.readouterr().out == f"wrote {tmp_path}/out/caf\\udce9\\x1bnoir.png\n"
    b.unlink()
    assert "caf\\udce9\\x1bnoir_B.png: no such file" in refused(capsys, "--ckpt", weights, "--pair", a, b)
    assert printable("é ü\u3000字 \x1b[31m\u2028") == "é ü\u3000字 \\x1b[31m\\u2028"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), 2, "error: x.png: No space left on device\n"),
        (OSError("something\nodd"), 2, "error: something\\nodd\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_ends_any_command(capsys, error, status, said):
    def command():
        raise error

    assert run_command(command) == status and capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ckpt", "x", "--pair"], "--pair: expected at least one argument"),
        (["--ckpt", "x", "--pair", "a", "b", "--range", "wide"], "--range: invalid choice: 'wide'"),
        (["--ckpt", "x", "--pair", "a", "b", "--chroma", "soft"], "--chroma"),
        (["--ckpt", "x", "--pair", "a", "b", "--grey"], "--grey"),
        (["--pair", "a", "b", "--quality", "101"], "--quality: expected 1 to 100, got 101"),
        (["--pair", "a", "b", "--depth", "12"], "--depth: invalid choice: 12"),
        (["--pair", "a", "b", "--align", "spline"], "--align: invalid choice: 'spline'"),
    ],
)
def test_arguments_that_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and words in capsys.readouterr().err
