"""fuse.py on what people bring: 16 bits, other sizes, shifted pairs, brackets, whole folders, a stop half way."""

import json
import os
import signal
import sys
import time

import numpy as np
import pytest
from fuse_command import fuse, images, refused
from PIL import Image
from scripts import picture, script, start_process, tiny_info, tiny_trees

from refusion_jax.cli import fuse as cli
from refusion_jax.fusing import stacks
from refusion_jax.imaging.files import read_image, read_picture, write_image
from refusion_jax.imaging.metadata import Metadata
from refusion_jax.models.build import Params
from refusion_jax.weights import pretrained
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


def deep(image, seed=0):
    """The picture with 16 bits that 8 do not hold."""
    fine = np.random.default_rng(seed).integers(-128, 129, image.shape)
    return np.clip(image.astype(int) * 257 + fine, 0, 65535).astype(np.uint16)


def textured(shape, seed=0):
    rng = np.random.default_rng(seed)
    layers = [np.kron(rng.random((-(-shape[0] // n), -(-shape[1] // n))), np.ones((n, n))) for n in (1, 3, 8)]
    return np.rint(80 * sum(layer[: shape[0], : shape[1]] for layer in layers)).astype(np.uint8)


# Depth, metadata, formats


def test_sixteen_bits_stay_sixteen(tmp_path, weights, model):
    a, b = deep(picture(1), 1), deep(picture(2), 2)
    files = [write_image(tmp_path / f"x_{n}.tif", image) for n, image in zip("AB", (a, b), strict=True)]
    expected = model.fuse(a / np.float32(65535), b / np.float32(65535)) * 65535
    for options, suffix, bits in (([], "tif", 16), ([], "png", 16), ([], "jpg", 8), (["--depth", "8"], "tif", 8)):
        out = tmp_path / f"out.{suffix}"
        fuse("--ckpt", weights, "--pair", *files, "--out", out, *options)
        stored = read_picture(out).pixels
        assert stored.dtype == (np.uint16 if bits == 16 else np.uint8)
        if bits == 16:
            assert np.abs(stored - expected).max() <= 1 and len(np.unique(stored)) > 300
        elif suffix == "tif":
            assert np.abs(stored - expected / 257).max() <= 0.51


def test_eight_bits_may_give_sixteen(tmp_path, weights, pair, capsys):
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.tif", "--depth", "16")
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.png")
    stored = read_picture(tmp_path / "x.tif").pixels
    assert stored.dtype == np.uint16 and len(np.unique(stored)) > 256
    assert np.abs(stored / 257 - read_image(tmp_path / "x.png")).max() <= 0.51
    said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.jpg", "--depth", "16")
    assert "--depth 16 cannot be written to .jpg; use png or tif" in said


@pytest.mark.parametrize("source,camera", [(None, "second"), ("b", "second"), ("a", "first"), ("none", None)])
def test_metadata_of_a_source(tmp_path, weights, source, camera):
    files = []
    for i, name in enumerate(("first", "second")):
        exif = Image.Exif()
        exif[0x0110] = name
        files.append(write_image(tmp_path / f"x_{i + 1}.jpg", picture(i, color=True), 90, Metadata(exif.tobytes())))
    options = ["--metadata-from", source] if source else []
    fuse("--ckpt", weights, "--pair", *files, "--out", tmp_path / "out.jpg", *options)
    assert Image.open(tmp_path / "out.jpg").getexif().get(0x0110) == camera


def test_quality_and_the_format_of_a_folder(tmp_path, weights, pair, capsys):
    for quality in (30, 95):
        fuse(
            "--ckpt",
            weights,
            "--pair",
            *pair,
            "--out",
            tmp_path / f"{quality}",
            "--format",
            "jpg",
            "--quality",
            quality,
        )
        assert images(tmp_path / f"{quality}") == ["scene.jpg"]
    assert (tmp_path / "30" / "scene.jpg").stat().st_size < (tmp_path / "95" / "scene.jpg").stat().st_size
    said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.png", "--format", "jpg")
    assert "--format jpg disagree" in said


def test_remarks_are_made_once(tmp_path, weights, capsys):
    for i in range(3):
        for n in "AB":
            image = Image.fromarray(picture(i, color=True)).convert("RGBA")
            os.makedirs(tmp_path / "in", exist_ok=True)
            image.save(tmp_path / "in" / f"{i}_{n}.png")
    fuse("--ckpt", weights, "--data", tmp_path / "in", "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert said.err.count("note: ") == 1 and "alpha" in said.err and said.out.count("wrote ") == 3


# Sizes and alignment


def test_sizes_that_differ(tmp_path, weights, model, pair, capsys):
    small = write_image(tmp_path / "in" / "small.png", deep(picture(5, (10, 12)))[..., None].repeat(3, -1))
    base = ["--ckpt", weights, "--pair", pair[0], small, "--out", tmp_path / "x.png"]
    assert "got 24x20 and 12x10 pixels; --resize a brings both to the first's size" in refused(capsys, *base)
    for keep, shape in (("a", (20, 24, 3)), ("b", (10, 12, 3))):
        fuse(*base, "--resize", keep)
        assert read_picture(tmp_path / "x.png").pixels.shape == shape


def shifted_pair(folder, dy=4, dx=-6, color=False):
    scene = textured((100, 132))
    a, b = scene[10:90, 10:122], 255 - scene[10 - dy : 90 - dy, 10 - dx : 122 - dx] // 2
    if color:
        b = np.stack([b, b // 2, b // 3], -1)
    return write_image(folder / "x_A.png", a), write_image(folder / "x_B.png", b)


class Seen:
    """A model that keeps what it was given and returns the first picture."""

    task, params = "ivif", Params({})

    def __init__(self):
        self.given = []

    def fuse(self, a, b, **_):
        self.given.append((a, b))
        return a


@pytest.fixture
def seen(monkeypatch):
    model = Seen()
    monkeypatch.setattr(cli, "load_model", lambda *_: model)
    return model


def test_a_shifted_pair_is_warned_of_and_aligned(tmp_path, seen, capsys):
    a, b = shifted_pair(tmp_path)
    base = ["--ckpt", "x", "--pair", a, b, "--out", tmp_path / "out.png"]
    fuse(*base)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "warning: x: the second picture looks shifted by 6.0 pixels to the left" in said
    fuse(*base, "--no-check")
    assert capsys.readouterr().err == ""
    pytest.importorskip("cv2")
    fuse(*base, "--align", "translation", "--save-transform", tmp_path / "t" / "t.json")
    assert capsys.readouterr().err == ""
    one, other = seen.given[-1]
    assert one.shape == other.shape and 74 <= one.shape[0] <= 76 and 104 <= one.shape[1] <= 106  # what both show
    assert np.abs((255 - other.astype(int)) * 2 - one).mean() < 6
    matrix = np.array(json.loads((tmp_path / "t" / "t.json").read_text())["matrix"])
    assert np.abs(matrix - [[1, 0, -6], [0, 1, 4], [0, 0, 1]]).max() < 0.2
    # Reused on pairs of the same cameras.
    fuse(*base, "--transform", tmp_path / "t" / "t.json")
    assert np.array_equal(seen.given[-1][1], other)


def test_the_full_frame_shows_a_where_b_is_missing(tmp_path, seen):
    pytest.importorskip("cv2")
    a, b = shifted_pair(tmp_path, color=True)
    fuse("--ckpt", "x", "--pair", a, b, "--out", tmp_path / "o.png", "--align", "affine", "--align-frame", "full")
    one, other = seen.given[-1]
    assert one.shape == (80, 112) and other.shape == (80, 112, 3)
    grey = one[..., None].repeat(3, 2)
    assert np.array_equal(other[:, :5], grey[:, :5]) and not np.array_equal(other[:, 20:], grey[:, 20:])


def test_pairs_that_cannot_be_aligned(tmp_path, seen, capsys, monkeypatch):
    a, b = shifted_pair(tmp_path)
    other = write_image(tmp_path / "other.png", textured((80, 112), 9))
    base = ["--ckpt", "x", "--out", tmp_path / "out.png", "--pair", a]
    pytest.importorskip("cv2")
    assert "cannot align the pictures (affine): " in refused(capsys, *base, other, "--align", "affine")
    (tmp_path / "t.json").write_text("{}")
    assert "t.json: expected a transform" in refused(capsys, *base, b, "--transform", tmp_path / "t.json")
    assert not (tmp_path / "out.png").exists()
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install opencv-python-headless" in refused(capsys, *base, b, "--align", "affine")


# Stacks


def test_stacks(tmp_path, weights, capsys):
    """A bracket in any order and with a copy of a frame gives the same picture."""
    frames = [
        write_image(tmp_path / "in" / f"f{i}.png", picture(3, color=True, mean=m))
        for i, m in enumerate((40, 90, 150, 200))
    ]
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    base = ["--ckpt", weights, "--no-check", "--out"]
    fuse(*base, tmp_path / "a.png", "--stack", *frames)
    fuse(*base, tmp_path / "b.png", "--stack", frames[2], frames[0], frames[3], frames[0], frames[1])
    fuse(*base, tmp_path / "out", "--stack", tmp_path / "in")
    first = read_image(tmp_path / "a.png")
    assert images(tmp_path / "out") == ["in.png"]
    assert np.array_equal(first, read_image(tmp_path / "b.png"))
    assert np.array_equal(first, read_image(tmp_path / "out" / "in.png"))
    fuse(*base, tmp_path / "two.png", "--stack", frames[0], frames[3])
    fuse(*base, tmp_path / "pair.png", "--pair", frames[0], frames[3])
    assert np.array_equal(read_image(tmp_path / "two.png"), read_image(tmp_path / "pair.png"))
    assert not np.array_equal(first, read_image(tmp_path / "two.png"))
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    for words, said in (
        ([frames[0]], "two or more pictures, got 1"),
        ([tmp_path / "empty"], "found none"),
        ([frames[0], frames[0]], "at least two different pictures"),
        (["no.png", "x"], "no such file"),
        ([*frames[:2], "--maps"], "--maps shows how P weighs the two"),
        ([*frames[:2], "--task", "ivif"], "--stack is for the tasks meie and mfif, got ivif"),
        ([*frames[:2], "--transform", "t"], "--transform and --save-transform are for pairs"),
    ):
        assert said in refused(capsys, *base, tmp_path / "x.png", "--stack", *words)


def test_stacks_are_aligned_frame_by_frame(tmp_path, weights, monkeypatch):
    pytest.importorskip("cv2")
    scene = textured((110, 142)).astype(int)
    shifts = [(0, 0), (3, -2), (6, -5)]
    for i, (dy, dx) in enumerate(shifts):
        frame = np.clip(scene[10 - dy : 90 - dy, 10 - dx : 122 - dx] * 2.0 ** (i - 1), 0, 255)
        write_image(tmp_path / "in" / f"{2 - i}.png", frame.astype(np.uint8))
    given = []
    monkeypatch.setattr(
        stacks, "fuse_stack", lambda model, frames, **_: given.extend(map(np.asarray, frames)) or given[0]
    )
    base = ["--ckpt", weights, "--stack", tmp_path / "in", "--align", "translation"]
    fuse(*base, "--max-memory", "1M", "--out", tmp_path / "x.png")
    assert [f.shape for f in given] == [given[0].shape] * 3 and given[0].shape[0] >= 72
    dark, middle = given[0].astype(int), given[1].astype(int)
    assert np.abs(2 * dark - middle)[middle < 250].mean() < 3


# Folders of pairs


def test_a_folder_of_pairs_goes_on_after_a_stop(tmp_path, weights, capsys):
    for i, name in enumerate(("day 1.v2", "nächt", "z")):
        for side in ("under", "over"):
            write_image(tmp_path / "in" / side / f"{name}.png", picture(i + len(side)))
    base = ["--ckpt", weights, "--data", tmp_path / "in", "--out", tmp_path / "out", "--skip-existing"]
    fuse(*base)
    assert images(tmp_path / "out") == ["day 1.v2.png", "nächt.png", "z.png"]
    (tmp_path / "out" / "nächt.png").unlink()
    (tmp_path / "out" / "z.png").write_bytes(b"kept")
    capsys.readouterr()
    fuse(*base)
    said = capsys.readouterr().out
    assert "skipped 2 of 3: fused already" in said and said.count("wrote ") == 1
    assert read_image(tmp_path / "out" / "nächt.png").shape == (20, 24)
    assert (tmp_path / "out" / "z.png").read_bytes() == b"kept"
    fuse(*base, "--ckpt", "none at all")  # nothing left to do: no checkpoint is looked at


def test_a_report(tmp_path, weights, pair, capsys):
    page = tmp_path / "page.html"
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "x.png", "--report", page)
    text = page.read_text()
    assert f"wrote {page}" in capsys.readouterr().out and "scene_B.png" in text
    (shown,) = json.loads(text.split('id="index">')[1].split("</script>")[0])["pairs"]
    assert shown["layers"] == ["a", "b", "fused", "w", "v"]  # P's maps too, without --maps
    said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--out", tmp_path / "y.png", "--report", pair[0])
    assert f"--report {pair[0]} would overwrite {pair[0]}" in said


def test_a_hard_link_to_an_input_is_not_written(tmp_path, weights, pair, capsys):
    os.link(pair[0], tmp_path / "link.png")
    said = refused(capsys, "--ckpt", weights, "--pair", *pair, "--out", tmp_path / "link.png")
    assert "would overwrite an input" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_whole_files(tmp_path, repo, weights, number, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(scratch := tmp_path / "scratch"))
    scratch.mkdir()
    for i in range(60):
        for side in ("under", "over"):
            write_image(tmp_path / "in" / side / f"{i:03}.png", picture(i % 5, mean=90 if side == "under" else 160))
    run = ["--ckpt", weights, "--data", tmp_path / "in", "--out", tmp_path / "out", "--range", "run"]
    process = start_process(repo, "fuse.py", *run, "--report", tmp_path / "page.html")
    while process.poll() is None and not (tmp_path / "out" / "001.png").exists():
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate()[1]
    done = images(tmp_path / "out")
    assert process.returncode == 128 + number and 2 <= len(done) < 60 and "Traceback" not in said
    # One may be written and not yet counted, or not yet be on the page.
    if number == signal.SIGINT:
        assert 0 <= len(done) - int(said.split(" of 60 fused, all of them whole")[0].split()[-1]) <= 1
    shown = json.loads((tmp_path / "page.html").read_text().split('id="index">')[1].split("</script>")[0])["pairs"]
    assert 0 <= len(done) - len(shown) <= 1
    assert not list(scratch.glob("tmp*"))  # what --range run keeps meanwhile
    for name in done:
        assert name.endswith(".png") and read_image(tmp_path / "out" / name).shape == (20, 24)


# Which checkpoint


def test_weights_that_come_with_the_package(tmp_path, weights, pair, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    base = ["--pair", *pair, "--out", tmp_path / "x.png"]
    said = refused(capsys, *base, "--task", "MEIF")
    assert "no weights for meie" in said and "train --task meie" in said and ".pth" in said
    assert "expected --ckpt CKPT, or --task" in refused(capsys, *base)
    assert "did you mean 'mfif'" in refused(capsys, *base, "--task", "mfi")
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "meie.safetensors").write_bytes(weights.read_bytes())
    fuse(*base, "--task", "meif")
    fuse("--ckpt", weights, "--pair", *pair, "--out", tmp_path / "y.png")
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()


def test_a_task_and_a_checkpoint(tmp_path, weights, pair, capsys):
    base = ["--pair", *pair, "--out", tmp_path / "x.png"]
    said = refused(capsys, *base, "--ckpt", weights, "--task", "ivif")
    assert f"{weights} is for the task meie, not ivif" in said
    unknown = tmp_path / "unknown.safetensors"
    write_safetensors(unknown, from_names(tiny_trees()), {k: v for k, v in tiny_info().items() if k != "task"})
    results = []
    for order in (pair, pair[::-1]):
        for options in ([], ["--task", "meie"]):
            fuse("--ckpt", unknown, "--pair", *order, "--out", tmp_path / "x.png", *options)
            results.append((tmp_path / "x.png").read_bytes())
    assert results[1] == results[3] and results[0] != results[2]  # meie orders the sources by itself
    stack = ["--ckpt", unknown, "--stack", *pair, "--out", tmp_path / "x.png"]
    assert "a task it does not tell: add --task" in refused(capsys, *stack)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to fuse: give --pair A B, --data DIR or --stack"),
        (["--pair", "a", "b", "--align", "affine", "--transform", "t"], "leave out one of them"),
        (["--pair", "a", "b", "--align-frame", "full"], "add --align or --transform"),
        (["--pair", "a", "b", "--save-transform", "t"], "add --align"),
    ],
)
def test_options_that_do_not_go_together(options, words, capsys):
    assert words in refused(capsys, "--ckpt", "x", *options)


def test_the_help_starts_without_the_heavy_libraries(repo):
    code = "import sys; from refusion_jax.cli.fuse import parser; parser(); print(*sys.modules)"
    loaded = set(script(repo, "-c", code).stdout.split())
    assert "numpy" in loaded and not loaded & {"jax", "cv2", "scipy", "tqdm", "flax"}
