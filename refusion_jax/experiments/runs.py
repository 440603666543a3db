"""The trainings of a table: each a process of the command train and one of evaluate, several side by side, resumable.

OUT/experiment.json             what is compared: settings, pairs, their hash; another experiment is refused
OUT/pairs.csv                   the pairs trained on and scored, with their files' hashes
OUT/runs/ROW-seedN/             the run directory (docs/training.md)
OUT/logs/ROW-seedN.log          what both commands said
OUT/scores/ROW-seedN/           what evaluate wrote
OUT/results/ROW-seedN.json      the result: what was run, and the scores, or that the training diverged
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError
from refusion_jax.experiments.plan import Budget, Row, lengths, settings_of
from refusion_jax.metrics import TASK_METRICS
from refusion_jax.runtime.writing import write_bytes

# Of what a training says whose loss or gradient is no number any more (training/watch.py).
DIVERGED = re.compile(r"step \d+ \(\w+\): \w+ is -?(nan|inf)", re.IGNORECASE)
METRICS = TASK_METRICS["ivif"]  # the columns of Tables 5 and 6


@dataclass(frozen=True)
class Setup:
    """What all trainings of a table share."""

    out: Path
    task: str
    manifest: Path
    data_sha256: str
    split: str  # of the pairs that are scored
    budget: Budget
    assignments: tuple[str, ...] = ()  # further settings of every row, as --set takes them
    commit: str = ""


@dataclass(frozen=True)
class Run:
    """One training: a row and a seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.row.name}-seed{self.seed}"


class Stopped(Exception):
    """The training was stopped by a signal, after a checkpoint."""


def train_command(setup: Setup, run: Run) -> list[str]:
    """The command that trains, or goes on training."""
    folder = setup.out / "runs" / run.name
    values = settings_of(setup.budget, run.row)
    settings = [*(f"{key}={value}" for key, value in values.items()), *setup.assignments]
    command = [sys.executable, "-m", "refusion_jax", "train", "--task", setup.task, "--data", str(setup.manifest)]
    command += ["--out", str(folder), "--seed", str(run.seed)]
    command += [word for setting in settings for word in ("--set", setting)]
    return command + (["--resume"] if (folder / "config.toml").exists() else [])


def score_command(setup: Setup, run: Run) -> list[str]:
    """The command that scores the pairs held out."""
    command = [sys.executable, "-m", "refusion_jax", "evaluate", "--task", setup.task, "--data", str(setup.manifest)]
    command += ["--split", setup.split, "--ckpt", str(setup.out / "runs" / run.name)]
    command += ["--metrics", *METRICS]
    return [*command, "--out", str(setup.out / "scores" / run.name)]


def result_path(setup: Setup, run: Run) -> Path:
    """Where the result of a training lies once there is one."""
    return setup.out / "results" / f"{run.name}.json"


def read_result(path: Path) -> dict[str, Any] | None:
    """The result of a training by its file, None where it is not done."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; delete it to run this one again") from None


class Runner:
    """Runs trainings, `jobs` at a time, each on a GPU of its own where there are several."""

    def __init__(self, setup: Setup, jobs: int = 1, start: Callable[..., Any] = subprocess.Popen):
        self._setup, self._jobs, self._start = setup, jobs, start
        self._under_way: set[Any] = set()
        self._lock = threading.Lock()
        self._signal = 0
        self._devices = visible_gpus()
        self._free = list(range(jobs))

    def run(self, todo: Sequence[Run], report: Callable[[Run, dict[str, Any] | str], None]) -> int:
        """Runs all. `report` is told of each one that ends: its result, or why there is none.

        The others go on where one fails. SIGINT and SIGTERM stop every training after a checkpoint; returns the
        signal's number, else 0.
        """
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with ThreadPoolExecutor(self._jobs) as pool:
                pending: dict[Future, Run] = {pool.submit(self._one, run): run for run in todo}
                while pending:
                    # Waits briefly each time: a signal is seen between two waits.
                    done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in done:
                        run = pending.pop(future)
                        try:
                            report(run, future.result())
                        except Stopped:
                            pass
                        except (InputError, OSError) as error:
                            report(run, str(error))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._signal

    def _stop(self, number, frame) -> None:
        self._signal = number
        for process in list(self._under_way):
            process.terminate()

    def _one(self, run: Run) -> dict[str, Any]:
        with self._lock:
            slot = self._free.pop()
        try:
            return self._train_and_score(run, self._devices[slot % len(self._devices)] if self._devices else None)
        finally:
            with self._lock:
                self._free.append(slot)

    def _train_and_score(self, run: Run, device: str | None) -> dict[str, Any]:
        setup, started = self._setup, time.monotonic()
        fresh = not (setup.out / "runs" / run.name / "config.toml").exists()
        said = self._process(train_command(setup, run), run, device)
        if said and DIVERGED.search(said):
            return self._finish(run, {"diverged": said})
        if said:
            raise InputError(said)
        if said := self._process(score_command(setup, run), run, device):
            raise InputError(said)
        summary = json.loads((setup.out / "scores" / run.name / "summary.json").read_text(encoding="utf-8"))
        (method,) = summary["methods"].values()
        return self._finish(
            run,
            {
                "metrics": {name: values["mean"] for name, values in method["metrics"].items()},
                "protocol": summary["protocol"],
                "pairs_scored": summary["data"]["pairs"],
                "checkpoint": method["checkpoint"],
                "seconds": round(time.monotonic() - started, 1) if fresh else None,
            },
        )

    def _finish(self, run: Run, outcome: dict[str, Any]) -> dict[str, Any]:
        """Writes the result: what was run, then how it ended."""
        meta, fusion = lengths(self._setup.budget, run.row)
        result = {
            "row": run.row.name,
            "seed": run.seed,
            "meta_steps": meta,
            "fusion_steps": fusion,
            "settings": settings_of(self._setup.budget, run.row),
            "assignments": list(self._setup.assignments),
            "data_sha256": self._setup.data_sha256,
            "commit": self._setup.commit,
            **outcome,
        }
        write_bytes(result_path(self._setup, run), (json.dumps(result, indent=2) + "\n").encode())
        return result

    def _process(self, command: list[str], run: Run, device: str | None) -> str:
        """Runs a command with its output in the run's log. Returns "", or what it said last where it failed."""
        if self._signal:
            raise Stopped
        log = self._setup.out / "logs" / f"{run.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {})
        with open(log, "ab") as file:
            start = file.tell()
            process = self._start(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment)
            self._under_way.add(process)
            if self._signal:  # it came between the question above and the start
                process.terminate()
            try:
                status = process.wait()
            finally:
                self._under_way.discard(process)
        if self._signal:
            raise Stopped
        if status == 0:
            return ""
        lines = log.read_bytes()[start:].decode("utf-8", "replace").replace("\r", "\n").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        last = errors[-1].removeprefix("error: ") if errors else f"ended with status {status}"
        return f"{last} (see {log})"


def visible_gpus() -> list[str]:
    """The numbers of the GPUs that may be used; none where there is no NVIDIA driver."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [number for number in chosen.split(",") if number]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(i) for i in range(len(listed.splitlines()))]
