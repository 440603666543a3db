"""evaluate.py --pair: fused videos and folders of frames against their sources."""

import csv
import json

import numpy as np
import pytest
from scripts import fails, picture
from video_files import write_video

from refusion_jax.cli.evaluate import main
from refusion_jax.imaging.files import write_image

SIZE = 48, 64
FRAMES = 6


def shifted(seed, number, color=False):
    """A picture of which the camera goes on by a pixel a frame."""
    return picture(seed, (SIZE[0], SIZE[1] + FRAMES), color)[:, number : number + SIZE[1]]


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """{name: pictures}: sources, a fused video that moves as they do, one that flickers."""
    a = [shifted(1, i) for i in range(FRAMES)]
    b = [shifted(2, i, True) for i in range(FRAMES)]
    mean = [((x.astype(int) + y.mean(-1)) / 2).astype(np.uint8) for x, y in zip(a, b, strict=True)]
    flicker = [np.clip(x.astype(int) + 12 * (i % 2), 0, 255).astype(np.uint8) for i, x in enumerate(mean)]
    return tmp_path_factory.mktemp("sequence"), {"a": a, "b": b, "even": mean, "flicker": flicker}


@pytest.fixture(scope="module")
def videos(sequence):
    folder, pictures = sequence
    return {name: write_video(folder / f"{name}.mkv", frames) for name, frames in pictures.items()}


def scores(out):
    summary = json.loads((out / "summary.json").read_text())["methods"]
    return {name: {m: v["mean"] for m, v in method["metrics"].items()} for name, method in summary.items()}


def run(*arguments):
    assert main([*map(str, arguments)]) == 0


def test_a_flicker_is_found_and_named_in_the_tables(videos, tmp_path, capsys):
    pair = ["--pair", videos["a"], videos["b"]]
    run(*pair, "--fused", f"ours={videos['even']}", videos["flicker"], "--out", tmp_path)
    found = scores(tmp_path)
    assert set(found) == {"ours", "flicker"} and set(found["ours"]) == {"BiSWE", "MS2R"}
    assert found["flicker"]["BiSWE"] > found["ours"]["BiSWE"] + 15
    assert found["ours"]["MS2R"] <= found["flicker"]["MS2R"] < 1
    assert "BiSWE ↓" in capsys.readouterr().out
    with open(tmp_path / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows if row["method"] == "ours"] == ["0.100", "0.200", "0.300", "0.400"]


def test_folders_of_frames_score_as_the_video_of_them(sequence, videos, tmp_path):
    _, pictures = sequence
    for name, frames in pictures.items():
        for number, frame in enumerate(frames):
            write_image(tmp_path / name / f"f{number + 7}.png", frame)  # f7 to f12: natural order
    for name in ("._f7.png", "f7.dng"):  # what macOS writes, and the raw file of a frame
        (tmp_path / "even" / name).write_bytes(b"none")
    (tmp_path / "even" / "f0.png").mkdir()
    names = ["BiSWE", "MS2R", "SSIM"]
    run(
        "--pair",
        tmp_path / "a",
        tmp_path / "b",
        "--fused",
        tmp_path / "even",
        "--metrics",
        *names,
        "--out",
        tmp_path / "x",
    )
    run("--pair", videos["a"], videos["b"], "--fused", videos["even"], "--metrics", *names, "--out", tmp_path / "y")
    assert scores(tmp_path / "x")["even"] == pytest.approx(scores(tmp_path / "y")["even"])
    assert list(scores(tmp_path / "x")["even"]) == names


def test_frames_of_other_names_are_not_scored_together_in_silence(sequence, tmp_path, capsys):
    _, pictures = sequence
    for name in ("a", "b", "even"):
        for number, frame in enumerate(pictures[name]):
            write_image(tmp_path / name / f"{number}.png", frame)
    command = ["--pair", tmp_path / "a", tmp_path / "b", "--metrics", "SSIM", "--out", tmp_path / "out", "--fused"]
    fused = tmp_path / "even"

    def score(*arguments):
        run(*command, *arguments)
        return scores(tmp_path / "out").popitem()[1]["SSIM"], capsys.readouterr().err

    expected, note = score(fused)
    assert not note
    (fused / "5.png").rename(tmp_path / "5.png")
    assert "6 in" in score(fused)[1] and "5 in" in score(fused)[1]  # a shorter one, such as by --end
    (fused / "0.png").unlink()
    error = fails(main, capsys, *command, fused)
    assert "1.png is frame 1" in error and "--start=1" in error and "--start=0" in error
    named, note = score(fused, "--start", "1")
    assert named == pytest.approx(expected, abs=0.02) and "frame 1" not in note
    placed, note = score(fused, "--start", "0")
    assert placed < named - 0.05 and "1.png is frame 1" in note
    (tmp_path / "5.png").rename(fused / "5.png")
    (fused / "3.png").unlink()
    error = fails(main, capsys, *command, fused, "--start", "1")
    assert f"{fused} has none of the name of {tmp_path / 'b' / '3.png'}" in error
    (tmp_path / "a" / "4.png").unlink()
    assert f"{tmp_path / 'a'} has none" in fails(main, capsys, *command, fused)
    write_image(tmp_path / "a" / "5.bmp", pictures["a"][5])
    assert "5.bmp" in fails(main, capsys, *command, fused)


def test_a_part_is_scored_against_its_own_time(sequence, videos, tmp_path):
    folder, pictures = sequence
    part = write_video(folder / "part.mkv", pictures["even"][2:])
    pair = ["--pair", videos["a"], videos["b"], "--metrics", "SSIM", "MS2R", "--fused"]
    run(*pair, part, "--start", "0.2", "--out", tmp_path / "right")
    run(*pair, part, "--out", tmp_path / "wrong")
    assert scores(tmp_path / "right")["part"]["SSIM"] > scores(tmp_path / "wrong")["part"]["SSIM"] + 0.05


def test_bad_input_is_one_line(sequence, videos, tmp_path, capsys):
    _, pictures = sequence
    pair = ["--pair", videos["a"], videos["b"]]
    small = write_video(tmp_path / "small.mkv", [picture(1, (32, 32))] * 4)
    short = write_video(tmp_path / "short.mkv", pictures["even"][:2])
    for words, expected in (
        ([*pair], "--fused"),
        ([*pair, "--ckpt", "ivif"], "--fused"),
        ([*pair, "--fused", small], "32x32"),
        ([*pair, "--fused", short], "three frames"),
        ([*pair, "--fused", tmp_path / "none"], "none"),
        ([*pair, "--fused", videos["even"], "--start", "9"], "--start"),
        ([*pair, "--fused", videos["even"], "--metrics", "Tempo"], "Tempo"),
        (["--pair", videos["a"], tmp_path, "--fused", videos["even"]], "two videos"),
        ([*pair, "--fused", tmp_path], "folders of frames alone"),
        (["--data", tmp_path, "--fused", tmp_path, "--offset", "1"], "--offset"),
    ):
        assert expected in fails(main, capsys, *words, "--out", tmp_path / "out")
