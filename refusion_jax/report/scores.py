"""Validation scores of a run over its epochs, and which of them is the best."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion_jax.report.curves import keys_of, number
from refusion_jax.report.page import escape


@dataclass(frozen=True)
class Scores:
    """Scores by record. values: {metric: one value or None a record}; best: {name, step, value, kept} or None."""

    step: list[int]
    epoch: list[int | None]
    values: dict[str, list[float | None]]
    higher: dict[str, bool]
    best: dict[str, Any] | None

    def as_data(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"step": self.step, "epoch": self.epoch, "mean": self.values, "higher": self.higher, "best": self.best}


def find_scores(run: Path, records: list[dict[str, Any]], name: Any) -> Scores:
    """The validation records and the best: what RUN/best keeps, else the first best by the metric `name`."""
    rows = [r for r in records if r["phase"] == "validation"]
    values = {key: [x if math.isfinite(x := number(r.get(key))) else None for r in rows] for key in keys_of(rows)}
    values = {key: column for key, column in values.items() if any(x is not None for x in column)}
    higher = directions(list(values))
    steps = [r["step"] for r in rows]
    epochs = [r["epoch"] if type(r.get("epoch")) is int else None for r in rows]
    folder = run / "best"
    listed = os.listdir(folder) if os.path.isdir(folder) else []
    kept = max((int(x) for x in listed if re.fullmatch(r"[0-9]{1,15}", x)), default=None)
    column = values.get(name, []) if isinstance(name, str) else []
    best = None
    if kept is not None:
        value = dict(zip(steps, column, strict=False)).get(kept)
        best = {"name": str(name), "step": kept, "value": value, "kept": True}
    elif known := {i: x for i, x in enumerate(column) if x is not None}:
        sign = 1 if higher.get(name, True) else -1
        at = max(known, key=lambda i: sign * known[i])
        best = {"name": name, "step": steps[at], "value": column[at], "kept": False}
    return Scores(steps, epochs, values, higher, best)


def directions(names: list[str]) -> dict[str, bool]:
    """Whether more is better, by metric; metrics that the paper's protocol does not know are left out."""
    if not names:
        return {}
    from refusion_jax.metrics import PROTOCOLS  # SciPy takes a while to import

    known = PROTOCOLS["paper"]
    return {name: known[name].higher_is_better for name in names if name in known}


def scores_table(scores: Scores) -> str:
    """The scores as an HTML table, the best epoch marked; nothing when there is none."""
    if not scores.step or not scores.values:
        return ""
    best = scores.best["step"] if scores.best else None
    arrows = {True: " ↑", False: " ↓", None: ""}
    names = [f"{escape(key)}{arrows[scores.higher.get(key)]}" for key in scores.values]
    head = "".join(f"<th scope=col class=number>{name}</th>" for name in ("step", *names))
    rows = []
    for i, (step, epoch) in enumerate(zip(scores.step, scores.epoch, strict=True)):
        cells = (column[i] for column in scores.values.values())
        numbers = "".join(f"<td class=number>{'–' if x is None else f'{x:.4g}'}</td>" for x in cells)
        mark, note = (' class="best"', " best") if step == best else ("", "")
        first = f"<th scope=row>{'–' if epoch is None else epoch}{note}</th><td class=number>{step:,}</td>"
        rows.append(f"<tr{mark}>{first}{numbers}</tr>")
    return f"<table><thead><tr><th scope=col>epoch</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
