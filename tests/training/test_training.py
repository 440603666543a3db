"""The loop in process: losses that fall, numbers that stop it, the time limit, the best checkpoint."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from stand_in import NETWORKS, stand_in

from refusion_jax import config
from refusion_jax.cli.train import load_data
from refusion_jax.data.batches import subseed
from refusion_jax.errors import InputError
from refusion_jax.fusing.model import load
from refusion_jax.method.steps import init_state, make_optimizers
from refusion_jax.models import build as networks
from refusion_jax.models.build import init_params
from refusion_jax.training import checkpoints, loop, run_directory, validation
from refusion_jax.training.trainer import Trainer
from refusion_jax.weights import orbax_folder

SMALL = [
    *NETWORKS,
    "data.crop=16",
    "data.batch=4",
    "data.scenes=12",
    "data.scene_size=64",
    "log.every=1",
    "log.preview_size=32",
    "log.preview_pairs=1",
    "log.tensorboard=false",
]


RATES = ["train.lr_f=3e-2", "train.lr_r=3e-2", "train.lr_p=1e-3", "train.meta_steps=3", "checkpoint.every_minutes=0"]


class Unbounded(nn.Module):
    """An F whose picture may be of any size."""

    @nn.compact
    def __call__(self, a, b):
        return nn.Dense(1)(jnp.concatenate([a, b], -1))


def small(*more):
    return config.resolve("meie", "paper", [*SMALL, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run, outcome) of a short training: 2 epochs of 3 meta and 30 fusion steps."""
    run = tmp_path_factory.mktemp("runs") / "small"
    settings = small(*RATES, "train.epochs=2", "train.fusion_steps=30")
    data = load_data(settings)
    run_directory.create_run(run, settings, data)
    return run, loop.train(run, settings, data, bar=False)


def records(run, phase):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [r for r in lines if r["phase"] == phase]


def test_a_short_training_lowers_both_losses(trained):
    run, outcome = trained
    assert outcome.finished and outcome.step == 66
    for name in ("fusion", "reconstruction"):
        values = [r[name] for r in records(run, "fusion")]
        assert len(values) == 60
        assert np.mean(values[-10:]) < 0.75 * np.mean(values[:10]), name


def test_p_is_moved_by_each_meta_step_and_has_not_collapsed(trained):
    run, _ = trained
    assert all(r["grad_norm_p"] > 0 for r in records(run, "meta"))
    assert records(run, "meta")[-1]["w_imbalance"] < 0.5
    settings = config.load(run / "config.toml")
    fresh = init_params(networks.build(**dataclasses.asdict(settings.model)), jax.random.key(subseed(settings.seed, 0)))
    last, _ = orbax_folder.read_params(orbax_folder.newest(run))
    moved = [np.abs(x - y).max() for x, y in zip(jax.tree.leaves(fresh.p), jax.tree.leaves(last.p), strict=True)]
    # Six steps of Adam: none of them much larger than the rate, the first as large as it.
    assert all(0.2e-3 < x < 6.5e-3 for x in moved), moved


def test_the_held_out_pairs_are_scored_and_the_best_checkpoint_is_kept(trained, tmp_path):
    run, _ = trained
    (record,) = records(run, "validation")
    assert record["step"] == 66 and {"EN", "SD", "SF", "VIF", "QCB", "QNCIE"} <= record.keys()
    (best,) = (run / "best").glob("[0-9]*")
    assert best.name == "66" and orbax_folder.read_info(best)["scores"]["VIF"] == record["VIF"]
    fused = load(run / "best").network_output(*np.random.default_rng(0).random((2, 16, 16), np.float32))
    assert fused.shape == (16, 16) and load(best).info["step"] == 66


def test_a_worse_score_does_not_replace_the_best(trained):
    run, _ = trained
    settings = config.load(run / "config.toml")
    trainer = Trainer(run, settings, load_data(settings))
    score = orbax_folder.read_info(run / "best" / "66")["scores"]["VIF"]
    trainer.state = trainer.state._replace(step=trainer.state.step + 1)
    assert not validation.keep_best(trainer, {"VIF": score - 0.1})
    assert [p.name for p in (run / "best").glob("[0-9]*")] == ["66"]
    assert validation.keep_best(trainer, {"VIF": score + 0.1})
    assert [p.name for p in (run / "best").glob("[0-9]*")] == ["67"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    # A learning rate at which the picture overflows after a step.
    settings = small(
        "model.fusion=test_training:Unbounded",
        "train.epochs=1",
        "train.meta_steps=0",
        "train.fusion_steps=9",
        "train.lr_f=3e37",
        "checkpoint.every_steps=1",
        "log.every=50",
        "log.preview_pairs=0",
    )
    data = load_data(settings)
    run_directory.create_run(tmp_path / "run", settings, data)
    with pytest.raises(InputError, match=r"step \d+ \(fusion\): \w+ is (nan|inf).*last good checkpoint") as caught:
        loop.train(tmp_path / "run", settings, data, bar=False)
    bad = int(str(caught.value).split("step ")[1].split()[0])
    assert int(orbax_folder.newest(tmp_path / "run").name) == bad - 1
    for folder in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
        assert int(folder.name) < bad
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(orbax_folder.read_params(folder)[0].r))


def test_the_time_limit_stops_between_steps_and_the_run_goes_on(tmp_path, trained):
    # The same programs as `trained`, which the compilation cache has by now.
    settings = small(*RATES, "train.epochs=1", "train.fusion_steps=4", "log.preview_pairs=0")
    data = load_data(settings)
    run_directory.create_run(tmp_path / "run", settings, data)
    outcome = loop.train(tmp_path / "run", settings, data, max_minutes=1e-6, bar=False)
    assert (outcome.finished, outcome.step, outcome.reason) == (False, 0, "the time limit")
    assert loop.train(tmp_path / "run", settings, data, bar=False).step == 7


def test_a_run_does_not_go_on_with_other_data(trained):
    run, _ = trained
    other = load_data(small("data.scenes=13"))
    with pytest.raises(InputError, match="was trained on 11 pairs"):
        run_directory.check_same_data(run, other)


def test_a_checkpoint_of_another_version_is_refused_in_one_line(tmp_path):
    state = init_state(stand_in()[1], make_optimizers())
    manager = checkpoints.open_manager(tmp_path / "run", keep=1)
    checkpoints.save(manager, state, {"format": 1})
    with pytest.raises(InputError, match=f"written by another version.*--init {tmp_path}/run") as caught:
        checkpoints.restore(manager, state)
    assert "\n" not in str(caught.value)
    manager.close()
