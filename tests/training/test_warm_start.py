"""train.py --init: a training that starts from the weights of a checkpoint."""

import jax
import numpy as np
import pytest
from scripts import TINY, fails, picture, settings, tiny_info, tiny_run, tiny_trees

from refusion_jax import config
from refusion_jax.cli.train import load_data, main
from refusion_jax.imaging.files import write_image
from refusion_jax.models import build as networks
from refusion_jax.training import loop
from refusion_jax.training.trainer import Trainer
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names

SMALL = (*TINY, "data.crop=12", "data.batch=2")


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), one, other))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for i in range(4):
        write_image(folder / "under" / f"{i}.png", picture(i, mean=60))
        write_image(folder / "over" / f"{i}.png", picture(i, mean=190))
    return folder


@pytest.fixture
def started(data, tmp_path, monkeypatch):
    """What `train.py --init CKPT` begins with: its state before the first step."""
    states = {}

    def keep(run, settings, pairs, **_):
        trainer = Trainer(run, settings, pairs)
        states["state"] = trainer.state
        trainer.manager.close()
        return loop.Outcome(0, True)

    monkeypatch.setattr(loop, "train", keep)

    def begin(*options, status=0):
        run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        given = ["--task", "meie", "--data", data, "--out", run, *settings(*SMALL), *options]
        assert main([str(x) for x in given]) == status
        return states["state"]

    return begin


def test_all_three_networks_are_taken_over(started, tmp_path, capsys):
    run = tiny_run(tmp_path / "before", seeds=(5,))
    state = started("--init", run)
    trees = tiny_trees(5)
    assert same(state.params, networks.Params(*(trees[name] for name in networks.NAMES)))
    assert int(state.step) == 0 and not any(np.any(x) for x in jax.tree.leaves(state.optimizers.f))
    assert f"started from the weights of {run}" in capsys.readouterr().out


def test_what_the_weights_lack_begins_anew(started, tmp_path):
    trees = tiny_trees(5)
    write_safetensors(tmp_path / "f.safetensors", from_names({"F": trees["F"]}), tiny_info())
    state, plain = started("--init", tmp_path / "f.safetensors"), started()
    assert same(state.params.f, trees["F"]) and not same(plain.params.f, trees["F"])
    assert same(state.params.r, plain.params.r) and same(state.params.p, plain.params.p)


def test_weights_that_cannot_be_a_start(data, tmp_path, capsys):
    base = ["--task", "meie", "--data", data, "--out", tmp_path / "run"]
    write_safetensors(tmp_path / "tiny.safetensors", from_names(tiny_trees()), tiny_info())
    said = fails(main, capsys, *base, "--init", tmp_path / "tiny.safetensors", *settings("data.crop=12"))
    assert "train.init" in said and "another architecture" in said and "model.*, loss.sobel_form" in said
    said = fails(main, capsys, *base, "--init", tmp_path / "none", *settings("data.crop=12"))
    assert "no such checkpoint" in said
    assert not (tmp_path / "run").exists()  # the next try is not refused for it
    said = fails(main, capsys, "--resume", "--out", tiny_run(tmp_path / "old"), "--init", "meie")
    assert "leave out one of them" in said


def test_a_relative_path_is_kept_as_an_absolute_one(started, tmp_path, monkeypatch):
    write_safetensors(tmp_path / "w.safetensors", from_names(tiny_trees(2)), tiny_info())
    monkeypatch.chdir(tmp_path)
    assert same(started("--init", "w.safetensors").params.f, tiny_trees(2)["F"])
    (run,) = tmp_path.glob("run*")
    assert config.load(run / "config.toml").train.init == str(tmp_path / "w.safetensors")
    assert load_data(config.load(run / "config.toml")).train.names
