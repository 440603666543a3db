"""The devices of a training: a mesh over which every batch is divided in equal parts, and what is put on it.

Every device computes the losses of its own pairs; gradients and metrics are averaged over the mesh inside the step
(`axis` in meta.py), so the mathematics is that of one device with the whole batch. jax.shard_map and not the automatic
partitioning: that one puts the averages into the networks' conditionals (models/operators/depthwise.py), where
devices wait for each other without end.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from refusion_jax.errors import InputError
from refusion_jax.runtime.memory import keep_freed

AXIS = "data"
IN_FLIGHT = 3  # programs handed to an accelerator before the host waits for the oldest
STEPS_PER_DISPATCH = 10  # of an accelerator: a step of small networks is about as short as its launch


def data_mesh(batch: int, limit: int = 0) -> Mesh | None:
    """The mesh over the first `limit` devices (0: all) of every process; None where that is a single one.

    Raises InputError where there are fewer devices than `limit` or a batch cannot be divided over them.
    """
    here, processes = jax.local_device_count(), jax.process_count()
    if limit > here:
        raise InputError(f"train.devices is {limit}, but there are {here} {jax.default_backend()} devices; lower it")
    used = limit or here
    total = processes * used
    if batch % total:
        advice = f"choose a multiple of {total} (--set data.batch={-(-batch // total) * total})"
        fitting = [n for n in range(1, used) if batch % (processes * n) == 0]
        if fitting:
            advice += f" or fewer devices (--set train.devices={fitting[-1]})"
        where = f" ({processes} processes with {used} each)" if processes > 1 else ""
        raise InputError(f"data.batch is {batch}, which cannot be divided over {total} devices{where}; {advice}")
    if total == 1:
        return None
    # By process, so that each one's pairs of a batch lie together.
    devices = [d for process in range(processes) for d in jax.local_devices(process)[:used]]
    return Mesh(np.array(devices), (AXIS,))


def divided(step: Callable, mesh: Mesh | None, batches: int, stacked: bool = False) -> Callable:
    """step(state, *batches) as a program of all devices, each with its part of every batch; made with axis=AXIS.

    stacked: the batches have an axis of steps in front of that of the pairs. Without a mesh the step as it is.
    """
    if mesh is None:
        return step
    part, whole = _part(stacked), PartitionSpec()
    return jax.shard_map(
        step, mesh=mesh, in_specs=(whole, *[part] * batches), out_specs=(whole, whole), check_vma=False
    )


def _part(stacked: bool) -> PartitionSpec:
    return PartitionSpec(None, AXIS) if stacked else PartitionSpec(AXIS)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh | None, stacked: bool = False) -> dict[str, jax.Array]:
    """This process's part of a batch, on its devices, as its share of the whole batch. Does not wait but on a CPU.

    There a step would else begin when the batch has arrived, in a thread of its own: its call returns before its memory
    is freed, whatever compiling.compute_in_calls says, and the next step takes as much again.
    """
    if mesh is None:
        placed = jax.device_put(batch)
    else:
        placed = jax.make_array_from_process_local_data(NamedSharding(mesh, _part(stacked)), batch)
    return jax.block_until_ready(placed) if jax.default_backend() == "cpu" else placed


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The tree, the same in every process, as a whole on every device."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, np.asarray(x), np.shape(x)), tree)


def single(tree: Any) -> Any:
    """A replicated tree as one device of this process has it, for work in which the others take no part."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def steps_per_dispatch(setting: int) -> int:
    """The setting, or for 0 what suits the backend. XLA's CPU code runs the body of a loop on one thread: 1 there."""
    return setting or (1 if jax.default_backend() == "cpu" else STEPS_PER_DISPATCH)


def recompute(setting: str) -> bool:
    """Whether the meta step keeps less and computes more: as set, and for "auto" where memory is the machine's own."""
    return setting == "on" or (setting == "auto" and jax.default_backend() == "cpu")


def hold_memory() -> None:
    """On a CPU, before a phase: its steps keep their working memory from one to the next.

    What was kept before, by steps of another phase, validation and previews, goes back to the system.
    """
    if jax.default_backend() == "cpu":
        keep_freed()


def in_flight() -> int:
    """How many programs may be under way before the host waits. On a CPU none: two would hold their memory at once."""
    return 0 if jax.default_backend() == "cpu" else IN_FLIGHT
