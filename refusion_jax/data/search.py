"""A folder searched for pairs: every known layout tried at every level, from the most to the least certain."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refusion_jax.data import exposures, layouts
from refusion_jax.data.discovery import Discovery, Group
from refusion_jax.data.layouts import ALPHABET, BRIGHTNESS, CHOSEN, LETTERS, MEANING
from refusion_jax.data.listing import MAX_DEPTH, Found, Listing, Tree, Unpaired, folded_stems, match, same_stem, stem_of
from refusion_jax.data.pair import Pair, natural_key
from refusion_jax.data.scene_files import SceneFiles, numbered_bracket, scene_files
from refusion_jax.data.siblings import Siblings, known_siblings, other_siblings
from refusion_jax.errors import InputError

LONGEST_BRACKET = 30  # more pictures in a row are scenes, not exposures of one


def search(folder: Path, task: str | None = None, chosen: tuple[int, int] | None = None) -> Discovery:
    """Searches a folder. `task`: whose names come first; `chosen`: exposures of a bracket, as `exposures.choose`.

    Raises InputError if the folder is missing or cannot be listed; all else that is wrong is in the result.
    """
    if not os.path.isdir(folder):  # unlike Path.is_dir, False where it cannot look
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise InputError(f"{folder}: expected a folder of image pairs, but it {what}")
    walk = _Walk(folder, task, chosen)
    walk.visit(walk.tree.scan(folder), (), frozenset())
    walk.finish_brackets()
    return walk.result()


@dataclass
class _Tally:
    """A Group while it grows; dicts keep the order and hold each name once."""

    first: dict[str, None] = field(default_factory=dict)
    second: dict[str, None] = field(default_factory=dict)
    count: int = 0


@dataclass
class _Bracket:
    parts: tuple[str, ...]
    files: tuple[Path, ...]
    layout: str


class _Walk:
    def __init__(self, root: Path, task: str | None, chosen: tuple[int, int] | None):
        self.root, self.task, self.chosen = root, task, chosen
        self.tree = Tree()
        # Of what lies above the root, two levels may name the data set (MEFB/input, SICE/Dataset_Part1/7).
        self.above_root = Path(os.path.abspath(root)).parts[1:][-3:]
        self.found: list[Found] = []
        self.groups: dict[tuple[str, str | None, str], _Tally] = {}
        self.unpaired: list[Unpaired] = []
        self.errors: list[str] = []
        self.aside: list[Path] = []
        self.brackets: list[_Bracket] = []
        self.remarks: list[str] = []

    def visit(self, listing: Listing, prefix: tuple[str, ...], above: frozenset[str]) -> None:
        """Tries every layout at a folder, from the most to the least certain; then looks below."""
        if self._bracket(listing, prefix) or self._scene(listing, prefix):
            return
        real = os.path.realpath(listing.folder)
        if len(above) >= MAX_DEPTH or real in above:  # in above: a link to a folder above
            return
        below = self.tree.below(listing)
        try:
            if both := known_siblings(listing.folder, below, self.task):
                self._siblings(both, below, prefix)
                return
            if self._bracket_folders(below, prefix):
                return
            if both := other_siblings(listing.folder, below):
                self._siblings(both, below, prefix)
                return
        except InputError as error:  # more than two
            self.errors.append(str(error))
            return
        inputs = [one for one in below if one.folder.name.lower() == "input"]
        for one in inputs or below:
            if layouts.is_aside(one.folder.name) and len(below) > 1 and not _is_scene(one):
                self.aside.append(one.folder)
            else:
                self.visit(one, (*prefix, one.folder.name), above | {real})
        self.aside += [one.folder for one in below if inputs and one not in inputs]

    def _told(self, prefix: tuple[str, ...]) -> tuple[str | None, str | None]:
        """(data set, task) that the path tells."""
        return layouts.dataset_in((*self.above_root, *prefix))

    def _add(self, found: list[Found], key: tuple[str, str | None, str], first: str, second: str) -> None:
        self.found += found
        tally = self.groups.setdefault(key, _Tally())
        tally.count += len(found)
        tally.first[first] = tally.second[second] = None

    def _relative(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix() + "/"

    # Pairs within one folder.

    def _scene(self, listing: Listing, prefix: tuple[str, ...]) -> bool:
        scene = scene_files(listing)
        if scene is None:
            return False
        folder = listing.folder
        self.errors += [same_stem(folder / one, folder / other) for one, other in scene.clashes]
        self.unpaired += [Unpaired(folder / name, f"there is no {missing} beside it") for name, missing in scene.alone]
        if len(scene.pairs) == 1 and prefix:
            # A folder with one pair is a scene and gives its name; with several, each pair has its own.
            names = [prefix]
        else:
            names = [(*prefix, name) for name in scene.pairs]
        found = [Found(name, folder / a, folder / b) for name, (a, b) in zip(names, scene.pairs.values(), strict=True)]
        if found:
            self._add(found, self._scene_key(scene, prefix, found), *layouts.labels(scene.kind))
        return True

    def _scene_key(self, scene: SceneFiles, prefix: tuple[str, ...], found: list[Found]) -> tuple:
        single = len(found) == 1 and bool(prefix)
        dataset, task = self._told(prefix[:-1] if single else prefix)  # a scene may be called like a data set
        if scene.kind not in ("letters", "numbers"):
            return dataset if task == scene.kind and dataset else "pairs in one folder", scene.kind, MEANING
        if dataset is None and all(one.a.stem.lower().startswith("lytro-") for one in found):
            dataset, task = "Lytro", "mfif"
        return dataset or ("one folder per scene" if single else "pairs in one folder"), task, LETTERS

    # Brackets: more than two exposures of a scene.

    def _is_meie(self, prefix: tuple[str, ...]) -> bool:
        return (self.task or self._told(prefix)[1]) == "meie"

    def _bracket(self, listing: Listing, prefix: tuple[str, ...]) -> bool:
        """NAME_1, NAME_2, NAME_3, ... of one scene, or 1.JPG, 2.JPG, 3.JPG, ... as the folder searched itself."""
        if not self._is_meie(prefix):
            return False
        names = numbered_bracket(listing)
        scene = scene_files(listing)
        if not 3 <= len(names) <= LONGEST_BRACKET or (scene is not None and scene.kind != "numbers"):
            return False
        if scene is None and (prefix or self._told(prefix)[0] != "SICE"):
            return False
        self._add_bracket(listing, names, prefix or (listing.folder.name or "bracket",))
        return True

    def _bracket_folders(self, below: list[Listing], prefix: tuple[str, ...]) -> bool:
        """One folder per scene with 1.JPG, 2.JPG, ...: SICE, known by name or by its labels; others only for meie."""
        scenes = [one for one in below if not layouts.is_aside(one.folder.name)]
        numbered = [one for one in scenes if one.images and all(stem_of(name).isdecimal() for name in one.images)]
        if not numbered:
            return False
        names = {layouts.fold(one.folder.name) for one in numbered}
        labelled = [one for one in below if layouts.normalise(one.folder.name) == "label"]
        is_sice = self._told(prefix)[0] == "SICE" or any(folded_stems(one) >= names for one in labelled)
        if not is_sice:
            several = len(numbered) == len(scenes) > 2 and all(
                3 <= len(one.images) <= LONGEST_BRACKET for one in numbered
            )
            if not several or not self._is_meie(prefix):
                return False
        self.aside += [one.folder for one in below if one not in scenes]
        for one in scenes:
            files = numbered_bracket(one)
            if one in numbered and len(files) > 1:
                self._add_bracket(one, files, (*prefix, one.folder.name), "SICE" if is_sice else None)
            elif one.images:
                self.errors.append(f"{one.folder}: expected exposures named 1, 2, 3, ..., got {one.images[0]}")
        return True

    def _add_bracket(
        self, listing: Listing, names: Sequence[str], parts: tuple[str, ...], layout: str | None = None
    ) -> None:
        layout = layout or self._told(parts)[0] or "brackets of exposures"
        self.brackets.append(_Bracket(parts, tuple(listing.folder / name for name in names), layout))

    def finish_brackets(self) -> None:
        """Chooses the two exposures of every bracket found; all at once, with one progress bar."""
        chosen = exposures.choose([bracket.files for bracket in self.brackets], self.chosen)
        for bracket, two in zip(self.brackets, chosen, strict=True):
            if isinstance(two, InputError):
                self.errors.append(str(two))
                continue
            labels = ("darkest of each folder", "brightest of each folder")
            if self.chosen is not None:
                labels = tuple(f"exposure {number} of each folder" for number in self.chosen)
            key = (bracket.layout, "meie", BRIGHTNESS if self.chosen is None else CHOSEN)
            self._add([Found(bracket.parts, *two)], key, *labels)
        if self.brackets and self.chosen is None:
            self.remarks.append(
                f"the two exposures of each of {len(self.brackets)} brackets were chosen by measured brightness;"
                " a manifest (--manifest FILE) keeps the choice and saves the measuring"
            )

    # Two sibling folders.

    def _siblings(self, both: Siblings, below: list[Listing], prefix: tuple[str, ...]) -> None:
        first, second, sides, order = both
        names = (first.folder.name, second.folder.name)
        numbered = order == LETTERS
        matched = match(self.tree, first.folder, second.folder, numbered)
        self.unpaired += matched.unpaired
        self.errors += matched.errors
        self.aside += [one.folder for one in below if one not in (first, second)]
        found = [Found((*prefix, *one.parts), one.a, one.b) for one in matched.found]
        if not found:
            return
        dataset, task = self._told(prefix)
        parts = matched.found[0].parts[:-1]
        above, inside = layouts.split_of(prefix), layouts.split_of(parts)
        if above is None and self.above_root:
            above = layouts.split_named(self.above_root[-1])
        # Names that mean something tell the task; those that only number the sources leave it to the path.
        told = sides.task if sides.by_meaning else task or sides.task
        layout = layouts.siblings_layout(sides, names, told, dataset, above is not None, inside is not None)
        self._add(found, (layout, told, order), self._relative(first.folder), self._relative(second.folder))

    # The result.

    def result(self) -> Discovery:
        """Names settled, in order; names given twice are errors."""
        common = _common_folders([one.parts for one in self.found]) if self.found else 0
        pairs: dict[str, Pair] = {}
        for one in self.found:
            name = "/".join(one.parts[common:])
            if name in pairs:
                self.errors.append(
                    f"{self.root}: two pairs are named '{name}': {pairs[name].a} and {one.a}; rename one of them"
                )
            else:
                pairs[name] = Pair(name, one.a, one.b, layouts.split_of(one.parts[:-1]))
        groups = tuple(
            Group(*key, tuple(tally.first), tuple(tally.second), tally.count) for key, tally in self.groups.items()
        )
        return Discovery(
            self.root,
            tuple(sorted(pairs.values(), key=lambda pair: natural_key(pair.name))),
            groups,
            tuple(self.unpaired),
            tuple(self.errors),
            tuple(self.aside),
            (*self.remarks, *_remarks(groups, self.task)),
        )


def _remarks(groups: Sequence[Group], task: str | None) -> list[str]:
    lines = []
    for group in groups:
        if task and group.task and group.task != task:
            lines.append(f"the names of {group.count} pairs tell {group.task} ({group.layout}), not {task}")
        if group.order == ALPHABET:
            lines.append(
                f"which source is the first was decided by the alphabet: {group.first[0]} before {group.second[0]}"
            )
    return lines


def _is_scene(listing: Listing) -> bool:
    """Whether a folder called as labels are (MEFB has a scene Mask) holds a pair by letters or words."""
    scene = scene_files(listing)
    return scene is not None and bool(scene.pairs) and scene.kind != "numbers"


def _common_folders(names: Sequence[tuple[str, ...]]) -> int:
    """How many leading parts all names share, the last part of each left out."""
    shortest = min(len(parts) for parts in names) - 1
    count = 0
    while count < shortest and len({parts[count] for parts in names}) == 1:
        count += 1
    return count
