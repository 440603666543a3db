"""Weights that come with the package: refusion_jax/pretrained/TASK.safetensors, described in its MODEL_CARDS.md."""

from pathlib import Path

from refusion_jax.errors import InputError
from refusion_jax.tasks import TASK_ALIASES, TASKS

FOLDER = Path(__file__).parent.parent / "pretrained"


def pretrained(task: str) -> Path:
    """The file of the weights for a task. InputError that says how to get some when the package carries none."""
    path = FOLDER / f"{task}.safetensors"
    if not path.is_file():
        raise InputError(
            f"this installation has no weights for {task}: give --ckpt, a run of your own (train --task {task}) "
            "or a released ReFusion .pth file"
        )
    return path


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The path that is meant: a task's name stands for its pretrained weights, unless something here is called so."""
    path = Path(checkpoint)
    name = str(checkpoint).lower()
    name = TASK_ALIASES.get(name, name)
    return pretrained(name) if name in TASKS and not path.exists() else path
