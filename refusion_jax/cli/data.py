"""The command data: look over a folder of pairs or a manifest, write manifests."""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from refusion_jax.cli.common import add_reading_options, level_rules, printable, program, progress_bar, run_command
from refusion_jax.data import manifest
from refusion_jax.data.check import CONTENT, KINDS, UNREADABLE, Survey, survey
from refusion_jax.data.pairs import SPLITS, Discovery, Pair, split_validation
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover, is_manifest
from refusion_jax.data.slices import Sliced, has_volumes, sliced
from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Rule
from refusion_jax.runtime.disk import scratch_folder
from refusion_jax.tasks import task_name

SHOWN = 20  # lines of one kind of problem, unless --all


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program("data"),
        description="Says which pairs a folder or a manifest (.csv) holds and what is wrong with them. Exit status 0: "
        "nothing; 1: problems were found; 2: bad input, such as a folder without any pair.",
    )
    p.add_argument("data", metavar="DIR|FILE.csv", type=Path, help="a folder of pairs, or a manifest")
    p.add_argument("--task", help="ivif, mif, mfif or meie (meif means meie); without it, by the names")
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
    add_reading_options(p)
    p.add_argument("--root", metavar="DIR", type=Path, help="folder of a manifest's files, if not the one it names")
    p.add_argument(
        "--quick", action="store_true", help="look at names and sizes alone: decode no picture, check no hash"
    )
    p.add_argument("--all", action="store_true", help=f"print all problems, not only the first {SHOWN} of a kind")
    return p


def describe(found: Discovery, task: str | None) -> list[str]:
    """What was recognised, in lines."""
    several = len(found.groups) > 1
    lines = [str(found.source)]
    for group in found.groups:
        lines += [
            f"  layout     {group.layout}",
            f"  task       {group.task or 'not in the names' + (f'; {task} given' if task else '')}",
            f"  source 1   {_listed(group.first)}",
            f"  source 2   {_listed(group.second)}",
            f"  order      {group.order}",
        ]
        lines += [f"  pairs      {group.count}", ""] if several else []
    splits = Counter(pair.split for pair in found.pairs)
    counts = [f"{splits[part]} {part}" for part in SPLITS if splits[part]]
    counts += [f"{splits[None]} of no part"] if counts and splits[None] else []
    lines.append(
        f"  {'all pairs ' if several else 'pairs     '} {len(found.pairs)}"
        + (f" ({', '.join(counts)})" if counts else "")
    )
    if found.aside:
        names = Counter(folder.name for folder in found.aside)
        aside = [f"{name}/" + (f" ({count} folders)" if count > 1 else "") for name, count in names.items()]
        lines.append(f"  not used   {_listed(aside)}")
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
    path: Path, pairs: Sequence[Pair], root: Path, task: str | None, known: dict[str, tuple[str, str]]
) -> str:
    """Writes a manifest; returns a line about it. known: hashes of files that need not be computed."""
    hashes = {}
    with progress_bar(len(pairs), "pair", "hashes") as bar:
        for pair in pairs:
            hash_a, hash_b = known.get(pair.name, ("", ""))
            hashes[pair.name] = (hash_a or manifest.file_hash(pair.a), hash_b or manifest.file_hash(pair.b))
            bar.update()
    total = manifest.write(path, pairs, root, task, hashes)
    splits = Counter(pair.split for pair in pairs)
    counts = ", ".join(f"{splits[part]} {part}" for part in SPLITS if splits[part])
    return f"wrote {path}: {len(pairs)} pairs ({counts}), sha256 {total}"


def find(arguments) -> tuple[Discovery, manifest.Manifest | None]:
    """What the folder or the manifest holds, and the manifest; InputError if it is no pair."""
    data, listed = arguments.data, None
    task = task_name(arguments.task) if arguments.task else None
    if is_manifest(data):
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
    return found, listed


def run(arguments) -> int:
    """Looks, prints, writes; returns 0, or 1 where problems were found."""
    if arguments.manifest is not None:
        manifest.check_new(arguments.manifest)
    split_validation([], arguments.validation_every)  # an error now rather than after the reading
    level_rules(arguments)
    found, listed = find(arguments)
    task = task_name(arguments.task) if arguments.task else found.task
    print(printable_lines(describe(found, task)), flush=True)

    with tempfile.TemporaryDirectory(prefix="slices-", dir=scratch_folder()) as folder:
        result, count, rules = looked_over(found, task, arguments, Path(folder))
    if listed is not None and listed.hashes and not arguments.quick:
        with progress_bar(len(found.pairs), "pair", "hashes") as bar:
            result.add(CONTENT, manifest.check_hashes(listed, bar.update))
    lines = report(result, count, arguments.quick, None if arguments.all else SHOWN)
    if arguments.manifest is not None:
        pairs = [pair for pair in found.pairs if pair.name not in result.unsound]
        if not pairs:
            print(printable_lines(lines))
            raise InputError(f"none of the {len(found.pairs)} pairs is sound, so {arguments.manifest} was not written")
        root, known = (arguments.data, {}) if listed is None else (listed.root, listed.hashes)
        if rules is not None:
            pairs = [dataclasses.replace(pair, levels=rules) for pair in pairs]
        pairs = with_split(pairs, arguments.validation_every)
        line = write_manifest(arguments.manifest, pairs, root, task, known)
        lines.append(line + (f"; left out: {_counted(len(result.unsound), 'pair')}" if result.unsound else ""))
    print(printable_lines(lines))
    return 1 if result.count else 0


def looked_over(
    found: Discovery, task: str | None, arguments, folder: Path
) -> tuple[Survey, int, tuple[Rule, Rule] | None]:
    """(what a survey of the pairs finds, their number, the levels they are read with). Of volumes, whose pictures go to
    the folder, the slices are looked at; a pair of volumes with a slice that is not sound is not sound."""
    rules, volumes, cut = level_rules(arguments), found, Sliced([], {}, [])
    if has_volumes(found.pairs):
        if arguments.quick:
            raise InputError("--quick looks at the headers of pictures; leave it out for volumes")
        with progress_bar(len(found.pairs), "pair", "slices") as bar:
            cut = sliced(found.pairs, folder, rules, 0, arguments.max_pixels, bar.update)
        remarks = (*found.remarks, *cut.remarks)
        found = dataclasses.replace(found, pairs=tuple(cut.pairs), remarks=remarks)
    with progress_bar(len(found.pairs), "pair", "pairs") as bar:
        threads = min(4, os.cpu_count() or 1)
        reader = PairReader(task, None if found is not volumes else rules, arguments.max_pixels).over(found.pairs)
        result = survey(found, task, reader=reader, headers_only=arguments.quick, progress=bar.update, threads=threads)
    if found is volumes:
        return result, len(found.pairs), reader.rules
    result.add(UNREADABLE, cut.errors.values())
    result.unsound = {name.rpartition("/axial_")[0] or name for name in result.unsound} | set(cut.errors)
    return result, len(found.pairs), rules


def report(result: Survey, count: int, quick: bool, most: int | None) -> list[str]:
    """Remarks and problems, in lines."""
    lines = [f"  note: {remark}" for remark in result.remarks]
    for kind in KINDS:
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
