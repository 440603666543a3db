"""One folder, or two: listed without asking the disk for every file, and their files brought together by name."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from refusion_jax.data import datasets
from refusion_jax.data.datasets import LETTERS, Affix, Row, fold
from refusion_jax.data.pairs import Unpaired
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS
from refusion_jax.imaging.raw import without_raw_doubles
from refusion_jax.volumes.dicom import is_series
from refusion_jax.volumes.nifti import is_nifti

MAX_DEPTH = 8


@dataclass(frozen=True)
class Listing:
    """The names of the folders, images (NIfTI volumes among them) and other files directly in a folder, each sorted,
    hidden ones left out."""

    folder: Path
    folders: tuple[str, ...]
    images: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of the images, as they are compared."""
        return frozenset(fold(stem_of(name)) for name in self.images)


class Tree:
    """Lists folders, each at most once."""

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}

    def scan(self, folder: Path) -> Listing:
        """The folder's listing. Raises InputError where it cannot be listed."""
        key = os.fspath(folder)
        if key not in self.listings:
            self.listings[key] = _scan(folder)
        return self.listings[key]

    def is_series(self, folder: Path) -> bool:
        """Whether DICOM files, and no pictures, lie directly in a folder."""
        listing = self.scan(folder)
        return bool(listing.others) and not listing.images and is_series(folder)

    def files_below(self, folder: Path, above: frozenset[str] = frozenset()) -> list[tuple[tuple[str, ...], Path]]:
        """(path below the folder in parts, path) of every image in the folder or, if there is none, further below. A
        folder of a DICOM series is one."""
        listing = self.scan(folder)
        found = [((name,), folder / name) for name in listing.images]
        if found and not above:
            return found
        real = os.path.realpath(folder)
        if real in above or len(above) >= MAX_DEPTH:
            return []
        for name in listing.folders:
            if self.is_series(folder / name):
                found.append(((name,), folder / name))
                continue
            found += [((name, *parts), path) for parts, path in self.files_below(folder / name, above | {real})]
        return found


def _scan(folder: Path) -> Listing:
    folders, images, others = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                # The kind of an entry comes with the listing; only links cost a look at the disk.
                if (
                    os.path.splitext(name)[1].lower() in READABLE_EXTENSIONS or is_nifti(Path(name))
                ) and entry.is_file():
                    images.append(name)
                else:
                    (folders if entry.is_dir() else others).append(name)
    except OSError as error:
        raise InputError(f"{folder}: cannot list the folder: {error.strerror}") from error
    return Listing(folder, tuple(sorted(folders)), tuple(sorted(without_raw_doubles(images))), tuple(sorted(others)))


VOLUMES = frozenset({".nii", ".nii.gz", ".dcm", ".mha", ".mhd", ".nrrd", ".ima", ".hdr"})


def what_is_there(names: Iterable[str]) -> str:
    """What files lie where images were expected, in words, the most frequent type first; empty for none."""
    types = Counter(_type_of(name) for name in names)
    words = [
        f"{count} file{'s' if count > 1 else ''} {f'of type {kind}' if kind else 'without an extension'}"
        + (" (volumes: docs/volumes.md says which are read)" if kind in VOLUMES else "")
        for kind, count in types.most_common(3)
    ]
    return ", ".join(words) + (" and others" if len(types) > 3 else "")


def _type_of(name: str) -> str:
    stem, extension = os.path.splitext(name.lower())
    return (os.path.splitext(stem)[1] if extension == ".gz" else "") + extension


def stem_of(name: str) -> str:
    """A file's name without its extension, .nii.gz being one."""
    stem, extension = os.path.splitext(name)
    return os.path.splitext(stem)[0] if extension.lower() == ".gz" else stem


def same_stem(one: Path, other: Path) -> str:
    """What to do about two files of one stem."""
    return f"{one} and {other} have the same stem; keep one of them"


# Files of one folder.


@dataclass
class FilePairs:
    """The pairs of files in one folder, by one row of the table.

    Attributes:
      pairs: name -> file of source 1, file of source 2.
      forms: what the two are called, such as NAME_A and NAME_B.
      alone: (file, name of the missing one, without extension) of files clearly meant to have a partner.
      clashes: two files of one stem.
    """

    row: Row
    clashes: list[tuple[str, str]]
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    forms: tuple[str, str] = ("", "")
    alone: list[tuple[str, str]] = field(default_factory=list)


def file_pairs(listing: Listing, task: str | None = None) -> FilePairs | None:
    """The pairs in one folder, by the first row of the table that makes one: words, then letters, then numbers.

    Without any pair, the first row with a file that is named as its folder is and lacks its partner; else None.
    """
    by_row: dict[Row, _Files] = {}
    for name in listing.images:
        for affix in datasets.endings(stem_of(name)):
            files = by_row.setdefault(affix.row, {})
            files.setdefault((fold(affix.base), affix.side), []).append((name, affix))
    if not by_row:
        return None
    found = [_of_row(listing, row, by_row[row]) for row in datasets.rows(task) if row in by_row]
    return next((one for one in found if one.pairs), next((one for one in found if one.alone), None))


_Files = dict[tuple[str, int], list[tuple[str, Affix]]]  # base as compared, side -> files of that stem


def _of_row(listing: Listing, row: Row, files: _Files) -> FilePairs:
    result = FilePairs(row, [(same[0][0], name) for same in files.values() for name, _ in same[1:]])
    bases = sorted({base for base, _ in files})
    complete = {base for base in bases if (base, 1) in files and (base, 2) in files}
    for base in bases:
        if base in complete:
            (one, affix), (other, affix_2) = files[base, 1][0], files[base, 2][0]
            result.pairs[affix.base or listing.name] = one, other
            result.forms = affix.form, affix_2.form
            continue
        side = 1 if (base, 1) in files else 2
        name, affix = files[base, side][0]
        letter = row.order == LETTERS and not affix.word.isdecimal()
        if len(complete) > 1 or not complete and letter and base == fold(listing.name):
            partner = datasets.file_words(row.second if side == 1 else row.first)[0]
            result.alone.append((name, stem_of(name)[: -len(affix.word)] + partner))
    return result


def has_pairs(listing: Listing) -> bool:
    """Whether two of the files in a folder are a pair."""
    files = file_pairs(listing)
    return files is not None and bool(files.pairs)


def bracket(listing: Listing) -> list[list[str]]:
    """The images of each number of a folder that holds one picture numbered through, in order; of another none.

    Either 1.JPG, 2.JPG, ... (SICE) or NAME_1, NAME_2, ..., and nothing else but what has no number.
    """
    scenes: dict[str, dict[int, list[str]]] = {}
    for name in listing.images:
        if match := re.fullmatch(r"(\d+)|(.+)_(\d{1,6})", stem_of(name)):
            scenes.setdefault(fold(match[2] or ""), {}).setdefault(int(match[1] or match[3]), []).append(name)
    if len(scenes) != 1:
        return []
    (files,) = scenes.values()
    return [files[number] for number in sorted(files)]


# Files of two folders.


class Found(NamedTuple):
    """A pair before its name is settled: the name in parts, source 1, source 2."""

    parts: tuple[str, ...]
    a: Path
    b: Path


class Matched(NamedTuple):
    """What two source folders have in common, and what is wrong with them."""

    found: list[Found]
    unpaired: list[Unpaired]
    errors: list[str]


_Stems = dict[tuple[str, ...], tuple[tuple[str, ...], Path]]  # as compared -> (as written, file)


def match_files(first: Sequence[Path], second: Sequence[Path]) -> Matched:
    """The pairs of two lists of files by their stems, as `match_folders` finds them in two folders."""
    errors: list[str] = []
    stems = []
    for files in (first, second):
        own: _Stems = {}
        for path in files:
            parts = (stem_of(path.name),)
            _, earlier = own.setdefault(tuple(map(fold, parts)), (parts, path))
            if earlier != path:
                errors.append(same_stem(earlier, path))
        stems.append(own)
    return _matched(stems, ("the files of source 1", "the files of source 2"), errors)


def match_folders(tree: Tree, first: Path, second: Path, numbered: bool = False) -> Matched:
    """The pairs of equal stems below two folders, in any mix of formats and of case.

    Where no stem is equal, names that differ by what says their source are pairs too: 001_A with 001_B, VIS7 with
    IR7. numbered: also by _1 and _2, which are otherwise different scenes. Two folders that are DICOM series
    are one pair, whose name is that of the folder that both are in.
    """
    if tree.is_series(first) and tree.is_series(second):
        return Matched([Found((), first, second)], [], [])
    errors: list[str] = []
    stems = [_stems(tree, folder, errors) for folder in (first, second)]
    for folder, own in zip((first, second), stems, strict=True):
        if not own:
            there = what_is_there(tree.scan(folder).others)
            return Matched(
                [], [], [*errors, f"{folder}: expected images of pairs, found none{there and ', but '}{there}"]
            )
    return _matched(stems, (str(first), str(second)), errors, numbered)


def _matched(stems: list[_Stems], names: tuple[str, str], errors: list[str], numbered: bool = False) -> Matched:
    """The pairs of two sources, which are called so."""
    if not stems[0].keys() & stems[1].keys():
        stems = _without_affixes(stems, numbered)
    one, other = stems
    found = [Found(parts, path, other[key][1]) for key, (parts, path) in one.items() if key in other]
    alone = [Unpaired(one[key][1], f"nothing of that stem in {names[1]}") for key in one.keys() - other.keys()]
    alone += [Unpaired(other[key][1], f"nothing of that stem in {names[0]}") for key in other.keys() - one.keys()]
    return Matched(found, sorted(alone, key=lambda unpaired: unpaired.path), errors)


def _stems(tree: Tree, folder: Path, errors: list[str]) -> _Stems:
    stems: _Stems = {}
    for parts, path in tree.files_below(folder):
        parts = (*parts[:-1], stem_of(parts[-1]))
        _, earlier = stems.setdefault(tuple(map(fold, parts)), (parts, path))
        if earlier != path:
            errors.append(same_stem(earlier, path))
    return stems


def _without_affixes(stems: list[_Stems], numbered: bool) -> list[_Stems]:
    """The same by what remains of the stems without the end, or else the beginning, that says the source."""
    for affixes in (datasets.endings, datasets.beginnings):
        one, other = (_shorter(own, side, affixes, numbered) for side, own in enumerate(stems, 1))
        for row in one:
            if one[row].keys() & other.get(row, {}).keys():
                return [_replaced(*both) for both in zip(stems, (one[row], other[row]), strict=True)]
    return stems


def _shorter(stems: _Stems, side: int, affixes: Callable[[str], list[Affix]], numbered: bool) -> dict[Row, _Stems]:
    by_row: dict[Row, _Stems] = {}
    for parts, path in stems.values():
        for affix in affixes(parts[-1]):
            if affix.base and affix.side == side and (numbered or not affix.word.isdecimal()):
                shorter = (*parts[:-1], affix.base)
                by_row.setdefault(affix.row, {})[tuple(map(fold, shorter))] = (shorter, path)
    return by_row


def _replaced(stems: _Stems, shorter: _Stems) -> _Stems:
    gone = {path for _, path in shorter.values()}
    return shorter | {key: value for key, value in stems.items() if value[1] not in gone}
