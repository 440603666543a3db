"""Pairs as a list: natural order, which are held out, what a training makes of their parts, sizes, brightness."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from picture_files import touch
from PIL import Image

from refusion_jax.data.pairs import Pair, check_sizes, darker_first, natural_key, split_validation
from refusion_jax.data.search import find_pairs, pairs_from_arguments
from refusion_jax.errors import InputError
from refusion_jax.training import sources


def pictures(folder, *names, size=(24, 24)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 90, np.uint8)).save(path)


def test_natural_order(tmp_path):
    names = ["a", "img1", "img2", "img02b", "img10", "img010x", "img" + "9" * 200, "x1y2", "x1y10", "x01", "Z"]
    touch(tmp_path, *(f"{s}/{name}.png" for name in names for s in ("ir", "vi")))
    listed = [pair.name for pair in find_pairs(tmp_path)]
    assert listed == ["Z", "a", "img1", "img2", "img02b", "img10", "img010x", "img" + "9" * 200, "x01", "x1y2", "x1y10"]
    assert [p.name for p in pairs_from_arguments(tmp_path / "ir", tmp_path / "vi")] == listed
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == listed


def test_held_out_pairs_follow_plain_order():
    pairs = [Pair(str(n), Path("a"), Path("b")) for n in range(1, 21)]  # plain: 1 10 11 ... 19 2 20 3 ...
    training, validation = split_validation(random.Random(1).sample(pairs, len(pairs)))
    assert [pair.name for pair in validation] == ["18", "9"]
    assert [pair.name for pair in training] == sorted(str(n) for n in range(1, 21) if n not in (18, 9))
    assert split_validation(pairs[:9]) == (sorted(pairs[:9], key=lambda pair: pair.name), [])


@pytest.mark.parametrize("every, positions", [(10, [9, 19]), (2, list(range(1, 25, 2))), (0, [])])
def test_every_nth_pair_is_held_out(every, positions):
    pairs = [Pair(f"{n:02}", Path("a"), Path("b")) for n in range(25)]
    training, validation = split_validation(pairs, every)
    assert validation == [pairs[i] for i in positions]
    assert training == [pair for i, pair in enumerate(pairs) if i not in positions]


@pytest.mark.parametrize("every", [1, -1, -10])
def test_held_out_pairs_cannot_be_all_or_fewer_than_none(every):
    for pairs in ([], [Pair("x", Path("a"), Path("b"), "validation")]):
        with pytest.raises(InputError, match=f"n >= 2, got {every}"):
            split_validation(pairs, every)


@pytest.mark.parametrize(
    "folder, sha256",
    [("ivif", "69eb458f1860"), ("mif", "4e9024fec155"), ("mfif", "f47bbb895a8d"), ("meie", "eee6a52b79d5")],
)
def test_published_splits_do_not_move(real_data, folder, sha256):
    """Hashes of the names held out while pairs were still listed in plain order."""
    names = [pair.name for pair in split_validation(find_pairs(real_data / folder))[1]]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest().startswith(sha256)


def test_the_test_part_is_never_trained_on(tmp_path):
    for part, count in (("train", 12), ("test", 5)):
        pictures(tmp_path, *(f"{part}/{s}/{n}.png" for n in range(count) for s in ("ir", "vi")))
    data = sources.from_folder(tmp_path, "ivif", crop=16)
    assert data.validation.names == ["train/7"]  # the tenth by plain order: 0 1 10 11 2 3 4 5 6 7
    assert len(data.train) == 11 and all(name.startswith("train/") for name in data.train.names)
    assert "(5 of its test part left out)" in data.description
    # With a part for validation, that is the validation.
    pictures(tmp_path, *(f"val/{s}/{n}.png" for n in range(3) for s in ("ir", "vi")))
    data = sources.from_folder(tmp_path, "ivif", crop=16)
    assert data.validation.names == ["val/0", "val/1", "val/2"] and len(data.train) == 12
    assert len(sources.from_folder(tmp_path, "ivif", crop=16, validation_every=0).validation) == 0
    # A test part named itself is used as it is; with nothing but a test part beneath, it is not.
    assert len(sources.from_folder(tmp_path / "test", "ivif", crop=16).train) == 5
    (tmp_path / "only").mkdir()
    (tmp_path / "test").rename(tmp_path / "only" / "test")
    with pytest.raises(InputError, match="all 5 pairs are of a test part"):
        sources.from_folder(tmp_path / "only", "ivif", crop=16)


def test_sizes(tmp_path, monkeypatch):
    for name, size in (("1", (20, 30)), ("2", (7, 5))):
        pictures(tmp_path, f"ir/{name}.png", f"vi/{name}.png", size=size)

    def decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)  # the headers alone are read
    assert check_sizes(find_pairs(tmp_path)) == [(20, 30), (7, 5)]
    pictures(tmp_path, "vi/2.png", size=(5, 7))
    with pytest.raises(InputError, match="'2': .* 7x5 .* 5x7 .*vi/2.png"):
        check_sizes(find_pairs(tmp_path))
    (tmp_path / "vi" / "2.png").write_text("no image")
    with pytest.raises(InputError, match="2.png: not an image"):
        check_sizes(find_pairs(tmp_path))


def test_darker_first():
    dark, light = np.full((3, 4), 0.2, np.float32), np.full((3, 4), 0.3, np.float32)
    assert darker_first(dark, light)[0] is dark
    assert darker_first(light, dark)[0] is dark
    assert darker_first(light, dark)[1] is light
    same = dark.copy()
    assert darker_first(dark, same)[0] is dark
    # One level in one of four million uint8 pixels decides; neither uint8 nor float32 sums may lose it.
    a = np.full((2048, 2048), 200, np.uint8)
    b = a.copy()
    b[5, 5] -= 1
    assert darker_first(a, b)[0] is b
    assert darker_first(a.astype(np.float32), b.astype(np.float32))[0].min() == 199
