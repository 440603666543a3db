"""Pairs whose two files lie in one folder: NAME_A and NAME_B, NAME_1 and NAME_2, NAME_ir and NAME_vi, and brackets."""

import re
from dataclasses import dataclass, field

from refusion_jax.data import layouts
from refusion_jax.data.listing import Listing, stem_of


@dataclass
class SceneFiles:
    """What one folder holds of such pairs.

    Attributes:
      kind: of the suffixes, as `layouts.Affix` has it.
      pairs: name -> file of source 1, file of source 2.
      alone: (file, name of the missing one, without extension) of files clearly meant to have a partner.
      clashes: two files of one stem.
      further: whether other images lie beside the pairs.
    """

    kind: str
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    alone: list[tuple[str, str]] = field(default_factory=list)
    clashes: list[tuple[str, str]] = field(default_factory=list)
    further: bool = False


def scene_files(listing: Listing) -> SceneFiles | None:
    """The pairs in one folder, by the first kind of suffix that makes one: words, then letters, then numbers.

    Without any pair, the first kind with a file that is named as its folder is and lacks its partner; else None.
    """
    by_kind: dict[str, dict[tuple[str, int], str]] = {}
    clashes: dict[str, list[tuple[str, str]]] = {}
    for name in listing.images:
        if affix := layouts.suffix(stem_of(name)):
            files = by_kind.setdefault(affix.kind, {})
            earlier = files.setdefault((layouts.fold(affix.base), affix.number), name)
            if earlier != name:
                clashes.setdefault(affix.kind, []).append((earlier, name))
    order = [*(sides.task for sides in layouts.MEANINGS), "letters", "numbers"]
    scenes = [_of_kind(listing, kind, by_kind[kind], clashes.get(kind, [])) for kind in order if kind in by_kind]
    complete = [scene for scene in scenes if scene.pairs]
    return next(iter(complete or [scene for scene in scenes if scene.alone]), None)


def _of_kind(listing: Listing, kind: str, files: dict, clashes: list[tuple[str, str]]) -> SceneFiles:
    scene = SceneFiles(kind, clashes=clashes)
    scene_name = layouts.fold(listing.folder.name)
    bases = sorted({base for base, _ in files})
    complete = [base for base in bases if (base, 1) in files and (base, 2) in files]
    for base in bases:
        one, other = files.get((base, 1)), files.get((base, 2))
        if one and other:
            affix = layouts.suffix(stem_of(one))
            scene.pairs[affix.base if affix.base else listing.folder.name] = (one, other)
        elif len(complete) > 1 or not complete and kind == "letters" and base == scene_name:
            scene.alone.append((one or other, _partner(one or other, kind)))
    used = {name for both in scene.pairs.values() for name in both} | {name for name, _ in scene.alone}
    scene.further = len(used) < len(listing.images)
    return scene


def _partner(name: str, kind: str) -> str:
    """The name, without extension, of the file that would make a pair of this one."""
    stem = stem_of(name)
    affix = layouts.suffix(stem)
    if kind in ("letters", "numbers"):
        return stem[:-1] + {"a": "B", "b": "A", "1": "2", "2": "1"}[stem[-1].lower()]
    words = [label.removeprefix("NAME_") for label in layouts.labels(kind)]
    beginning = stem[: len(affix.base) + 1] if affix.base else ""
    return beginning + words[2 - affix.number]


def numbered_bracket(listing: Listing) -> tuple[str, ...]:
    """The images of a folder that holds one picture numbered through, in the order of the numbers; () if it does not.

    Either 1.JPG, 2.JPG, ... (SICE) or NAME_1, NAME_2, ..., and nothing else but what has no number.
    """
    plain, named = {}, {}
    for name in listing.images:
        stem = stem_of(name)
        if stem.isdecimal():
            plain[int(stem)] = name
        elif match := re.fullmatch(r"(.+)_(\d{1,6})", stem):
            named.setdefault(layouts.fold(match[1]), {})[int(match[2])] = name
    if plain and not named:
        return tuple(plain[number] for number in sorted(plain))
    if len(named) == 1 and not plain:
        (files,) = named.values()
        return tuple(files[number] for number in sorted(files))
    return ()
