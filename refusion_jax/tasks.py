"""Names that a user gives: what to say about one that is not known."""

import difflib
from collections.abc import Iterable

from refusion_jax.errors import InputError

TASKS = ("ivif", "mif", "mfif", "meie")
# What the sources of a task are, in the trained order.
SOURCES = {
    "ivif": ("infrared", "visible"),
    "mif": ("functional or CT", "MRI"),
    "mfif": ("near", "far"),
    "meie": ("under-exposed", "over-exposed"),
}
TASK_ALIASES = {"meif": "meie"}  # the paper writes MEIF
STACK_TASKS = ("meie", "mfif")  # those with more than two pictures of a scene: brackets and focus stacks


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known word closest to `word` in any case, and what else there is.

    Always names one: among a handful of short names, such as the metrics', even a weak resemblance helps.
    """
    names = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), names, 1, 0.0)
    hint = f"; did you mean {names[found[0]]!r}?" if found else ""
    return f"{hint} (known: {', '.join(names.values())})"


def task_name(name: str) -> str:
    """ivif, mif, mfif or meie, from any case and `meif`. InputError for another, naming the nearest."""
    lower = name.lower()
    lower = TASK_ALIASES.get(lower, lower)
    if lower not in TASKS:
        raise InputError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return lower
