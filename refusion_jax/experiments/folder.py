"""The folder of an experiment: begun once, gone on with, and refused where it is another experiment's."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from refusion_jax import __version__
from refusion_jax.data import manifest
from refusion_jax.data.pairs import Pair, split_validation
from refusion_jax.data.search import discover
from refusion_jax.errors import InputError
from refusion_jax.experiments.plan import Budget
from refusion_jax.experiments.runs import Setup
from refusion_jax.runtime.writing import is_half_written, write_bytes

ABOUT = "experiment.json"
PAIRS = "pairs.csv"


def open_folder(
    out: Path,
    experiment: str,
    data: Path,
    task: str,
    budget_name: str,
    budget: Budget,
    assignments: Sequence[str] = (),
    *,
    begin: bool = True,
) -> Setup:
    """Begins the experiment in `out`, or goes on with it. begin: otherwise a new one is not written.

    Raises InputError for too few pairs, and where `out` holds another experiment or anything else.
    """
    pairs, split = divided(discover(data, task).require().pairs, data)
    hashes = {pair.name: (manifest.file_hash(pair.a), manifest.file_hash(pair.b)) for pair in pairs}
    about = {
        "experiment": experiment,
        "task": task,
        "budget": budget_name,
        "settings": json.loads(json.dumps(asdict(budget))) | {"seeds": None},  # more seeds may be added
        "assignments": list(assignments),
        "data_sha256": manifest.list_hash(task, [manifest.hashed_row(pair, hashes) for pair in pairs]),
        "pairs_trained": sum(pair.split == "train" for pair in pairs),
        "pairs_scored": sum(pair.split == split for pair in pairs),
    }
    if (out / ABOUT).exists():
        _require_same(out, about)
    elif out.exists() and not (out.is_dir() and _is_free(out, about["data_sha256"])):
        raise InputError(f"{out} exists and holds no experiment; choose another --out")
    elif begin:
        if not (out / PAIRS).exists():
            root = data if data.is_dir() else data.parent
            manifest.write(out / PAIRS, pairs, root, task, hashes)
        write_bytes(out / ABOUT, (json.dumps({**about, "data": str(data.resolve())}, indent=2) + "\n").encode())
    return Setup(
        out, task, (out / PAIRS).resolve(), about["data_sha256"], split, budget, tuple(assignments), current_commit()
    )


def _is_free(out: Path, data_sha256: str) -> bool:
    """Whether a folder is empty, or holds what a start with the same pairs leaves that failed: their list alone."""
    names = {path.name for path in out.iterdir() if not is_half_written(path)}
    if names != {PAIRS}:
        return not names
    listed = manifest.read(out / PAIRS)
    return listed.sha256 == data_sha256 and not listed.problems


def divided(pairs: Sequence[Pair], data: Path) -> tuple[list[Pair], str]:
    """(the pairs, each marked with its part; the part that is scored).

    Parts are as folders or a manifest tell. Where there is no test part, the validation part is scored, and where
    there is none either, that is every tenth pair by name. Raises InputError for too few pairs.
    """
    training, held_out = split_validation(pairs)
    tests = [pair for pair in pairs if pair.split == "test"]
    if len(training) < 2:
        raise InputError(
            f"{data}: {len(training)} pair{'s' * (len(training) != 1)} to train on; Algorithm 1 needs at least 2, for "
            "its disjoint meta-train and meta-test pools"
        )
    if not (tests or held_out):
        raise InputError(
            f"{data}: no pair is left to score; at least 10 pairs are needed, of which every tenth is held out, or a "
            "validation or test part"
        )
    parts = {"train": training, "validation": held_out, "test": tests}
    marked = [replace(pair, split=part) for part, members in parts.items() for pair in members]
    return marked, "test" if tests else "validation"


def _require_same(out: Path, about: dict[str, Any]) -> None:
    try:
        before = json.loads((out / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{out / ABOUT} cannot be read: {error}; choose another --out") from None
    for key, value in about.items():
        if before.get(key) != value:
            raise InputError(
                f"{out} holds an experiment with {key} = {before.get(key)!r}, which is not {value!r}; "
                "choose another --out, or give what it was begun with"
            )


def current_commit() -> str:
    """The commit of the checkout that runs, marked where the package was changed since; else the package's version."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed package may lie in a checkout of something else
        return git("rev-parse", "HEAD").strip() + (" with changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
