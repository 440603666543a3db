"""Eight emulated devices do what one does with the same batches; batches that cannot be divided; how many are used."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scripts import fails, script
from stand_in import SETTINGS

from refusion_jax.cli.train import main
from refusion_jax.training import devices

# What eight devices compute beside what one does, as the largest differences; in a process of its own, for the number
# of devices is fixed when JAX starts.
BESIDE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
jax.config.update("jax_num_cpu_devices", 8)
from refusion_jax.method import meta
from refusion_jax.models import build as networks
from refusion_jax.models.build import init_params
from refusion_jax.models.operators.depthwise import SMALL, depthwise3x3
from refusion_jax.models.operators.frames import grid_of, to_frame
from refusion_jax.training import devices
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.meta import MetaSettings
from refusion_jax.method.steps import init_state, make_inner_loop, make_optimizers, make_steps, several
from stand_in import Fuse, Propose, Rebuild
from tiny import batch_of, pairs, tiny

found, mesh = {}, devices.data_mesh(8)
assert mesh.size == 8
batches = [batch_of(x) for k in range(3) for x in pairs(k, 8, 12)]

def apart(x, y):
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max())
               for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))

def run(nets, params, mesh, kinds, rate=1e-3, inner_steps=1, stacked=False):
    schedule, how = Schedule(lr_f=rate, lr_r=rate, lr_p=rate), MetaSettings(inner_steps=inner_steps)
    optimizers = make_optimizers(schedule)
    steps = make_steps(nets, LossSettings(0.7, 1.3), optimizers, make_inner_loop(schedule, how),
                       axis=devices.AXIS if mesh else None)
    state = devices.replicate(jax.tree.map(jnp.asarray, init_state(params, optimizers)), mesh)
    start, seen = jax.device_get(state), []
    made = {n: jax.jit(devices.divided(several(s) if stacked else s, mesh, n, stacked))
            for n, s in zip((2, 1), steps)}
    for n in kinds:
        if stacked:
            blocks = [{k: np.stack([b[k] for b in batches[i::n][:3]]) for k in "ab"} for i in range(n)]
            state, metrics = made[n](state, *[devices.put_batch(b, mesh, True) for b in blocks])
            seen += [{k: x[i] for k, x in jax.device_get(metrics).items()} for i in range(3)]
        else:
            for k in range(3):
                state, metrics = made[n](state, *[devices.put_batch(b, mesh) for b in batches[n * k :][:n]])
                seen.append(jax.device_get(metrics))
    return start, jax.device_get(state), seen

def compare(name, *args, **how):
    start, one, metrics_one = run(*args[:2], None, *args[2:], **how)
    _, eight, metrics = run(*args[:2], mesh, *args[2:], **how)
    worst = max(abs(x[k] - y[k]) / (abs(x[k]) + 1e-9) for x, y in zip(metrics_one, metrics, strict=True) for k in x)
    found[name] = [apart(x, y) for x, y in zip(one.params, eight.params, strict=True)]
    found[name] += [apart(x, y) for x, y in zip(one.params, start.params, strict=True)]
    found[name] += [float(worst)]

modules = Fuse(), Rebuild(), Propose()
plain = networks.linen_networks(*modules), init_params(modules, jax.random.key(0))
compare("steps", *plain, (2, 1), inner_steps=2)
compare("blocks", *plain, (1,), stacked=True)
# At the paper's rate: Adam makes a step of that size of an entry that is zero but for rounding.
(nets, params), (real, real_params) = plain, tiny()
compare("real F", nets._replace(fuse=real.fuse), params._replace(f=real_params.f), (1,), rate=1e-4)

# Frames of this size take the way with conditionals, where devices must not wait for each other.
x = np.random.default_rng(0).random((8, 80, 80, 3), np.float32)
kernel = np.random.default_rng(1).random((3, 3, 3), np.float32)
assert to_frame(x[:1]).shape[0] >= SMALL

def loss(kernel, x, axis=None):
    def of(kernel):
        return jnp.mean(depthwise3x3(to_frame(x), kernel, grid_of(*x.shape[:3])) ** 2)
    return meta.mean_over(jax.grad(of)(kernel), axis)

eight = jax.shard_map(lambda k, x: loss(k, x, devices.AXIS), mesh=mesh, in_specs=(P(), P(devices.AXIS)),
                      out_specs=P(), check_vma=False)
found["conditionals"] = [apart(jax.jit(loss)(kernel, x), jax.jit(eight)(kernel, x))]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def beside(repo):
    path = os.pathsep.join([str(repo), str(repo / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", BESIDE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("case", "moving", "rate"), [("steps", "frp", 1e-3), ("blocks", "fr", 1e-3), ("real F", "fr", 1e-4)]
)
def test_eight_devices_train_as_one_does(beside, case, moving, rate):
    *numbers, metrics = beside[case]
    for network, difference, moved in zip("frp", numbers[:3], numbers[3:], strict=True):
        assert difference < 1e-5, network
        assert (moved > rate) == (network in moving)
    assert metrics < 1e-4  # every loss term, gradient norm and number of P's health, of the whole batch


def test_the_conditionals_of_the_networks_on_eight_devices(beside):
    assert beside["conditionals"][0] < 1e-5


@pytest.fixture
def eight(monkeypatch):
    """As on a machine with eight devices."""
    monkeypatch.setattr("jax.local_device_count", lambda: 8)
    monkeypatch.setattr("jax.local_devices", lambda process=None: [f"{process}:{i}" for i in range(8)])
    monkeypatch.setattr(devices, "Mesh", lambda found, names: list(found))


def arguments(out, *changes):
    return ["--task", "meie", "--out", str(out), *[x for s in [*SETTINGS, *changes] for x in ("--set", s)]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.batch=4"], ["data.batch is 4", "over 8 devices", "data.batch=8", "train.devices=4"]),
        (["data.batch=13"], ["data.batch is 13", "over 8 devices", "data.batch=16", "train.devices=1"]),
        (["data.batch=4", "train.devices=3"], ["data.batch is 4", "3 devices", "data.batch=6", "train.devices=2"]),
        (["train.devices=9"], ["train.devices is 9, but there are 8"]),
    ],
)
def test_batches_that_cannot_be_divided_are_refused_before_anything_is_written(tmp_path, capsys, eight, changes, words):
    said = fails(main, capsys, *arguments(tmp_path / "run", *changes))
    for word in words:
        assert word in said
    assert not (tmp_path / "run").exists()


def test_the_devices_used(eight, monkeypatch):
    assert devices.data_mesh(16) == [f"0:{i}" for i in range(8)]
    assert devices.data_mesh(6, 3) == ["0:0", "0:1", "0:2"]
    assert devices.data_mesh(4, 1) is None
    monkeypatch.setattr("jax.process_count", lambda: 2)
    assert devices.data_mesh(4, 2) == ["0:0", "0:1", "1:0", "1:1"]
    assert devices.data_mesh(2, 1) == ["0:0", "1:0"]
    with pytest.raises(ValueError, match=r"16 devices \(2 processes with 8 each\); .*data.batch=16.*train.devices=4"):
        devices.data_mesh(8)


def test_a_batch_is_on_the_cpu_when_it_is_handed_over():
    """A step whose batch is still on its way runs after its call, beside the next one: twice the memory."""
    batch = {"a": np.zeros(50_000_001, np.float32)[1:]}  # 200 MB where JAX has to copy them, which takes a while
    assert devices.put_batch(batch, None)["a"].is_ready()


def test_a_run_on_two_devices(tmp_path, repo):
    """train.py as a user starts it: the devices are found and used without being asked for."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    out = tmp_path / "run"
    more = [
        "train.epochs=1",
        "train.meta_steps=1",
        "train.fusion_steps=1",
        "validation.every=1",
        "log.preview_pairs=1",
        "data.scene_size=64",
    ]
    done = script(repo, "train.py", *arguments(out, *more), XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    assert "on 2 devices, cpu" in done.stdout
    assert (out / "previews" / "epoch_0001.png").exists() and (out / "best" / "2").is_dir()
