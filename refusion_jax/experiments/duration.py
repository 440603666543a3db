"""How long the trainings of a table will take, said before they start and corrected by those that are done."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from refusion_jax.experiments.plan import Budget, lengths
from refusion_jax.experiments.runs import Run

# Seconds on two idle CPU cores with networks of the published size (benchmarks/README.md): a step on four crops of
# 128x128, and what every training has besides steps: starts, compiling, scoring.
META_STEP, FUSION_STEP, BESIDES = 1.3, 0.45, 90.0
PIXELS = 4 * 128 * 128


def expected_seconds(budget: Budget, run: Run) -> float:
    """Of one training on two idle CPU cores."""
    meta, fusion = lengths(budget, run.row)
    size = budget.batch * budget.crop**2 / PIXELS
    return BESIDES + size * (META_STEP * meta + FUSION_STEP * fusion)


def pace(budget: Budget, done: Iterable[tuple[Run, dict[str, Any]]]) -> float | None:
    """How many times longer the trainings done took than `expected_seconds`; None where none was measured."""
    factors = [
        result["seconds"] / expected_seconds(budget, run) for run, result in done if result.get("seconds") is not None
    ]
    return median(factors) if factors else None


def seconds_left(budget: Budget, todo: Sequence[Run], jobs: int, factor: float | None) -> float:
    """Of all trainings to do, `jobs` at a time."""
    return (factor or 1.0) * sum(expected_seconds(budget, run) for run in todo) / min(jobs, max(len(todo), 1))
