"""Weights that come with the package: refusion_jax/pretrained/TASK.safetensors."""

from pathlib import Path

from refusion_jax.errors import InputError
from refusion_jax.naming import TASK_ALIASES, TASKS, nearest

FOLDER = Path(__file__).parent.parent / "pretrained"


def task_named(name: str) -> str:
    """The task of a name that a user gives: ivif, mif, mfif, meie, or an alias such as meif. InputError for others."""
    task = name.casefold()
    task = TASK_ALIASES.get(task, task)
    if task not in TASKS:
        raise InputError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return task


def pretrained(task: str) -> Path:
    """The file of the weights for a task. InputError that says how to get some when the package carries none."""
    path = FOLDER / f"{task}.safetensors"
    if not path.is_file():
        raise InputError(
            f"this installation has no weights for {task}: give --ckpt, a run of your own (python train.py --task "
            f"{task}) or a released ReFusion .pth file"
        )
    return path
