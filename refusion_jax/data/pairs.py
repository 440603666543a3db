"""Pairs of image files: found in a folder or a manifest, or given one by one; their sizes; which one is the darker."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refusion_jax.data import layouts
from refusion_jax.data.discovery import Discovery, unpaired_line
from refusion_jax.data.listing import Tree, match
from refusion_jax.data.pair import Pair, hold_out, natural_key, split_validation
from refusion_jax.data.search import search
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import image_size
from refusion_jax.tasks import TASKS

__all__ = [
    "Discovery",
    "Pair",
    "check_sizes",
    "darker_first",
    "discover",
    "find_pairs",
    "hold_out",
    "natural_key",
    "pair_from_files",
    "pairs_from_arguments",
    "recognise_task",
    "split_validation",
]


def discover(
    source: str | os.PathLike, task: str | None = None, *, exposures: tuple[int, int] | None = None
) -> Discovery:
    """The pairs below a folder or in a manifest (a .csv file), with what was recognised and what is wrong.

    As `find_pairs`, but raises InputError only for what cannot be searched or read at all: unpaired files and such are
    in the result.
    """
    source = Path(source)
    if source.suffix.lower() == ".csv" and not os.path.isdir(source):
        from refusion_jax.data import manifest

        return manifest.read(source, task).as_discovery()
    return search(source, task, exposures)


def find_pairs(
    source: str | os.PathLike, task: str | None = None, *, exposures: tuple[int, int] | None = None
) -> list[Pair]:
    """All pairs below a folder or in a manifest, in natural order of their names (img2 before img10).

    Hidden files and other files than images are passed over. Layouts, tried at every level from the top:
      1. NAME_A and NAME_B, NAME_1 and NAME_2, or NAME_ir and NAME_vi (and the like) in the folder itself. A folder
         with one such pair is a scene and gives the pair its name; what else lies in it is passed over. For meie,
         NAME_1, NAME_2, NAME_3, ... of one scene are a bracket.
      2. Two folders with equal stems, in any mix of formats and of case, whose names are known and give the order of
         the sources (infrared, visible; CT, PET or SPECT, MRI; near, far; under, over; A, B). Other folders beside
         them are passed over.
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
    """(task, layout) that the names in a folder or a manifest tell; InputError where they tell none or several."""
    found = discover(source)
    if not found.pairs:
        found.require()
    if found.task is None:
        told = sorted({group.task for group in found.groups if group.task})
        what = f"the names in {source} tell several ({', '.join(told)})" if told else f"the names in {source} tell none"
        raise InputError(f"--task is missing, and {what}; expected one of {', '.join(TASKS)}")
    return found.task, ", ".join(dict.fromkeys(group.layout for group in found.groups))


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
    matched = match(Tree(), a, b)
    if matched.errors:
        raise InputError(matched.errors[0])
    if matched.unpaired:
        raise InputError(unpaired_line(matched.unpaired))
    pairs = [Pair("/".join(one.parts), one.a, one.b) for one in matched.found]
    return sorted(pairs, key=lambda pair: natural_key(pair.name))


def check_sizes(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """The size (H, W) of every pair, read from the files' headers.

    Raises InputError at the first pair whose images differ in size.
    """
    sizes = []
    for pair in pairs:
        size_a, size_b = image_size(pair.a), image_size(pair.b)
        if size_a != size_b:
            raise InputError(
                f"pair '{pair.name}': expected two images of one size (height x width), got"
                f" {size_a[0]}x{size_a[1]} ({pair.a}) and {size_b[0]}x{size_b[1]} ({pair.b});"
                " register and crop them first"
            )
        sizes.append(size_a)
    return sizes


def darker_first(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two luma images of any one range, the one with the lower mean first; equal means keep the order."""
    # In float64, so that the decision does not hang on how a float32 sum is ordered.
    return (b, a) if np.mean(b, dtype=np.float64) < np.mean(a, dtype=np.float64) else (a, b)


def common_stem(a: str, b: str) -> str:
    """What the stems of two files have in common, such as "door" of door_A and door_B."""
    if layouts.fold(a) == layouts.fold(b):
        return a
    one, other = layouts.suffix(a), layouts.suffix(b)
    if one and other and one.base and one.kind == other.kind and layouts.fold(one.base) == layouts.fold(other.base):
        return one.base
    # Up to the last separator of the common beginning, so that img01 and img02 do not become "img0".
    beginning = re.match(r"(.+)[_\-. ]", os.path.commonprefix([a, b]))
    return beginning[1].rstrip("_-. ") if beginning and beginning[1].rstrip("_-. ") else f"{a}_{b}"
