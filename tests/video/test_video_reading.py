"""Frames and their times, of files of many kinds: rotation, variable rates, ranges and matrices, damage, levels."""

from fractions import Fraction

import numpy as np
import pytest
from scripts import picture
from video_files import FULL, LIMITED, read_video, write_video

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import AUTO, RUN, WHOLE, Levels, Rule
from refusion_jax.video.reading import Damage, Video, find_video_levels

LIMIT = 10**9
SIZE = 32, 48


def frames(path, **more):
    return list(Video(path, LIMIT).frames(**more))


def pixels(path):
    return [frame.values.pixels for frame in frames(path)]


def blocks(size=SIZE, seed=0):
    """Squares of 8 pixels in one colour each: chroma of half the size keeps them."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(30, 226, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def test_frames_come_in_order_with_the_times_of_a_variable_rate(tmp_path):
    times = [0, 40, 130, 300, 333, 900]
    path = write_video(
        tmp_path / "v.mp4", [picture(i, SIZE) for i in range(6)], times=times, codec="libx264", form="yuv420p"
    )
    assert [round(frame.time * 1000) for frame in frames(path)] == times == read_video(path)[1]
    later = frames(path, start=Fraction("0.2"))
    assert [round(frame.time * 1000) for frame in later] == [300, 333, 900]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.ts", "libx264"),
        ("v.ts", "mpeg4"),
        ("v.mpg", "mpeg2video"),
        ("v.h264", "libx264"),
        ("v.hevc", "libx265"),
        ("v.mkv", "libx264"),
        ("v.avi", "libx264"),
    ],
)
def test_a_later_start_gives_the_same_frames_however_far_the_key_frames_lie_apart(tmp_path, name, codec):
    options = {"x265-params": "log-level=none:keyint=100"} if codec == "libx265" else {"g": "100", "bf": "2", "b": "9M"}
    if codec.startswith("mpeg"):
        options["sc_threshold"] = "1000000000"  # no further key frames
    pictures = [np.full((64, 64, 3), 30 + 2 * i, np.uint8) for i in range(110)]
    more = {"form": "yuv420p", "matrix": 6, "limits": LIMITED} | options
    path = write_video(tmp_path / name, pictures, rate=25, codec=codec, **more)
    whole = [(frame.time, frame.values.pixels) for frame in frames(path)]
    assert len(whole) == 110 and np.all(np.diff([pixels.mean() for _, pixels in whole]) > 0)
    for start in (Fraction(1, 2), Fraction("3.1"), whole[-1][0]):
        damage = Damage()
        read = [(frame.time, frame.values.pixels) for frame in frames(path, start=start, damage=damage)]
        expected = [one for one in whole if one[0] >= start]
        assert [time for time, _ in read] == [time for time, _ in expected] and not damage.count
        assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(read, expected, strict=True))


@pytest.mark.parametrize("reordered", ["0", "2"])
def test_an_avi_file_tells_the_place_of_each_frame(tmp_path, reordered):
    pictures = [np.full((*SIZE, 3), 30 + 2 * i, np.uint8) for i in range(60)]
    more = {"form": "yuv420p", "matrix": 6, "limits": LIMITED, "bf": reordered}
    path = write_video(tmp_path / "v.avi", pictures, codec="libx264", **more)
    damage = Damage()
    read = frames(path, damage=damage)
    # The encoder's delay is written as that of the video, and of sound beside it.
    assert [frame.time for frame in read] == [Fraction(int(reordered) + i, 10) for i in range(60)]
    assert damage.note(Video(path, LIMIT)) is None
    assert np.all(np.diff([frame.values.pixels.mean() for frame in read]) > 0)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_video_is_read_as_other_readers_show_it(tmp_path, rotation):
    path = write_video(tmp_path / "v.mp4", [blocks()], codec="libx264", form="yuv420p", rotation=rotation, crf="0")
    (shown,), (expected,) = pixels(path), read_video(path)[0]
    assert Video(path, LIMIT).size == shown.shape[:2] == expected.shape[:2]
    assert np.abs(shown.astype(int) - expected)[3::8, 3::8].max() <= 4


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("limits", [LIMITED, FULL])
def test_levels_survive_every_matrix_and_range(tmp_path, form, matrix, limits):
    path = write_video(tmp_path / "v.mkv", [blocks()], form=form, matrix=matrix, limits=limits)
    (read,) = pixels(path)
    peak = 65535 if form.endswith("10le") else 255
    assert read.dtype == (np.uint16 if peak == 65535 else np.uint8)
    assert np.abs(read / peak * 255 - blocks())[3::8, 3::8].max() <= 2


def test_a_stream_that_names_no_matrix_has_that_of_its_size(tmp_path):
    for size, matrix in (((32, 48), 6), ((720, 16), 1)):
        there = write_video(tmp_path / "there.mkv", [blocks(size)], form="yuv444p", matrix=matrix, limits=LIMITED)
        (expected,) = pixels(there)
        import av

        with av.open(str(there)) as source, av.open(str(tmp_path / "none.y4m"), "w") as copy:
            stream = copy.add_stream("wrapped_avframe", rate=10)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv444p"
            for frame in source.decode(video=0):
                frame.colorspace = 2
                copy.mux(stream.encode(frame))
            copy.mux(stream.encode(None))
        (read,) = pixels(tmp_path / "none.y4m")
        assert np.abs(read.astype(int) - expected).max() <= 1


def test_grey_keeps_the_stream_s_own_values(tmp_path):
    counts = 7000 + 3 * picture(1, SIZE).astype(np.uint16)
    (values,) = (frame.values for frame in frames(write_video(tmp_path / "a.mkv", [counts])))
    assert np.array_equal(values.pixels, counts) and values.declared is None
    ten = write_video(tmp_path / "b.mkv", [picture(1, SIZE).astype(np.uint16) << 8], form="gray10le")
    (values,) = (frame.values for frame in frames(ten))
    assert values.declared == (0, 1023) and np.abs(values.pixels / 4 - picture(1, SIZE)).max() <= 1
    (eight,) = pixels(write_video(tmp_path / "c.mkv", [picture(1, SIZE)]))
    assert eight.dtype == np.uint8 and np.array_equal(eight, picture(1, SIZE))


def test_levels_are_those_of_all_frames(tmp_path):
    black = np.zeros(SIZE, np.uint16)  # as recorders begin
    counts = [black, *(7000 + 100 * i + 2 * picture(1, SIZE).astype(np.uint16) for i in range(3))]
    video = Video(write_video(tmp_path / "a.mkv", counts), LIMIT)
    eight = Video(write_video(tmp_path / "b.mkv", [picture(1, SIZE)] * 3), LIMIT)
    spans = [(Fraction(0), None)] * 2
    low, high = min(map(np.min, counts[1:])), max(map(np.max, counts[1:]))
    for rule in (AUTO, RUN):
        found, other = find_video_levels([video, eight], [rule, rule], spans, False)
        assert (found.low, found.high) == (low, high) and found.note and (other.low, other.high) == (0, 255)
    (part, _) = find_video_levels([video, eight], [AUTO] * 2, [(Fraction("0.1"), Fraction("0.2")), spans[1]], False)
    assert (part.low, part.high) == (counts[1].min(), counts[1].max())
    for rule, expected in ((WHOLE, (0, 65535)), (Rule("fixed", 7000, 8000), (7000, 8000))):
        (levels, _) = find_video_levels([video, eight], [rule, AUTO], spans, False)
        assert (levels.low, levels.high) == expected
    bright = [9000 + 2 * picture(2, SIZE).astype(np.uint16)]
    both = [video, Video(write_video(tmp_path / "c.mkv", bright), LIMIT)]
    one, two = find_video_levels(both, [AUTO] * 2, spans, True)
    assert one == two == Levels(low, bright[0].max(), one.note, True)


def test_what_can_be_read_of_a_damaged_file_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    path = write_video(tmp_path / "v.mkv", list(noise), codec="libx264", form="yuv420p", g="5")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    damage = Damage()
    read = frames(path, damage=damage)
    assert 15 <= len(read) < 30 and damage.count and read[-1].time == Fraction("2.9")
    assert 0.5 < damage.first < 2 and "0:00:01" in damage.note(Video(path, LIMIT))


def test_a_file_that_is_cut_short_is_read_to_its_end(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    path = write_video(tmp_path / "v.mkv", list(noise), codec="libx264", form="yuv420p", g="5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    damage = Damage()
    read = frames(path, damage=damage)
    assert 10 <= len(read) <= 16 and "3.0" in damage.note(Video(path, LIMIT))


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    import av

    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 48000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    for name, word in (("text", "damaged"), ("empty", "damaged"), ("sound", "audio"), ("missing", "no such file")):
        with pytest.raises(InputError, match=word) as caught:
            Video(tmp_path / f"{name}.mp4", LIMIT)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    path = write_video(tmp_path / "large.mkv", [picture(1, SIZE)])
    with pytest.raises(InputError, match="48x32 is 1536 pixels"):
        Video(path, 1000)
