"""fuse.py on two videos: frames, times and sound of the result, what is held over it, kills, bad input."""

import signal
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from fuse_command import fuse, refused
from scripts import picture, start_process
from video_files import exact_pictures, read_video, sound_packets, write_video

from refusion_jax.cli import video as video_command
from refusion_jax.imaging.alignment import Transform, write_transform
from refusion_jax.imaging.files import write_image

SIZE = 32, 48


def infrared(number, size=SIZE):
    """Something warm moves over a ground that is still."""
    image = picture(1, size, mean=60) // 3 + 20
    if number >= 4:
        image[8:16, 2 * number : 2 * number + 6] = 250
    return image


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Infrared with 20 and visible with 10 frames a second, lossless, a second long, the visible with sound."""
    folder = tmp_path_factory.mktemp("videos")
    visible = picture(2, SIZE, color=True)
    a = write_video(folder / "ir.mkv", [infrared(i // 2) for i in range(20)], rate=20)
    b = write_video(folder / "vis.mkv", [visible] * 10, sound=1, metadata={"title": "Yard"})
    return a, b


@pytest.fixture
def run(videos, weights):
    return ["--ckpt", weights, "--task", "meie", "--no-check", "--pair", *videos]


def test_a_video_is_fused_frame_by_frame_with_its_times_and_its_sound(run, videos, tmp_path, capsys):
    out = tmp_path / "new" / "fused.mp4"
    fuse(*run, "--out", out)
    pictures, times = read_video(out)
    assert times == [100 * i for i in range(10)] and {one.shape for one in pictures} == {(*SIZE, 3)}
    expected = sound_packets(videos[1])
    assert [data for _, data in sound_packets(out)] == [data for time, data in expected if time < 1]
    said = capsys.readouterr()
    assert "10 frames" in said.out and said.err == ""
    assert [path.name for path in out.parent.iterdir()] == ["fused.mp4"]


def test_each_frame_is_what_fusing_pictures_gives(run, model, tmp_path):
    fuse(*run, "--out", tmp_path / "v.mkv", "--codec", "ffv1", "--range", "clip")
    frames = exact_pictures(tmp_path / "v.mkv")
    visible = picture(2, SIZE, color=True)
    # Frames 0, 2, 4 ... of the infrared are those of the visible's times; the visible is the brighter.
    assert all(np.array_equal(one, model.fuse(infrared(i), visible, "clip")) for i, one in enumerate(frames))


def test_start_end_offset_and_rate(run, model, tmp_path):
    fuse(*run, "--start", "0.3", "--end", "0:00.8", "--out", tmp_path / "part.mp4")
    assert read_video(tmp_path / "part.mp4")[1] == [0, 100, 200, 300, 400]
    assert 8 <= len(sound_packets(tmp_path / "part.mp4")) <= 25
    fuse(*run, "--fps", "20", "--out", tmp_path / "fast.mp4")
    assert read_video(tmp_path / "fast.mp4")[1] == [50 * i for i in range(20)]
    fuse(*run, "--fps", str(10000 / 1001), "--out", tmp_path / "digits.mp4")  # a division's digits
    assert read_video(tmp_path / "digits.mp4")[1] == pytest.approx([100.1 * i for i in range(10)], abs=1)
    late = [*run, "--offset", "0.4", "--gray", "--codec", "ffv1", "--range", "clip", "--out", tmp_path / "late.mkv"]
    fuse(*late)
    frames = exact_pictures(tmp_path / "late.mkv")
    visible = picture(2, SIZE, color=True)
    assert len(frames) == 6
    assert np.array_equal(frames[-1], model.fuse(infrared(5), visible, "clip", gray=True))


def still(frames):
    return np.stack([frame[20:].astype(int) for frame in frames])


def test_range_run_holds_what_is_still(run, tmp_path):
    for rule in ("run", "minmax"):
        fuse(*run, "--gray", "--codec", "ffv1", "--range", rule, "--out", tmp_path / f"{rule}.mkv")
    held, free = (still(exact_pictures(tmp_path / f"{rule}.mkv")) for rule in ("run", "minmax"))
    assert np.abs(held.mean((1, 2)) - held[0].mean()).max() <= 0.5
    assert np.abs(free.mean((1, 2)) - free[0].mean()).max() > 1  # what the rule is for


def test_thermal_counts_of_16_bits_are_read_with_one_black_and_one_white(videos, weights, model, tmp_path, capsys):
    counts = [7000 + 100 * i + 2 * infrared(0).astype(np.uint16) for i in range(10)]
    thermal = write_video(tmp_path / "thermal.mkv", counts)
    run = ["--ckpt", weights, "--pair", thermal, videos[1], "--no-check", "--range", "clip", "--codec", "ffv1"]
    fuse(*run, "--out", tmp_path / "v.mkv")
    low, high = min(map(np.min, counts)), max(map(np.max, counts))
    note = capsys.readouterr().err
    assert f"{low}..{high}" in note and note.count("\n") == 1
    frames = exact_pictures(tmp_path / "v.mkv")
    a = np.rint((counts[3] - float(low)) * 65535 / (high - low)).astype(np.uint16)
    b = picture(2, SIZE, color=True) * np.uint16(257)
    assert frames[3].dtype == np.uint16 and np.array_equal(frames[3], model.fuse(a, b, "clip"))
    fuse(*run, "--depth", "8", "--levels", "a=7000,9000", "--out", tmp_path / "v.mkv")
    assert exact_pictures(tmp_path / "v.mkv")[0].dtype == np.uint8 and capsys.readouterr().err == ""


def test_sizes_rotation_and_a_saved_transform(videos, weights, tmp_path, capsys):
    turned = write_video(
        tmp_path / "t.mp4", [np.rot90(picture(2, SIZE, color=True))] * 3, codec="libx264", form="yuv420p", rotation=-90
    )
    run = ["--ckpt", weights, "--no-check"]
    fuse(*run, "--pair", videos[0], turned, "--out", tmp_path / "a.mp4")
    assert read_video(tmp_path / "a.mp4")[0][0].shape == (*SIZE, 3)
    large = write_video(tmp_path / "large.mkv", [picture(2, (64, 96), color=True)] * 3)
    both = [*run, "--pair", videos[0], large]
    assert "48x32 and 96x64" in refused(capsys, *both, "--out", tmp_path / "b.mp4")
    fuse(*both, "--resize", "b", "--out", tmp_path / "b.mp4")
    assert read_video(tmp_path / "b.mp4")[0][0].shape == (64, 96, 3)
    matrix = np.diag([2.0, 2.0, 1.0])
    write_transform(tmp_path / "rig.json", Transform(matrix, "affine", SIZE, (64, 96)))
    fuse(*both, "--transform", tmp_path / "rig.json", "--align-frame", "full", "--out", tmp_path / "c.mp4")
    assert read_video(tmp_path / "c.mp4")[0][0].shape == (*SIZE, 3)


def test_a_damaged_video_is_fused_as_far_as_it_can_be_read(videos, weights, tmp_path, capsys):
    noise = list(np.random.default_rng(0).integers(0, 256, (10, *SIZE, 3), np.uint8))
    path = write_video(tmp_path / "b.mkv", noise, codec="libx264", form="yuv420p", g="2")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(600) + content[len(content) // 2 + 600 :])
    fuse("--ckpt", weights, "--no-check", "--pair", videos[0], path, "--out", tmp_path / "v.mp4")
    assert 3 <= len(read_video(tmp_path / "v.mp4")[0]) < 10
    assert str(path) in (note := capsys.readouterr().err) and note.count("\n") == 1


def test_what_was_fused_before_an_error_is_kept(videos, weights, tmp_path, capsys):
    path = tmp_path / "b.mkv"
    with av.open(str(path), "w") as container:  # a recorder that goes on in another size
        stream = container.add_stream("mjpeg", rate=10, width=SIZE[1], height=SIZE[0], pix_fmt="yuvj420p")
        for number in range(8):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width = shape = SIZE if number < 5 else (24, 40)
            encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 10)
            frame = av.VideoFrame.from_ndarray(picture(2, shape, color=True), "rgb24").reformat(format="yuvj420p")
            for packet in encoder.encode(frame):
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 10), number, number
                container.mux(packet)
    fuse("--ckpt", weights, "--no-check", "--pair", videos[0], path, "--out", tmp_path / "v.mp4", status=2)
    assert len(read_video(tmp_path / "v.mp4")[0]) == 5
    error = capsys.readouterr().err
    assert "48x32 and 40x24" in error and "5 frames" in error and error.count("\n") == 1


def test_bad_input_is_one_line(run, videos, weights, tmp_path, capsys, monkeypatch):
    out = ["--out", tmp_path / "v.mp4"]
    still_picture = write_image(tmp_path / "b.png", picture(1, SIZE))
    pair = ["--ckpt", weights, "--pair"]
    for words, expected in (
        ([*pair, videos[0], still_picture], ("b.png", "still picture")),
        ([*pair, videos[0], tmp_path], ("a folder",)),
        ([*pair, videos[0], tmp_path / "missing.mp4"], ("missing.mp4", "no such file")),
        ([*run, "--offset", "5"], ("no common time", "0:00:05.0")),
        ([*run, "--offset=-5"], ("no common time",)),
        ([*run, "--start", "3"], ("no common time", "--start 0:00:03.0")),
        ([*run, "--start", "0.5", "--end", "0.2"], ("--end",)),
        ([*run, "--codec", "divx"], ("divx", "h264")),
        ([*run, "--codec", "ffv1", "--crf", "3"], ("lossless",)),
        ([*run, "--depth", "16"], ("ffv1",)),
        ([*run, "--maps"], ("--maps",)),
        ([*run, "--report", "r.html"], ("--report",)),
        ([*run, "--align", "affine"], ("--transform",)),
        ([*run, "--pair", *videos], ("one pair",)),
        ([*pair, videos[0]], ("ir.mkv", "second")),
        (["--ckpt", weights, "--stack", *videos], ("--pair",)),
        ([*pair, still_picture, still_picture, "--fps", "5"], ("--fps", "videos")),
        ([*run, "--task", "mif"], ("meie, not mif",)),
    ):
        message = refused(capsys, *words, *out)
        assert all(word in message for word in expected), message
    assert "fused.gif" in refused(capsys, *run, "--out", tmp_path / "fused.gif")
    assert "overwrite" in refused(capsys, *run, "--out", videos[1])
    assert not (tmp_path / "v.mp4").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    assert "'av>=18.1'" in refused(capsys, *run, *out)


def test_results_in_a_folder_and_what_is_there_already(run, tmp_path, capsys):
    fuse(*run, "--out", tmp_path, "--metadata-from", "none", "--end", "0.2")
    before = (tmp_path / "vis.mp4").stat().st_mtime_ns
    fuse(*run, "--out", tmp_path, "--skip-existing", "--range", "run")
    assert (tmp_path / "vis.mp4").stat().st_mtime_ns == before and "skipped" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_before_its_first_frame_leaves_nothing(run, tmp_path, capsys, monkeypatch, number):
    begin = video_command.written

    def stopped(*arguments):
        signal.raise_signal(number)
        return begin(*arguments)

    monkeypatch.setattr(video_command, "written", stopped)
    fuse(*run, "--out", tmp_path / "out" / "v.mp4", status=128 + number)
    assert capsys.readouterr().err == f"stopped by {number.name}\n" and not any((tmp_path / "out").iterdir())


def test_a_killed_run_leaves_a_playable_file_or_none(repo, weights, tmp_path):
    long = [picture(i % 7, (96, 128), color=True) for i in range(1500)]
    video = write_video(tmp_path / "in" / "v.mp4", long, codec="libx264", form="yuv420p", preset="ultrafast")
    command = ["fuse.py", "--ckpt", weights, "--no-check", "--pair", video, video]
    outs = {number: tmp_path / f"{number.name}" / "v.mkv" for number in (signal.SIGTERM, signal.SIGKILL)}
    started = {number: start_process(repo, *command, "--out", out) for number, out in outs.items()}
    for number, process in started.items():
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size > 20_000 for path in outs[number].parent.glob(".*.tmp")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
    said = {number: process.communicate(timeout=60) for number, process in started.items()}
    pictures, times = read_video(outs[signal.SIGTERM])
    assert started[signal.SIGTERM].returncode == 128 + signal.SIGTERM
    assert 1 < len(pictures) < 1500 and times == [100 * i for i in range(len(pictures))]
    assert f"{len(pictures)} frames" in said[signal.SIGTERM][1] and "SIGTERM" in said[signal.SIGTERM][1]
    assert [path.name for path in outs[signal.SIGTERM].parent.iterdir()] == ["v.mkv"]
    assert not outs[signal.SIGKILL].exists()
