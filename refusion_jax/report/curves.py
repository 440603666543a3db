"""Curves of a training run: records of metrics.jsonl turned into short series, and which of them make a chart."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

# More points than a chart has pixels only make the page larger: a paper run has 11,000 records.
MAX_POINTS = 700
HEAD = ("step", "epoch", "phase", "averaged")
HEALTH = (
    *("w_imbalance", "v_imbalance", "w_spread", "v_spread", "w_brighter", "v_sharper"),
    *("rebuilt_error_a", "rebuilt_error_b", "rebuilt_distance"),
)
ANY = "training"  # meta and fusion steps together


@dataclass(frozen=True)
class Chart:
    """One chart: its lines as (phase, key, label), whether it starts logarithmic, the values it must reach to."""

    title: str
    note: str
    lines: tuple[tuple[str, str, str], ...]
    log: bool = False
    reach: tuple[float, ...] = ()
    reference: float | None = None


def _parts(phase: str, name: str, label: str) -> tuple[tuple[str, str, str], ...]:
    return (phase, name, label), (phase, f"{name}_intensity", "intensity"), (phase, f"{name}_gradient", "gradient")


CHARTS = (
    Chart("Loss of F", "L_f on the batches of the fusion steps, and its two terms.", _parts("fusion", "fusion", "L_f")),
    Chart(
        "Loss of R",
        "L_r on the batches of the fusion steps: how well the sources are rebuilt from the fused picture.",
        _parts("fusion", "reconstruction", "L_r"),
    ),
    Chart(
        "Objective of P",
        "L_r on meta-test pairs after the inner step, which P's weights are trained to lower.",
        _parts("meta", "outer_reconstruction", "L_r"),
    ),
    Chart(
        "Losses of the inner step",
        "On meta-train pairs, before the step that P's gradient goes through.",
        (("meta", "inner_fusion", "L_f"), ("meta", "inner_reconstruction", "L_r")),
    ),
    Chart(
        "Gradient norms",
        "F and R in fusion steps, P in meta steps; P's carries the inner step size, hence its smallness.",
        (("fusion", "grad_norm_f", "F"), ("fusion", "grad_norm_r", "R"), ("meta", "grad_norm_p", "P")),
        log=True,
    ),
    Chart(
        "P: imbalance of its maps",
        "Mean |w_a − w_b| and |v_a − v_b|. At 1 the map has collapsed onto one source.",
        ((ANY, "w_imbalance", "w"), (ANY, "v_imbalance", "v")),
        reach=(0, 1),
    ),
    Chart(
        "P: spread of its maps",
        "Standard deviation over all pixels. 0 is a constant map, which says nothing about the pictures.",
        ((ANY, "w_spread", "w"), (ANY, "v_spread", "v")),
        reach=(0,),
    ),
    Chart(
        "P: what it favours",
        "Mean w of the brighter source, and how often v favours the sharper one. 0.5 is no preference, or chance.",
        ((ANY, "w_brighter", "w, brighter"), (ANY, "v_sharper", "v, sharper")),
        reach=(0, 1),
        reference=0.5,
    ),
    Chart(
        "R: whether it tells the sources apart",
        "Squared error of each rebuilt source, 1 being that of the mean of both sources in its place; and the squared "
        "distance of the rebuilt pictures from each other, 1 being that of the sources.",
        (
            (ANY, "rebuilt_error_a", "error a"),
            (ANY, "rebuilt_error_b", "error b"),
            (ANY, "rebuilt_distance", "distance"),
        ),
        reach=(0, 1),
        reference=1,
    ),
    Chart(
        "Similarity of the gradients of L_r and L_f",
        "G of Eq. 13-14 as a cosine, for w and for v: positive where a step on that term of L_f lowers L_r.",
        (("similarity", "similarity_cosine_w", "w"), ("similarity", "similarity_cosine_v", "v")),
        reach=(0,),
        reference=0,
    ),
    Chart(
        "Similarity, as an inner product",
        "The same with the gradients' sizes: what P's update is made of, over eta_F.",
        (("similarity", "similarity_inner_w", "w"), ("similarity", "similarity_inner_v", "v")),
        reach=(0,),
        reference=0,
    ),
    Chart(
        "Brightness of the fused pictures",
        "Their mean before any stretching: 0 is black, 1 is white.",
        (("fusion", "fused_mean", "mean"),),
        reach=(0, 1),
    ),
)


def usable(records: Iterable[Any]) -> list[dict[str, Any]]:
    """The records that a training writes, with a step and a phase, by step. Anything else is left out."""
    kept = [
        r
        for r in records
        if isinstance(r, dict) and type(r.get("step")) is int and r["step"] >= 0 and isinstance(r.get("phase"), str)
    ]
    return sorted(kept, key=lambda r: r["step"])


def number(value: Any) -> float:
    """A record's value as a number; NaN when it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def keys_of(records: list[dict[str, Any]]) -> list[str]:
    """The names of the values in the records, in the order of their first appearance."""
    return [k for k in dict.fromkeys(k for r in records for k in r) if k not in HEAD]


def thinned(records: list[dict[str, Any]], keys: Iterable[str], most: int = MAX_POINTS) -> dict[str, Any]:
    """At most `most` points of some values: {"step", "epoch", "each", "mean", "low", "high"}.

    `each` neighbouring records make one point: their last step and epoch, and by key the mean, the smallest and the
    largest of their finite values to 4 digits (None where there is none). low and high are empty when `each` is 1.
    """
    each = max(1, math.ceil(len(records) / most))
    groups = [records[i : i + each] for i in range(0, len(records), each)]
    found: dict[str, Any] = {
        "step": [g[-1]["step"] for g in groups],
        "epoch": [number(g[-1].get("epoch")) for g in groups],
        "each": each,
        "mean": {},
        "low": {},
        "high": {},
    }
    found["epoch"] = [int(e) if math.isfinite(e) else None for e in found["epoch"]]
    for key in keys:
        columns = [[x for x in (number(r.get(key)) for r in g) if math.isfinite(x)] for g in groups]
        for name, reduce in (("mean", np.mean), ("low", min), ("high", max)):
            if name == "mean" or each > 1:
                found[name][key] = [rounded(float(reduce(c))) if c else None for c in columns]
    return found


def rounded(value: float) -> float:
    """To 4 significant digits, which a chart cannot show."""
    return float(f"{value:.4g}")


def curves(records: list[dict[str, Any]]) -> dict[str, Any]:
    """{"phases": {phase: series}, "charts": [...]}: what the page's script draws. records: as `usable` gives them.

    Values that no chart of CHARTS names get a chart of their own. A chart without any value is left out.
    """
    training = [r for r in records if r["phase"] in ("meta", "fusion")]
    by_phase = {phase: [r for r in records if r["phase"] == phase] for phase in ("meta", "fusion", "similarity")}
    keys = {phase: [k for k in keys_of(rows) if k not in HEALTH] for phase, rows in by_phase.items()}
    by_phase[ANY], keys[ANY] = training, [k for k in keys_of(training) if k in HEALTH]
    phases = {phase: thinned(rows, keys[phase]) for phase, rows in by_phase.items() if rows}

    def drawn(phase: str, key: str) -> bool:
        return any(x is not None for x in phases.get(phase, {}).get("mean", {}).get(key, ()))

    # The norms of F and R in meta steps are those of fusion steps on other pairs; one line of each is enough.
    named = {(phase, key) for chart in CHARTS for phase, key, _ in chart.lines} | {
        ("meta", key) for key in keys["meta"] if key.startswith(("inner_", "grad_norm_"))
    }
    others = [
        Chart(key, f"Recorded in the {phase} steps.", ((phase, key, key),))
        for phase in ("meta", "fusion")
        for key in keys[phase]
        if (phase, key) not in named
    ]
    charts = [
        {
            "title": chart.title,
            "note": chart.note,
            "log": chart.log,
            "reach": list(chart.reach),
            "reference": chart.reference,
            "lines": [{"phase": p, "key": k, "label": label} for p, k, label in chart.lines if drawn(p, k)],
        }
        for chart in (*CHARTS, *others)
    ]
    return {"phases": phases, "charts": [chart for chart in charts if chart["lines"]]}
