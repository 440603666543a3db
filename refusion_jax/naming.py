"""Names that a user gives: what to say about one that is not known."""

import difflib
from collections.abc import Iterable

TASKS = ("ivif", "mif", "mfif", "meie")
TASK_ALIASES = {"meif": "meie"}  # the paper writes MEIF


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known word closest to `word` in any case, and what else there is.

    Always names one: among a handful of short names, such as the metrics', even a weak resemblance helps.
    """
    names = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), names, 1, 0.0)
    hint = f"; did you mean {names[found[0]]!r}?" if found else ""
    return f"{hint} (known: {', '.join(names.values())})"
