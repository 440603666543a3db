"""The figures: written as PNG and PDF at print size, the region by largest difference, the sweep, bad input."""

import builtins
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scripts import fails, picture

from refusion_jax.cli import experiments
from refusion_jax.errors import InputError
from refusion_jax.experiments import drawing, figures
from refusion_jax.imaging.files import write_image

SHAPE = (40, 60)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for i in range(10):
        for seed, source in enumerate(("ir", "vi")):
            write_image(root / source / f"{i:02d}.png", picture(10 * seed + i, SHAPE))
    return root


@pytest.fixture
def models(monkeypatch):
    """In place of checkpoints: a method that takes the mean, and weights that rise from left to right."""

    def load(path):
        ramp = np.tile(np.linspace(0, 1, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))
        weights = np.stack([ramp, 1 - ramp], -1)
        mean = lambda a, b, _: ((a.astype(int) + b) // 2).astype(np.uint8)  # noqa: E731
        maps = lambda a, b: (weights, weights)  # noqa: E731
        return SimpleNamespace(params=SimpleNamespace(p={}), task="ivif", fuse=mean, maps=maps)

    monkeypatch.setattr(drawing, "load", load)


def size_of(path):
    with Image.open(path) as image:
        return image.size, image.info["dpi"][0]


def test_weights_and_methods_of_the_pairs_held_out(models, data, tmp_path, capsys):
    elsewhere = tmp_path / "other"
    write_image(elsewhere / "09.png", picture(3, SHAPE))
    call = ["figures", "--data", data, "--ckpt", f"mean={tmp_path}", "--fused", elsewhere, "--out", tmp_path / "f"]
    assert experiments.main([*map(str, call)]) == 0
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert names == {f"{kind}-09.{end}" for kind in ("weights", "methods") for end in ("png", "pdf")}
    for kind in ("weights", "methods"):
        (width, _), dpi = size_of(tmp_path / "f" / f"{kind}-09.png")
        assert width == pytest.approx(figures.WIDTH * figures.DPI, abs=2) and dpi == pytest.approx(figures.DPI, abs=1)
        assert (tmp_path / "f" / f"{kind}-09.pdf").read_bytes().startswith(b"%PDF")
    # The maps go through blue, white and red: colours that grey pictures have not.
    shown = np.asarray(Image.open(tmp_path / "f" / "weights-09.png").convert("RGB")).astype(int)
    assert (shown[..., 0] - shown[..., 2] > 60).any() and (shown[..., 2] - shown[..., 0] > 60).any()
    assert capsys.readouterr().out.count("wrote") == 4


def test_the_region_is_where_the_detail_differs_most():
    rng = np.random.default_rng(0)
    one = rng.integers(100, 104, (50, 80), dtype=np.uint8)
    other = one.copy()
    other[:, :40] += 20  # an even shift, which is no detail but at its edge
    other[20:30, 60:76] += rng.integers(0, 100, (10, 16), dtype=np.uint8)
    region = figures.most_different([one, other])
    assert (region.width, region.height) == (16, 10) and abs(region.x - 60) <= 1 and abs(region.y - 20) <= 1
    assert figures.most_different([one, np.stack([other] * 3, -1)]) == region
    corner = one.copy()
    corner[40:, 64:] += rng.integers(0, 100, (10, 16), dtype=np.uint8)
    assert figures.most_different([one, corner]) == figures.Region(64, 40, 16, 10)


def test_the_sweep_has_a_line_for_each_training_that_is_done(models, data, tmp_path):
    for run in ("alpha1-0.1-seed0", "Ours-seed0", "alpha2-10-seed0", "alpha1-10-seed0"):
        (tmp_path / "t6" / "runs" / run / "checkpoints").mkdir(parents=True)
        (tmp_path / "t6" / "results").mkdir(exist_ok=True)
        outcome = "diverged" if run == "alpha1-10-seed0" else "metrics"
        (tmp_path / "t6" / "results" / f"{run}.json").write_text(json.dumps({outcome: {}}))
    assert [value for value, _ in drawing.sweep_models(tmp_path / "t6", "alpha1")] == ["0.1", "1"]
    call = ["figures", "--data", data, "--table6", tmp_path / "t6", "--pairs", "03", "--out", tmp_path / "f"]
    assert experiments.main([*map(str, call)]) == 0
    assert {path.name for path in (tmp_path / "f").glob("*.png")} == {"alpha1-03.png", "alpha2-03.png"}
    with pytest.raises(InputError, match="trainings that are done"):
        list(drawing.sweep_models(tmp_path, "alpha1"))


def test_bad_input(models, data, tmp_path, capsys, monkeypatch):
    def said(*arguments):
        return fails(experiments.main, capsys, "figures", "--data", data, "--out", tmp_path / "f", *arguments)

    assert "nothing to draw" in said()
    assert "there is no pair '3'; did you mean '03'" in said("--ckpt", tmp_path, "--pairs", "3")
    region = ("--region", 50, 30, 20, 5)
    assert "--region 50 30 20 5: expected a rectangle in the 60x40" in said("--ckpt", tmp_path, *region)
    real = builtins.__import__

    def without(name, *rest):
        if name == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "matplotlib>=3.10" in said("--ckpt", tmp_path)
