"""One pair of a task by seed and index: names, checks, and the random stream that belongs to it alone."""

import difflib
import hashlib
from typing import NamedTuple

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.scenes import exposure, focus, medical, thermal
from refusion_jax.tasks import TASK_ALIASES

SMALLEST = 32  # pixels: below this there is nothing to see


class ScenePair(NamedTuple):
    """Two registered pictures of one scene, uint8 (H,W) or (H,W,3), and a name such as "meie_00012"."""

    a: np.ndarray
    b: np.ndarray
    name: str


_MAKERS = {"ivif": thermal.pair, "mif": medical.pair, "mfif": focus.pair, "meie": exposure.pair}
TASKS = tuple(_MAKERS)


def task_name(task: str) -> str:
    """The task's own name (``meif`` is ``meie``). Raises InputError for another, naming the nearest."""
    name = TASK_ALIASES.get(task, task)
    if name not in _MAKERS:
        near = difflib.get_close_matches(str(task), [*TASKS, *TASK_ALIASES], n=1, cutoff=0.0)[0]
        raise InputError(f"unknown task {task!r}: expected one of {', '.join(TASKS)}; did you mean {near!r}?")
    return name


def _checked_size(size) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in size)
    except (TypeError, ValueError):
        raise InputError(f"size: expected (height, width) in pixels, got {size!r}") from None
    if min(height, width) < SMALLEST:
        raise InputError(f"size: expected at least {SMALLEST} pixels a side, got {height}x{width}; ask for more")
    return height, width


def _checked_count(what: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"{what}: expected a whole number of 0 or more, got {value!r}")
    return int(value)


def make_pair(task: str, seed: int, index: int, size: tuple[int, int] = (256, 256)) -> ScenePair:
    """Pair number ``index`` of the stream ``seed``, ``size`` is (height, width) in pixels.

    Sources come in the order they are trained in: meie under- and over-exposed, mfif near- and far-focused
    (all RGB); ivif infrared (grey) and visible (RGB); mif PET or SPECT (RGB) or CT (grey), and MRI (grey).
    The same arguments always give the same bytes, whatever else was made before.

    Raises InputError for an unknown task, a negative seed or index, or a picture under 32 pixels a side.
    """
    name, size = task_name(task), _checked_size(size)
    seed, index = _checked_count("seed", seed), _checked_count("index", index)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    a, b = _MAKERS[name](np.random.default_rng([key, seed, index]), size)
    return ScenePair(a, b, f"{name}_{index:05d}")


def make_pairs(task: str, seed: int, count: int, size: tuple[int, int] = (256, 256)) -> list[ScenePair]:
    """Pairs 0 to ``count`` - 1 of the stream ``seed``; see `make_pair`."""
    return [make_pair(task, seed, index, size) for index in range(_checked_count("count", count))]
