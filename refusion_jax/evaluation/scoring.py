"""Scoring methods on pairs, each row written as it comes; and the validation scores of training."""

import csv
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from refusion_jax.data.pairs import Pair, darker_first
from refusion_jax.data.reading import PairReader
from refusion_jax.errors import InputError
from refusion_jax.evaluation.methods import Method
from refusion_jax.imaging.files import read_luma
from refusion_jax.imaging.levels import WHOLE
from refusion_jax.metrics import Metric, as_levels, protocol_metrics, score
from refusion_jax.runtime.threads import in_order


@dataclass(frozen=True)
class Data:
    """The pairs scored, and what identifies them."""

    folder: str
    task: str | None
    pairs: tuple[Pair, ...]
    sha256: str
    """Of the pairs' names and the bytes of their files, whatever folder they lie in."""


@dataclass(frozen=True)
class Result:
    """One method's scores: pair name -> metric -> value, in the order scored."""

    method: Method
    scores: dict[str, dict[str, float]]

    def mean(self, metric: str) -> float:
        """Over the pairs."""
        return float(np.mean([row[metric] for row in self.scores.values()]))

    def std(self, metric: str) -> float:
        """Population standard deviation over the pairs; NaN where a value is infinite (as PSNR may be)."""
        values = np.array([row[metric] for row in self.scores.values()])
        return float(np.std(values)) if np.isfinite(values).all() else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """Everything a report needs."""

    protocol: str
    metrics: tuple[Metric, ...]
    data: Data
    results: tuple[Result, ...]
    """In the order the methods were given."""
    blank: tuple[str, ...] = ()
    """Pairs of which a source has one level alone: metrics of such pairs mean little, but count in the means."""

    def mean_ranks(self) -> list[float]:
        """Of each method by its mean scores, as `mean_ranks` does."""
        means = [[result.mean(metric.name) for metric in self.metrics] for result in self.results]
        return mean_ranks(np.array(means), [metric.higher_is_better for metric in self.metrics]).tolist()


def mean_ranks(scores: np.ndarray, higher_is_better: Sequence[bool]) -> np.ndarray:
    """Mean over the metrics of each method's rank, unweighted: 1 is first in every metric.

    scores: (..., methods, metrics); returns (..., methods). Scores that are equal to four decimals share the mean of
    their ranks. A rank depends on who takes part.
    """
    order = np.round(np.where(higher_is_better, -scores, scores), 4)
    own, others = order[..., :, None, :], order[..., None, :, :]
    ranks = np.sum(others < own, axis=-2) + (np.sum(others == own, axis=-2) + 1) / 2
    return ranks.mean(axis=-1)


def describe_data(folder: Path, task: str | None, pairs: Sequence[Pair]) -> Data:
    """Reads every file once for the hash. Raises OSError where a file cannot be read."""
    total = hashlib.sha256()
    for pair in sorted(pairs, key=lambda pair: pair.name):
        total.update(pair.name.encode("utf-8", "surrogateescape") + b"\0")
        for path in (pair.a, pair.b):
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return Data(str(folder), task, tuple(pairs), total.hexdigest())


def evaluate(
    data: Data,
    methods: Sequence[Method],
    protocol: str = "paper",
    metrics: Sequence[str] | None = None,
    *,
    table: Path | None = None,
    reader: PairReader | None = None,
    workers: int = 1,
    progress: Callable[[str, str], None] = lambda method, pair: None,
) -> Evaluation:
    """Scores every method on every pair, on luma rounded to 8 bits.

    protocol, metrics: as `metrics.protocol_metrics`. For task meie the darker source is source a, as in fusing.
    table: a CSV file that gets one row per method and pair as soon as it is computed, so that whatever happens later
    leaves the rows so far. reader: with what levels the pairs are read. workers: processes that score; checkpoints
    fuse in the calling process meanwhile.
    progress: called with the names of method and pair after each.

    Raises InputError at the first pair that cannot be scored, naming it: sources of two sizes, a fused image of
    another, an image below a metric's window, an unreadable file, a network output that is not finite.
    """
    if workers < 1:
        raise InputError(f"expected at least 1 worker, got {workers}")
    chosen = protocol_metrics(protocol, metrics)
    names = [metric.name for metric in chosen]
    reader = dataclasses.replace(reader or PairReader(), task=data.task).over(data.pairs)
    score_job = partial(_score_job, protocol=protocol, metrics=names, reader=reader)
    jobs = ((method.name, pair, _fused(method, pair, reader)) for method in methods for pair in data.pairs)
    # Fresh processes: a fork of one that runs JAX may hang.
    processes = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
    results, blank = [], {}
    identity = {"protocol": protocol, "data_pairs": len(data.pairs), "data_sha256": data.sha256}
    with closing(in_order(score_job, jobs, workers, processes)) as scored, open_rows(table, names, identity) as write:
        for method in methods:
            scores = {}
            for pair in data.pairs:
                scores[pair.name], blank[pair.name] = values, _ = next(scored)
                write([method.name, pair.name, *(repr(values[name]) for name in names)], method.checkpoint or "")
                progress(method.name, pair.name)
            results.append(Result(method, scores))
    return Evaluation(protocol, tuple(chosen), data, tuple(results), tuple(name for name in blank if blank[name]))


@contextmanager
def open_rows(table: Path | None, metrics: Sequence[str], identity: Mapping[str, object]) -> Iterator[Callable]:
    """The function that appends a row to the CSV file: (method, image, the metrics), checkpoint; flushed each time.

    identity: what else stands in each row. Raises InputError where the file cannot be written.
    """
    if table is None:
        yield lambda cells, checkpoint: None
        return
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        file = open(table, "w", newline="", encoding="utf-8", errors="backslashreplace")  # names may be no UTF-8
    except OSError as error:
        raise InputError(f"cannot write {table}: {error.strerror}; choose another --out") from error
    with file:
        rows = csv.writer(file)
        rows.writerow(["method", "image", *metrics, *identity, "checkpoint"])

        def write(cells: list[str], checkpoint: str) -> None:
            rows.writerow([*cells, *identity.values(), checkpoint])
            file.flush()

        yield write


def validation_scores(
    fuse_luma: Callable[[np.ndarray, np.ndarray], np.ndarray],
    pairs_of_luma: Iterable[tuple[np.ndarray, np.ndarray]],
    metrics: Sequence[str] | None = None,
    protocol: str = "paper",
) -> dict[str, float]:
    """Mean of each metric over pairs in memory, by name.

    fuse_luma: of a pair's two arrays as they come; returns the fused luma (H, W), float in [0, 1] (after the
    range step, not rounded: that happens here) or uint8. pairs_of_luma: (a, b), each (H, W) uint8 or float in
    [0, 1]. metrics: such as `metrics.TASK_METRICS[task]`; the paper's nine without.

    Raises InputError for no pairs at all, and as `metrics.score` does (a fused image with NaN, a pair too
    small).
    """
    rows = [score(a, b, fuse_luma(a, b), protocol, metrics) for a, b in pairs_of_luma]
    if not rows:
        raise InputError("expected at least one validation pair to score, got none; hold some out or do not score")
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def read_levels(path: Path) -> np.ndarray:
    """Luma of a fused image's file as uint8 (H, W), rounded to the nearest level; 16 bits are 0..65535."""
    return rounded_levels(read_luma(path, WHOLE))


def rounded_levels(luma: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(luma), 0, 255).astype(np.uint8)


_Job = tuple[str, Pair, Path | np.ndarray | InputError]


def _fused(method: Method, pair: Pair, reader: PairReader) -> Path | np.ndarray | InputError:
    """The fused image's file, or what the checkpoint makes of the pair as 8-bit levels, or why it makes nothing.

    An error is scored in its turn, and raised there: the pairs before it still count.
    """
    if method.fuse is None:
        return method.fused[pair.name]
    try:
        return as_levels(method.fuse(*reader.images(pair)), "network output")
    except InputError as error:
        return InputError(f"{method.name}, pair '{pair.name}': {error}")


def _score_job(job: _Job, protocol: str, metrics: Sequence[str], reader: PairReader) -> tuple[dict[str, float], bool]:
    """(the scores of one pair, whether one of its sources has one level alone); a function of the module, so that other
    processes can run it."""
    name, pair, fused = job
    if isinstance(fused, InputError):
        raise fused
    a, b = map(rounded_levels, reader.lumas(pair))
    if a.shape != b.shape:
        raise InputError(
            f"pair '{pair.name}': expected two sources of one size, got {_size(a)} ({pair.a}) and "
            f"{_size(b)} ({pair.b}); register and crop them first"
        )
    if isinstance(fused, Path):
        file, fused = fused, read_levels(fused)
        if fused.shape != a.shape:
            raise InputError(
                f"{name}, pair '{pair.name}': expected a fused image of the sources' size {_size(a)}, got "
                f"{_size(fused)} ({file}); fuse at full size"
            )
    if reader.task == "meie":
        a, b = darker_first(a, b)
    try:
        return score(a, b, fused, protocol, metrics), any(np.ptp(source) == 0 for source in (a, b))
    except InputError as error:
        raise InputError(f"{name}, pair '{pair.name}': {error}") from None


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
