"""The results as text, Markdown, LaTeX and JSON; each names protocol, data and checkpoints."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError
from refusion_jax.evaluation.paper_tables import PaperTable
from refusion_jax.evaluation.scoring import Evaluation, Result
from refusion_jax.metrics import Metric
from refusion_jax.runtime.writing import write_bytes

SUMMARY, MARKDOWN, LATEX, PER_IMAGE = "summary.json", "table.md", "table.tex", "per_image.csv"


@dataclass(frozen=True)
class Grid:
    """A table before it takes a form. Cells are (text, best of its column?)."""

    heads: list[str]
    rows: list[list[tuple[str, bool]]]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The JSON summary. Means and standard deviations over the pairs; null where they are not finite."""
    data = evaluation.data
    methods = {}
    for result, rank in zip(evaluation.results, evaluation.mean_ranks(), strict=True):
        values = {
            m.name: {"mean": _finite(result.mean(m.name)), "std": _finite(result.std(m.name))}
            for m in evaluation.metrics
        }
        methods[result.method.name] = {"checkpoint": result.method.checkpoint, "metrics": values, "mean_rank": rank}
    fused = {r.method.name: r.method.folder for r in evaluation.results if r.method.folder is not None}
    return {
        "protocol": evaluation.protocol,
        "data": {
            "dir": data.folder,
            "task": data.task,
            "pairs": len(data.pairs),
            "sha256": data.sha256,
            **({"fused": fused} if fused else {}),
        },
        "methods": methods,
    }


def result_grid(evaluation: Evaluation) -> Grid:
    """Method, then mean and standard deviation per metric; of several methods the best mean is marked, and their
    mean ranks come last."""
    best, several = {}, len(evaluation.results) > 1
    if several:
        for metric in evaluation.metrics:
            means = [result.mean(metric.name) for result in evaluation.results]
            best[metric.name] = f"{max(means) if metric.higher_is_better else min(means):.4f}"
    rows, ranks = [], evaluation.mean_ranks()
    for result, rank in zip(evaluation.results, ranks, strict=True):
        cells = [(result.method.name, False)]
        for metric in evaluation.metrics:
            # What prints alike is marked alike.
            mean = f"{result.mean(metric.name):.4f}"
            cells.append((f"{mean} ± {result.std(metric.name):.4f}", mean == best.get(metric.name)))
        rows.append([*cells, (f"{rank:.2f}", rank == min(ranks))] if several else cells)
    heads = ["Method", *(f"{m.name} {m.arrow}" for m in evaluation.metrics)]
    return Grid([*heads, "mean rank ↓"] if several else heads, rows)


def comparison_grid(evaluation: Evaluation, table: PaperTable) -> Grid:
    """The paper's own row, then each method's means and their differences from it, for the metrics both have.

    Raises InputError where there is none.
    """
    shared = shared_metrics(evaluation.metrics, table)
    rows = [[("ReFusion, paper", False), *((f"{table.refusion[m.name]:.2f}", False) for m in shared)]]
    for result in evaluation.results:
        means = [result.mean(m.name) for m in shared]
        rows.append([(result.method.name, False), *((f"{mean:.4f}", False) for mean in means)])
        differences = [mean - table.refusion[m.name] for mean, m in zip(means, shared, strict=True)]
        rows.append([("  difference", False), *((f"{d:+.4f}", False) for d in differences)])
    return Grid(["", *(f"{m.name} {m.arrow}" for m in shared)], rows)


def shared_metrics(metrics: tuple[Metric, ...] | list[Metric], table: PaperTable) -> list[Metric]:
    """The metrics that the paper's table has too. Raises InputError where there is none."""
    shared = [metric for metric in metrics if metric.name in table.metrics]
    if not shared:
        raise InputError(
            f"{table.name} has {', '.join(table.metrics)} and none of the metrics asked for"
            f" ({', '.join(m.name for m in metrics)}); name one of its own with --metrics"
        )
    return shared


def header(evaluation: Evaluation) -> str:
    """One line: protocol and data."""
    data = evaluation.data
    task = f", task {data.task}" if data.task else ""
    count = len(data.pairs)
    return (
        f"protocol {evaluation.protocol}; data {data.folder}{task}, {count} pair{'s' if count != 1 else ''}, "
        f"sha256 {data.sha256}"
    )


def comparison_header(evaluation: Evaluation, table: PaperTable) -> str:
    """One line: what is compared, and what makes the comparison unfair."""
    here = len(evaluation.data.pairs)
    text = f"against the paper, {table.name} ({table.title}, {table.pairs} pairs; here {here})"
    if evaluation.protocol != "paper":
        text += f"; the paper's numbers follow protocol paper, these {evaluation.protocol}"
    return text


def as_text(evaluation: Evaluation, table: PaperTable | None = None) -> str:
    """For the terminal; the best of a column carries an asterisk."""
    parts = [header(evaluation), _origins(evaluation.results, "  {name}: {origin}"), grid_text(result_grid(evaluation))]
    if any(best for row in result_grid(evaluation).rows for _, best in row):
        parts.append(
            "mean ± standard deviation over the pairs; * best; mean rank over these metrics, among these methods"
        )
    else:
        parts.append("mean ± standard deviation over the pairs")
    if table is not None:
        parts += ["", comparison_header(evaluation, table), grid_text(comparison_grid(evaluation, table))]
        if table.note:
            parts.append(f"note: {table.note}")
    return "\n".join(parts)


def as_markdown(evaluation: Evaluation, table: PaperTable | None = None) -> str:
    """For a README; the best of a column is bold."""
    text = _sentence(header(evaluation)) + "\nMean ± standard deviation over the pairs (population)"
    text += (
        "; best in bold; mean rank over these metrics, among these methods.\n\n"
        if len(evaluation.results) > 1
        else ".\n\n"
    )
    text += grid_markdown(result_grid(evaluation)) + "\n"
    text += _origins(evaluation.results, "- {name}: {origin}") + "\n"
    if table is not None:
        text += f"\n{_sentence(comparison_header(evaluation, table))}\n\n"
        text += grid_markdown(comparison_grid(evaluation, table))
        text += f"\n{table.note}\n" if table.note else ""
    return text


def as_latex(evaluation: Evaluation, table: PaperTable | None = None) -> str:
    """Tabulars for a document that loads booktabs; the best of a column is bold."""
    comments = [header(evaluation), *_origins(evaluation.results, "{name}: {origin}").splitlines()]
    text = "".join(f"% {line}\n" for line in comments) + grid_latex(result_grid(evaluation))
    if table is not None:
        text += f"\n% {comparison_header(evaluation, table)}\n" + grid_latex(comparison_grid(evaluation, table))
    return text


def write_reports(folder: Path, evaluation: Evaluation, table: PaperTable | None = None) -> list[Path]:
    """Writes summary.json, table.md and table.tex; returns the paths. InputError where it cannot write."""
    contents = {
        SUMMARY: json.dumps(summary(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        MARKDOWN: as_markdown(evaluation, table),
        LATEX: as_latex(evaluation, table),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode(errors="backslashreplace"))  # names of files may be no UTF-8
    return [folder / name for name in contents]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _origins(results: tuple[Result, ...], form: str) -> str:
    return "\n".join(form.format(name=r.method.name, origin=r.method.origin) for r in results)


def grid_text(grid: Grid) -> str:
    """Aligned columns; what is marked carries an asterisk."""
    # A blank where the asterisk would be keeps the digits in line.
    lines = [[head + " " for head in grid.heads]]
    lines += [[text + ("*" if best else " ") for text, best in row] for row in grid.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(grid.heads))]
    aligned = [
        [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def grid_markdown(grid: Grid) -> str:
    """A Markdown table; what is marked is bold."""

    def escape(text: str) -> str:
        return text.strip().replace("|", r"\|")

    lines = [[escape(head) for head in grid.heads], ["---", *("---:" for _ in grid.heads[1:])]]
    lines += [[f"**{escape(text)}**" if best else escape(text) for text, best in row] for row in grid.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_LATEX_SIGNS = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def grid_latex(grid: Grid) -> str:
    """A tabular of booktabs; what is marked is bold."""

    def cell(text: str) -> str:
        escaped = "".join(_LATEX_SIGNS.get(c, c) for c in text.strip())
        # A sign before digits is a minus, not a hyphen.
        return f"${escaped}$" if escaped[:1] in "+-" and escaped[1:2].isdigit() else escaped

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\" + "\n"

    def marked(text: str, best: bool) -> str:
        return rf"\textbf{{{cell(text)}}}" if best else cell(text)

    body = "".join(line([marked(text, best) for text, best in row]) for row in grid.rows)
    columns = "l" + "r" * (len(grid.heads) - 1)
    heads = line([cell(head) for head in grid.heads])
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return f"{begin}\n\\toprule\n{heads}\\midrule\n{body}\\bottomrule\n{end}\n"
