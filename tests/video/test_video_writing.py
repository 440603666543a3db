"""Video files as they are written: levels, colour tags, times, sound, sizes, codecs, and nothing where it fails."""

from fractions import Fraction

import av
import numpy as np
import pytest
from scripts import picture
from video_files import exact_pictures, read_video, sound_packets, write_video

from refusion_jax.errors import InputError
from refusion_jax.video.reading import Video
from refusion_jax.video.writing import Plan, available_codecs, choose_codec, written

RATE = Fraction(10)


def write(path, pictures, codec, times=None, **more):
    plan = Plan(codec, Fraction(1, 1000), RATE, **more)
    with written(path, plan) as writer:
        for number, image in enumerate(pictures):
            writer.write(Fraction(times[number] if times else number * 100, 1000), image)
    return writer


def blocks(size):
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(30, 226, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_every_codec_is_written_and_read_by_others(tmp_path, codec):
    path = tmp_path / "v.mkv"
    assert codec in available_codecs(".mkv")
    write(path, [picture(i, (64, 96), color=True) for i in range(4)], codec, crf=10)
    pictures, times = read_video(path)
    assert times == [0, 100, 200, 300]
    assert all(
        np.abs(read.astype(int) - picture(i, (64, 96), color=True)).mean() < 9 for i, read in enumerate(pictures)
    )


@pytest.mark.parametrize("size, matrix", [((64, 96), 6), ((720, 64), 1)])
def test_levels_survive_and_the_tags_say_how_they_are_stored(tmp_path, size, matrix):
    shown = blocks(size)
    write(tmp_path / "v.mp4", [shown], "h264", crf=1)
    with av.open(str(tmp_path / "v.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (*(matrix,) * 3, 1)
    (read,) = (frame.values.pixels for frame in Video(tmp_path / "v.mp4", 10**9).frames())
    assert np.abs(read.astype(int) - shown)[3::8, 3::8].max() <= 3
    assert abs((read.astype(int) - shown)[3::8, 3::8].mean()) < 0.5


def test_grey_and_16_bits_are_kept_by_ffv1(tmp_path):
    for name, pixels in (
        ("grey", picture(1, (33, 47))),
        ("grey16", picture(1, (33, 47)) * np.uint16(257) + np.uint16(3)),
        ("colour", picture(1, (33, 47), color=True)),
        ("colour16", picture(1, (33, 47), color=True) * np.uint16(257) + np.uint16(3)),
    ):
        write(tmp_path / f"{name}.mkv", [pixels, pixels[::-1]], "ffv1")
        first, second = exact_pictures(tmp_path / f"{name}.mkv")
        assert np.array_equal(first, pixels) and np.array_equal(second, pixels[::-1])


def test_grey_is_neutral_in_a_file_with_colour(tmp_path):
    write(tmp_path / "v.mp4", [picture(1, (64, 96))], "h264", crf=5)
    ((read,), _) = read_video(tmp_path / "v.mp4")
    assert np.ptp(read.astype(int), axis=-1).max() <= 1
    assert np.abs(read[..., 0].astype(int) - picture(1, (64, 96))).mean() < 2


def test_odd_sizes_lose_a_row_where_the_codec_asks_for_it(tmp_path):
    writer = write(tmp_path / "v.mp4", [picture(1, (33, 47))], "h264")
    assert read_video(tmp_path / "v.mp4")[0][0].shape == (32, 46, 3)
    assert "47x33" in writer.notes[0] and "46x32" in writer.notes[0]


def test_times_of_a_variable_rate_are_kept_and_begin_at_0(tmp_path):
    times = [1000, 1040, 1300, 1333, 2000]
    write(tmp_path / "v.mp4", [picture(i, (32, 32)) for i in range(5)], "h264", times)
    assert read_video(tmp_path / "v.mp4")[1] == [time - 1000 for time in times]


def test_sound_is_copied_packet_by_packet(tmp_path):
    source = write_video(
        tmp_path / "s.mp4",
        [picture(1, (32, 32))] * 10,
        codec="libx264",
        form="yuv420p",
        sound=1,
        metadata={"title": "T"},
    )
    whole = sound_packets(source)
    frames = [picture(1, (32, 32))] * 10
    write(tmp_path / "all.mp4", frames, "h264", sound=source, metadata={"title": "T"})
    assert sound_packets(tmp_path / "all.mp4") == [packet for packet in whole if packet[0] < 1]
    with av.open(str(tmp_path / "all.mp4")) as container:
        assert container.metadata["title"] == "T"
    write(tmp_path / "part.mp4", frames[:3], "h264", [500, 600, 700], sound=source)
    part = [(time - 0.5, data) for time, data in whole if 0.5 <= time < 0.8]
    found = sound_packets(tmp_path / "part.mp4")
    assert [data for _, data in found] == [data for _, data in part] and len(part) > 10
    assert np.allclose([time for time, _ in found], [time for time, _ in part], atol=2e-3)
    writer = write(tmp_path / "silent.webm", frames, "vp9", sound=source)
    assert "aac" in writer.notes[0] and "mkv" in writer.notes[0]
    assert len(read_video(tmp_path / "silent.webm")[0]) == 10


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"older")
    with pytest.raises(RuntimeError), written(tmp_path / "v.mp4", Plan("h264", Fraction(1, 10), RATE)) as writer:
        writer.write(Fraction(0), picture(1, (32, 32)))
        raise RuntimeError
    with pytest.raises(InputError), written(tmp_path / "v.mp4", Plan("h264", Fraction(1, 10), RATE)):
        pass
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path / "v.mp4" / "v.mp4", [picture(1, (32, 32))], "h264")


def test_codecs_are_named_where_one_cannot_be_had(tmp_path):
    assert (
        choose_codec(tmp_path / "v.mp4", None, None) == "h264" and choose_codec(tmp_path / "v.webm", None, 20) == "vp9"
    )
    for extension, codec, crf, words in (
        (".mp4", "divx", None, ("divx", "h264", "hevc")),
        (".webm", "h264", None, (".webm", "vp9")),
        (".mkv", "ffv1", 10, ("lossless",)),
        (".mov", "ffv1", None, ("ffv1", "h264")),
        (".mp4", "h264", 60, ("0..51", "60")),
    ):
        with pytest.raises(InputError) as caught:
            choose_codec(tmp_path / f"v{extension}", codec, crf)
        assert all(word in str(caught.value) for word in words)
