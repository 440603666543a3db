"""The run directory: what it holds from the start, and whether a training may go on in it."""

import json
from pathlib import Path

from refusion_jax.config import Config, to_toml
from refusion_jax.errors import InputError
from refusion_jax.runtime.writing import is_half_written
from refusion_jax.training.records import write_text
from refusion_jax.training.sources import TrainingData

CONFIG = "config.toml"
PAIRS = "pairs.json"


def create_run(run: Path, config: Config, data: TrainingData) -> None:
    """Makes a new run directory with config.toml and pairs.json. A folder that holds anything is an InputError, unless
    it is what a start left that failed."""
    try:
        if run.exists() and (not run.is_dir() or holds_anything(run)):
            raise InputError(
                f"{run} exists already; continue that run with --resume, or choose another folder with --out"
            )
        run.mkdir(parents=True, exist_ok=True)
        pairs = {"train": data.train.names, "validation": data.validation.names, "sha256": data.fingerprint}
        write_text(run / PAIRS, json.dumps(pairs, indent=1) + "\n")
        write_config(run, config)  # last: its presence makes the folder a run
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write the run directory {run}: {reason}; choose another --out") from None


def holds_anything(folder: Path) -> bool:
    """Whether a folder holds more than a start leaves that failed before config.toml was written."""
    return any(path.name != PAIRS and not is_half_written(path) for path in folder.iterdir())


def write_config(run: Path, config: Config) -> None:
    """The run's config.toml."""
    write_text(run / CONFIG, to_toml(config))


def check_same_data(run: Path, data: TrainingData) -> None:
    """InputError when the pairs are not those the run began with; a continuation would be another training."""
    path = run / PAIRS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known, count = before["sha256"], len(before["train"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; the run cannot be continued without it") from None
    if known != data.fingerprint:
        raise InputError(
            f"{run} was trained on {count} pairs (listed in {path}), but the data now has "
            f"{len(data.train)} training pairs or other names; restore them or start a new run"
        )
