"""What the tests of the scripts share: a process as a user starts it, pictures, tiny weights made without training."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from tiny import SIZE

from refusion_jax import config
from refusion_jax.method.steps import init_state, make_optimizers
from refusion_jax.models import build as networks
from refusion_jax.training import checkpoints
from refusion_jax.training.records import write_text
from refusion_jax.weights.trees import by_name

# The tiny network of tiny.py as --set has it.
TINY = tuple(f"model.{key}={value}" for key, value in SIZE.items())


def settings(*assignments: str) -> list[str]:
    """--set for each assignment."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def start_process(repo: Path, *command, **environment: str) -> subprocess.Popen:
    """`python COMMAND...` in the checkout, as a user starts it; the classes of tests/ are found there."""
    path = os.pathsep.join([str(repo), str(repo / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def script(repo: Path, *command, **environment: str) -> subprocess.CompletedProcess:
    """`start_process`, and what it left when it had ended."""
    started = start_process(repo, *command, **environment)
    out, error = started.communicate()
    return subprocess.CompletedProcess(started.args, started.returncode, out, error)


def fails(main, capsys, *arguments, status: int = 2) -> str:
    """The one line that a script's main function says of bad input."""
    assert main([*map(str, arguments)]) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def picture(seed: int, shape=(20, 24), color: bool = False, mean: float = 128) -> np.ndarray:
    """A smooth picture with some grain, uint8 (H,W) or (H,W,3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    layers = [mean + 50 * np.sin(x / 3 + seed + i) * np.cos(y / 4 - i) for i in range(3 if color else 1)]
    image = np.stack(layers, -1) + 8 * rng.standard_normal((*shape, len(layers)))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., slice(None) if color else 0]


@functools.cache
def tiny_shapes() -> dict:
    """{"F", "R", "P"}: the shapes of the tiny networks."""
    return by_name(networks.expected_shapes(networks.build(**SIZE)))


def tiny_trees(seed: int = 0) -> dict:
    """{"F", "R", "P"}: random parameters, none of them at a special value such as 0 or 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(0.4 * rng.standard_normal(x.shape), np.float32), tiny_shapes())


def tiny_config(task: str = "meie") -> config.Config:
    """The configuration that goes with tiny_trees."""
    return config.resolve(task, "paper", TINY)


def tiny_info(task: str = "meie") -> dict:
    """What a .safetensors file of tiny_trees says of them."""
    whole = config.to_dict(tiny_config(task))
    return {"task": task, "model": whole["model"], "loss": whole["loss"], "step": 7}


def tiny_run(folder: Path, task: str = "meie", seeds=(0,)) -> Path:
    """A run directory as a training leaves it, with one checkpoint of tiny_trees(seed) at step 10 (seed + 1) each."""
    whole = tiny_config(task)
    manager = checkpoints.open_manager(folder, keep=len(seeds))
    for seed in seeds:
        trees = tiny_trees(seed)
        state = init_state(networks.Params(*(trees[name] for name in networks.NAMES)), make_optimizers())
        state = state._replace(step=np.int32(10 * (seed + 1)))
        checkpoints.save(manager, state, {"config": config.to_dict(whole), "data_sha256": ""})
    manager.close()
    write_text(folder / "config.toml", config.to_toml(whole))
    return folder
