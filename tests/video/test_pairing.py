"""Which frames belong together."""

from fractions import Fraction

import pytest

from refusion_jax.video.pairing import Followed, paired
from refusion_jax.video.reading import Frame


def shown(rate, count, first=0):
    """Frames at a rate from a time on."""
    return [Frame(Fraction(first) + Fraction(i, rate), None) for i in range(count)]


def times(a, b, offset=0, every=None):
    """[(time, time of A's frame, time of B's)] as floats."""
    first, second = (Followed(iter(x), y, x[1].time - x[0].time) for x, y in ((a, Fraction(offset)), (b, Fraction(0))))
    found = paired(first, second, every)
    return [(float(pair.time), float(pair.a.time), float(pair.b.time)) for pair in found]


def test_each_frame_of_b_has_the_nearest_of_a():
    assert times(shown(2, 3), shown(4, 6)) == [
        (0, 0, 0),
        (0.25, 0, 0.25),  # the earlier of two that are equally near
        (0.5, 0.5, 0.5),
        (0.75, 0.5, 0.75),
        (1, 1, 1),
        (1.25, 1, 1.25),
    ]
    assert [a for _, a, _ in times(shown(30, 30), shown(10, 10))] == [i / 10 for i in range(10)]


@pytest.mark.parametrize("offset", [2, Fraction("-0.5"), Fraction(1, 100)])
def test_the_offset_is_added_to_the_times_of_a(offset):
    found = times(shown(10, 40), shown(10, 40), offset)
    assert all(abs(a + offset - b) <= 0.05 for _, a, b in found)
    assert len(found) == 40 - round(abs(offset) * 10)


def test_there_are_pairs_only_while_both_are_there():
    found = times(shown(5, 10, first=1), shown(10, 100))
    assert found[0][0] == 0.9 and found[-1][0] == 2.9  # half a frame before A's first, all of its last
    assert times(shown(5, 10), shown(10, 10), offset=20) == []
    assert times(shown(5, 10), shown(10, 10), offset=-20) == []


def test_frames_a_second_of_one_s_own():
    found = times(shown(10, 20), shown(25, 50), every=Fraction(1, 5))
    assert [time for time, _, _ in found] == [i / 5 for i in range(10)]
    assert all(abs(b - time) <= 0.02 and abs(a - time) <= 0.05 for time, a, b in found)


@pytest.mark.parametrize("every", [None, Fraction(1, 10)])
def test_nothing_is_read_behind_the_end_of_the_shorter(every):
    drawn = []

    def long():
        for frame in shown(10, 1000):
            drawn.append(frame)
            yield frame

    short = Followed(shown(10, 10), Fraction(0), Fraction(1, 10))
    found = list(paired(short, Followed(long(), Fraction(0), Fraction(1, 10)), every))
    assert len(found) == 10 and len(drawn) <= 12


def test_a_gap_is_bridged_by_the_nearer_side():
    a = [frame for frame in shown(10, 20) if not 0.5 < frame.time < 1]
    found = times(a, shown(10, 20))
    assert [pair[1] for pair in found if 0.5 < pair[0] < 1] == [0.5, 0.5, 1, 1]
