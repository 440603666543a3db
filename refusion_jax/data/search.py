"""Pairs found in folders: the table of data sets is walked at every level, from the most to the least certain form."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from refusion_jax.data import brackets, datasets
from refusion_jax.data.datasets import ALPHABET, BRIGHTNESS, CHOSEN, LETTERS, MEANING, Affix, Row
from refusion_jax.data.pairs import Discovery, Group, Pair, Unpaired, in_natural_order, require_partners
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS
from refusion_jax.tasks import TASKS

MAX_DEPTH = 8
LONGEST_BRACKET = 30  # more pictures in a row are scenes, not exposures of one


def discover(
    source: str | os.PathLike, task: str | None = None, *, exposures: tuple[int, int] | None = None
) -> Discovery:
    """The pairs below a folder or in a manifest (a .csv file), with what was recognised and what is wrong.

    As `find_pairs`, but raises InputError only for what cannot be searched or read at all: unpaired files and such are
    in the result.
    """
    source = Path(source)
    if is_manifest(source):
        from refusion_jax.data import manifest

        return manifest.read(source, task).as_discovery()
    if not os.path.isdir(source):  # unlike Path.is_dir, False where it cannot look
        what = "is a file" if os.path.exists(source) else "does not exist"
        raise InputError(f"{source}: expected a folder of image pairs, but it {what}")
    search = _Search(source, task, exposures)
    search.visit(search.tree.scan(source), (), frozenset())
    search.choose_exposures()
    return search.result()


def find_pairs(
    source: str | os.PathLike, task: str | None = None, *, exposures: tuple[int, int] | None = None
) -> list[Pair]:
    """All pairs below a folder or in a manifest, in natural order of their names (img2 before img10).

    Hidden files and other files than images are passed over. Forms, tried at every level from the top:
      1. Files: NAME_ir and NAME_vi (and the like), NAME_A and NAME_B, NAME_1 and NAME_2 in the folder itself. A folder
         with one such pair is a scene and gives the pair its name; what else lies in it is passed over. For meie,
         NAME_1, NAME_2, NAME_3, ... of one scene are a bracket.
      2. Two folders with equal stems, in any mix of formats and of case, whose names are in the table
         (`datasets.TABLE`). Other folders beside them are passed over.
      3. Folders of exposures 1.JPG, 2.JPG, ... (SICE; others of that form with task meie): brackets. The darkest and
         the brightest by mean luma are the pair, or the two that `exposures` counts (from 1; -1 is the last).
      4. Two folders with equal stems of any names, besides labels and masks: a known word in one of them gives the
         order, else the alphabet.
      5. None of these: the folders below are searched in the same way, `input` alone if there is one.
    Names are paths relative to the folder that all pairs have in common ("CT-MRI/train/16003"; "flower").
    Pairs below train, val or test (above the sources or in them) have it as their `split`.
    `task` (ivif, mif, mfif, meie) is needed only where folders of two tasks lie side by side, and for brackets: its
    names are looked for first.

    Raises InputError if the folder is missing, holds no pair, or holds a file without partner; for a manifest, see
    `manifest.read`.
    """
    return list(discover(source, task, exposures=exposures).require().pairs)


def recognise_task(source: str | os.PathLike) -> tuple[str, str]:
    """(task, layout) by the names in a folder or a manifest; InputError where they say none or several."""
    found = discover(source)
    if not found.pairs:
        found.require()
    if found.task is None:
        tasks = ", ".join(sorted({group.task for group in found.groups if group.task}))
        what = f"the names in {source} say several ({tasks})" if tasks else f"the names in {source} say none"
        raise InputError(f"--task is missing, and {what}; expected one of {', '.join(TASKS)}")
    return found.task, found.layout


def is_manifest(source: Path) -> bool:
    """Whether a path is to be read as a manifest: by its name."""
    return source.suffix.lower() == ".csv" and not os.path.isdir(source)


# Two files or two folders, given by name.


def pair_from_files(a: str | os.PathLike, b: str | os.PathLike) -> Pair:
    """The pair of two files, named by what their stems have in common.

    Raises InputError unless both are files.
    """
    a, b = Path(a), Path(b)
    for path in (a, b):
        if not os.path.exists(path):
            raise InputError(f"{path}: no such file")
        if os.path.isdir(path):
            raise InputError(f"{path}: expected an image file, got a folder")
    return Pair(common_stem(a.stem, b.stem), a, b)


def pairs_from_arguments(a: str | os.PathLike, b: str | os.PathLike) -> list[Pair]:
    """The pairs of two arguments: two files are one pair, two folders all pairs of equal stems.

    `a` is source 1. Raises InputError for a file with a folder, for what is missing, and for a file without
    partner.
    """
    a, b = Path(a), Path(b)
    for path in (a, b):
        if not os.path.exists(path):
            raise InputError(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        directory, file = (a, b) if a.is_dir() else (b, a)
        raise InputError(f"expected two files or two folders, got the folder {directory} and the file {file}")
    if not a.is_dir():
        return [pair_from_files(a, b)]
    matched = match_folders(Tree(), a, b)
    if matched.errors:
        raise InputError(matched.errors[0])
    require_partners(matched.unpaired)
    return list(in_natural_order([Pair("/".join(one.parts), one.a, one.b) for one in matched.found]))


def common_stem(a: str, b: str) -> str:
    """What the stems of two files have in common, such as "door" of door_A and door_B."""
    if datasets.fold(a) == datasets.fold(b):
        return a
    other = {(affix.row, datasets.fold(affix.base)) for affix in datasets.endings(b)}
    for affix in datasets.endings(a):
        if affix.base and (affix.row, datasets.fold(affix.base)) in other:
            return affix.base
    # Up to the last separator of the common beginning, so that img01 and img02 do not become "img0".
    beginning = re.match(r"(.+)[_\-. ]", os.path.commonprefix([a, b]))
    return beginning[1].rstrip("_-. ") if beginning and beginning[1].rstrip("_-. ") else f"{a}_{b}"


# Folders listed once, without asking the disk for every file.


@dataclass(frozen=True)
class Listing:
    """The names of the folders and images directly in a folder, each sorted, hidden ones left out; one other file."""

    folder: Path
    folders: tuple[str, ...]
    images: tuple[str, ...]
    other: str | None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    @property
    def stems(self) -> set[str]:
        """The stems of the images, as they are compared."""
        return {datasets.fold(stem_of(name)) for name in self.images}


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

    def files_below(self, folder: Path, above: frozenset[str] = frozenset()) -> list[tuple[tuple[str, ...], Path]]:
        """(path below the folder in parts, path) of every image in the folder or, if there is none, further below."""
        listing = self.scan(folder)
        found = [((name,), folder / name) for name in listing.images]
        if found and not above:
            return found
        real = os.path.realpath(folder)
        if real in above or len(above) >= MAX_DEPTH:
            return []
        for name in listing.folders:
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
                if os.path.splitext(name)[1].lower() in READABLE_EXTENSIONS and entry.is_file():
                    images.append(name)
                else:
                    (folders if entry.is_dir() else others).append(name)
    except OSError as error:
        raise InputError(f"{folder}: cannot list the folder: {error.strerror}") from error
    return Listing(folder, tuple(sorted(folders)), tuple(sorted(images)), min(others, default=None))


def stem_of(name: str) -> str:
    """A file's name without its extension."""
    return os.path.splitext(name)[0]


# Two folders brought together by the stems of their files.


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


def match_folders(tree: Tree, first: Path, second: Path, numbered: bool = False) -> Matched:
    """The pairs of equal stems below two folders, in any mix of formats and of case.

    Where no stem is equal, names that differ by what says their source are pairs too: 001_A with 001_B, VIS7 with
    IR7. numbered: also by _1 and _2, which are otherwise different scenes.
    """
    errors: list[str] = []
    stems = [_stems(tree, folder, errors) for folder in (first, second)]
    for folder, own in zip((first, second), stems, strict=True):
        if not own:
            other = tree.scan(folder).other
            instead = f", but {other}" if other else ""
            return Matched([], [], [*errors, f"{folder}: expected images of pairs, found none{instead}"])
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
        _, earlier = stems.setdefault(tuple(map(datasets.fold, parts)), (parts, path))
        if earlier != path:
            errors.append(_same_stem(earlier, path))
    return stems


def _same_stem(one: Path, other: Path) -> str:
    return f"{one} and {other} have the same stem; keep one of them"


def _without_affixes(stems: list[_Stems], numbered: bool) -> list[_Stems]:
    """The same by what remains of the stems without the end, or else the beginning, that says the source."""
    for affixes in (datasets.endings, datasets.beginnings):
        tried: list[dict[Row, _Stems]] = []  # for each folder: row of the table -> stems
        for side, own in enumerate(stems, 1):
            by_row: dict[Row, _Stems] = {}
            for parts, path in own.values():
                for affix in affixes(parts[-1]):
                    if affix.base and affix.side == side and (numbered or not affix.word.isdecimal()):
                        shorter = (*parts[:-1], affix.base)
                        by_row.setdefault(affix.row, {})[tuple(map(datasets.fold, shorter))] = (shorter, path)
            tried.append(by_row)
        for row, one in tried[0].items():
            other = tried[1].get(row, {})
            if one.keys() & other.keys():
                return [_replaced(*both) for both in zip(stems, (one, other), strict=True)]
    return stems


def _replaced(stems: _Stems, shorter: _Stems) -> _Stems:
    gone = {path for _, path in shorter.values()}
    return shorter | {key: value for key, value in stems.items() if value[1] not in gone}


# Pairs and brackets within one folder.


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
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    forms: tuple[str, str] = ("", "")
    alone: list[tuple[str, str]] = field(default_factory=list)
    clashes: list[tuple[str, str]] = field(default_factory=list)


def file_pairs(listing: Listing, task: str | None = None) -> FilePairs | None:
    """The pairs in one folder, by the first row that makes one: words, then letters, then numbers.

    Without any pair, the first row with a file that is named as its folder is and lacks its partner; else None.
    """
    by_row: dict[Row, dict[tuple[str, int], tuple[str, Affix]]] = {}
    clashes: dict[Row, list[tuple[str, str]]] = {}
    for name in listing.images:
        for affix in datasets.endings(stem_of(name)):
            files = by_row.setdefault(affix.row, {})
            earlier, _ = files.setdefault((datasets.fold(affix.base), affix.side), (name, affix))
            if earlier != name:
                clashes.setdefault(affix.row, []).append((earlier, name))
    if not by_row:
        return None
    order = [row for row in datasets.rows(task) if row in by_row]
    found = [_of_row(listing, row, by_row[row], clashes.get(row, [])) for row in order]
    return next((one for one in found if one.pairs), next((one for one in found if one.alone), None))


def _of_row(listing: Listing, row: Row, files: dict, clashes: list[tuple[str, str]]) -> FilePairs:
    result = FilePairs(row, clashes=clashes)
    scene = datasets.fold(listing.name)
    bases = sorted({base for base, _ in files})
    complete = sum((base, 1) in files and (base, 2) in files for base in bases)
    for base in bases:
        one, other = files.get((base, 1)), files.get((base, 2))
        if one and other:
            result.pairs[one[1].base or listing.name] = (one[0], other[0])
            result.forms = tuple(f"NAME_{affix.word}" if affix.base else affix.word for _, affix in (one, other))
        else:
            name, affix = one or other
            letter = row.order == LETTERS and not affix.word.isdecimal()
            if complete > 1 or not complete and letter and base == scene:
                stem = stem_of(name)
                partner = datasets.file_words(row.second if one else row.first)[0]
                result.alone.append((name, stem[: len(stem) - len(affix.word)] + partner))
    return result


def bracket(listing: Listing) -> tuple[str, ...]:
    """The images of a folder that holds one picture numbered through, in the order of the numbers; () if it does not.

    Either 1.JPG, 2.JPG, ... (SICE) or NAME_1, NAME_2, ..., and nothing else but what has no number.
    """
    scenes: dict[str, dict[int, str]] = {}
    for name in listing.images:
        if match := re.fullmatch(r"(\d+)|(.+)_(\d{1,6})", stem_of(name)):
            scenes.setdefault(datasets.fold(match[2] or ""), {})[int(match[1] or match[3])] = name
    if len(scenes) != 1:
        return ()
    (files,) = scenes.values()
    return tuple(files[number] for number in sorted(files))


# Which two of several folders are the sources, and which comes first.


class Sides(NamedTuple):
    """The folders of source 1 and source 2, the row of the table that has their names, how the order was decided."""

    first: Listing
    second: Listing
    row: Row
    order: str


def known_folders(folder: Path, below: list[Listing], task: str | None, split_above: bool) -> Sides | None:
    """The two folders whose names are in the table; None if there are no such two.

    task: whose rows come first. Raises InputError for more than two that mean sources.
    """
    for row in datasets.rows(task):
        first, second = ([one for one in below if datasets.is_side(row, side, one.name)] for side in (1, 2))
        if not first or not second or row.splits == "above" and not split_above:
            continue
        if row.splits == "below" and not any(map(datasets.split_named, first[0].folders)):
            continue
        sources = [one for one in below if one in first + second or datasets.means_source(row, one.name)]
        if len(sources) > 2:
            names = ", ".join(one.name for one in sources)
            raise InputError(f"{folder}: more than two folders of sources ({names}); give a folder with just two")
        # Two scenes may happen to be called so.
        if _has_pairs(first[0]) and _has_pairs(second[0]) and not first[0].stems & second[0].stems:
            continue
        return Sides(first[0], second[0], row, row.order)
    return None


def other_folders(folder: Path, below: list[Listing]) -> Sides | None:
    """The two folders of images with equal stems: one known word gives the order, or else the alphabet.

    Raises InputError for more than two.
    """
    below = [one for one in below if one.images and not datasets.is_aside(one.name)]
    below = sorted(
        (one for one in below if not datasets.split_named(one.name)), key=lambda one: (one.name.lower(), one.name)
    )
    stems = [one.stems for one in below]
    if len(set().union(*stems)) == sum(map(len, stems)):  # none in common
        return None
    if all(map(_has_pairs, below)):
        # Scenes whose files are named alike (img_A, img_B in each), or two folders of numbered images?
        numbered = len(below) == 2 and stems[0] == stems[1] and len(stems[0]) > 2
        if not numbered or any(stem.endswith("_a") for stem in stems[0]):
            return None
    roles = {one: role for one in below if (role := datasets.role(one.name))}
    tasks = {task for task, _ in roles.values()}
    sides = {side: one for one, (_, side) in roles.items()}
    if len(below) > 2 and len(roles) == len(sides) == 2 and len(tasks) == 1:
        below = list(roles)  # "IR images", "VIS images" and a third
    if len(below) > 2:
        names = [one.name for one in below]
        listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        hint = "; brackets of exposures need --task meie" if all(map(bracket, below)) else ""
        raise InputError(
            f"{folder}: {len(below)} folders of images ({listed}) share file names and no two are known as"
            f" sources; expected two folders, such as infrared and visible{hint}"
        )
    if len(tasks) == 1 and len(sides) == len(roles):
        if sides.get(1) is below[1] or sides.get(2) is below[0]:
            below.reverse()
        return Sides(*below, Row("", tasks.pop()), MEANING)
    return Sides(*below, Row("", None), ALPHABET)


def _has_pairs(listing: Listing) -> bool:
    pairs = file_pairs(listing)
    return pairs is not None and bool(pairs.pairs)


def _is_scene(listing: Listing) -> bool:
    """Whether a folder called as labels are (MEFB has a scene Mask) holds a pair by letters or words."""
    files = file_pairs(listing)
    return files is not None and bool(files.pairs) and not _is_numbered(files)


def _is_numbered(files: FilePairs) -> bool:
    return datasets.file_words(files.row.first)[0].isdecimal()


# The walk.


@dataclass
class _Tally:
    """A Group while it grows; dicts keep the order and hold each name once."""

    first: dict[str, None] = field(default_factory=dict)
    second: dict[str, None] = field(default_factory=dict)
    count: int = 0


class _Search:
    """One search: `path` is always the way from the root to a folder, in parts."""

    def __init__(self, root: Path, task: str | None, exposures: tuple[int, int] | None):
        self.root, self.task, self.exposures = root, task, exposures
        self.tree = Tree()
        # Of what lies above the root, two levels may name the data set (MEFB/input, SICE/Dataset_Part1/7).
        self.above_root = Path(os.path.abspath(root)).parts[1:][-3:]
        self.found: list[Found] = []
        self.groups: dict[tuple[str, str | None, str], _Tally] = {}
        self.brackets: list[tuple[tuple[str, ...], tuple[Path, ...], str]] = []  # path, pictures, layout
        self.unpaired: list[Unpaired] = []
        self.errors: list[str] = []
        self.aside: list[Path] = []
        self.remarks: list[str] = []

    def visit(self, listing: Listing, path: tuple[str, ...], above: frozenset[str]) -> None:
        """Tries every form at a folder, from the most to the least certain; then looks below."""
        if self.visit_bracket(listing, path) or self.visit_files(listing, path):
            return
        real = os.path.realpath(listing.folder)
        if len(above) >= MAX_DEPTH or real in above:  # in above: a link to a folder above
            return
        below = [self.tree.scan(listing.folder / name) for name in listing.folders]
        split_above = datasets.split_of(path) or (self.above_root and datasets.split_named(self.above_root[-1]))
        try:
            if sides := known_folders(listing.folder, below, self.task, bool(split_above)):
                return self.visit_sides(sides, below, path)
            if self.visit_brackets(below, path):
                return None
            if sides := other_folders(listing.folder, below):
                return self.visit_sides(sides, below, path)
        except InputError as error:  # more than two
            self.errors.append(str(error))
            return None
        inputs = [one for one in below if one.name.lower() == "input"]
        for one in inputs or below:
            if datasets.is_aside(one.name) and len(below) > 1 and not _is_scene(one):
                self.aside.append(one.folder)
            else:
                self.visit(one, (*path, one.name), above | {real})
        self.aside += [one.folder for one in below if inputs and one not in inputs]

    def in_path(self, path: tuple[str, ...]) -> tuple[str | None, str | None]:
        """(data set, task) by the names of the folders down to here."""
        return datasets.dataset_in((*self.above_root, *path))

    def add(self, found: list[Found], key: tuple[str, str | None, str], first: str, second: str) -> None:
        """Pairs of one group: (layout, task, order)."""
        self.found += found
        tally = self.groups.setdefault(key, _Tally())
        tally.count += len(found)
        tally.first[first] = tally.second[second] = None

    def visit_files(self, listing: Listing, path: tuple[str, ...]) -> bool:
        """NAME_A and NAME_B and the like, in the folder itself."""
        files = file_pairs(listing, self.task)
        if files is None:
            return False
        folder = listing.folder
        self.errors += [_same_stem(folder / one, folder / other) for one, other in files.clashes]
        self.unpaired += [Unpaired(folder / name, f"there is no {missing} beside it") for name, missing in files.alone]
        # A folder with one pair is a scene and gives its name; with several, each pair has its own.
        scene = len(files.pairs) == 1 and bool(path)
        found = [
            Found(path if scene else (*path, name), folder / a, folder / b) for name, (a, b) in files.pairs.items()
        ]
        if found:
            dataset, task = self.in_path(path[:-1] if scene else path)  # a scene may be called like a data set
            if dataset is None:
                names = {datasets.dataset_in([one.a.stem]) for one in found}  # lytro-01-A
                dataset, task = names.pop() if len(names) == 1 and names != {(None, None)} else (None, task)
            if files.row.task:
                layout = dataset if task == files.row.task and dataset else files.row.name
                task = files.row.task
            else:
                layout = dataset or ("one folder per scene" if scene else "")
            self.add(found, (layout or "pairs in one folder", task, files.row.order), *files.forms)
        return True

    def visit_sides(self, sides: Sides, below: list[Listing], path: tuple[str, ...]) -> None:
        """Two sibling folders."""
        first, second, row, order = sides
        matched = match_folders(self.tree, first.folder, second.folder, numbered=order == LETTERS)
        self.unpaired += matched.unpaired
        self.errors += matched.errors
        self.aside += [one.folder for one in below if one not in (first, second)]
        if matched.found:
            # Names that mean something say the task; those that only number the sources leave it to the path.
            dataset, task_in_path = self.in_path(path)
            task = row.task if order == MEANING else task_in_path or row.task
            own = row.name if row.task == task else ""
            layout = (dataset if dataset and task_in_path == task else own) or "two folders"
            names = (one.folder.relative_to(self.root).as_posix() + "/" for one in (first, second))
            found = [Found((*path, *one.parts), one.a, one.b) for one in matched.found]
            self.add(found, (layout, task, order), *names)

    # Brackets: more than two exposures of a scene.

    def is_meie(self, path: tuple[str, ...]) -> bool:
        """Whether brackets are expected here."""
        return (self.task or self.in_path(path)[1]) == "meie"

    def visit_bracket(self, listing: Listing, path: tuple[str, ...]) -> bool:
        """NAME_1, NAME_2, NAME_3, ... of one scene, or 1.JPG, 2.JPG, 3.JPG, ... as the folder searched itself."""
        if not self.is_meie(path) or not 3 <= len(names := bracket(listing)) <= LONGEST_BRACKET:
            return False
        files = file_pairs(listing)
        if files is not None and not _is_numbered(files):
            return False
        if files is None and (path or self.in_path(path)[0] != "SICE"):
            return False
        self.add_bracket(listing, names, path or (listing.name or "bracket",))
        return True

    def visit_brackets(self, below: list[Listing], path: tuple[str, ...]) -> bool:
        """One folder per scene with 1.JPG, 2.JPG, ...: SICE, known by name or by its labels; others only for meie."""
        scenes = [one for one in below if not datasets.is_aside(one.name)]
        numbered = [one for one in scenes if one.images and all(stem_of(name).isdecimal() for name in one.images)]
        if not numbered:
            return False
        names = {datasets.fold(one.name) for one in numbered}
        labels = [one for one in below if datasets.normalise(one.name) == "label"]
        is_sice = self.in_path(path)[0] == "SICE" or any(one.stems >= names for one in labels)
        several = len(numbered) == len(scenes) > 2
        if not is_sice and not (
            several and all(3 <= len(one.images) <= LONGEST_BRACKET for one in numbered) and self.is_meie(path)
        ):
            return False
        self.aside += [one.folder for one in below if one not in scenes]
        for one in scenes:
            files = bracket(one)
            if one in numbered and len(files) > 1:
                self.add_bracket(one, files, (*path, one.name), "SICE" if is_sice else None)
            elif one.images:
                self.errors.append(f"{one.folder}: expected exposures named 1, 2, 3, ..., got {one.images[0]}")
        return True

    def add_bracket(
        self, listing: Listing, names: Sequence[str], path: tuple[str, ...], layout: str | None = None
    ) -> None:
        """One scene."""
        layout = layout or self.in_path(path)[0] or "brackets of exposures"
        self.brackets.append((path, tuple(listing.folder / name for name in names), layout))

    def choose_exposures(self) -> None:
        """Chooses the two exposures of every bracket found; all at once, with one progress bar."""
        if not self.brackets:
            return
        order, forms = BRIGHTNESS, ("darkest of each folder", "brightest of each folder")
        if self.exposures is not None:
            order, forms = CHOSEN, tuple(f"exposure {number} of each folder" for number in self.exposures)
        chosen = brackets.choose([files for _, files, _ in self.brackets], self.exposures)
        for (path, _, layout), two in zip(self.brackets, chosen, strict=True):
            if isinstance(two, InputError):
                self.errors.append(str(two))
            else:
                self.add([Found(path, *two)], (layout, "meie", order), *forms)
        if self.exposures is None:
            self.remarks.append(
                f"the two exposures of each of {len(self.brackets)} brackets were chosen by measured brightness;"
                " a manifest (--manifest FILE) keeps the choice and saves the measuring"
            )

    # The result.

    def result(self) -> Discovery:
        """Names settled, in order; names given twice are errors."""
        common = _common_folders([one.parts for one in self.found])
        pairs: dict[str, Pair] = {}
        for one in self.found:
            name = "/".join(one.parts[common:])
            if name in pairs:
                self.errors.append(
                    f"{self.root}: two pairs are named '{name}': {pairs[name].a} and {one.a}; rename one of them"
                )
            else:
                pairs[name] = Pair(name, one.a, one.b, datasets.split_of(one.parts[:-1]))
        groups = tuple(
            Group(*key, tuple(tally.first), tuple(tally.second), tally.count) for key, tally in self.groups.items()
        )
        for group in groups:
            if self.task and group.task and group.task != self.task:
                self.remarks.append(
                    f"the names of {group.count} pairs say {group.task} ({group.layout}), not {self.task}"
                )
            if group.order == ALPHABET:
                self.remarks.append(
                    f"which source is the first was decided by the alphabet: {group.first[0]} before {group.second[0]}"
                )
        if not (pairs or self.errors or self.unpaired):
            self.errors += _four_channels(self.tree)
        results = (self.unpaired, self.errors, self.aside, self.remarks)
        return Discovery(self.root, in_natural_order(list(pairs.values())), groups, *map(tuple, results))


def _common_folders(names: Sequence[tuple[str, ...]]) -> int:
    """How many leading parts all names share, the last part of each left out."""
    count = 0
    for parts in zip(*(name[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        count += 1
    return count


def _four_channels(tree: Tree) -> list[str]:
    """One line if pictures that make no pairs have four channels: MFNet and its kin keep the thermal picture there."""
    for listing in tree.listings.values():
        if listing.images and not datasets.is_aside(listing.name):
            file = listing.folder / listing.images[0]
            try:
                with Image.open(file) as image:
                    channels = len(image.getbands())
            except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no such picture
                continue
            if channels == 4:
                return [
                    f"{file}: has four channels, and no pairs were found; expected two files for each pair: if the"
                    " fourth is the thermal picture (as in MFNet), save it as ir/NAME and the first three as vi/NAME"
                ]
    return []
