"""The result tables of the ReFusion paper (1 to 7) as data; the numbers are in paper_tables.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError
from refusion_jax.tasks import nearest


@dataclass(frozen=True)
class PaperTable:
    """One data set's part of a table, as printed."""

    name: str
    """Such as "Table 3 Lytro"; `load_table` takes it."""
    title: str
    dataset: str
    task: str
    """ivif, mif, mfif or meie."""
    pairs: int
    """Number of test pairs."""
    metrics: tuple[str, ...]
    """Columns, in the paper's order."""
    rows: dict[str, dict[str, float]]
    """Row name -> metric -> mean over the test pairs, two decimals, in the paper's order."""
    own: str
    """The row of ReFusion (in Tables 5 and 6: of the full method, of the setting chosen)."""
    note: str = ""
    """Where the paper's text and table disagree, or a number looks odd; may be empty."""

    @property
    def refusion(self) -> dict[str, float]:
        """ReFusion's own row."""
        return self.rows[self.own]


def all_tables() -> dict[str, PaperTable]:
    """All tables by name, in the paper's order."""
    tables = {}
    for entry in _read()["table"]:
        metrics = tuple(entry.pop("metrics"))
        rows = {row: dict(zip(metrics, values, strict=True)) for row, values in entry.pop("rows").items()}
        table = PaperTable(metrics=metrics, rows=rows, **entry)
        tables[table.name] = table
    return tables


def parameter_counts() -> dict[str, float]:
    """Table 7: method -> trainable parameters of its fusion module, in millions as printed."""
    return _read()["parameters"]


def _read() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "paper_tables.toml").read_text(encoding="utf-8"))


def load_table(name: str) -> PaperTable:
    """The table of that name, such as "Table 3 Lytro"; in any case, and any part that fits one table will do
    ("lytro").

    Raises InputError where none or several fit, naming the nearest or all of those.
    """
    tables = all_tables()
    words = set(name.casefold().split())
    exact = [table for table in tables.values() if set(table.name.casefold().split()) == words]
    matches = exact or [table for table in tables.values() if words and words <= set(table.name.casefold().split())]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(repr(table.name) for table in matches)
        raise InputError(f"{name!r} fits several of the paper's tables: expected one of {names}")
    raise InputError(f"the paper has no table {name!r}{nearest(name, tables)}")
