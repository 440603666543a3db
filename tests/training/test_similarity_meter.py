"""G of Eq. 13-14 while training: at which steps, what is recorded, the preview below the pairs, the report's charts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from stand_in import SETTINGS

from refusion_jax import config
from refusion_jax.cli.train import load_data
from refusion_jax.method.similarity import Similarity
from refusion_jax.report import write_run_report
from refusion_jax.report.curves import curves, usable
from refusion_jax.training import loop, previews, run_directory
from refusion_jax.training.feed import Block
from refusion_jax.training.similarity import Measurement, SimilarityMeter

# Epochs of 7 meta and 9 fusion steps.
MEASURED = (*SETTINGS, "log.similarity=3", "log.preview_pairs=1", "data.batch=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "measured"
    settings = config.resolve("meie", "paper", MEASURED)
    data = load_data(settings)
    run_directory.create_run(run, settings, data)
    assert loop.train(run, settings, data, bar=False).finished
    return run


def test_g_is_recorded_every_so_many_meta_steps(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [r for r in records if r["phase"] == "similarity"]
    # Meta steps 1, 4, 7 | 10, 13: the seven of the second epoch begin at step 17.
    assert [(r["step"], r["epoch"]) for r in measured] == [(1, 1), (4, 1), (7, 1), (19, 2), (22, 2)]
    for r in measured:
        assert 0 < abs(r["similarity_cosine_w"]) <= 1 and 0 < abs(r["similarity_cosine_v"]) <= 1
        assert np.sign(r["similarity_inner_w"]) == np.sign(r["similarity_cosine_w"])
    (first, second) = (c for c in curves(usable(records))["charts"] if "imilarity" in c["title"])
    assert [line["key"] for line in first["lines"]] == ["similarity_cosine_w", "similarity_cosine_v"]
    assert len(second["lines"]) == 2
    write_run_report(run)


def test_the_preview_shows_g_below_the_pairs(run):
    shown = np.asarray(Image.open(run / "previews" / "epoch_0002.png"))
    pair, batch = 2 * previews.HEADER + 32 + previews.GAP, 2 * previews.HEADER + 2 * (12 + previews.GAP)
    assert shown.shape[0] == pair + batch


def test_the_map_is_red_where_source_a_is_asked_for():
    g = np.zeros((1, 8, 8))
    g[0, :, :4], g[0, :, 4:] = 1e-7, -1e-7
    measured = Measurement(5, Similarity(0, 0, 0, 0, g, g), *np.zeros((2, 1, 8, 8)))
    picture = previews.similarity_picture(measured)
    top, left = 2 * previews.HEADER, 2 * (8 + previews.GAP)
    asked_a, asked_b = picture[top + 4, left + 1].astype(int), picture[top + 4, left + 6].astype(int)
    assert asked_a[0] > asked_a[2] + 50 and asked_b[2] > asked_b[0] + 50


@pytest.mark.parametrize(("every", "last", "length", "due"), [(3, 7, 1, True), (3, 6, 2, False), (3, 20, 4, True)])
def test_a_block_is_due_when_one_of_its_steps_is(every, last, length, due):
    settings = config.resolve("meie", "paper", [*SETTINGS, f"log.similarity={every}"])
    meter = SimilarityMeter(settings, SimpleNamespace())
    assert meter.is_due(Block(last, 1, "meta", length, [])) == due
    assert not meter.is_due(Block(last, 1, "fusion", length, []))
