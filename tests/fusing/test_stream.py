"""Streams of pairs: in order, one ahead, with levels and attention that are held over the frames."""

import threading
import time

import numpy as np
import pytest
from scripts import picture, start_process, tiny_info, tiny_trees

from refusion_jax.errors import InputError
from refusion_jax.fusing import model as inference
from refusion_jax.fusing.stream import Network, fuse_stream, look_at
from refusion_jax.imaging.color import unit_luma
from refusion_jax.imaging.pixels import check_one_size
from refusion_jax.imaging.ranges import to_range
from refusion_jax.weights.trees import from_names

SIZE = 40, 56


@pytest.fixture(scope="module")
def model():
    return inference.from_params(from_names(tiny_trees()), tiny_info("ivif"), "tiny")


def lumas(a, b):
    check_one_size((a, b))
    return unit_luma(a), unit_luma(b), False


# The brighter of both in place of F, for what does not depend on it.
BRIGHTER = Network(lumas, lambda first, second, held=None, seen=None: np.maximum(first, second))


def sequence(count=6, hot=3):
    """Pairs that are still but for something hot that enters."""
    infrared, visible = picture(1, SIZE, mean=60) // 3 + 20, picture(2, SIZE, color=True)
    pairs = []
    for number in range(count):
        a = infrared.copy()
        if number >= hot:
            a[10:20, 10 + number % 30 : 16 + number % 30] = 250
        pairs.append((a, visible))
    return pairs


@pytest.mark.parametrize("rule", ["clip", "minmax"])
def test_each_on_its_own_is_what_fuse_gives(model, rule):
    pairs = sequence(4)
    fused = list(model.fuse_stream(iter(pairs), rule))
    assert all(np.array_equal(one, model.fuse(*pair, range=rule)) for one, pair in zip(fused, pairs, strict=True))


def test_the_first_of_a_stream_is_what_fuse_gives_and_a_still_one_stays(model):
    pair = sequence(1)[0]
    fused = list(model.fuse_stream([pair] * 4))
    assert all(np.array_equal(one, model.fuse(*pair)) for one in fused)


def moved(frames):
    """How far the mean of what is still is moved at most, levels."""
    still = [frame[25:, :].astype(float).mean() for frame in frames]
    return max(abs(level - still[0]) for level in still)


def test_what_is_still_moves_less_than_picture_by_picture(model):
    pairs = sequence(12)
    alone = moved([model.fuse(*pair, gray=True) for pair in pairs])
    running = moved(list(model.fuse_stream(pairs, gray=True)))
    held = moved(list(model.fuse_stream(pairs, gray=True, held=model.look_at(lambda: iter(pairs)))))
    assert alone > 5 and running < 0.7 * alone and held <= 0.5


def test_a_hot_thing_that_enters_is_not_cut():
    pairs = [(a, np.full(SIZE, 90, np.uint8)) for a, _ in sequence(60, hot=59)]
    *_, last = fuse_stream(BRIGHTER, pairs)
    before = max(int(max(a.max(), b.max())) for a, b in pairs[:59])
    assert last.max() > before + 20


def test_the_running_mean_follows_a_change_of_scene():
    dark, bright = (np.full(SIZE, level, np.uint8) + picture(1, SIZE) // 8 for level in (10, 180))
    centred = Network(lumas, lambda first, second, held=None, seen=None: first - first.mean() + np.float32(0.5))
    fused = list(fuse_stream(centred, [(dark, dark)] * 60 + [(bright, bright)] * 200, gray=True))
    expected = 255 * to_range(unit_luma(bright), [unit_luma(bright)])
    assert np.abs(fused[-1] - expected).mean() < 5 < np.abs(fused[60] - expected).mean()


def test_pictures_of_another_size_may_follow(model):
    pairs = [(a[:height], b[:height]) for height, (a, b) in zip((40, 40, 32, 32, 40), sequence(5), strict=True)]
    assert [one.shape for one in model.fuse_stream(pairs)] == [b.shape for _, b in pairs]


def test_the_order_of_exposures_is_that_of_the_first_pair(model):
    import dataclasses

    exposures = dataclasses.replace(model, task="meie")
    light, dark = picture(1, SIZE, mean=160), picture(2, SIZE, mean=70)
    first, second = exposures.fuse_stream([(light, dark), (dark, light)], "clip")
    assert np.array_equal(first, exposures.fuse(dark, light, "clip"))  # by brightness
    assert np.array_equal(second, model.fuse(light, dark, "clip"))  # as before: the second of the pair first


def test_a_stream_is_read_one_pair_ahead_and_no_further():
    drawn = []

    def pairs():
        for number, pair in enumerate(sequence(12)):
            drawn.append(number)
            yield pair

    stream = fuse_stream(BRIGHTER, pairs())
    for number in range(12):
        next(stream)
        time.sleep(0.02)
        assert min(number + 2, 12) <= len(drawn) <= number + 4
    assert next(stream, None) is None


def test_a_result_does_not_wait_for_the_next_pair_of_a_slow_camera():
    go_on = threading.Event()

    def camera():
        yield sequence(1)[0]
        assert go_on.wait(30)
        yield sequence(1)[0]

    stream = fuse_stream(BRIGHTER, camera())
    next(stream)  # comes although the camera has given one pair alone
    go_on.set()
    assert len(list(stream)) == 1


def test_a_stream_that_is_closed_waits_for_the_pair_that_is_read():
    def slow():
        yield from sequence(3)
        asked.set()
        time.sleep(0.5)
        ended.append(True)

    ended, asked = [], threading.Event()
    stream = fuse_stream(BRIGHTER, slow())
    assert len([next(stream) for _ in range(3)]) == 3 and asked.wait(30)
    stream.close()
    assert ended


BLOCKED = """
import threading
import numpy as np
from refusion_jax.fusing.stream import Network, fuse_stream

asked, never = threading.Event(), threading.Event()

def camera():
    yield np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)
    asked.set()
    never.wait()

network = Network(lambda a, b: (a / 255, b / 255, False), lambda first, second, held=None, seen=None: second)
stream = fuse_stream(network, camera(), "clip")
next(stream)
asked.wait()
stream.close()
print("closed", flush=True)
"""


def test_a_camera_that_gives_nothing_more_does_not_keep_the_process_alive(repo):
    process = start_process(repo, "-c", BLOCKED)
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "closed\n", "")


def test_an_error_comes_behind_the_last_result():
    good = sequence(3)
    stream = fuse_stream(BRIGHTER, [*good, (good[0][0], good[0][1][:10]), good[0]])
    assert [one.shape for _, one in zip(good, stream, strict=False)] == [(*SIZE, 3)] * 3
    with pytest.raises(InputError, match="56x40 and 56x10"):
        next(stream)
    assert list(fuse_stream(BRIGHTER, [])) == []
    with pytest.raises(InputError, match="at least one pair"):
        look_at(BRIGHTER, lambda: iter([]), lambda: None)


def test_a_video_is_looked_at_three_times_and_sampled():
    turns, seen = [], []

    def pairs():
        turns.append(0)
        return iter(sequence(100))

    held = look_at(BRIGHTER, pairs, lambda: seen.append(0))
    assert len(turns) == 3 and len(seen) <= 100 + 2 * 32 and held.sums is None
