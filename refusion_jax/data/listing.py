"""Folders listed once, without asking the disk for every file; stems; and two source folders matched by them."""

import os
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.data import layouts
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS

MAX_DEPTH = 8


@dataclass(frozen=True)
class Listing:
    """The names of the folders and images directly in a folder, each sorted; hidden ones left out."""

    folder: Path
    folders: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A pair before its name is settled: the name in parts, source 1, source 2."""

    parts: tuple[str, ...]
    a: Path
    b: Path


@dataclass(frozen=True)
class Unpaired:
    """A file without partner, and what was looked for."""

    path: Path
    missing: str


class Tree:
    """Lists folders, each at most once."""

    def __init__(self) -> None:
        self._known: dict[str, Listing] = {}

    def scan(self, folder: Path) -> Listing:
        """The folder's listing. Raises InputError where it cannot be listed."""
        key = os.fspath(folder)
        if key not in self._known:
            self._known[key] = _scan(folder)
        return self._known[key]

    def below(self, listing: Listing) -> list[Listing]:
        """The listings of the folders in a folder."""
        return [self.scan(listing.folder / name) for name in listing.folders]

    def files_below(self, folder: Path, above: frozenset[str] = frozenset()) -> list[tuple[tuple[str, ...], Path]]:
        """(path below the folder in parts, path) of every image in the folder or, if there is none, further below."""
        listing = self.scan(folder)
        if listing.images and not above:
            return [((name,), folder / name) for name in listing.images]
        real = os.path.realpath(folder)
        if real in above or len(above) >= MAX_DEPTH:
            return []
        found = [((name,), folder / name) for name in listing.images]
        for name in listing.folders:
            deeper = self.files_below(folder / name, above | {real})
            found += [((name, *parts), path) for parts, path in deeper]
        return found


def _scan(folder: Path) -> Listing:
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                # The kind of an entry comes with the listing; only links cost a look at the disk.
                if os.path.splitext(name)[1].lower() in READABLE_EXTENSIONS and entry.is_file():
                    images.append(name)
                elif entry.is_dir():
                    folders.append(name)
    except OSError as error:
        raise InputError(f"{folder}: cannot list the folder: {error.strerror}") from error
    return Listing(folder, tuple(sorted(folders)), tuple(sorted(images)))


def stem_of(name: str) -> str:
    """A file's name without its extension."""
    return os.path.splitext(name)[0]


def folded_stems(listing: Listing) -> set[str]:
    """The stems of a folder's images, as they are compared."""
    return {layouts.fold(stem_of(name)) for name in listing.images}


@dataclass(frozen=True)
class Matched:
    """Two source folders brought together."""

    found: list[Found]
    unpaired: list[Unpaired]
    errors: list[str]


_Stems = dict[tuple[str, ...], tuple[tuple[str, ...], Path]]


def match(tree: Tree, first: Path, second: Path, numbered: bool = False) -> Matched:
    """The pairs of equal stems below two folders, in any mix of formats and of case.

    Where no stem is equal, names that differ by what tells their source are pairs too: 001_A with 001_B, VIS7 with
    IR7. numbered: also by _1 and _2, which are otherwise different scenes.
    """
    errors: list[str] = []
    stems = [_stems(tree, folder, errors) for folder in (first, second)]
    if not all(stems):
        empty = first if not stems[0] else second
        return Matched([], [], [*errors, f"{empty}: expected images of pairs, found none"])
    if not stems[0].keys() & stems[1].keys():
        stems = _without_affixes(stems, numbered)
    one, other = stems
    found = [Found(parts, path, other[key][1]) for key, (parts, path) in one.items() if key in other]
    alone = [Unpaired(one[key][1], f"nothing of that stem in {second}") for key in one.keys() - other.keys()]
    alone += [Unpaired(other[key][1], f"nothing of that stem in {first}") for key in other.keys() - one.keys()]
    return Matched(found, sorted(alone, key=lambda unpaired: unpaired.path), errors)


def _stems(tree: Tree, folder: Path, errors: list[str]) -> _Stems:
    stems: _Stems = {}
    for parts, path in tree.files_below(folder):
        parts = (*parts[:-1], stem_of(parts[-1]))
        key = tuple(layouts.fold(part) for part in parts)
        if key in stems:
            errors.append(same_stem(stems[key][1], path))
        else:
            stems[key] = (parts, path)
    return stems


def same_stem(one: Path, other: Path) -> str:
    """What to say of two files of one stem."""
    return f"{one} and {other} have the same stem; keep one of them"


def _without_affixes(stems: list[_Stems], numbered: bool) -> list[_Stems]:
    """The same by what remains of the stems once the end, or else the beginning, that tells the source is gone."""
    for affix in (layouts.suffix, layouts.prefix):
        tried: list[dict[str, _Stems]] = []  # for each folder: kind -> stems
        for number, own in enumerate(stems, 1):
            kinds: dict[str, _Stems] = {}
            for parts, path in own.values():
                found = affix(parts[-1])
                if found and found.base and found.number == number and (numbered or found.kind != "numbers"):
                    shorter = (*parts[:-1], found.base)
                    key = tuple(layouts.fold(part) for part in shorter)
                    kinds.setdefault(found.kind, {})[key] = (shorter, path)
            tried.append(kinds)
        for kind in tried[0].keys() & tried[1].keys():
            if tried[0][kind].keys() & tried[1][kind].keys():
                return [_replaced(own, kinds[kind]) for own, kinds in zip(stems, tried, strict=True)]
    return stems


def _replaced(stems: _Stems, shorter: _Stems) -> _Stems:
    gone = {path for _, path in shorter.values()}
    return shorter | {key: value for key, value in stems.items() if value[1] not in gone}
