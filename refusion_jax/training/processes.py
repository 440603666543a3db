"""Several processes as one training (jax.distributed): connecting, agreeing on what to do, ending together.

Every process runs the same program on its own devices and its own part of each batch. Process 0, the lead, alone writes
what is not a checkpoint. With one process everything here is as if it were not there.
"""

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from refusion_jax.errors import InputError

LONGEST_WAIT = 24 * 3600  # seconds one process may work alone; that it has died is noticed by its missing heartbeats
MESSAGE = 2048  # bytes of a text sent to the others
GRACE = 2  # seconds in which the others may say what happened before the end of the lead ends them


def connect(coordinator: str | None, number: int | None, index: int | None, timeout: int = 300) -> None:
    """Joins the other processes; before any other use of JAX's devices.

    What is None, JAX finds out by itself: from JAX_COORDINATOR_ADDRESS, SLURM or Open MPI. Raises InputError where it
    cannot. Where the processes do not come together in `timeout` seconds, this one ends with one line and status 2.
    """
    if coordinator is not None and not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InputError(f"--coordinator must be HOST:PORT of process 0, as in node1:8476, got {coordinator!r}")
    # JAX would end the process with a page of its own.
    late = threading.Timer(timeout, _too_late, (coordinator or "the coordinator", timeout))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(coordinator, number, index, initialization_timeout=timeout + 60)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"--distributed: {_first_line(error)}; start all processes with the same --coordinator HOST:PORT and "
            "--num-processes N and each with its own --process-id, or under SLURM or Open MPI"
        ) from error
    finally:
        late.cancel()
    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{n} in process {i}" for i, n in sorted(devices.items()))
        raise InputError(f"all processes need the same number of devices, but there are {found}")


def _too_late(coordinator: str, seconds: float) -> None:
    print(
        f"error: the processes of this training did not come together at {coordinator} within {seconds:g} seconds; "
        "start all of them, with an address of process 0 that the others can reach",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def count() -> int:
    """Processes of this training. Does not start JAX's backend where there is one."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Which of them this is."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_lead() -> bool:
    """Whether this is the process that writes what only one may write."""
    return index() == 0


def together(function: Callable[[], Any]) -> Any:
    """function() in every process, each with its own result; what is an InputError in one is an InputError in all."""
    if count() == 1:
        return function()
    result, caught = None, None
    try:
        result = function()
    except (InputError, OSError) as error:
        caught = error
    for process, text in enumerate(_gather("" if caught is None else _first_line(caught))):
        if text and caught is None:
            raise InputError(f"process {process}: {text}")
    if caught is not None:
        raise caught
    return result


def from_lead(function: Callable[[], Any]) -> Any:
    """The lead's function(), for all: something short and JSON-able. The others wait. Errors as in `together`."""
    if count() == 1:
        return function()
    text = together(lambda: json.dumps(function()) if is_lead() else "")
    return json.loads(_gather(text)[0])


def require_same(what: str, text: str) -> None:
    """InputError in all processes unless they were all given the same text."""
    mine = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    if count() > 1 and len(set(_gather(mine))) > 1:
        raise InputError(f"the processes have different {what}; start all with the same options on the same files")


def _gather(text: str) -> list[str]:
    """The texts of all processes, in order, cut off at MESSAGE bytes."""
    _wait()
    data = text.encode("utf-8", "surrogateescape")[:MESSAGE]
    padded = np.zeros(MESSAGE, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return [
        row.tobytes().rstrip(b"\0").decode("utf-8", "surrogateescape")
        for row in np.atleast_2d(multihost_utils.process_allgather(padded))
    ]


def _wait() -> None:
    """Waits, however long, until all processes are here. A collective of the devices would give up after a while."""
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(key="refusion_jax", timeout_ms=1000 * LONGEST_WAIT)


class Agreement:
    """What any process requests to be done between two steps, known to all before the same step.

    Only signals and clocks differ between processes. The requests are exchanged by the devices beside the steps, and
    read `delay` rounds later, so that nobody waits for them.
    """

    def __init__(self, mesh: Mesh | None, delay: int = 1):
        self._mesh, self._delay = mesh if count() > 1 else None, delay  # several processes: always a mesh
        self._under_way: deque[jax.Array] = deque()
        if count() > 1 and mesh is not None:
            part, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
            self._sharding = NamedSharding(mesh, part)
            self._greatest = jax.jit(
                jax.shard_map(
                    lambda x: jax.lax.pmax(x, mesh.axis_names[0]),
                    mesh=mesh,
                    in_specs=part,
                    out_specs=whole,
                    check_vma=False,
                )
            )

    def agree(self, *requests: int) -> tuple[int, ...]:
        """One round: numbers, 0 for none -> the greatest of all processes; of one process, the same at once."""
        if self._mesh is None:
            return requests
        rows = np.tile(np.array(requests, np.int32), (len(self._mesh.local_devices), 1))
        self._under_way.append(self._greatest(jax.make_array_from_process_local_data(self._sharding, rows)))
        if len(self._under_way) <= self._delay:
            return (0,) * len(requests)
        return tuple(int(x) for x in np.asarray(self._under_way.popleft())[0])

    def forget(self) -> None:
        """Drops the rounds under way, in all processes at once: requests that have just been met."""
        self._under_way.clear()


def broadcast(tree: Any) -> Any:
    """The lead's tree of arrays, in every process."""
    return tree if count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    if count() == 1 or isinstance(error, InputError):
        return False
    # JAX raises its own type or ValueError; both texts begin with the name of a status.
    status = re.match(r"([A-Z_]+): ", str(error))
    known = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
    return bool(known and status and status[1] not in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"))


def lost_line(error: BaseException) -> str:
    """What to tell the user of a lost process."""
    return (
        f"another process of this training ended or cannot be reached any more ({_first_line(error)[:200]}); "
        "start all of them again with --resume"
    )


def leave(status: int) -> int:
    """Ends a process after a failure at once, for the others wait for it; returns the status of an orderly end."""
    if not jax.distributed.is_initialized() or status not in (1, 2, 130):
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    if is_lead():
        time.sleep(GRACE)
    os._exit(status)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
