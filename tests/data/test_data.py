"""The input pipeline: luma pairs, pools, crops, order of sources, resumable streams."""

import numpy as np
import pytest

from refusion_jax.data import batches as pipeline
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image
from refusion_jax.training import sources

HOW = {"crop": 8, "batch": 4}


def numbered(count=7, size=24):
    """Pairs whose pixels tell which pair, source, row and column they are: a = 100 + column, b = 10 * pair + row."""
    row, column = np.mgrid[:size, :size].astype(np.uint8)
    arrays = [(f"p{i}", 100 + column, 10 * i + row) for i in range(count)]
    return pipeline.LumaPairs([n for n, *_ in arrays], lambda i: arrays[i][1:], 2**20)


def take(stream, count):
    return [next(stream) for _ in range(count)]


def equal(x, y):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(x, y, strict=True) for k in a)


def test_batches_have_the_right_shape_and_the_same_crop_of_both_sources():
    for batch in take(pipeline.batches(numbered(), 3, flips=False, **HOW), 5):
        assert batch["a"].shape == (4, 8, 8, 1) and batch["a"].dtype == np.uint8
        for a, b in zip(batch["a"][..., 0].astype(int), batch["b"][..., 0].astype(int), strict=True):
            assert np.all(np.diff(a, axis=1) == 1) and np.all(np.diff(a, axis=0) == 0)
            assert np.all(np.diff(b, axis=0) == 1) and np.all(np.diff(b, axis=1) == 0)


def test_flips_turn_both_sources_alike_and_all_four_ways():
    seen = set()
    for batch in take(pipeline.batches(numbered(), 5, **HOW), 12):
        for a, b in zip(batch["a"][..., 0].astype(int), batch["b"][..., 0].astype(int), strict=True):
            seen.add((a[0, 1] - a[0, 0], b[1, 0] - b[0, 0]))
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_every_pass_shows_every_pair_once_in_another_order():
    stream = pipeline.batches(numbered(8), 1, crop=24, batch=8, flips=False)
    orders = [(b["b"][:, 0, 0, 0] // 10).tolist() for b in take(stream, 4)]
    assert all(sorted(o) == list(range(8)) for o in orders)
    assert len(set(map(tuple, orders))) > 1


def test_a_stream_begins_with_any_of_its_batches():
    expected = take(pipeline.batches(numbered(), 9, **HOW), 7)
    assert equal(take(pipeline.batches(numbered(), 9, first=3, **HOW), 4), expected[3:])
    assert not equal(take(pipeline.batches(numbered(), 10, **HOW), 7), expected)


@pytest.mark.parametrize("count", [2, 3, 62])
def test_pools_are_disjoint_cover_the_pairs_and_change_by_epoch(count):
    pools = [pipeline.meta_pools(count, 0, epoch) for epoch in range(8)]
    for train, test in pools:
        assert set(train).isdisjoint(test) and sorted([*train, *test]) == list(range(count))
        assert len(train) == count // 2
    assert len({tuple(train) for train, _ in pools}) > 1


def test_streams_of_a_phase_see_their_own_pool_only():
    pairs = numbered(6)
    train, test = pipeline.meta_pools(6, 4, 2)
    streams = pipeline.epoch_streams(pairs, "meta", 4, 2, crop=24, batch=4, flips=False)
    for name, pool in (("meta_train", train), ("meta_test", test)):
        seen = {int(x) // 10 for batch in take(streams[name], 5) for x in batch["b"][:, 0, 0, 0]}
        assert seen == set(pool.tolist())


def test_the_cache_is_bounded_and_decodes_once():
    decoded = []

    def decode(i):
        decoded.append(i)
        return np.zeros((10, 10)), np.ones((10, 10))

    pairs = pipeline.LumaPairs(["x", "y", "z"], decode, cache_bytes=400)
    for _ in range(3):
        for i in range(3):
            assert pairs[i]["b"][0, 0] == 1
    assert [decoded.count(i) for i in range(3)] == [1, 1, 3]


def scene(folder, name, a, b, suffix="png"):
    write_image(folder / name / f"{name}_A.{suffix}", a)
    write_image(folder / name / f"{name}_B.{suffix}", b)


def test_the_darker_image_is_source_a_for_meie_only(tmp_path):
    dark, bright = np.full((20, 20, 3), 30, np.uint8), np.full((20, 20), 200, np.uint8)
    for i in range(3):
        scene(tmp_path, f"s{i}", bright, dark)
    for task, first in (("meie", 30), ("mfif", 200)):
        data = sources.from_folder(tmp_path, task, crop=8)
        assert data.train[0]["a"].max() == first and len(data.train) == 3 and len(data.validation) == 0


def test_every_tenth_pair_is_held_out_and_excluded_ones_are_gone(tmp_path):
    image = np.zeros((20, 20), np.uint8)
    for i in range(21):
        scene(tmp_path, f"s{i:02d}", image, image)
    data = sources.from_folder(tmp_path, "mfif", crop=8, exclude=("s00",))
    assert data.validation.names == ["s10", "s20"] and len(data.train) == 18
    assert not set(data.train.names) & set(data.validation.names)
    with pytest.raises(InputError, match="data.exclude names nope"):
        sources.from_folder(tmp_path, "mfif", crop=8, exclude=("nope",))
    with pytest.raises(InputError, match="s00 is 20x20 pixels, smaller than the 32x32"):
        sources.from_folder(tmp_path, "mfif", crop=32)


def test_pictures_above_the_pixel_limit_are_refused_unless_it_is_raised(tmp_path):
    for i in range(3):
        scene(tmp_path, f"s{i}", np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match=r"20x20 is 400 pixels, over the limit of 399; .*data\.max_pixels"):
        sources.from_folder(tmp_path, "mfif", crop=8, max_pixels=399)
    assert sources.from_folder(tmp_path, "mfif", crop=8, max_pixels=400).train[0]["a"].shape == (20, 20)


def test_too_few_pairs_and_a_picture_broken_inside(tmp_path):
    image = np.zeros((20, 20), np.uint8)
    scene(tmp_path, "one", image, image)
    with pytest.raises(InputError, match="at least 2 pairs"):
        sources.from_folder(tmp_path, "mfif", crop=8)
    scene(tmp_path, "two", image, image)
    whole = (tmp_path / "two" / "two_B.png").read_bytes()
    (tmp_path / "two" / "two_B.png").write_bytes(whole[:50])  # a sound header, no pixels
    data = sources.from_folder(tmp_path, "mfif", crop=8)
    with pytest.raises(InputError, match="two_B.png"):
        take(pipeline.batches(data.train, 0, **HOW), 2)


@pytest.mark.parametrize("task", ["ivif", "mif", "mfif", "meie"])
def test_built_in_scenes(task):
    data = sources.built_in(task, 0, 11, 64, crop=32)
    assert (len(data.train), len(data.validation)) == (10, 1)
    batch = next(pipeline.batches(data.train, 0, crop=32, batch=2))
    assert batch["a"].shape == (2, 32, 32, 1) and not np.array_equal(batch["a"], batch["b"])
    assert data.fingerprint != sources.built_in(task, 1, 11, 64, crop=32).fingerprint


def test_real_folders_give_the_known_numbers(real_data):
    for task, (train, validation) in {"ivif": (154, 17), "mif": (665, 73), "mfif": (77, 8), "meie": (62, 6)}.items():
        data = sources.from_folder(real_data / task, task, crop=128)
        assert (len(data.train), len(data.validation)) == (train, validation)
