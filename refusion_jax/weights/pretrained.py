"""Weights that come with the package: refusion_jax/pretrained/TASK.safetensors."""

from pathlib import Path

from refusion_jax.errors import InputError

FOLDER = Path(__file__).parent.parent / "pretrained"


def pretrained(task: str) -> Path:
    """The file of the weights for a task. InputError that says how to get some when the package carries none."""
    path = FOLDER / f"{task}.safetensors"
    if not path.is_file():
        raise InputError(
            f"this installation has no weights for {task}: give --ckpt, a run of your own (python train.py --task "
            f"{task}) or a released ReFusion .pth file"
        )
    return path
