"""train.py as a user runs it: what a run leaves behind, going on with it, what it says of every bad input."""

import json
import os
import signal
import struct
import time

import numpy as np
import pytest
from PIL import Image
from scripts import TINY, fails, picture, script, settings, start_process, tiny_trees
from trained_run import everything

from refusion_jax import config, metrics
from refusion_jax.cli.fuse import main as fuse_main
from refusion_jax.cli.train import load_data, main
from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.fusing import model as inference
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import read_image, write_image
from refusion_jax.models import build as networks
from refusion_jax.training import loop, run_directory, trainer
from refusion_jax.training.previews import COLUMNS, GAP, HEADER
from refusion_jax.weights import orbax_folder

# One epoch of the real networks, as small as they can be: what is compiled for it serves all tests of this file.
SMALL = settings(
    *TINY,
    "data.crop=12",
    "data.batch=2",
    "data.validation_every=5",
    "train.epochs=1",
    "train.meta_steps=1",
    "train.fusion_steps=24",
    "train.lr_f=3e-3",
    "train.lr_r=3e-3",
    "log.every=1",
    "log.preview_size=16",
    "validation.every=1",
)
STEPS = 25
HEALTH = {"w_imbalance", "v_imbalance", "w_spread", "v_spread", "w_brighter", "v_sharper"}
HEALTH |= {"rebuilt_error_a", "rebuilt_error_b", "rebuilt_distance"}


def terms(prefix=""):
    names = [f"{loss}{part}" for loss in ("fusion", "reconstruction") for part in ("", "_intensity", "_gradient")]
    return {prefix + name for name in names}


def make_pairs(folder, count=5, shape=(48, 56)):
    """Scene folders NAME/NAME_A.png, NAME_B.png; A is the brighter. Names with spaces, dots and accents."""
    for i in range(count):
        name = f"scène {i}.v1"
        write_image(folder / name / f"{name}_A.png", picture(2 * i, shape, color=True, mean=170))
        write_image(folder / name / f"{name}_B.png", picture(2 * i + 1, shape, mean=80))
    return folder


def refused(capsys, *arguments, status=2):
    return fails(main, capsys, *arguments, status=status)


def tree_of(folder):
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# A run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data") / "my pairs é")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, repo, data):
    """(run directory, the finished process) of a training on a folder of pairs."""
    out = tmp_path_factory.mktemp("runs") / "first run"
    done = script(repo, "train.py", "--task", "meif", "--data", data, "--out", out, "--seed", "3", *SMALL)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def model(trained):
    return inference.load(trained[0])


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_what_it_says(trained, data):
    out, done = trained
    assert f"4 training and 1 validation pairs from {data}" in done.stdout and "built-in" not in done.stdout
    assert "task meie, preset paper" in done.stdout and "1 epochs of 1 meta and 24 fusion steps" in done.stdout
    assert f"done: {STEPS} steps in {out}\n" in done.stdout
    assert f"python fuse.py --ckpt '{out}' --pair A B\n" in done.stdout  # quoted: there is a space in it
    for words in ("Traceback", "Warning", "WARNING"):
        assert words not in done.stderr
    for words in ("25/25", "L_f", "L_r", "steps/s" if "steps/s" in done.stderr else "compiling", "left", "epoch 1/1"):
        assert words in done.stderr


def test_the_configuration_is_written_as_resolved(trained, data):
    written = config.load(trained[0] / "config.toml")
    assert written == config.resolve("meie", "paper", SMALL[1::2], **{"seed": 3, "data.dir": str(data.resolve())})
    text = (trained[0] / "config.toml").read_text()
    assert all(f"\n{key.rpartition('.')[2]} = " in f"\n{text}" for key in config.all_keys())


def test_the_pairs_are_listed(trained):
    listed = json.loads((trained[0] / "pairs.json").read_text())
    assert listed["train"] == [f"scène {i}.v1" for i in range(4)] and listed["validation"] == ["scène 4.v1"]


def test_metrics_hold_every_term(trained):
    records = lines(trained[0])
    assert [(r["step"], r["phase"], r["epoch"]) for r in records] == [
        (1, "meta", 1),
        *((step, "fusion", 1) for step in range(2, STEPS + 1)),
        (STEPS, "validation", 1),
    ]
    meta, fusion = records[0], records[1]
    norms = {"grad_norm_f", "grad_norm_r"}
    outer = {name for name in terms("outer_") if "reconstruction" in name}
    assert terms("inner_") | outer | norms | {"grad_norm_p"} | HEALTH <= set(meta)
    assert terms() | norms | HEALTH <= set(fusion)
    for record in records:
        values = [value for value in record.values() if isinstance(value, float)]
        assert len(values) >= 6 and np.all(np.isfinite(values))
    for name in ("grad_norm_f", "grad_norm_r", "grad_norm_p"):
        assert meta[name] > 0
    for record, prefix in ((meta, "inner_"), (fusion, "")):
        for loss in ("fusion", "reconstruction"):  # alpha1 = alpha2 = 1
            parts = [record[f"{prefix}{loss}_{part}"] for part in ("intensity", "gradient")]
            assert record[prefix + loss] == pytest.approx(sum(parts), rel=1e-5)


def test_the_losses_of_the_real_networks_fall(trained):
    for name, share in (("fusion", 0.95), ("reconstruction", 0.9)):
        values = [record[name] for record in lines(trained[0]) if record["phase"] == "fusion"]
        assert np.mean(values[-6:]) < share * np.mean(values[:6]), name


def test_killed_and_resumed_the_real_networks_end_with_the_same_bytes(tmp_path, repo, data, trained):
    """Of the command line's moments to be killed at, one; all others are in tests/training/test_resume.py."""
    out = tmp_path / "killed"
    begin = "train.py", "--task", "meif", "--data", data, "--out", out, "--seed", "3", *SMALL
    process = start_process(repo, *begin, *settings("checkpoint.every_steps=1"))
    while process.poll() is None and orbax_folder.newest(out) is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said
    done = script(repo, "train.py", "--resume", "--out", out, *settings("checkpoint.every_steps=0"))
    assert done.returncode == 0, done.stderr
    assert everything(out, STEPS) == everything(trained[0], STEPS)
    assert lines(out) == lines(trained[0])
    preview = "previews/epoch_0001.png"
    assert (out / preview).read_bytes() == (trained[0] / preview).read_bytes()


def test_the_preview_shows_the_held_out_pair(trained, data, model):
    (path,) = (trained[0] / "previews").iterdir()
    assert path.name == "epoch_0001.png"
    image = Image.open(path)
    assert image.size == (len(COLUMNS) * (16 + GAP), 2 * HEADER + 16 + GAP) and image.mode == "RGB"
    pair = find_pairs(data, "meie")[-1]
    bright, dark = to_luma(read_image(pair.a)), to_luma(read_image(pair.b))
    dark, bright = dark[16:32, 20:36], bright[16:32, 20:36]  # the centre of 48 x 56 pixels
    cells = [np.asarray(image)[2 * HEADER :, i * (16 + GAP) :][:16, :16] for i in range(len(COLUMNS))]
    assert np.array_equal(cells[0], np.repeat(np.rint(dark)[..., None], 3, -1))  # the darker is source a
    assert np.array_equal(cells[1], np.repeat(np.rint(bright)[..., None], 3, -1))
    sources = [np.rint(x).astype(np.uint8) for x in (dark, bright)]
    raw = model.network_output(*sources)
    assert np.abs(cells[2][..., 0] - 255 * raw).max() < 1.5
    for cell, rebuilt in zip(cells[3:5], model.reconstruct(raw), strict=True):
        assert np.abs(cell[..., 0] - 255 * rebuilt).max() < 1.5
    for cell in cells[5:]:  # untrained maps are near white, which stands for equal weights
        assert cell.min() > 120


def events(folder):
    """The events of a TensorBoard file: length, its checksum, the event, its checksum, over and over."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    content, position = path.read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        yield Event.FromString(content[position + 12 : position + 12 + length])
        position += length + 16


def test_tensorboard_has_the_scalars_and_the_preview(trained):
    scalars, pictures = {}, []
    for event in events(trained[0] / "tensorboard"):
        for value in event.summary.value:
            if value.HasField("image"):
                pictures.append((event.step, value.image.width, value.image.height))
            else:
                scalars[event.step, value.tag] = value.simple_value
    assert pictures == [(STEPS, 7 * (16 + GAP), 2 * HEADER + 16 + GAP)]
    for record in lines(trained[0]):
        for name, value in record.items():
            if isinstance(value, float):
                assert scalars[record["step"], f"{record['phase']}/{name}"] == pytest.approx(value, rel=1e-6)


def test_checkpoints_hold_the_three_networks(trained, model):
    folder = trained[0] / "checkpoints"
    assert [p.name for p in folder.iterdir() if p.name.isdigit()] == [str(STEPS)]
    assert None not in model.params and model.task == "meie" and model.info["step"] == STEPS
    assert model.settings == networks.ModelSettings(4, 2, 1, 1)
    _, info = orbax_folder.read_params(folder / str(STEPS))
    assert info["config"] == config.to_dict(config.load(trained[0] / "config.toml"))
    assert {p.name for p in trained[0].iterdir()} == {
        "config.toml",
        "pairs.json",
        "metrics.jsonl",
        "tensorboard",
        "previews",
        "checkpoints",
        "best",
    }


def test_validation_scores_are_those_of_the_fused_pictures(trained, data, model):
    record = lines(trained[0])[-1]
    pair = find_pairs(data, "meie")[-1]
    a, b = (np.rint(to_luma(read_image(path))).astype(np.uint8) for path in (pair.b, pair.a))
    expected = metrics.score(a, b, model.fuse(a, b, "minmax", gray=True), "paper", metrics.TASK_METRICS["meie"])
    assert expected.keys() <= record.keys()
    for name, value in expected.items():
        assert record[name] == pytest.approx(value, rel=2e-3), name  # the run's code was compiled otherwise
    best = inference.load(trained[0] / "best")
    assert best.info["step"] == STEPS and best.fuse(a, b).tobytes() == model.fuse(a, b).tobytes()


def test_a_run_fuses_a_pair(trained, data, model, tmp_path):
    pair = find_pairs(data)[0]
    out = tmp_path / "x.png"
    assert fuse_main(["--ckpt", str(trained[0]), "--pair", str(pair.a), str(pair.b), "--out", str(out), "--maps"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["x.png", "x_v.png", "x_w.png"]
    assert np.array_equal(read_image(out), model.fuse(read_image(pair.a), read_image(pair.b)))


def test_bad_input_as_a_process(tmp_path, repo, data):
    done = script(repo, "train.py", "--task", "meie", "--data", data, "--set", "crop=64", "--out", tmp_path / "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --set: unknown key 'crop'; did you mean 'data.crop'?\n"
    assert os.listdir(tmp_path) == []


# Calls of main in this process that come to loop.train, but to no step of it


@pytest.fixture
def given_parameters(monkeypatch):
    """Starts from tiny_trees: drawing parameters at random takes long to compile."""
    monkeypatch.setattr(
        trainer, "init_params", lambda *_: networks.Params(*(tiny_trees()[name] for name in networks.NAMES))
    )


def test_a_run_is_not_overwritten_and_a_finished_one_is_left_as_it_is(trained, data, capsys, given_parameters):
    out = trained[0]
    before = tree_of(out)
    said = refused(capsys, "--task", "meie", "--data", data, "--out", out, *SMALL)
    assert f"{out} exists already; continue that run with --resume, or choose another folder with --out" in said
    assert tree_of(out) == before
    assert main(["--resume", "--out", str(out)]) == 0
    assert f"done: {STEPS} steps in {out}" in capsys.readouterr().out
    after = tree_of(out)
    assert all(after[name] == content for name, content in before.items())
    assert all("tensorboard" in name for name in after.keys() - before.keys())  # each process has its own file


def test_the_time_limit(tmp_path, data, capsys, given_parameters):
    out = tmp_path / "run"
    begin = ["--task", "meie", "--data", str(data), "--out", str(out), *SMALL]
    for arguments in (begin, ["--resume", "--out", str(out)]):
        assert main([*arguments, "--max-minutes", "1e-6"]) == 0
        said = capsys.readouterr().out
        assert f"stopped by the time limit after step 0; continue with --resume --out {out}" in said
    assert config.load(out / "config.toml").task == "meie" and lines(out) == []


def test_a_picture_broken_inside(tmp_path, capsys, given_parameters):
    """Its header is sound, so it is found when it is first read: in the middle of the training."""
    folder = make_pairs(tmp_path / "data", 2)
    broken = next(folder.rglob("*1.v1_B.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    more = settings("train.meta_steps=0", "log.tensorboard=false")
    assert main(["--task", "meie", "--data", str(folder), "--out", str(tmp_path / "run"), *SMALL, *more]) == 2
    said = capsys.readouterr().err
    assert f"error: {broken}: damaged or truncated image" in said.splitlines()[-1] and "Traceback" not in said
    assert said.endswith(f"; there is no checkpoint yet in {tmp_path / 'run'}\n")


# What is refused before anything is trained; `loop.train` is never reached.


@pytest.fixture
def not_trained(monkeypatch):
    """Calls of loop.train as (run, configuration, keywords); nothing is trained."""
    calls = []

    def note(run, settings, data, **keywords):
        calls.append((run, settings, keywords))
        return note.outcome

    note.outcome = loop.Outcome(7, True)
    monkeypatch.setattr(loop, "train", note)
    calls.append(note)
    return calls


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--task is missing: expected one of ivif, mif, mfif, meie"]),
        (["--task", "mei"], ["unknown task 'mei'", "did you mean 'meie'?"]),
        (["--task", "meie", "--preset", "quik"], ["unknown preset 'quik'", "did you mean 'quick'?"]),
        (["--task", "meie", "--set", "train.epoch=3"], ["unknown key 'train.epoch'; did you mean 'train.epochs'?"]),
        (["--task", "meie", "--set", "crop=64"], ["unknown key 'crop'; did you mean 'data.crop'?"]),
        (["--task", "meie", "--set", "train.epochs=few"], ["train.epochs must be a whole number, got 'few'"]),
        (["--task", "meie", "--set", "train.epochs=0"], ["train.epochs must be at least 1"]),
        (["--task", "meie", "--set", "epochs"], ["expected section.key=value"]),
        (["--task", "meie", "--set", "task=mfif"], ["use --task"]),
        (["--task", "meie", "--seed", "-1"], ["seed must be 0 or more, got -1"]),
        (["--task", "meie", "--max-minutes", "0"], ["--max-minutes must be greater than 0, got 0"]),
        (["--task", "meie", "--max-minutes", "nan"], ["--max-minutes must be greater than 0"]),
        (["--task", "meie", "--data", "none"], ["none: expected a folder of image pairs, but it does not exist"]),
        (["--task", "meie", "--data", "file"], ["file: expected a folder of image pairs, but it is a file"]),
        (["--task", "meie", "--data", "empty"], ["no image pairs found; looked for", "sibling folders", "NAME_A"]),
        (["--task", "meie", "--set", "data.scene_size=64"], ["data.scene_size must be at least data.crop (128)"]),
        (["--resume"], ["--resume needs --task or --out"]),
        (["--resume", "--task", "meie"], ["meie does not exist, so there is nothing to resume"]),
        (["--resume", "--out", "full"], ["full is not a run directory (no config.toml in it)"]),
        (["--resume", "--out", "empty"], ["empty holds no run yet; give --task"]),
        (["--resume", "--out", "file"], ["file"]),
        (["--task", "meie", "--out", "full"], ["full exists already"]),
        (["--task", "meie", "--out", "file"], ["file exists already"]),
        (["--task", "meie", "--out", "file/run"], ["cannot write the run directory file/run", "choose another --out"]),
    ],
)
def test_arguments_that_are_refused(tmp_path, monkeypatch, capsys, not_trained, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("kept")
    before = tree_of(tmp_path)
    said = refused(capsys, *arguments)
    for word in words:
        assert word in said
    assert tree_of(tmp_path) == before and len(not_trained) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "x"], "--seed: invalid int value"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["--max-minutes", "soon"], "--max-minutes: invalid float value"),
    ],
)
def test_arguments_of_another_form(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--task", "meie", *arguments])
    assert caught.value.code == 2 and words in capsys.readouterr().err


def test_folders_of_pairs_that_are_refused(tmp_path, capsys, not_trained):
    folder, run = tmp_path / "data", tmp_path / "run"
    base = ["--task", "meie", "--data", folder, "--out", run, *SMALL]

    make_pairs(folder, 1)
    assert "training needs at least 2 pairs besides the held-out ones, found 1; add pairs" in refused(capsys, *base)
    make_pairs(folder, 4)
    said = refused(capsys, *base, "--set", 'data.exclude=["scène 9.v1"]')
    assert "data.exclude names scène 9.v1" in said and "no such pair" in said
    said = refused(capsys, *base, "--set", "data.crop=49")
    assert "pair scène 0.v1 is 56x48 pixels, smaller than the 49x49 training crop" in said
    assert "data.exclude" in said and "lower data.crop" in said

    one = folder / "scène 2.v1" / "scène 2.v1_B.png"
    write_image(one, picture(0, (48, 57)))
    said = refused(capsys, *base)
    assert "pair 'scène 2.v1': expected two images of one size" in said and "48x56" in said and "48x57" in said
    one.write_text("not a picture")
    assert f"{one}: not an image" in refused(capsys, *base)
    one.write_bytes(b"")
    assert f"{one}: the file is empty" in refused(capsys, *base)
    one.unlink()
    assert "scène 2.v1_A.png is unpaired: there is no scène 2.v1_B beside it" in refused(capsys, *base)

    for side in ("under", "over"):
        for i in range(3):
            write_image(tmp_path / "two" / side / f"{i}.png", picture(i, (48, 56)))
    (tmp_path / "two" / "over" / "2.png").unlink()
    said = refused(capsys, "--task", "meie", "--data", tmp_path / "two", "--out", run, *SMALL)
    assert f"1 unpaired: {tmp_path / 'two' / 'under' / '2.png'} (nothing of that stem in" in said
    assert not run.exists() and len(not_trained) == 1


def test_what_is_handed_to_the_training(tmp_path, monkeypatch, capsys, not_trained, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs").symlink_to(data)
    assert (
        main(
            [
                "--task",
                "MEIF",
                "--preset",
                "quick",
                "--data",
                "pairs",
                "--seed",
                "5",
                "--max-minutes",
                "2.5",
                "--set",
                "data.crop=16",
                "--set",
                "data.crop=20",
            ]
        )
        == 0
    )
    run, found, keywords = not_trained[-1]
    assert str(run) == "runs/meie-quick" and keywords == {"max_minutes": 2.5}
    expected = config.resolve("meie", "quick", ["data.crop=20"], **{"seed": 5, "data.dir": str(data.resolve())})
    assert found == expected == config.load(run / "config.toml")
    said = capsys.readouterr().out
    assert "preset quick" in said and "run directory runs/meie-quick" in said and "done: 7 steps" in said

    small = settings("data.scenes=2", "data.scene_size=32", "data.crop=16")
    for outcome, status, words in (
        (loop.Outcome(4, False, "the time limit"), 0, "stopped by the time limit after step 4"),
        (loop.Outcome(5, False, "SIGTERM", 15), 143, "stopped by SIGTERM after step 5"),
        (loop.Outcome(6, False, "SIGINT", 2), 130, "stopped by SIGINT after step 6"),
    ):
        not_trained[0].outcome = outcome
        out = f"out{outcome.step}"
        assert main(["--task", "mfif", "--out", out, *small]) == status
        said = capsys.readouterr().out
        assert f"{words}; continue with --resume --out {out}" in said
        assert "training on the built-in scenes" in said
    assert main(["--task", "mfif", *small]) == 130 and str(not_trained[-1][0]) == "runs/mfif"
    assert main(["--task", "meie", "--out", "set", *settings("data.dir=pairs", "data.crop=16")]) == 130
    assert not_trained[-1][1].data.dir == str(data.resolve())


# Going on


@pytest.fixture
def begun(tmp_path, data):
    """A run directory as it is before the first step."""
    found = config.resolve("meie", "paper", SMALL[1::2], **{"data.dir": str(data)})
    run_directory.create_run(tmp_path / "run", found, load_data(found))
    return tmp_path / "run"


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_start_that_failed_does_not_bar_the_next(tmp_path, data, monkeypatch, capsys, resume):
    out = tmp_path / "run"

    def stopped(*_):
        raise InputError("the disk is full")

    monkeypatch.setattr("refusion_jax.training.run_directory.write_config", stopped)
    monkeypatch.setattr("refusion_jax.training.loop.train", stopped)
    arguments = ["--task", "meie", "--data", data, "--out", out, *SMALL]
    assert "disk is full" in refused(capsys, *arguments)
    assert [path.name for path in out.iterdir()] == ["pairs.json"]
    (out / ".0f1e.tmp").touch()
    assert "disk is full" in refused(capsys, *arguments, *resume)
    (out / "notes.txt").touch()
    assert "exists already" in refused(capsys, *arguments)


def test_what_may_change_when_a_run_goes_on(tmp_path, begun, not_trained, data):
    moved = make_pairs(tmp_path / "moved")
    changes = ["train.epochs=9", "train.lr_f=5e-5", "log.every=3", "checkpoint.keep=1", "data.cache_mib=1"]
    before = config.load(begun / "config.toml")
    assert (
        main(
            [
                "--resume",
                "--out",
                str(begun),
                "--task",
                "meif",
                "--seed",
                "0",
                "--data",
                str(moved),
                *settings(*changes, "data.crop=12"),
            ]
        )
        == 0
    )
    found = not_trained[-1][1]
    assert found == config.override(
        before, dict(map(config.parse_assignment, changes)) | {"data.dir": str(moved)}, "test"
    )
    assert config.load(begun / "config.toml") == found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "data.crop=16"], ["was trained with data.crop = 12", "cannot change to 16", "another --out"]),
        (["--set", "loss.alpha1=2"], ["loss.alpha1 = 1.0", "2.0"]),
        (["--set", "model.width=8"], ["model.width = 4"]),
        (["--set", "train.meta_steps=2"], ["train.meta_steps = 1"]),
        (["--set", "data.validation_every=4"], ["data.validation_every = 5"]),
        (["--task", "mfif"], ["task = 'meie'", "'mfif'"]),
        (["--preset", "quick"], ["preset = 'paper'", "'quick'"]),
        (["--seed", "1"], ["seed = 0", "cannot change to 1"]),
        (["--set", "task=mfif"], ["task = 'meie'"]),
        (["--set", "data.corp=16"], ["unknown key 'data.corp'; did you mean 'data.crop'?"]),
        (["--set", "log.every=0"], ["log.every must be at least 1"]),
        (["--task", "mei"], ["unknown task 'mei'"]),
        (["--data", "elsewhere"], ["elsewhere: expected a folder of image pairs, but it does not exist"]),
        (["--data", "other"], ["was trained on 4 pairs", "pairs.json", "restore them or start a new run"]),
    ],
)
def test_what_may_not_change(tmp_path, monkeypatch, begun, capsys, not_trained, arguments, words):
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "other", 4)
    before = tree_of(begun)
    said = refused(capsys, "--resume", "--out", begun, *arguments)
    for word in words:
        assert word in said
    assert tree_of(begun) == before and len(not_trained) == 1


def test_names_that_are_not_utf8(tmp_path, capsys, not_trained):
    folder = make_pairs(tmp_path / os.fsdecode(b"caf\xe9"))
    said = refused(capsys, "--task", "meie", "--data", folder, "--out", tmp_path / "run", *SMALL)
    assert "caf\\udce9: config.toml cannot hold this name, it is not UTF-8; rename the folder" in said
    assert not (tmp_path / "run").exists()


def test_runs_that_are_damaged(begun, capsys, not_trained):
    for name, content, words in (
        ("config.toml", "[train]\nepochs = 'x'", "train.epochs must be a whole number"),
        ("config.toml", "[train", "cannot read the configuration"),
        ("pairs.json", "{", "the run cannot be continued without it"),
        ("pairs.json", None, "the run cannot be continued without it"),
    ):
        before = (begun / name).read_text()
        if content is None:
            (begun / name).unlink()
        else:
            (begun / name).write_text(content)
        assert words in refused(capsys, "--resume", "--out", begun)
        (begun / name).write_text(before)
    assert len(not_trained) == 1
