"""Blocks of several steps: where they end, what they give, what is logged; parts of batches; reading ahead."""

import itertools
import json

import jax
import numpy as np
import pytest
from stand_in import SETTINGS, STEPS

from refusion_jax import config
from refusion_jax.cli.train import load_data
from refusion_jax.data.batches import LumaPairs, batches
from refusion_jax.errors import InputError
from refusion_jax.method.algorithm import Schedule, algorithm_1
from refusion_jax.training import loop, run_directory
from refusion_jax.training.feed import Feed
from refusion_jax.training.stopping import TIME_LIMIT
from refusion_jax.training.watch import Watch
from refusion_jax.weights import orbax_folder

SCHEDULE = Schedule(epochs=2, meta_steps=7, fusion_steps=9)


def stream(first, broken=None):
    """Batches that hold their own number."""
    for number in itertools.count(first):
        if number == broken:
            raise InputError("broken")
        yield {"a": np.array([number])}


def feed(longest, boundary=0, start=0, **how):
    def open_streams(epoch, phase, first):
        return [stream(first, **how) for _ in range(2 if phase == "meta" else 1)]

    steps = algorithm_1(SCHEDULE, open_streams, start)
    return Feed(steps, lambda batch, stacked: batch, longest=longest, boundary=boundary)


def taken(source):
    """All blocks, by the number of steps done before each."""
    blocks = {}
    while True:
        try:
            block = source.take()
        except StopIteration:
            return blocks
        blocks[block.number - block.length] = block
        source.prefetch()


@pytest.mark.parametrize(("longest", "boundary"), [(1, 0), (3, 0), (4, 5), (10, 0)])
def test_blocks_hold_the_batches_in_order_and_end_with_the_phase_and_the_checkpoint(longest, boundary):
    blocks = taken(feed(longest, boundary))
    assert sum(b.length for b in blocks.values()) == 32
    for step, block in blocks.items():
        assert block.epoch == step // 16 + 1
        for inside in (step % 16, (block.number - 1) % 16):
            assert block.phase == ("meta" if inside < 7 else "fusion") and block.length in (1, longest)
        assert not boundary or step // boundary == (block.number - 1) // boundary
        first = step % 16 - (0 if block.phase == "meta" else 7)
        assert len(block.batches) == (2 if block.phase == "meta" else 1)
        for batch in block.batches:
            assert batch["a"].ravel().tolist() == list(range(first, first + block.length))
            assert batch["a"].shape == ((block.length, 1) if block.length > 1 else (1,))
    assert any(b.length == longest for b in blocks.values()) or longest == 10


def test_blocks_go_on_where_a_checkpoint_was_written():
    blocks = taken(feed(3))
    again = taken(feed(3, start=13))
    assert sorted(again) == [k for k in sorted(blocks) if k >= 13]
    assert all(str(again[k]) == str(blocks[k]) for k in again)


@pytest.mark.parametrize("longest", [1, 4])
def test_an_error_of_reading_ahead_is_raised_where_the_batch_is_due(longest):
    source = feed(longest, broken=2)
    for step in (1, 2):
        assert source.take().number == step
        source.prefetch()
    with pytest.raises(InputError, match="broken"):
        source.take()


class Records:
    def __init__(self):
        self.lines = []

    def scalars(self, step, head, values):
        self.lines.append((step, head, values))


def test_what_is_logged_does_not_depend_on_the_blocks():
    values = np.random.default_rng(0).random(16, np.float32)

    def logged(lengths, ahead):
        records, step = Records(), 0
        watch = Watch(records, 3, ahead)
        for length in lengths:
            part = values[step : step + length]
            step += length
            head = {"phase": "meta" if step <= 7 else "fusion"}
            watch.add(step, head, {"x": part if length > 1 else part[0]})
        watch.flush()
        return records.lines

    expected = logged([1] * 16, 1)
    assert [(s, h["averaged"]) for s, h, _ in expected] == [(3, 3), (6, 3), (7, 1), (9, 2), (12, 3), (15, 3), (16, 1)]
    assert expected[0][2] == {"x": float(np.mean(values[:3]))}
    assert logged([4, 3, 4, 4, 1], 1) == logged([7, 9], 3) == expected
    values[4] = np.nan
    with pytest.raises(InputError, match=r"step 5 \(meta\): x is nan"):
        logged([4, 3, 9], 3)


def test_the_parts_of_a_batch_are_read_by_themselves():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 2, 20, 20)).astype(np.uint8)
    read = []

    def source():
        return LumaPairs(list("abcde"), lambda i: read.append(i) or tuple(images[i]), 0)

    whole, *parts = (batches(source(), 7, crop=8, batch=6, part=p) for p in [(0, 1), (0, 3), (1, 3), (2, 3)])
    for _ in range(4):
        expected, found = next(whole), [next(p) for p in parts]
        for key in "ab":
            assert np.array_equal(np.concatenate([f[key] for f in found]), expected[key])
    resumed = batches(source(), 7, crop=8, batch=6, part=(1, 3), first=3)
    assert np.array_equal(next(resumed)["a"], found[1]["a"])
    with pytest.raises(InputError, match="batch of 6 pairs cannot be divided into 4"):
        batches(source(), 7, crop=8, batch=6, part=(0, 4))


# A training


def trained(run, *more, stop_after=None):
    """A training of the stand-in networks in this process; on one that exists it goes on."""
    settings = config.resolve("meie", "paper", [*SETTINGS, *more])
    data = load_data(settings)
    if not run.exists():
        run_directory.create_run(run, settings, data)
    with pytest.MonkeyPatch.context() as patch:
        if stop_after is not None:
            rounds = iter(range(10**6))
            patch.setattr(loop.StopRequest, "requested", lambda self: TIME_LIMIT * (next(rounds) >= stop_after))
        return loop.train(run, settings, data, bar=False)


def result(run):
    folder = orbax_folder.newest(run)
    assert folder.name == str(STEPS)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return jax.tree.leaves(orbax_folder.read_params(folder)[0]), lines


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "single"
    assert trained(run).finished
    return result(run)


@pytest.fixture(scope="module")
def in_blocks(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "blocks"
    assert trained(run, "train.steps_per_dispatch=4").finished
    return result(run)


def test_blocks_of_steps_train_as_single_steps_do(one_by_one, in_blocks):
    for x, y in zip(one_by_one[0], in_blocks[0], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    for x, y in zip(one_by_one[1], in_blocks[1], strict=True):
        assert x.keys() == y.keys()
        for key, value in x.items():
            assert value == (y[key] if isinstance(value, str | int) else pytest.approx(y[key], rel=1e-4, abs=1e-9))


def test_a_stop_between_blocks_and_going_on_changes_nothing(tmp_path, in_blocks):
    """Batches are read ahead of the stop: those must not be lost."""
    run = tmp_path / "run"
    outcome = trained(run, "train.steps_per_dispatch=4", stop_after=5)  # 4+1+1+1 meta steps, 4 fusion steps
    assert (outcome.step, outcome.reason) == (11, "the time limit")
    assert trained(run, "train.steps_per_dispatch=4").finished
    parameters, lines = result(run)
    assert all(np.array_equal(x, y) for x, y in zip(parameters, in_blocks[0], strict=True))
    assert [x["step"] for x in lines if x["step"] != 11] == [x["step"] for x in in_blocks[1]]
