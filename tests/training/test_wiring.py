"""From settings to steps: each setting changes what is trained, or on what; a new loss term needs losses.py alone."""

import functools
import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import script
from stand_in import NETWORKS

from refusion_jax import config, errors
from refusion_jax.cli.train import load_data
from refusion_jax.data.batches import LumaPairs
from refusion_jax.method import steps as steps_module
from refusion_jax.models import build as networks
from refusion_jax.models.operators import depthwise
from refusion_jax.report import write_run_report
from refusion_jax.training import checkpoints, trainer

# Two epochs of one meta and one fusion step each, at rates that halve with every epoch.
BASE = (
    *NETWORKS,
    "data.crop=10",
    "data.batch=2",
    "data.scenes=6",
    "data.scene_size=32",
    "data.validation_every=0",
    "train.epochs=2",
    "train.meta_steps=1",
    "train.fusion_steps=1",
    "train.lr_f=1e-2",
    "train.lr_r=1e-2",
    "train.lr_p=1e-2",
    "train.lr_decay=0.5",
    "train.lr_decay_epochs=1",
    "train.steps_per_dispatch=1",
)
TWO = "meta.inner_steps=2"  # from the second on inner optimisers differ by more than a rate


@functools.cache
def pairs(data, seed):
    return load_data(config.Config(task="meie", data=data, seed=seed))


@functools.cache
def trained(*changes, steps=True):
    """(parameters at the start, batches, parameters at the end) of a training with the stand-in networks; without
    steps its batches alone.

    Nothing is compiled: operations of so few pixels are as fast one by one, and these are compiled once for all.
    """

    def plain(function, **_):
        call = functools.partial(function)
        call.begin = call.prepare = lambda *_: None
        return call

    settings = config.resolve("meie", "paper", [*BASE, *changes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "jit", plain)
        for module in (trainer, networks):
            patch.setattr(module, "run_once", lambda function, *args: function(*args))
        for health in ("proposal_health", "reconstruction_health"):  # which no update depends on
            patch.setattr(steps_module, health, lambda *_, **__: {})
        patch.setattr(checkpoints, "open_manager", lambda *_: SimpleNamespace(latest_step=lambda: None))
        run = trainer.Trainer(None, settings, pairs(settings.data, settings.seed))
        start, batches = run.state.params, []
        while not steps and len(batches) < settings.train.total:
            batches.append(jax.device_get(run._feed.take().batches))
        while steps and run.step < settings.train.total:
            block, metrics = run.advance()
            assert all(np.isfinite(x) for x in metrics.values())
            batches.append(jax.device_get(block.batches))
    return start, batches, run.state.params


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_the_same_settings_give_the_same_training():
    assert same(trained("log.every=1"), trained())


@pytest.mark.parametrize(
    ("change", "network"),
    [
        ("loss.alpha1=2", "f"),
        ("loss.alpha2=2", "r"),
        ("loss.reconstruction=refusion_jax.experiments.ablations.sum_loss:sum_loss", "r"),
        ("loss.sobel_form=magnitude", "f"),
        ("loss.w_floor=0.2", "f"),
        ("loss.proposal_form=magnitude", "f"),
        ("loss.sobel_scale=1", "f"),
        (TWO, "p"),
        ("meta.inner_optimizer=adam", "p"),
        (f"{TWO} meta.inner_optimizer=momentum", "p"),
        ("meta.eta_f=0.3", "p"),
        ("meta.eta_r=0.3", "p"),
        ("meta.first_order=true", "p"),
        ("meta.optimizer=normalized", "p"),
        ("meta.adam_eps=1e-3", "p"),
        ("train.lr_f=2e-2", "f"),
        ("train.lr_r=2e-2", "r"),
        ("train.lr_p=2e-2", "p"),
        ("train.lr_decay=0.25", "frp"),
        ("train.lr_decay_epochs=2", "frp"),
        ("train.lr_cosine=true", "frp"),
        ("train.warmup_steps=1", "frp"),
        ("train.precision=bfloat16", "frp"),
        ("train.epochs=3", "frp"),
        ("train.meta_steps=2", "p"),
        ("train.fusion_steps=2", "fr"),
    ],
)
def test_a_setting_of_the_method_changes_the_parameters(change, network):
    start, batches, end = trained(*change.split())
    usual = trained(*change.split()[:-1])
    assert same(start, usual[0])
    if change.split("=")[0] not in ("train.epochs", "train.meta_steps", "train.fusion_steps", "train.warmup_steps"):
        assert same(batches, usual[1])
    for name in network:
        assert not same(getattr(end, name), getattr(usual[2], name)), name
    if change == "meta.first_order=true":
        assert same(end.p, start.p)


@pytest.mark.parametrize("change", ["data.flips=false", "data.crop=12", "data.batch=3", "data.scene_size=36"])
def test_a_setting_of_the_data_changes_the_batches(change):
    start, batches, _ = trained(change, steps=False)
    assert same(start, trained()[0])
    for found, usual in zip(batches, trained()[1], strict=True):
        assert not same([b["a"].shape for b in found], [b["a"].shape for b in usual]) or not same(found, usual)


def test_the_last_epochs_may_have_other_crops():
    _, batches, _ = trained("data.late_crop=14", "data.late_epochs=1", steps=False)
    for found, usual in zip(batches[:2], trained()[1][:2], strict=True):
        assert same(found, usual)
    assert all(b["a"].shape == b["b"].shape == (2, 14, 14, 1) for step in batches[2:] for b in step)
    settings = config.resolve("meie", "paper", [*BASE, "data.late_crop=33", "data.late_epochs=1"])
    with pytest.raises(errors.InputError, match=r"at least data.crop \(33\)"):
        load_data(settings)


def names(settings, epoch):
    """The pairs of a fusion stream by number and the corners of their crops, out of pictures that tell both."""
    row, column = np.mgrid[:24, :24]
    pairs = LumaPairs(
        list("abcdef"), lambda i: (24 * np.full((24, 24), i), np.uint8(10 * row % 240 + column % 10)), 2**20
    )
    (stream,) = trainer.open_streams(settings, SimpleNamespace(train=pairs), epoch, "fusion", 0)
    batches = [next(stream) for _ in range(3)]
    return [int(x) for b in batches for x in b["a"][:, 0, 0, 0]], [int(x) for b in batches for x in b["b"][:, 0, 0, 0]]


def test_the_seed_changes_the_start_the_order_and_the_crops():
    assert not same(trained("seed=1")[0], trained()[0])
    one, other = (config.resolve("meie", "paper", [*BASE, f"seed={seed}"]) for seed in (0, 1))
    for first, second in zip(names(one, 1), names(other, 1), strict=True):
        assert first != second
    # And so does the epoch; the same epoch of the same seed is the same.
    for epoch in (0, 2):  # 0: the warm-up
        for first, second in zip(names(one, 1), names(one, epoch), strict=True):
            assert first != second
    assert names(one, 1) == names(one, 1)


def test_symmetric_and_other_sizes_reach_the_networks():
    changes = ["model.fusion=", "model.proposal=", "model.symmetric=true", "model.blocks=3"]
    settings = config.resolve("meie", "paper", [*BASE, *changes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "open_manager", lambda *_: SimpleNamespace(latest_step=lambda: None))
        patch.setattr(trainer.Trainer, "_restored_or_fresh", lambda *_: SimpleNamespace(step=jnp.zeros(())))
        fusion, _, proposal = trainer.Trainer(None, settings, load_data(settings)).modules
    assert (fusion.blocks, fusion.width) == (proposal.blocks, proposal.width) == (3, 16) and proposal.symmetric


TERM = """    brightness = jnp.mean(jnp.square(jnp.mean(fused, (1, 2)) - jnp.mean((a + b) / 2, (1, 2))))
    return weighted_sum(
        "fusion", intensity=(1.0, intensity), gradient=(loss.alpha1, edges), brightness=(loss.alpha3, brightness)
    )
"""


def test_a_third_term_of_a_loss_is_a_change_of_losses_py_alone(repo, tmp_path):
    """A package whose losses.py has a field more and a term more: its setting, its records and its chart are there."""
    shutil.copytree(repo / "refusion_jax", tmp_path / "refusion_jax", ignore=shutil.ignore_patterns("pretrained"))
    shutil.copytree(repo / "configs", tmp_path / "configs")
    path = tmp_path / "refusion_jax" / "method" / "losses.py"
    text = path.read_text()
    old = '    return weighted_sum("fusion", intensity=(1.0, intensity), gradient=(loss.alpha1, edges))\n'
    assert text.count(old) == 1
    text = text.replace(old, TERM)
    text = text.replace(
        "    sobel_scale: float =", "    alpha3: float = setting(0.0, least=0)\n    sobel_scale: float ="
    )
    path.write_text(text)

    shutil.copy(repo / "train.py", tmp_path)
    base = [*BASE, "train.epochs=1", "log.preview_pairs=0", "log.tensorboard=false", "log.every=1"]

    def train(out, *changes):
        chosen = [word for x in (*base, *changes) for word in ("--set", x)]
        return script(repo, tmp_path / "train.py", "--task", "meie", "--out", out, *chosen)

    done = train(tmp_path / "run", "loss.alpha3=0.5")
    assert done.returncode == 0, done.stderr
    assert "alpha3 = 0.5" in (tmp_path / "run" / "config.toml").read_text()
    meta, fusion = (json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert meta["inner_fusion_brightness"] > 0
    parts = fusion["fusion_intensity"] + fusion["fusion_gradient"] + 0.5 * fusion["fusion_brightness"]
    assert fusion["fusion"] == pytest.approx(parts, rel=1e-5)
    assert "fusion_brightness" in write_run_report(tmp_path / "run").read_text()
    assert "loss.alpha3 must be 0 or more" in train(tmp_path / "other", "loss.alpha3=-1").stderr


def test_steps_on_a_cpu_call_the_functions_in_cpp():
    """On more than a few pixels and channels; nothing is compiled."""
    if reason := depthwise.cpp().reason:
        pytest.skip(f"depthwise.cc: {reason}")
    settings = config.resolve("meie", "quick", ["model.blocks=1", "model.heads=2"])
    modules = networks.build(**asdict(settings.model))
    optimizers = steps_module.make_optimizers(settings.train, settings.meta)
    nets = networks.linen_networks(*modules)
    fusion = trainer.compiled_steps(settings, nets, optimizers, None)["fusion", False]
    channels = networks.gradient_channels(settings.loss.sobel_form, settings.loss.proposal_form)
    params = networks.expected_shapes(modules, channels)
    state = jax.eval_shape(lambda params: steps_module.init_state(params, optimizers), params)
    image = jax.ShapeDtypeStruct((4, 32, 32, 1), np.uint8)
    program = fusion._ready().lower(state, {"a": image, "b": image}).as_text()
    assert "@refusion_convolve" in program and "@refusion_correlate" in program
