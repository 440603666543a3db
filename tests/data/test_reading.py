"""Pairs read with levels that belong together, wherever the rules come from."""

import numpy as np
import pytest
from picture_files import tiff

from refusion_jax.data import manifest
from refusion_jax.data.batches import luma_pairs_from_files
from refusion_jax.data.check import survey
from refusion_jax.data.pairs import Pair
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover
from refusion_jax.evaluation.methods import folder_method
from refusion_jax.evaluation.scoring import describe_data, evaluate
from refusion_jax.imaging.files import write_image
from refusion_jax.imaging.levels import AUTO, RUN, Rule, parse_rules
from refusion_jax.training.sources import from_folder

RNG = np.random.default_rng(0)
UNIT = RNG.random((40, 48))
COUNTS = ((7300, 7800), (7350, 7600), (7400, 7700), (7300, 7500))


@pytest.fixture
def folder(tmp_path):
    """Four pairs of thermal counts in files of 16 bits and of 8-bit visible pictures."""
    (tmp_path / "ir").mkdir()
    for number, (low, high) in enumerate(COUNTS):
        counts = np.rint(low + (high - low) * UNIT)
        counts[0, :2] = low, high
        (tmp_path / "ir" / f"{number}.tif").write_bytes(tiff(counts.astype(np.uint16)))
        write_image(tmp_path / "vi" / f"{number}.png", np.uint8(200 * UNIT[::-1]))
    return tmp_path


def levels(reader, pair):
    return [(picture.levels.low, picture.levels.high) for picture in reader.pictures(pair)]


def test_training_sees_what_fusing_sees(folder):
    pairs = discover(folder, "ivif").pairs
    a, b = PairReader("ivif").lumas(pairs[1])
    kept = luma_pairs_from_files(pairs, PairReader("ivif"), 10**6)[1]
    assert np.array_equal(kept["a"], np.rint(a)) and np.array_equal(kept["b"], np.rint(b))
    assert len(np.unique(kept["a"])) > 200  # of 256 levels; read as 0..65535 there were two
    data = from_folder(folder, "ivif", crop=16, validation_every=0)
    assert any("7300..7800" in remark for remark in data.remarks)
    fixed = from_folder(folder, "ivif", crop=16, validation_every=0, levels="a=7300..7800")
    assert not fixed.remarks and fixed.train[1]["a"].max() == round(255 * 300 / 500)


def test_one_range_over_a_run(folder):
    pairs = discover(folder, "ivif").pairs
    reader = PairReader("ivif", (RUN, RUN)).over(pairs)
    assert reader.rules == (Rule("fixed", 7300, 7800), AUTO)
    assert {levels(reader, pair)[0] for pair in pairs} == {(7300, 7800)}
    assert PairReader("ivif").over(pairs) == PairReader("ivif")
    # Of one camera: both sources have one range.
    twice = [Pair(pair.name, pair.a, pairs[i - 1].a) for i, pair in enumerate(pairs)]
    assert PairReader("mfif", (RUN, RUN)).over(twice).rules == (Rule("fixed", 7300, 7800),) * 2


def test_the_pictures_of_one_camera_have_one_range(folder):
    pairs = discover(folder, "ivif").pairs
    two = Pair("x", pairs[1].a, pairs[3].a)
    assert levels(PairReader("meie"), two) == [(7300, 7600)] * 2
    assert levels(PairReader("ivif"), two) == [(7350, 7600), (7300, 7500)]


def test_the_survey_tells_them(folder):
    found = discover(folder, "ivif")
    (remark,) = survey(found, "ivif").remarks
    assert "4 of 4" in remark and "source 1" in remark and "7300..7800" in remark
    assert not survey(found, "ivif", reader=PairReader(rules=parse_rules("a=7300,7800"))).remarks


def test_a_manifest_carries_them(folder, tmp_path):
    pairs = [Pair(p.name, p.a, p.b, p.split, parse_rules("a=7300,7800")) for p in discover(folder, "ivif").pairs]
    listed = tmp_path / "pairs.csv"
    total = manifest.write(listed, pairs, folder, "ivif", {})
    read = manifest.read(listed)
    assert not read.problems and read.sha256 == total and [pair.levels for pair in read.pairs] == [pairs[0].levels] * 4
    assert levels(PairReader("ivif"), read.pairs[3]) == [(7300, 7800), (0, 255)]
    plain = manifest.write(tmp_path / "plain.csv", [Pair(p.name, p.a, p.b) for p in pairs], folder, "ivif", {})
    assert plain != total and "levels" not in (tmp_path / "plain.csv").read_text()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifests_of_other_separators(folder, separator):
    rows = ["name,a,b,levels_a,,", *(f"{i},ir/{i}.tif,vi/{i}.png,7300..7800,," for i in range(4)), ",,,,,"]
    (folder / "x.csv").write_text("# task: ivif" + 5 * separator + "\n" + "\n".join(rows).replace(",", separator))
    read = manifest.read(folder / "x.csv")
    assert not read.problems and read.task == "ivif" and len(read.pairs) == 4
    assert read.pairs[0].levels == (Rule("fixed", 7300, 7800), AUTO)


@pytest.mark.parametrize("rule", ["run", "wide", "7,3"])
def test_levels_of_a_row_that_are_none(folder, rule):
    (folder / "x.csv").write_text(f"name;a;b;levels_b\n0;ir/0.tif;vi/0.png;{rule}\n")
    (problem,) = manifest.read(folder / "x.csv").problems
    assert "line 2" in problem and "levels" in problem


def test_scores_see_them(folder):
    pairs = discover(folder, "ivif").pairs
    for pair in pairs:
        write_image(folder / "fused" / f"{pair.name}.png", np.uint8(255 * UNIT))
    data, methods = describe_data(folder, "ivif", pairs), [folder_method("x", folder / "fused", pairs)]
    scores = [
        evaluate(data, methods, metrics=["CC"], reader=PairReader(rules=rules)).results[0].scores["0"]["CC"]
        for rules in (None, parse_rules("whole"))
    ]
    assert scores[0] - scores[1] > 0.01  # what is lost between two levels of 8 bits correlates with nothing
