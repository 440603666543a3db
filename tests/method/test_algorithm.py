"""Algorithm 1: the order of its steps, what each is fed, where it can begin, how much is left."""

import itertools

import numpy as np
import pytest

from refusion_jax.method.algorithm import Schedule, algorithm_1

SCHEDULE = Schedule(epochs=2, meta_steps=2, fusion_steps=3)
WARMED = Schedule(epochs=2, meta_steps=2, fusion_steps=3, warmup_steps=4)


def steps(schedule=SCHEDULE, start=0):
    """(the steps, the calls of open_streams); each batch is (stream, epoch, its number in the epoch)."""
    opened = []

    def open_streams(epoch, phase, first):
        opened.append((epoch, phase, first))
        names = ("train", "test") if phase == "meta" else ("all",)
        return [zip(itertools.repeat(name), itertools.repeat(epoch), itertools.count(first)) for name in names]

    return list(algorithm_1(schedule, open_streams, start)), opened


def test_every_epoch_has_its_meta_steps_and_then_its_fusion_steps():
    found, opened = steps()
    assert [(s.epoch, s.phase) for s in found[:5]] == [(1, "meta")] * 2 + [(1, "fusion")] * 3
    assert [(s.epoch, s.phase) for s in found[5:]] == [(2, s.phase) for s in found[:5]]
    assert [s.number for s in found] == list(range(1, 11))
    assert found[1].batches == (("train", 1, 1), ("test", 1, 1))
    assert found[5].batches == (("train", 2, 0), ("test", 2, 0))
    assert [s.batches for s in found[2:5]] == [(("all", 1, k),) for k in range(3)]
    # Line 3: pools once an epoch.
    assert opened == [(1, "meta", 0), (1, "fusion", 0), (2, "meta", 0), (2, "fusion", 0)]


def test_a_warm_up_comes_first_as_fusion_steps_of_epoch_0():
    found, opened = steps(WARMED)
    assert [(s.number, s.epoch, s.phase, s.batches) for s in found[:4]] == [
        (k + 1, 0, "fusion", (("all", 0, k),)) for k in range(4)
    ]
    assert [s[1:] for s in found[4:]] == [s[1:] for s in steps()[0]]
    assert found[-1].number == WARMED.total == 14 and opened[0] == (0, "fusion", 0)
    assert [k for k in range(15) if WARMED.ends_epoch(k)] == [9, 14]
    assert [k for k in range(11) if SCHEDULE.ends_epoch(k)] == [5, 10]


@pytest.mark.parametrize("schedule", [SCHEDULE, WARMED, Schedule(epochs=3, meta_steps=0, fusion_steps=2)])
def test_it_begins_after_any_step_and_goes_on_the_same(schedule):
    whole, _ = steps(schedule)
    for start in range(schedule.total + 1):
        assert steps(schedule, start)[0] == whole[start:]


def test_a_training_without_meta_or_fusion_steps():
    assert [s.phase for s in steps(Schedule(epochs=2, meta_steps=3, fusion_steps=0))[0]] == ["meta"] * 6
    assert [s.phase for s in steps(Schedule(epochs=2, meta_steps=0, fusion_steps=1))[0]] == ["fusion"] * 2


@pytest.mark.parametrize("schedule", [SCHEDULE, WARMED])
def test_what_is_left_after_each_step(schedule):
    found, _ = steps(schedule)
    assert schedule.total == len(found) and schedule.per_epoch == 5
    for done in range(len(found) + 1):
        phases = [s.phase for s in found[done:]]
        assert schedule.left(done) == {phase: phases.count(phase) for phase in ("meta", "fusion")}


def test_rates_fall_every_so_many_epochs():
    rate = Schedule(lr_decay=0.1, lr_decay_epochs=2).rate(1e-3, 5)
    assert [float(rate(k)) for k in (0, 9, 10, 19, 20)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    assert float(Schedule().rate(1e-3, 5)(10**6)) == pytest.approx(1e-3, rel=1e-7)


def test_rates_stay_during_the_warm_up_and_may_end_at_zero():
    rate = Schedule(epochs=4, lr_decay=0.5, lr_decay_epochs=1).rate(1.0, 5, before=3)
    assert [float(rate(k)) for k in (0, 3, 7, 8)] == [1, 1, 1, 0.5]
    rate = Schedule(epochs=4, lr_cosine=True).rate(1.0, 5, before=3)
    assert [float(rate(k)) for k in (0, 3, 13, 23)] == pytest.approx([1, 1, 0.5, 0], abs=1e-7)


def test_meta_epochs_end_the_meta_steps_and_rate_of_p_with_them():
    short = Schedule(epochs=4, meta_steps=2, fusion_steps=3, meta_epochs=2, warmup_steps=1, lr_cosine=True)
    found = steps(short)[0]
    assert [step.number for step in found] == list(range(1, short.total + 1))
    assert [(step.epoch, step.phase) for step in found] == (
        [(0, "fusion")]
        + [(e, p) for e in (1, 2) for p in ("meta",) * 2 + ("fusion",) * 3]
        + [(e, "fusion") for e in (3, 4) for _ in range(3)]
    )
    for done in range(short.total + 1):
        assert steps(short, done)[0] == found[done:]
        rest = [step.phase for step in found[done:]]
        assert short.left(done) == {phase: rest.count(phase) for phase in ("meta", "fusion")}
        assert short.ends_epoch(done) == (done in (6, 11, 14, 17))
    rate = short.rate(1e-3, 2, epochs=short.taught)
    assert float(rate(0)) == pytest.approx(1e-3) and float(rate(4)) == pytest.approx(0, abs=1e-12)


def test_a_rate_that_stays_is_the_same_for_trainings_of_all_lengths():
    """The number itself, so that the compiled steps of one training serve another of other lengths."""
    rates = [Schedule(epochs=n, meta_steps=n, fusion_steps=n, warmup_steps=n).rate(1e-3, n, n) for n in (2, 7)]
    assert [rate(np.int32(5)) for rate in rates] == [1e-3, 1e-3]
    assert [type(rate(np.int32(5))) for rate in rates] == [float, float]
