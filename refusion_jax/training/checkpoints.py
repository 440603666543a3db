"""Orbax checkpoints: RUN/checkpoints/STEP/ with params (F, R, P), optimizers, and info (format, step, config)."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from refusion_jax.errors import InputError
from refusion_jax.method.steps import OptimizerStates, TrainState
from refusion_jax.models.build import NAMES, Params
from refusion_jax.runtime.disk import require_space
from refusion_jax.training.processes import is_lost
from refusion_jax.weights.orbax_folder import FOLDER, read_info

FORMAT = 2  # of what a training goes on from; weights are read from any


def open_manager(run: Path, keep: int, folder: str = FOLDER) -> ocp.CheckpointManager:
    """Orbax's manager over RUN/checkpoints: writes to a temporary folder, renames when whole, keeps the last `keep`."""
    # Orbax reports each save as a warning, and a failed one once per array; `save` says it in one line.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager((run / folder).absolute(), options=options)


def _trees(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the optimisers' states by the networks' names, as they stand on disk."""
    return dict(zip(NAMES, state.params, strict=True)), dict(zip(NAMES, state.optimizers, strict=True))


def save(manager: ocp.CheckpointManager, state: TrainState, info: dict[str, Any]) -> int:
    """Writes a checkpoint of the state, if there is none of its step yet. Returns the step.

    info: JSON-able, the config in it. A write that fails (full disk, no permission) is an
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
        info=ocp.args.JsonSave({"format": FORMAT, **info, "step": step}),
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


def restore(manager: ocp.CheckpointManager, template: TrainState) -> TrainState | None:
    """The state of the newest checkpoint, or None when there is none. `template` gives structure and shapes."""
    step = manager.latest_step()
    if step is None:
        return None
    folder = Path(manager.directory) / str(step)
    # Arrays of NumPy's, so that it does not matter on which devices the checkpoint was made.
    params, optimizers = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _trees(template))
    arguments = ocp.args.Composite(
        params=ocp.args.StandardRestore(params), optimizers=ocp.args.StandardRestore(optimizers)
    )
    try:
        current = read_info(folder).get("format") == FORMAT
        found = manager.restore(step, args=arguments) if current else {}
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot read the checkpoint {folder}: {reason}; delete that folder to continue from the one before"
        ) from error
    if not current:
        raise InputError(
            f"{folder} was written by another version, which this one cannot continue; start a new run, which can have "
            f"its weights (--init {folder.parent.parent})"
        )
    return TrainState(
        jax.numpy.asarray(step, jax.numpy.int32),
        Params(*(found["params"][name] for name in NAMES)),
        OptimizerStates(*(found["optimizers"][name] for name in NAMES)),
    )
