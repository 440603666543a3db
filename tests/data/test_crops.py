"""Crops: every place of a picture is trained on, and other crops in each pass, epoch and run."""

from itertools import islice, product

import numpy as np
import pytest

from refusion_jax.data.batches import LumaPairs, batches, crop_and_flip, epoch_streams

HEIGHT, WIDTH, CROP = 6, 7, 4
PLACES = set(product(range(HEIGHT - CROP + 1), range(WIDTH - CROP + 1)))


def picture():
    """Pixels that say where they are: 16 * row + column."""
    row, column = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    return 16 * row + column


def pairs(count):
    return LumaPairs([f"p{i}" for i in range(count)], lambda i: (picture(), picture()), 2**20)


def places(stream, count):
    """The top left corner of every crop in the next batches; both sources have the same."""
    found = []
    for batch in islice(stream, count):
        corners = batch["a"].min(axis=(1, 2, 3))
        assert np.array_equal(corners, batch["b"].min(axis=(1, 2, 3)))
        found += [divmod(int(corner), 16) for corner in corners]
    return found


@pytest.mark.parametrize("flips", [False, True])
def test_every_place_is_cropped_from_the_first_to_the_last(flips):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        crop = crop_and_flip({"a": picture(), "b": picture()}, rng, CROP, flips)["a"]
        assert crop.shape == (CROP, CROP, 1)
        seen.add(divmod(int(crop.min()), 16))
    assert seen == PLACES
    whole = crop_and_flip({"a": picture()[:, :HEIGHT]}, rng, HEIGHT, False)["a"]  # a picture of the crop's own size
    assert np.array_equal(whole[..., 0], picture()[:, :HEIGHT])


def test_one_picture_is_cropped_anew_at_each_pass():
    assert set(places(batches(pairs(1), 0, crop=CROP, batch=4), 60)) == PLACES


@pytest.mark.parametrize("phase, stream", [("fusion", "fusion"), ("meta", "meta_train"), ("meta", "meta_test")])
def test_epochs_and_seeds_have_other_crops(phase, stream):
    def crops(seed, epoch):
        return tuple(places(epoch_streams(pairs(2), phase, seed, epoch, crop=CROP, batch=4)[stream], 4))

    assert crops(0, 0) == crops(0, 0)
    assert len({crops(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_the_meta_batches_are_cropped_apart():
    streams = epoch_streams(pairs(2), "meta", 0, 0, crop=CROP, batch=4)
    assert places(streams["meta_train"], 4) != places(streams["meta_test"], 4)
