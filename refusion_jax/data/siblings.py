"""Two sibling folders of sources: which two of several folders they are, and which comes first."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from refusion_jax.data import layouts
from refusion_jax.data.layouts import ALPHABET, LETTERS, MEANING
from refusion_jax.data.listing import Listing, folded_stems
from refusion_jax.data.scene_files import numbered_bracket, scene_files
from refusion_jax.errors import InputError


class Siblings(NamedTuple):
    """The folders of source 1 and source 2, the names that told them, and how the order was decided."""

    first: Listing
    second: Listing
    sides: layouts.Sides
    order: str


def known_siblings(folder: Path, below: list[Listing], task: str | None) -> Siblings | None:
    """The two folders whose names say that they hold the sources; None if there are no such two.

    task: whose names come first. Raises InputError for more than two.
    """
    by_name: dict[str, list[Listing]] = {}
    for one in below:
        by_name.setdefault(layouts.normalise(one.folder.name), []).append(one)
    for sides in layouts.tables(task):
        first, second = (
            [one for name in names for one in by_name.get(name, ())] for names in (sides.first, sides.second)
        )
        if not first or not second:
            continue
        resolutions = {layouts.normalise(one.folder.name): one for one in second}
        if resolutions.keys() >= {"croplrvisible", "crophrvisible"}:
            second.remove(resolutions["crophrvisible"])  # RoadScene: the infrared has the size of the other
        if len(first) > 1 or len(second) > 1:
            names = ", ".join(one.folder.name for one in first + second)
            raise InputError(f"{folder}: more than two folders of sources ({names}); give a folder with just two")
        a, b = first[0], second[0]
        # Two scenes may happen to be called so.
        if _has_pairs(a) and _has_pairs(b) and not folded_stems(a) & folded_stems(b):
            continue
        return Siblings(a, b, sides, MEANING if sides.by_meaning else LETTERS)
    return None


def other_siblings(folder: Path, below: list[Listing]) -> Siblings | None:
    """The two folders of images with equal stems: one known word gives the order, or else the alphabet.

    Raises InputError for more than two.
    """
    below = [
        one
        for one in below
        if one.images and not layouts.is_aside(one.folder.name) and not layouts.split_named(one.folder.name)
    ]
    stems = [folded_stems(one) for one in below]
    if not _any_shared(stems):
        return None
    if all(_has_pairs(one) for one in below):
        # Scenes whose files are named alike (img_A, img_B in each), or two folders of numbered images?
        numbered = len(below) == 2 and stems[0] == stems[1] and len(stems[0]) > 2
        if not numbered or any(stem.endswith("_a") for stem in stems[0]):
            return None
    below = sorted(below, key=lambda one: (one.folder.name.lower(), one.folder.name))
    told = [(role, one) for one in below if (role := layouts.role(one.folder.name))]
    if len(below) > 2 and len(told) == 2 and len({task for (task, _), _ in told}) == 1:
        if {number for (_, number), _ in told} == {1, 2}:  # "IR images", "VIS images" and a third
            below = [one for _, one in told]
    if len(below) > 2:
        names = [one.folder.name for one in below]
        listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        brackets = "; brackets of exposures need --task meie" if all(map(numbered_bracket, below)) else ""
        raise InputError(
            f"{folder}: {len(below)} folders of images ({listed}) share file names and no two are known as"
            f" sources; expected two folders, such as infrared and visible{brackets}"
        )
    roles = [layouts.role(one.folder.name) for one in below]
    tasks = {role[0] for role in roles if role}
    numbers = [role[1] if role else None for role in roles]
    if len(tasks) == 1 and numbers in ([1, 2], [1, None], [None, 2]):
        return Siblings(*below, layouts.Sides((), (), tasks.pop(), by_meaning=True), MEANING)
    if len(tasks) == 1 and numbers in ([2, 1], [2, None], [None, 1]):
        return Siblings(*reversed(below), layouts.Sides((), (), tasks.pop(), by_meaning=True), MEANING)
    return Siblings(*below, layouts.Sides((), ()), ALPHABET)


def _any_shared(stems: Sequence[set[str]]) -> bool:
    """Whether any two of the sets have an element in common; linear in their size."""
    seen: set[str] = set()
    for own in stems:
        if seen & own:
            return True
        seen |= own
    return False


def _has_pairs(listing: Listing) -> bool:
    scene = scene_files(listing)
    return scene is not None and bool(scene.pairs)
