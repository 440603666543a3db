"""Parameters out of a training's checkpoints, the folders RUN/checkpoints/STEP that Orbax writes."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from refusion_jax.errors import InputError
from refusion_jax.models.build import NAMES, Params

FOLDER = "checkpoints"


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is one checkpoint (RUN/checkpoints/STEP)."""
    return (path / "params").is_dir() and (path / "info").is_dir()


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint folder of a run (or of RUN/best, RUN/checkpoints itself), or None."""
    folder = run / FOLDER if (run / FOLDER).is_dir() else run
    steps = [p for p in folder.iterdir() if p.name.isdigit() and is_checkpoint(p)] if folder.is_dir() else []
    return max(steps, key=lambda p: int(p.name), default=None)


def read_info(folder: Path) -> dict[str, Any]:
    """The info of one checkpoint folder: config, step, and scores where it is a run's best."""
    return ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore((folder / "info").absolute())


def read_params(folder: Path) -> tuple[Params, dict[str, Any]]:
    """(parameters as NumPy arrays, info) of one checkpoint folder. InputError where it cannot be read."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        info = read_info(folder)
        handler = ocp.PyTreeCheckpointHandler()
        params: Any = (folder / "params").absolute()  # Orbax declares a class of paths of its own
        # As NumPy's, explicitly: else arrays would go to the devices that they were saved from.
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(params).tree)
        trees = ocp.Checkpointer(handler).restore(params, restore_args=kinds)
        return Params(*(trees[name] for name in NAMES)), info
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: not a readable checkpoint: {reason}; use another one") from error
