"""Pairs found in folders: the table of data sets is walked at every level, from the most to the least certain form."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from refusion_jax.data import brackets, datasets
from refusion_jax.data.datasets import ALPHABET, BRIGHTNESS, CHOSEN, LETTERS, MEANING, NUMBERS, Row
from refusion_jax.data.folders import (
    MAX_DEPTH,
    Found,
    Listing,
    Tree,
    bracket,
    file_pairs,
    has_pairs,
    match_files,
    match_folders,
    same_stem,
    stem_of,
    what_is_there,
)
from refusion_jax.data.pairs import FORMS, Discovery, Group, Pair, Unpaired, in_natural_order, natural_key
from refusion_jax.errors import InputError
from refusion_jax.tasks import TASKS
from refusion_jax.volumes.dicom import is_series

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

    Hidden files and other files than images are passed over. Forms (`datasets.TABLE`), tried at every level, top first:
      1. Files such as NAME_A and NAME_B. A folder with one such pair is a scene and gives the pair its name; what else
         lies in it is passed over. For meie, NAME_1, NAME_2, NAME_3, ... of one scene are a bracket.
      2. Two folders of known names with equal stems, in any mix of formats and of case.
      3. Folders of exposures 1.JPG, 2.JPG, ... (SICE; others with task meie): brackets. The darkest and the brightest
         by mean luma are the pair, or the two that `exposures` counts (from 1; -1 is the last).
      4. Two folders of any names with equal stems: a known word in one of them gives the order, else the alphabet.
      5. None of these: the folders below are searched in the same way, `input` alone if there is one.
    Names are paths relative to the folder that all pairs have in common ("CT-MRI/train/16003"; "flower").
    Pairs below train, val or test (above the sources or in them) have it as their `split`.
    `task` (ivif, mif, mfif, meie) is needed only where folders of two tasks lie side by side, and for brackets.

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
    a, b = _existing(a), _existing(b)
    for path in (a, b):
        if path.is_dir():
            raise InputError(f"{path}: expected an image file, got a folder")
    return Pair(common_stem(stem_of(a.name), stem_of(b.name)), a, b)


def pairs_from_arguments(a: str | os.PathLike, b: str | os.PathLike) -> list[Pair]:
    """The pairs of two arguments: two files are one pair, two folders or patterns (ir/*.png) all pairs of equal stems.
    A folder of a DICOM series counts as a file.

    `a` is source 1. Raises InputError for a file with a folder, for what is missing, and for a file without
    partner.
    """
    named = [expanded(text) for text in (a, b)]
    if any(len(paths) > 1 for paths in named) or all(map(_is_pattern, (a, b))):
        matched = match_files(*named)
        if len(named[0]) == len(named[1]) == 1:
            return [pair_from_files(named[0][0], named[1][0])]
        pairs = in_natural_order([Pair("/".join(one.parts), one.a, one.b) for one in matched.found])
        found = Discovery(Path(a), pairs, unpaired=tuple(matched.unpaired), errors=tuple(matched.errors))
        return list(found.require().pairs)
    a, b = _existing(named[0][0]), _existing(named[1][0])
    if is_series(a) or is_series(b):
        names = (path.resolve().name if path.is_dir() else stem_of(path.name) for path in (a, b))
        return [Pair(common_stem(*names), a, b)]
    if a.is_dir() != b.is_dir():
        directory, file = (a, b) if a.is_dir() else (b, a)
        raise InputError(f"expected two files or two folders, got the folder {directory} and the file {file}")
    if not a.is_dir():
        return [pair_from_files(a, b)]
    matched = match_folders(Tree(), a, b)
    pairs = in_natural_order([Pair("/".join(one.parts), one.a, one.b) for one in matched.found])
    return list(Discovery(a, pairs, unpaired=tuple(matched.unpaired), errors=tuple(matched.errors)).require().pairs)


def _is_pattern(text: str | os.PathLike) -> bool:
    return glob.has_magic(os.fspath(text)) and not os.path.lexists(text)


def expanded(text: str | os.PathLike) -> list[Path]:
    """The files and folders that a pattern such as shots/*.tif names, in natural order: not every shell tells them.

    What exists by that very name is itself, and so is what has no wildcard. Raises InputError where nothing fits.
    """
    if not _is_pattern(text):
        return [Path(text)]
    found = [Path(name) for name in glob.glob(os.fspath(text), recursive=True)]
    if not found:
        folder = Path(text).parent
        there = what_is_there(os.listdir(folder)) if folder.is_dir() else ""
        raise InputError(f"{text}: no file or folder is named so" + (f"; {folder} has {there}" if there else ""))
    return sorted(found, key=lambda path: natural_key(str(path).casefold()))


def _existing(path: str | os.PathLike) -> Path:
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder")
    return Path(path)


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
        if has_pairs(first[0]) and has_pairs(second[0]) and not first[0].stems & second[0].stems:
            continue
        return Sides(first[0], second[0], row, row.order)
    return None


def other_folders(folder: Path, below: list[Listing]) -> Sides | None:
    """The two folders of images with equal stems: one known word gives the order, or else the alphabet.

    Raises InputError for more than two.
    """
    below = [one for one in below if one.images and not (datasets.is_aside(one.name) or datasets.split_named(one.name))]
    below = sorted(below, key=lambda one: (one.name.lower(), one.name))
    stems = [one.stems for one in below]
    if len(frozenset().union(*stems)) == sum(map(len, stems)):  # none in common
        return None
    if all(map(has_pairs, below)):
        # Scenes whose files are named alike (img_A, img_B in each), or two folders of numbered images?
        numbered = len(below) == 2 and stems[0] == stems[1] and len(stems[0]) > 2
        if not numbered or any(stem.endswith("_a") for stem in stems[0]):
            return None
    roles = [(one, *role) for one in below if (role := datasets.role(one.name))]
    tasks = {task for _, task, _ in roles}
    sides = {side: one for one, _, side in roles}
    clear = len(tasks) == 1 and len(sides) == len(roles)  # no source twice
    if clear and len(sides) == 2:
        below = [sides[1], sides[2]]  # "IR images", "VIS images", beside which a third may lie
    if len(below) > 2:
        names = [one.name for one in below]
        listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        hint = "; brackets of exposures need --task meie" if all(map(bracket, below)) else ""
        raise InputError(
            f"{folder}: {len(below)} folders of images ({listed}) share file names, but their names do not say which"
            f" two are the sources; expected two folders, such as infrared and visible; take the others away{hint}"
        )
    if clear and (sides.get(1) is below[1] or sides.get(2) is below[0]):
        below.reverse()
    row, order = (Row("", tasks.pop()), MEANING) if clear else (Row("", None), ALPHABET)
    return Sides(below[0], below[1], row, order)


# The walk.


class _Form(NamedTuple):
    """How pairs were recognised, as in `Group`."""

    layout: str
    task: str | None
    order: str
    first: str
    second: str


class _Search:
    """One search. `path` is always the way from the root to a folder, in parts."""

    def __init__(self, root: Path, task: str | None, exposures: tuple[int, int] | None):
        self.root, self.task, self.exposures = root, task, exposures
        self.tree = Tree()
        # Of what lies above the root, two levels may name the data set (MEFB/input, SICE/Dataset_Part1/7).
        self.above_root = Path(os.path.abspath(root)).parts[1:][-3:]
        self.found: list[tuple[Found, _Form]] = []
        self.brackets: list[tuple[tuple[str, ...], tuple[Path, ...], str]] = []  # path, pictures, layout
        self.unpaired: list[Unpaired] = []
        self.errors: list[str] = []
        self.aside: list[Path] = []
        self.unlisted: list[str] = []  # why, of folders that cannot be listed

    def visit(self, listing: Listing, path: tuple[str, ...], above: frozenset[str]) -> None:
        """Tries every form at a folder, from the most to the least certain; then looks below."""
        if self.visit_bracket(listing, path) or self.visit_files(listing, path):
            return
        real = os.path.realpath(listing.folder)
        if len(above) >= MAX_DEPTH or real in above:  # in above: a link to a folder above
            return
        below = self.listings_in(listing)
        split_above = datasets.split_of((*self.above_root[-1:], *path)) is not None
        try:
            sides = known_folders(listing.folder, below, self.task, split_above)
            if sides is None and self.visit_brackets(below, path):
                return
            sides = sides or other_folders(listing.folder, below)
        except InputError as error:  # more than two
            self.errors.append(str(error))
            return
        if sides:
            self.visit_sides(sides, path)
            self.aside += [one.folder for one in below if one not in (sides.first, sides.second)]
            return
        inputs = [one for one in below if one.name.lower() == "input"]
        for one in below:
            if inputs and one not in inputs or len(below) > 1 and datasets.is_aside(one.name) and not _is_scene(one):
                self.aside.append(one.folder)
            else:
                self.visit(one, (*path, one.name), above | {real})

    def listings_in(self, listing: Listing) -> list[Listing]:
        """Those of the folders in a folder. One that cannot be listed, such as lost+found, is passed over; one that is
        called as a source is an error, for others could be taken in its place."""
        below = []
        for name in listing.folders:
            try:
                below.append(self.tree.scan(listing.folder / name))
            except InputError as error:
                (self.errors if datasets.role(name) else self.unlisted).append(str(error))
        return below

    def in_path(self, path: tuple[str, ...]) -> tuple[str | None, str | None]:
        """(data set, task) by the names of the folders down to here."""
        return datasets.dataset_in((*self.above_root, *path))

    def visit_files(self, listing: Listing, path: tuple[str, ...]) -> bool:
        """NAME_A and NAME_B and the like, in the folder itself."""
        files = file_pairs(listing, self.task)
        if files is None:
            return False
        folder, row = listing.folder, files.row
        self.errors += [same_stem(folder / one, folder / other) for one, other in files.clashes]
        self.unpaired += [Unpaired(folder / name, f"there is no {missing} beside it") for name, missing in files.alone]
        # A folder with one pair is a scene and gives its name; with several, each pair has its own.
        scene = len(files.pairs) == 1 and bool(path)
        dataset, task = self.in_path(path[:-1] if scene else path)  # a scene may be called like a data set
        in_names = {datasets.dataset_in([stem_of(a)]) for a, _ in files.pairs.values()}  # lytro-01-A
        if dataset is None and len(in_names) == 1 and in_names != {(None, None)}:
            dataset, task = in_names.pop()
        layout = row.name or "pairs in one folder"
        if row.task is None or task == row.task:
            layout = dataset or ("one folder per scene" if scene and row.task is None else layout)
        form = _Form(layout, row.task or task, row.order, *files.forms)
        for name, (a, b) in files.pairs.items():
            self.found.append((Found(path if scene else (*path, name), folder / a, folder / b), form))
        return True

    def visit_sides(self, sides: Sides, path: tuple[str, ...]) -> None:
        """Two sibling folders."""
        first, second, row, order = sides
        matched = match_folders(self.tree, first.folder, second.folder, numbered=order == LETTERS)
        self.unpaired += matched.unpaired
        self.errors += matched.errors
        # Names that mean something say the task; those that only number the sources leave it to the path.
        dataset, task_in_path = self.in_path(path)
        task = row.task if order == MEANING else task_in_path or row.task
        own = row.name if row.task == task else ""
        layout = (dataset if task_in_path == task else None) or own or "two folders"
        names = (one.folder.relative_to(self.root).as_posix() + "/" for one in (first, second))
        form = _Form(layout, task, order, *names)
        scene = path or (common_stem(first.name, second.name),)
        self.found += [(Found((*path, *one.parts) or scene, one.a, one.b), form) for one in matched.found]

    # Brackets: more than two exposures of a scene.

    def is_meie(self, path: tuple[str, ...]) -> bool:
        """Whether brackets are expected here."""
        return (self.task or self.in_path(path)[1]) == "meie"

    def visit_bracket(self, listing: Listing, path: tuple[str, ...]) -> bool:
        """NAME_1, NAME_2, NAME_3, ... of one scene, or 1.JPG, 2.JPG, 3.JPG, ... as the folder searched itself."""
        if not self.is_meie(path) or not 3 <= len(names := bracket(listing)) <= LONGEST_BRACKET:
            return False
        files = file_pairs(listing)
        if files is None and (path or self.in_path(path)[0] != "SICE") or files is not None and files.row != NUMBERS:
            return False
        self.add_bracket(listing, names, path or (listing.name or "bracket",))
        return True

    def visit_brackets(self, below: list[Listing], path: tuple[str, ...]) -> bool:
        """One folder per scene with 1.JPG, 2.JPG, ...: SICE, known by name or by its labels; others only for meie."""
        scenes = [one for one in below if not datasets.is_aside(one.name)]
        numbered = [one for one in scenes if one.images and all(stem_of(name).isdecimal() for name in one.images)]
        if not numbered:
            return False
        labels = [one for one in below if datasets.normalise(one.name) == "label"]
        labelled = any(one.stems >= {datasets.fold(scene.name) for scene in numbered} for one in labels)
        is_sice = labelled or self.in_path(path)[0] == "SICE"
        if not is_sice:
            several = len(numbered) == len(scenes) > 2 and self.is_meie(path)
            if not several or not all(3 <= len(one.images) <= LONGEST_BRACKET for one in numbered):
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
        self, listing: Listing, names: Sequence[Sequence[str]], path: tuple[str, ...], layout: str | None = None
    ) -> None:
        """One scene. Two files of one number are an error."""
        layout, folder = layout or self.in_path(path)[0] or "brackets of exposures", listing.folder
        for first, *others in names:
            self.errors += [f"{folder / first} and {other} have the same number; keep one of them" for other in others]
        self.brackets.append((path, tuple(folder / same[0] for same in names), layout))

    def choose_exposures(self) -> None:
        """Chooses the two exposures of every bracket found; all at once, with one progress bar."""
        order, names = BRIGHTNESS, ["darkest of each folder", "brightest of each folder"]
        if self.exposures is not None:
            order, names = CHOSEN, [f"exposure {number} of each folder" for number in self.exposures]
        chosen = brackets.choose([files for _, files, _ in self.brackets], self.exposures)
        for (path, _, layout), two in zip(self.brackets, chosen, strict=True):
            if isinstance(two, InputError):
                self.errors.append(str(two))
            else:
                self.found.append((Found(path, *two), _Form(layout, "meie", order, *names)))

    # The result.

    def result(self) -> Discovery:
        """Names settled, in order; names given twice are errors."""
        common = _common_folders([one.parts for one, _ in self.found])
        pairs: dict[str, Pair] = {}
        forms: dict[tuple[str, str | None, str], list[_Form]] = {}
        for one, form in self.found:
            name = "/".join(one.parts[common:])
            pair = pairs.setdefault(name, Pair(name, one.a, one.b, datasets.split_of(one.parts[:-1])))
            if (pair.a, pair.b) != (one.a, one.b):
                self.errors.append(
                    f"{self.root}: two pairs are named '{name}': {pair.a} and {one.a}; rename one of them"
                )
            forms.setdefault(form[:3], []).append(form)
        groups = tuple(
            Group(
                *key,
                tuple(dict.fromkeys(form.first for form in own)),
                tuple(dict.fromkeys(form.second for form in own)),
                len(own),
            )
            for key, own in forms.items()
        )
        if not pairs:
            self.errors = self.unlisted + self.errors
        if not (pairs or self.errors or self.unpaired):
            self.errors += _four_channels(self.tree) or _other_files(self.root, self.tree)
        return Discovery(
            self.root,
            in_natural_order(list(pairs.values())),
            groups,
            tuple(self.unpaired),
            tuple(self.errors),
            tuple(self.aside),
            tuple(self.remarks(groups)),
        )

    def remarks(self, groups: Sequence[Group]) -> Iterator[str]:
        """What to know though nothing is wrong."""
        yield from (f"{line}; passed over" for line in self.unlisted)
        if self.brackets and self.exposures is None:
            yield (
                f"the two exposures of each of {len(self.brackets)} brackets were chosen by measured brightness;"
                " a manifest (--manifest FILE) keeps the choice and saves the measuring"
            )
        for group in groups:
            if self.task and group.task and group.task != self.task:
                yield f"the names of {group.count} pairs say {group.task} ({group.layout}), not {self.task}"
            if group.order == ALPHABET:
                names = f"{group.first[0]} before {group.second[0]}"
                yield f"which source is the first was decided by the alphabet: {names}"


def _is_scene(listing: Listing) -> bool:
    """Whether a folder called as labels are (MEFB has a scene Mask) holds a pair by letters or words."""
    files = file_pairs(listing)
    return files is not None and bool(files.pairs) and files.row != NUMBERS


def _common_folders(names: Sequence[tuple[str, ...]]) -> int:
    """How many leading parts all names share, the last part of each left out."""
    levels = list(zip(*(name[:-1] for name in names), strict=False))
    return next((count for count, parts in enumerate(levels) if len(set(parts)) > 1), len(levels))


def _other_files(root: Path, tree: Tree) -> list[str]:
    """One line on what lies in the folders searched where no picture does."""
    if any(listing.images for listing in tree.listings.values()):
        return []
    there = what_is_there(name for listing in tree.listings.values() for name in listing.others)
    return [f"{root}: no image pairs found, but {there}; looked for {FORMS}"] if there else []


def _four_channels(tree: Tree) -> list[str]:
    """One line if pictures that make no pairs have four channels: MFNet and its kin keep the thermal picture there."""
    for listing in tree.listings.values():
        for name in listing.images[:1]:
            file = listing.folder / name
            with suppress(Exception), Image.open(file) as image:  # whatever is wrong with it, it is no such picture
                if len(image.getbands()) == 4:
                    return [
                        f"{file}: has four channels, and no pairs were found; expected two files for each pair: if"
                        " the fourth is the thermal picture (as in MFNet), save it as ir/NAME and the others as vi/NAME"
                    ]
    return []
