"""The tables of an experiment: mean and spread over seeds beside the paper's row, and which of its orderings hold."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from refusion_jax.evaluation import tables
from refusion_jax.evaluation.paper_tables import PaperTable, load_table
from refusion_jax.experiments.plan import Experiment, Row
from refusion_jax.experiments.runs import Run, Setup
from refusion_jax.runtime.writing import write_bytes

HOLDS, WITHIN, REVERSED, UNKNOWN = "holds", "within spread", "reversed", "–"


@dataclass(frozen=True)
class Cell:
    """A metric of a row over its seeds."""

    mean: float
    spread: float | None  # standard deviation of the seeds (n-1); None of a single one

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")


def cell(row: Row, results: Mapping[Run, dict[str, Any]], metric: str) -> Cell | None:
    """A metric of a row over those of its seeds that ended with a score; None where none did."""
    found = [r["metrics"][metric] for run, r in results.items() if run.row == row and "metrics" in r]
    return Cell(mean(found), stdev(found) if len(found) > 1 else None) if found else None


def state(row: Row, runs: Sequence[Run], results: Mapping[Run, dict[str, Any]]) -> str:
    """What is to be said of a row besides its scores: seeds that diverged or are not done."""
    seeds = [run for run in runs if run.row == row]
    diverged = [str(run.seed) for run in seeds if "diverged" in results.get(run, {})]
    missing = [str(run.seed) for run in seeds if run not in results]
    texts = [f"seed {', '.join(some)} {what}" for some, what in ((diverged, "diverged"), (missing, "not done")) if some]
    return f" ({'; '.join(texts)})" if texts else ""


def result_grid(
    rows: Sequence[Row], paper: PaperTable, runs: Sequence[Run], results: Mapping[Run, dict[str, Any]]
) -> tables.Grid:
    """A line a row: mean ± spread of each metric, the paper's value in brackets; the best mean of a column marked."""
    found = {metric: {row: cell(row, results, metric) for row in rows} for metric in paper.metrics}
    best = {metric: max((c.mean for c in column.values() if c), default=None) for metric, column in found.items()}
    lines = []
    for row in rows:
        line = [(row.label + state(row, runs, results), False)]
        for metric in paper.metrics:
            one, printed = found[metric][row], f"({paper.rows[row.label][metric]:.2f})"
            line.append((f"{one or '–'} {printed}", bool(one) and one.mean == best[metric]))
        lines.append(line)
    return tables.Grid(["", *(f"{metric} ↑" for metric in paper.metrics)], lines)


def ordering(own: Cell | None, other: Cell | None, paper_own: float, paper_other: float) -> str:
    """Whether the full method's lead over a row, or its lag, is that of the paper. Within the spread: a difference no
    larger than both standard deviations together."""
    if own is None or other is None or own.spread is None or other.spread is None or paper_own == paper_other:
        return UNKNOWN
    difference = own.mean - other.mean
    if abs(difference) <= own.spread + other.spread:
        return WITHIN
    return HOLDS if (difference > 0) == (paper_own > paper_other) else REVERSED


def ordering_grid(rows: Sequence[Row], paper: PaperTable, results: Mapping[Run, dict[str, Any]]) -> tables.Grid:
    """Of each row but the paper's own: whether its place below or above that row is the paper's."""
    full = next((row for row in rows if row.label == paper.own), None)
    lines = []
    for row in rows:
        if full is not None and row is not full:
            texts = [
                ordering(
                    cell(full, results, metric),
                    cell(row, results, metric),
                    paper.refusion[metric],
                    paper.rows[row.label][metric],
                )
                for metric in paper.metrics
            ]
            lines.append([(row.label, False), *((text, False) for text in texts)])
    return tables.Grid([f"{paper.own} against", *paper.metrics], lines)


def caption(setup: Setup, runs: Sequence[Run], results: Mapping[Run, dict[str, Any]], paper: PaperTable) -> str:
    """What was run, in one line."""
    seeds = sorted({run.seed for run in runs})
    scored = {r["pairs_scored"] for r in results.values() if "pairs_scored" in r}
    commits = sorted({r["commit"] for r in results.values() if r.get("commit")})
    return (
        f"Ours: {setup.budget.lengths}, seeds {', '.join(map(str, seeds))}, "
        f"{', '.join(map(str, scored)) or 'no'} pairs scored, protocol paper, data {setup.data_sha256[:16]}"
        + (f", set {' '.join(setup.assignments)}" if setup.assignments else "")
        + (f", commit {', '.join(commits)}" if commits else "")
        + f"; in brackets the paper's: {paper.title}, {paper.pairs} pairs"
    )


def parts(experiment: Experiment, rows: Sequence[Row]) -> list[tuple[PaperTable, list[Row]]]:
    """The paper's tables that an experiment stands beside, each with those of its rows that were chosen."""
    chosen = {row.name: row for row in rows}
    found = [
        (load_table(name), [chosen[row] for row in names if row in chosen]) for name, names in experiment.parts.items()
    ]
    return [(paper, members) for paper, members in found if members]


def write_tables(
    experiment: Experiment, setup: Setup, runs: Sequence[Run], results: Mapping[Run, dict[str, Any]]
) -> tuple[str, list[Path]]:
    """Writes OUT/NAME.md, .tex and .csv. Returns (the text for the terminal, the paths)."""
    text, markdown, latex = [], [], []
    rows = list(dict.fromkeys(run.row for run in runs))
    for paper, members in parts(experiment, rows):
        grids = [result_grid(members, paper, runs, results)]
        orderings = ordering_grid(members, paper, results)
        if any(text in (HOLDS, WITHIN, REVERSED) for line in orderings.rows for text, _ in line):
            grids.append(orderings)
        line = caption(setup, runs, results, paper)
        text += [line, *(tables.grid_text(grid) for grid in grids)]
        markdown += [line + ".\n", *(tables.grid_markdown(grid) for grid in grids)]
        latex += [f"% {line}\n" + "\n".join(tables.grid_latex(grid) for grid in grids)]
    contents = {"md": "\n".join(markdown), "tex": "\n".join(latex), "csv": _csv(runs, results)}
    paths = [setup.out / f"{experiment.name}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content.encode())
    return "\n\n".join(text), paths


def _csv(runs: Sequence[Run], results: Mapping[Run, dict[str, Any]]) -> str:
    """A line for each training and metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "seed", "metric", "value", "meta_steps", "fusion_steps", "data_sha256", "commit"])
    for run in runs:
        result = results.get(run)
        if result is None:
            continue
        values = result.get("metrics") or {"": "diverged"}
        tail = [result[key] for key in ("meta_steps", "fusion_steps", "data_sha256", "commit")]
        writer.writerows([run.row.name, run.seed, metric, value, *tail] for metric, value in values.items())
    return file.getvalue()
