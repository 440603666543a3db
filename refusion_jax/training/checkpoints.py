"""Orbax checkpoints: RUN/checkpoints/STEP/ with params (F, R, P), optimizers, and info (step, config, data streams)."""

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
from refusion_jax.weights.orbax_folder import FOLDER

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
    """The parameters and the optimisers' states by the networks' names, as they stand on disk."""
    return tuple(dict(zip(NAMES, trees, strict=True)) for trees in (state.params, state.optimizers))


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
        jax.numpy.asarray(found["info"]["step"], jax.numpy.int32),
        Params(*(params[name] for name in NAMES)),
        OptimizerStates(*(optimizers[name] for name in NAMES)),
    )
    return state, found["info"]
