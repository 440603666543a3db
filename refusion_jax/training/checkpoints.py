"""Orbax checkpoints: RUN/checkpoints/STEP/ with params (F, R, P), optimizers, and info (step, config, data streams)."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from refusion_jax.errors import InputError
from refusion_jax.method.steps import TrainState
from refusion_jax.runtime.disk import require_space
from refusion_jax.training.processes import is_lost

FOLDER = "checkpoints"
BEST = "best"


def open_manager(run: Path, keep: int, folder: str = FOLDER) -> ocp.CheckpointManager:
    """Orbax's manager over RUN/checkpoints: writes to a temporary folder, renames when whole, keeps the last `keep`."""
    # Orbax reports each save as a warning, and a failed one once per array; `save` says it in one line.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager((run / folder).absolute(), options=options)


def _trees(state: TrainState) -> tuple[dict, dict]:
    params = {"F": state.params_f, "R": state.params_r, "P": state.params_p}
    return params, {"F": state.opt_f, "R": state.opt_r, "P": state.opt_p}


def save(manager: ocp.CheckpointManager, state: TrainState, info: dict[str, Any]) -> int:
    """Writes a checkpoint of the state, if there is none of its step yet. Returns the step.

    info: JSON-able; the config and the streams' positions. A write that fails (full disk, no permission) is an
    InputError; the checkpoints before it stay. Of several processes all take part.
    """
    step = int(state.step)
    if step in manager.all_steps():
        return step
    params, optimizers = trees = _trees(state)
    if jax.process_count() == 1:
        params, optimizers = jax.device_get(trees)
    # Twice the arrays' bytes: the format's own overhead on small arrays is about as large as they are.
    require_space(Path(manager.directory), 2 * sum(x.nbytes for x in jax.tree.leaves((params, optimizers))))
    arguments = ocp.args.Composite(
        params=ocp.args.StandardSave(params),
        optimizers=ocp.args.StandardSave(optimizers),
        info=ocp.args.JsonSave({**info, "step": step}),
    )
    try:
        manager.save(step, args=arguments, force=True)
        manager.wait_until_finished()
    except Exception as error:  # the layers below raise OSError, ValueError or their own types for a full disk
        if is_lost(error):
            raise
        last = manager.latest_step()
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot write the checkpoint of step {step} under {manager.directory}: {reason}; free space or choose "
            f"another folder, then --resume continues from {'the start' if last is None else f'step {last}'}"
        ) from error
    return step


def restore(manager: ocp.CheckpointManager, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """(state, info) of the newest checkpoint, or None when there is none. `template` gives structure and shapes."""
    step = manager.latest_step()
    if step is None:
        return None
    # Arrays of NumPy's, so that it does not matter on which devices the checkpoint was made.
    params, optimizers = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _trees(template))
    try:
        found = manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(params),
                optimizers=ocp.args.StandardRestore(optimizers),
                info=ocp.args.JsonRestore(),
            ),
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot read the checkpoint {manager.directory}/{step}: {reason}; "
            "delete that folder to continue from the one before"
        ) from error
    params, optimizers = found["params"], found["optimizers"]
    state = TrainState(
        step=jax.numpy.asarray(found["info"]["step"], jax.numpy.int32),
        params_f=params["F"],
        params_r=params["R"],
        params_p=params["P"],
        opt_f=optimizers["F"],
        opt_r=optimizers["R"],
        opt_p=optimizers["P"],
    )
    return state, found["info"]


def read_info(folder: Path) -> dict[str, Any]:
    """The info of one checkpoint folder."""
    return ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore((folder / "info").absolute())


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is one checkpoint (RUN/checkpoints/STEP)."""
    return (path / "params").is_dir() and (path / "info").is_dir()


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint folder of a run (or of RUN/best, RUN/checkpoints itself), or None."""
    folder = run / FOLDER if (run / FOLDER).is_dir() else run
    steps = [p for p in folder.iterdir() if p.name.isdigit() and is_checkpoint(p)] if folder.is_dir() else []
    return max(steps, key=lambda p: int(p.name), default=None)


def read_params(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """({"F","R","P"} trees of NumPy arrays, info) of one checkpoint folder."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        info = read_info(path)
        handler, folder = ocp.PyTreeCheckpointHandler(), (path / "params").absolute()
        # As NumPy's, explicitly: else arrays would go to the devices that they were saved from.
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(folder).tree)
        params = ocp.Checkpointer(handler).restore(folder, restore_args=how)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not a readable checkpoint: {reason}; use another one") from error
    return params, info
