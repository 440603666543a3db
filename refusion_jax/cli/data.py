"""The command data: look over a folder of pairs or a manifest, write manifests."""

import argparse
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from refusion_jax.cli.common import printable, program, run_command
from refusion_jax.data import check as survey
from refusion_jax.data import manifest
from refusion_jax.data.pairs import SPLITS, Discovery, Pair, split_validation
from refusion_jax.data.search import discover
from refusion_jax.errors import InputError
from refusion_jax.tasks import TASK_ALIASES, TASKS, nearest

SHOWN = 20  # lines of one kind of problem, unless --all


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program("data"),
        description="Says which pairs a folder or a manifest (.csv) holds and what is wrong with them. Exit status 0: "
        "nothing; 1: problems were found; 2: bad input, such as a folder without any pair.",
    )
    p.add_argument("data", metavar="DIR|FILE.csv", type=Path, help="a folder of pairs, or a manifest")
    p.add_argument("--task", help="ivif, mif, mfif or meie (meif means meie); without it, what the names tell")
    p.add_argument(
        "--manifest",
        metavar="FILE.csv",
        type=Path,
        help="write the sound pairs as a manifest, with the hash of every file",
    )
    p.add_argument(
        "--validation-every",
        type=int,
        default=10,
        metavar="N",
        help="mark every N-th pair by sorted name as validation in the manifest, where nothing else says "
        "which (default 10, as in training; 0: none)",
    )
    p.add_argument(
        "--exposures",
        nargs=2,
        type=int,
        metavar=("I", "J"),
        help="of brackets take exposures I and J, counted from 1, or from the end with -1, -2, ..., instead "
        "of the darkest and the brightest",
    )
    p.add_argument("--root", metavar="DIR", type=Path, help="folder of a manifest's files, if not the one it names")
    p.add_argument(
        "--quick", action="store_true", help="look at names and sizes alone: decode no picture, check no hash"
    )
    p.add_argument("--all", action="store_true", help=f"print all problems, not only the first {SHOWN} of a kind")
    return p


@contextmanager
def _bar(total: int, what: str):
    """A progress bar for what takes more than a second; gives what is to be called after each item."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=total, desc=what, unit="pair", mininterval=interval, delay=1, leave=False) as bar:
        yield bar.update


def _task(given: str | None) -> str | None:
    if given is None:
        return None
    task = TASK_ALIASES.get(given.lower(), given.lower())
    if task not in TASKS:
        raise InputError(f"unknown task {given!r}{nearest(given, TASKS)}")
    return task


def describe(found: Discovery, task: str | None) -> list[str]:
    """What was recognised, in lines."""
    lines = [str(found.source)]
    splits = Counter(pair.split for pair in found.pairs)
    told = ", ".join(f"{splits[part]} {part}" for part in (*SPLITS, None) if part in splits and part)
    rest = f", {splits[None]} of no part" if told and splits[None] else ""
    for group in found.groups:
        lines.append(f"  layout     {group.layout}")
        lines.append(f"  task       {group.task or 'not told by the names' + (f'; {task} given' if task else '')}")
        lines.append(f"  source 1   {_listed(group.first)}")
        lines.append(f"  source 2   {_listed(group.second)}")
        lines.append(f"  order      {group.order}")
        if len(found.groups) > 1:
            lines.append(f"  pairs      {group.count}")
            lines.append("")
    lines.append(
        f"  {'all pairs ' if len(found.groups) > 1 else 'pairs     '} {len(found.pairs)}"
        + (f" ({told}{rest})" if told else "")
    )
    if found.aside:
        names = Counter(folder.name for folder in found.aside)
        lines.append(
            "  not used   " + _listed([f"{name}/" + (f" ({n} folders)" if n > 1 else "") for name, n in names.items()])
        )
    return lines


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def with_split(pairs: Sequence[Pair], every: int) -> list[Pair]:
    """The pairs with the split that a training would make of them written into each."""
    held_out = {pair.name for pair in split_validation(pairs, every)[1]}
    return [
        pair
        if pair.split in ("test", "validation")
        else dataclasses.replace(pair, split="validation" if pair.name in held_out else "train")
        for pair in pairs
    ]


def write_manifest(
    path: Path, found: Discovery, task: str | None, root: Path, known: dict, unsound: set[str], every: int
) -> str:
    """Writes the sound pairs; returns what to say. known: hashes that a manifest has brought along."""
    pairs = [pair for pair in found.pairs if pair.name not in unsound]
    if not pairs:
        raise InputError(f"none of the {len(found.pairs)} pairs is sound, so {path} was not written")
    hashes = {}
    with _bar(len(pairs), "hashes") as advance:
        for pair in pairs:
            both = known.get(pair.name, ("", ""))
            hashes[pair.name] = tuple(
                value or manifest.file_hash(file) for value, file in zip(both, (pair.a, pair.b), strict=True)
            )
            advance()
    pairs = with_split(pairs, every)
    total = manifest.write(path, pairs, root, task, hashes)
    splits = Counter(pair.split for pair in pairs)
    counts = ", ".join(f"{splits[part]} {part}" for part in SPLITS if splits[part])
    left_out = f"; {len(unsound)} left out" if unsound else ""
    return f"wrote {path}: {len(pairs)} pairs ({counts}{left_out}), sha256 {total}"


def run(arguments) -> int:
    """Looks, prints, writes; returns 0, or 1 where problems were found."""
    task, data = _task(arguments.task), arguments.data
    if arguments.manifest is not None:
        manifest.check_new(arguments.manifest)
    split_validation([], arguments.validation_every)  # an error now rather than after the reading
    listed = None
    if data.suffix.lower() == ".csv" and not os.path.isdir(data):
        if arguments.exposures:
            raise InputError("--exposures are of a folder of brackets; a manifest has its pairs chosen already")
        listed = manifest.read(data, task, arguments.root)
        found = listed.as_discovery()
    else:
        if arguments.root is not None:
            raise InputError("--root is for a manifest; for a folder, give the folder itself")
        found = discover(data, task, exposures=tuple(arguments.exposures) if arguments.exposures else None)
    if not found.pairs:
        found.require()
    task = task or found.task
    print(printable_lines(describe(found, task)), flush=True)

    with _bar(len(found.pairs), "pairs") as advance:
        result = survey.survey(
            found, task, headers_only=arguments.quick, progress=advance, threads=min(4, os.cpu_count() or 1)
        )
    if listed is not None and listed.hashes and not arguments.quick:
        with _bar(len(found.pairs), "hashes") as advance:
            result.add(survey.CONTENT, manifest.check_hashes(listed, advance))
    print(printable_lines(report(result, len(found.pairs), arguments.quick, None if arguments.all else SHOWN)))
    if arguments.manifest is not None:
        root = listed.root if listed is not None else data
        known = listed.hashes if listed is not None else {}
        print(
            printable(
                write_manifest(arguments.manifest, found, task, root, known, result.unsound, arguments.validation_every)
            )
        )
    return 1 if result.count else 0


def report(result: survey.Survey, count: int, quick: bool, most: int | None) -> list[str]:
    """Remarks and problems, in lines."""
    lines = [f"  note: {remark}" for remark in result.remarks]
    for kind in survey.KINDS:
        problems = result.problems.get(kind, [])
        if problems:
            lines.append(f"{kind}: {len(problems)}")
            lines += [f"  {line}" for line in problems[:most]]
            if most is not None and len(problems) > most:
                lines.append(f"  and {len(problems) - most} more (--all prints them)")
    looked = "names and sizes" if quick else "names, sizes, contents, order and registration"
    lines.append(
        f"{_counted(result.count, 'problem')} in {_counted(count, 'pair')} ({looked})"
        if result.count
        else f"no problems in {_counted(count, 'pair')} ({looked})"
    )
    return lines


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def printable_lines(lines: Sequence[str]) -> str:
    """The lines as one text, whatever the names in them hold."""
    return "\n".join(map(printable, lines))


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
