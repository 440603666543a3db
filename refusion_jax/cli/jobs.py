"""What the command fuse reads and writes: one job per pair or stack, no result over an input or another result."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.data.captures import by_capture
from refusion_jax.data.check import swapped_names
from refusion_jax.data.folders import what_is_there
from refusion_jax.data.pairs import natural_key
from refusion_jax.data.reading import Rules
from refusion_jax.data.search import discover, expanded, pairs_from_arguments
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS, WRITABLE_FORMATS, pages_of
from refusion_jax.imaging.radiometric import THERMAL, VISIBLE, require_two_pictures
from refusion_jax.imaging.raw import without_raw_doubles

BY_EXIF = "exif"  # of --group


@dataclass(frozen=True)
class Sources:
    """What one picture is made of: a pair, or the frames of a stack."""

    name: str
    paths: tuple[Path, ...]
    stack: bool = False
    levels: Rules | None = None
    pages: tuple[int, ...] | None = None


def find_sources(
    pairs: Sequence[Sequence[str]],
    data: str | None,
    stacks: Sequence[Sequence[str]],
    task: str | None,
    group: int | str | None = None,
) -> tuple[list[Sources], list[str]]:
    """Everything that --pair, --data and --stack name, in this order, and what to know of the order of the sources.

    group: how many frames of a --stack make one picture, or BY_EXIF; None: all. InputError for what is not there.
    """
    found = [pair for words in pairs if len(words) == 2 for pair in pairs_from_arguments(*words)]
    remarks: list[str] = []
    if data:
        discovery = discover(data, task).require()
        found += discovery.pairs
        remarks += discovery.remarks
    swapped = [] if task == "meie" else [line for pair in found for _, line in swapped_names(pair)]
    if swapped:
        remarks.append(
            f"{swapped[0]}"
            + (f"; so it is with {len(swapped) - 1} more" if len(swapped) > 1 else "")
            + "; the order matters: give the first source first"
        )
    stacked = [stack for words in stacks for stack in _stacks(words, group, remarks)]
    both = [two for words in pairs if len(words) == 1 for two in _two_in_one(words)]
    return [Sources(pair.name, (pair.a, pair.b), levels=pair.levels) for pair in found] + both + stacked, remarks


def _two_in_one(words: Sequence[str]) -> list[Sources]:
    """The pairs of files that hold a thermal and a visible picture each, and of those in folders."""
    files = _frames(words)
    for file in files:
        require_two_pictures(file)
    return [Sources(file.stem, (file, file), pages=(THERMAL, VISIBLE)) for file in files]


def _stacks(words: Sequence[str], group: int | str | None, remarks: list[str]) -> list[Sources]:
    """The stacks that one --stack names: pictures, or those directly in a folder, in natural order, as one or in
    groups; each TIFF of several pages as a stack of its own. Frames that are left out are said in the remarks."""
    frames = _frames(words)
    counts = [pages_of(frame) for frame in frames]
    if frames and min(counts) > 1 and group is None:
        return [
            Sources(frame.stem, (frame,) * count, stack=True, pages=tuple(range(count)))
            for frame, count in zip(frames, counts, strict=True)
        ]
    if len(frames) < 2:
        raise InputError(f"--stack needs two or more pictures, got {len(frames)}: {', '.join(map(str, frames))}")
    if group is None:
        folder = Path(words[0])
        is_one_folder = len(words) == 1 and folder.is_dir()
        return [Sources(folder.resolve().name if is_one_folder else frames[0].stem, tuple(frames), stack=True)]
    if group == BY_EXIF:
        found = by_capture(frames)
        if alone := [files[0].name for files in found if len(files) < 2]:
            remarks.append(f"left out, taken alone by their EXIF: {', '.join(alone)}")
        groups = [tuple(files) for files in found if len(files) > 1]
        if not groups:
            raise InputError("--group exif: each frame was taken alone, by its EXIF; --group N takes every N by name")
        return [Sources(files[0].stem, files, stack=True) for files in groups]
    group = int(group)
    if len(frames) % group:
        raise InputError(f"--group {group}: {len(frames)} frames are no whole number of groups; take some away")
    groups = [tuple(frames[i : i + group]) for i in range(0, len(frames), group)]
    return [Sources(files[0].stem, files, stack=True) for files in groups]


def _frames(words: Sequence[str]) -> list[Path]:
    """The pictures named, and those directly in the folders named, these in natural order."""
    frames: list[Path] = []
    for path in (path for word in words for path in expanded(word)):
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
            images = [p for p in inside if p.suffix.lower() in READABLE_EXTENSIONS]
            if not images:
                there = what_is_there(p.name for p in inside)
                raise InputError(f"{path}: expected a folder of pictures, found none{there and ', but '}{there}")
            names = set(without_raw_doubles([p.name for p in images]))
            images = [p for p in images if p.name in names]
            frames += sorted(images, key=lambda p: natural_key(p.name.casefold()))
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder")
        else:
            frames.append(path)
    return frames


@dataclass(frozen=True)
class Job:
    """One picture to make: a name, the files it is made of (two of a pair, any number of a stack), the result's path,
    those of the maps w and v (none or two), whether it is a stack, and the levels that a manifest gives its sources."""

    name: str
    sources: tuple[Path, ...]
    fused: Path
    maps: tuple[Path, ...] = ()
    stack: bool = False
    levels: Rules | None = None
    pages: tuple[int, ...] | None = None
    """Of each source, where they are those of a TIFF."""
    positions: tuple[Path, ...] = ()
    """Of a focus stack: NAME_index.png and NAME_depth.png, where they are asked for."""

    @property
    def results(self) -> tuple[Path, ...]:
        """All files that it writes."""
        return (self.fused, *self.maps, *self.positions)


def plan_jobs(
    sets: Sequence[Sources], out: Path, extension: str | None = None, maps: bool = False, positions: Sequence[str] = ()
) -> list[Job]:
    """The jobs of sets of sources, in order.

    out: a picture's name (for one set) or a folder. extension: of the pictures in a folder, with its dot (default
    .png). maps: also plan NAME_w.png and NAME_v.png. positions: of stacks, also NAME_index.png and NAME_depth.png.
    Raises InputError when `out` can be neither, when two results would be one file and when one would be a source.
    """
    paths = _result_paths([one.name for one in sets], out, extension)
    jobs = []
    for one, path in zip(sets, paths, strict=True):
        stem = path.name[: -len(path.suffix)]
        extra = tuple(path.with_name(f"{stem}_{kind}.png") for kind in "wv") if maps else ()
        places = tuple(path.with_name(f"{stem}_{kind}.png") for kind in positions) if one.stack else ()
        jobs.append(Job(one.name, one.paths, path, extra, one.stack, one.levels, one.pages, places))
    check_results(jobs)
    return jobs


def _result_paths(names: Sequence[str], out: Path, extension: str | None) -> list[Path]:
    """Where the pictures of these names go."""
    suffix = out.suffix.lower()
    if suffix in WRITABLE_FORMATS and not out.is_dir():
        if len(names) > 1:
            raise InputError(f"--out {out} names one picture, but there are {len(names)} pairs; give a folder")
        if extension and WRITABLE_FORMATS[suffix] != WRITABLE_FORMATS[extension]:
            raise InputError(f"--out {out} and --format {extension[1:]} disagree; leave out --format")
        return [out]
    if not out.is_dir() and (suffix in READABLE_EXTENSIONS or out.exists()):
        known = " ".join(sorted(WRITABLE_FORMATS))
        raise InputError(f"cannot write pictures to --out {out}; expected a folder or a name with one of {known}")
    # A name is kept whole: with_suffix would take dots in it for extensions.
    return [out / f"{name}{extension or '.png'}" for name in names]


def check_extra(path: Path, jobs: Iterable[Job], option: str) -> None:
    """InputError when a file of another option would take the place of a source or of a result."""
    other = overwritten(path, (file for job in jobs for file in (*job.sources, *job.results)))
    if other is not None:
        raise InputError(f"{option} {path} would overwrite {other}; choose another name")


def overwritten(path: Path, files: Iterable[Path]) -> Path | None:
    """The first of these files that writing to `path` would replace; None where there is none."""
    real, identity = os.path.realpath(path), _identity(path)
    return next(
        (file for file in files if os.path.realpath(file) == real or identity and _identity(file) == identity), None
    )


def jobs_waiting(jobs: Sequence[Job], skip_existing: bool) -> list[Job]:
    """The jobs to do; says how many are left out since all their results are there."""
    waiting = [job for job in jobs if not (skip_existing and all(map(_is_written, job.results)))]
    if len(waiting) < len(jobs):
        print(f"skipped {len(jobs) - len(waiting)} of {len(jobs)}: fused already")
    return waiting


def _is_written(result: Path) -> bool:
    """Whether a result is there: a file, or a folder with a DICOM series."""
    return any(result.glob("*.dcm")) if result.is_dir() else result.exists()


def exit_status(failed: int, count: int) -> int:
    """That of the command when so many of `count` pairs failed, each of them named before; says how many."""
    if failed:
        print(f"error: {failed} of {count} pairs could not be fused (named above)", file=sys.stderr)
    return 1 if failed else 0


def make_folders(paths: Iterable[Path]) -> None:
    """The folders of the results; InputError where one cannot be made or written to, before any work is done."""
    for folder in dict.fromkeys(path.parent for path in paths):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from None
        if not os.access(folder, os.W_OK):
            raise InputError(f"cannot write to the folder {folder}: permission denied; choose another --out")


def check_results(jobs: Sequence[Job]) -> None:
    """InputError when two results would be one file and when one would be a source."""
    sources = {os.path.realpath(path) for job in jobs for path in job.sources}
    # By device and number too: where case does not count, and for hard links, names do not tell.
    identities = {_identity(path) for path in sources} - {None}
    seen: dict[str, Job] = {}
    for job in jobs:
        for path in job.results:
            real = os.path.realpath(path)
            if real in sources or _identity(path) in identities:
                raise InputError(f"the result {path} would overwrite an input; choose another --out")
            if real in seen:
                raise InputError(
                    f"results of {seen[real].sources[0]} and {job.sources[0]} would both be written to {path}; "
                    "fuse them into different --out folders"
                )
            seen[real] = job


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
