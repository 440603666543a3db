"""Metrics of videos against what is known of moved pictures, and against loops."""

import numpy as np
import pytest
from scripts import picture

from refusion_jax.errors import InputError
from refusion_jax.metrics import Motion, Step, biswe, ms2r, step

SIZE = 24, 30


def constant(x, y=0.0, size=SIZE):
    return np.broadcast_to(np.float32([x, y]), (*size, 2)).copy()


def still(size=SIZE):
    return Motion(*[Step(constant(0, size=size), constant(0, size=size))] * 2)


def moving(x, y=0.0):
    """The motion of what goes (x, y) a frame."""
    return Motion(*[Step(constant(x, y), constant(-x, -y))] * 2)


def test_a_video_that_moves_evenly_has_no_error():
    wide = picture(1, (24, 40))
    frames = [wide[:, 10 - 2 * t : 40 - 2 * t] for t in range(3)]  # goes 2 to the right a frame
    inside = [frame.copy() for frame in frames]
    for frame in inside:  # what comes in at a side is not known beforehand
        frame[:, :4] = frame[:, -4:] = 100
    assert biswe(frames, moving(2), [moving(2)]) < biswe(frames, still(), [moving(2)]) / 4
    assert biswe([frames[1]] * 3, still(), [still()] * 2) == 0


def test_a_flicker_is_its_height_once_for_each_neighbour():
    base = picture(1, SIZE) // 2
    frames = [base, base + np.uint8(10), base]
    assert biswe(frames, still(), [still(), still()]) == pytest.approx(20)
    assert biswe([frame / np.float32(255) for frame in frames], still(), [still()]) == pytest.approx(20)


def test_only_what_both_sources_see_counts():
    base = np.full(SIZE, 100, np.uint8)
    bright = base.copy()
    bright[:, 15:] = 200
    half = constant(0)
    half[:, 15:] = 3  # there, and not back: covered
    covered = Motion(Step(constant(0), half), Step(half, constant(0)))
    frames = [base, bright, base]
    assert biswe(frames, still(), [still(), still()]) == pytest.approx(100)
    assert biswe(frames, still(), [still(), covered]) == 0
    nothing = Motion(*[Step(constant(5), constant(5))] * 2)
    assert biswe(frames, still(), [nothing, still()]) == 0


def test_biswe_is_what_loops_give():
    rng = np.random.default_rng(0)
    frames = [picture(i, (9, 11)) for i in range(3)]
    flows = [rng.normal(0, 1, (9, 11, 2)).astype(np.float32) for _ in range(12)]
    fused, a, b = (Motion(Step(*flows[4 * i : 4 * i + 2]), Step(*flows[4 * i + 2 : 4 * i + 4])) for i in range(3))

    def at(image, x, y):
        x, y = np.clip(x, 0, 10), np.clip(y, 0, 8)
        left, top = min(int(x), 9), min(int(y), 7)
        u, v = x - left, y - top
        upper, lower = (image[row, left] * (1 - u) + image[row, left + 1] * u for row in (top, top + 1))
        return upper * (1 - v) + lower * v

    total = 0
    for other, way, ways in (
        (frames[0], fused.before.back, [(s.before.back, s.before.onward) for s in (a, b)]),
        (frames[2], fused.after.onward, [(s.after.onward, s.after.back) for s in (a, b)]),
    ):
        errors = []
        for y in range(9):
            for x in range(11):
                missed = [
                    np.hypot(
                        *(go[y, x] + [at(come[..., i].astype(float), x + go[y, x, 0], y + go[y, x, 1]) for i in (0, 1)])
                    )
                    for go, come in ways
                ]
                if max(missed) < 1:
                    errors.append(abs(frames[1][y, x] - at(other.astype(float), x + way[y, x, 0], y + way[y, x, 1])))
        assert len(errors) > 3
        total += np.mean(errors)
    assert biswe(frames, fused, [a, b]) == pytest.approx(total, rel=1e-5)


def test_ms2r_is_the_difference_of_the_changes_of_motion():
    steady, braking = (
        moving(3, 1),
        Motion(Step(constant(3, 1), constant(-3, -1)), Step(constant(1, 1), constant(-1, -1))),
    )
    assert ms2r(steady, [moving(7), moving(-2)]) == 0
    assert ms2r(braking, [braking, braking]) == 0
    assert ms2r(braking, [steady, steady]) == pytest.approx(1)  # 2 along x, none along y
    assert ms2r(braking, [steady, braking]) == pytest.approx(0.5)


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="30x24"):
        step(picture(1, SIZE), picture(1, (24, 24)), lambda first, second: constant(0))
