"""Scoring methods on pairs, each row written as it comes; and the validation scores of training."""

import csv
import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from refusion_jax.data.pairs import Pair, darker_first
from refusion_jax.errors import InputError
from refusion_jax.evaluation.methods import Method
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import read_image
from refusion_jax.metrics import Metric, as_levels, protocol_metrics, score


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


def describe_data(folder: Path, task: str | None, pairs: Sequence[Pair]) -> Data:
    """Reads every file once for the hash. Raises OSError where a file cannot be read."""
    total = hashlib.sha256()
    for pair in sorted(pairs, key=lambda pair: pair.name):
        total.update(pair.name.encode() + b"\0")
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
    workers: int = 1,
    progress: Callable[[str, str], None] = lambda method, pair: None,
) -> Evaluation:
    """Scores every method on every pair, on luma rounded to 8 bits.

    protocol, metrics: as `metrics.protocol_metrics`. For task meie the darker source is source a, as in
    fusing. table: a CSV file that gets one row per method and pair as soon as it is computed, so that
    whatever happens later leaves the rows so far. workers: processes that score; checkpoints fuse in the
    calling process meanwhile. progress: called with the names of method and pair after each.

    Raises InputError at the first pair that cannot be scored, naming it: sources of two sizes, a fused image
    of another, an image below a metric's window, an unreadable file, a network output that is not finite.
    """
    if workers < 1:
        raise InputError(f"expected at least 1 worker, got {workers}")
    chosen = protocol_metrics(protocol, metrics)
    names = [metric.name for metric in chosen]
    score_job = partial(_score_job, protocol=protocol, metrics=names, dark_first=data.task == "meie")
    with ExitStack() as stack:
        pool = None
        if workers > 1:
            # Fresh processes: a fork of one that runs JAX may hang.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context))
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        rows = stack.enter_context(_Rows(table, names, protocol, data)) if table is not None else None
        results = []
        for method in methods:
            scores = {}
            jobs = ((method.name, pair, _fused(method, pair)) for pair in data.pairs)
            for pair, values in zip(data.pairs, _in_order(pool, score_job, jobs, 2 * workers), strict=True):
                scores[pair.name] = values
                if rows is not None:
                    rows.write(method, pair, values)
                progress(method.name, pair.name)
            results.append(Result(method, scores))
    return Evaluation(protocol, tuple(chosen), data, tuple(results))


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
    """Luma of an image file as uint8 (H, W), rounded to the nearest level."""
    return np.clip(np.rint(to_luma(read_image(path))), 0, 255).astype(np.uint8)


_Job = tuple[str, Pair, Path | np.ndarray]


def _fused(method: Method, pair: Pair) -> Path | np.ndarray:
    """The fused image's file, or what the checkpoint makes of the pair as 8-bit levels."""
    if method.fuse is None:
        return method.fused[pair.name]
    try:
        return as_levels(method.fuse(read_image(pair.a), read_image(pair.b)), "network output")
    except InputError as error:
        raise InputError(f"{method.name}, pair '{pair.name}': {error}") from None


def _score_job(job: _Job, protocol: str, metrics: Sequence[str], dark_first: bool) -> dict[str, float]:
    """Scores one pair; a function of the module, so that other processes can run it."""
    name, pair, fused = job
    a, b = read_levels(pair.a), read_levels(pair.b)
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
    if dark_first:
        a, b = darker_first(a, b)
    try:
        return score(a, b, fused, protocol, metrics)
    except InputError as error:
        raise InputError(f"{name}, pair '{pair.name}': {error}") from None


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _in_order(
    pool: Executor | None, work: Callable[[_Job], dict[str, float]], jobs: Iterable[_Job], ahead: int
) -> Iterator[dict[str, float]]:
    """Results in the order of the jobs, which are drawn only `ahead` of them: a job may hold an image."""
    if pool is None:
        yield from map(work, jobs)
        return
    jobs, waiting, failure = iter(jobs), deque(), None
    while True:
        while failure is None and len(waiting) < ahead:
            try:
                waiting.append(pool.submit(work, next(jobs)))
            except StopIteration:
                break
            except InputError as error:
                # Fusing failed: what was handed over before still counts.
                failure = error
        if not waiting:
            break
        yield waiting.popleft().result()
    if failure is not None:
        raise failure


class _Rows:
    """The CSV file: method, image, the metrics, then what was measured on what; each row is flushed."""

    def __init__(self, path: Path, metrics: Sequence[str], protocol: str, data: Data):
        self._metrics = metrics
        self._constants = [protocol, len(data.pairs), data.sha256]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "w", newline="", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
        self._csv = csv.writer(self._file)
        self._put(["method", "image", *metrics, "protocol", "data_pairs", "data_sha256", "checkpoint"])

    def write(self, method: Method, pair: Pair, values: dict[str, float]) -> None:
        self._put(
            [method.name, pair.name, *(repr(values[name]) for name in self._metrics), *self._constants]
            + [method.checkpoint or ""]
        )

    def _put(self, row: list) -> None:
        self._csv.writerow(row)
        self._file.flush()

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
