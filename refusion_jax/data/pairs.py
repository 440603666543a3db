"""Pairs of image files: find and name them, order their sources, check their sizes, split them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS, image_size

# Names of the folders (lower case) that hold source 1 and source 2 of a task, as F was trained.
_FOLDER_NAMES = {
    "ivif": [("infrared ir cropinfrared thermal", "visible vi vis rgb crop_lr_visible crop_hr_visible")],
    "mif": [("ct_pet_spect functional ct pet spect", "mri")],
    "mfif": [
        ("near", "far"),
        ("a", "b"),
        ("sourcea", "sourceb"),
        ("source_a", "source_b"),
        ("source1", "source2"),
        ("source_1", "source_2"),
    ],
    "meie": [("under", "over"), ("ue", "oe")],
}

_LAYOUTS = (
    "two sibling folders with equal file stems (such as infrared/ and visible/),"
    " or NAME_A and NAME_B (or NAME_1 and NAME_2) in one folder per scene, directly or under input/"
)
_SUFFIX = re.compile(r"(.+)_([ab12])", re.IGNORECASE)
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Pair:
    """Two files of one scene. `a` is source 1 and `b` source 2 of the task, as far as the layout tells.

    For meie the layout does not decide: the darker image is source 1 (`darker_first`).
    """

    name: str  # unique in its list; '/'-joined below sub data sets
    a: Path
    b: Path


@dataclass(frozen=True)
class _Listing:
    folder: Path
    folders: tuple[Path, ...]
    images: tuple[Path, ...]


def find_pairs(folder: str | os.PathLike, task: str | None = None) -> list[Pair]:
    """All pairs below a folder, sorted by name. Hidden files and other files than images are passed over.

    Layouts, tried at every level from the top:
      1. NAME_A and NAME_B (or NAME_1 and NAME_2) in the folder itself. A folder with one such pair is a scene
         and gives the pair its name; what else lies in it, such as further exposures, is passed over.
      2. Two folders with equal stems, in any mix of formats and of case. Known names give the order of the
         sources (infrared, visible; CT, PET or SPECT, MRI; near, far; under, over; A, B) and other folders
         beside them are passed over; else there must be two folders, and the alphabet decides.
      3. Neither: the folders below are searched in the same way, `input` alone if there is one.
    Names are paths relative to the folder that all pairs have in common ("CT-MRI/train/16003"; "flower").
    `task` (ivif, mif, mfif, meie) is needed only where folders of two tasks lie side by side: its names are
    looked for first.

    Raises InputError if the folder is missing, holds no pair, or holds a file without partner.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # unlike Path.is_dir, False where it cannot look
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise InputError(f"{folder}: expected a folder of image pairs, but it {what}")
    pairs = _collect(_scan(folder), (), frozenset(), task)
    if not pairs:
        raise InputError(f"{folder}: no image pairs found; looked for {_LAYOUTS}")
    common = _common_folders([parts for parts, _, _ in pairs])
    named = sorted(
        (Pair("/".join(parts[common:]), a, b) for parts, a, b in pairs), key=lambda pair: pair.name
    )
    for one, other in zip(named, named[1:], strict=False):
        if one.name == other.name:
            raise InputError(
                f"{folder}: two pairs are named '{one.name}': {one.a} and {other.a}; rename one of them"
            )
    return named


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
    return Pair(_common_stem(a.stem, b.stem), a, b)


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
    pairs = [Pair("/".join(parts), one, other) for parts, one, other in _match(_stems(a), _stems(b), a, b)]
    return sorted(pairs, key=lambda pair: pair.name)


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


def split_validation(pairs: Sequence[Pair], every: int = 10) -> tuple[list[Pair], list[Pair]]:
    """(training, validation): of the pairs in order, positions every-1, 2*every-1, ... are for validation.

    every=0 keeps all for training. Raises InputError for every=1 or less than 0.
    """
    if every == 0:
        return list(pairs), []
    if every < 2:
        raise InputError(f"expected every n-th pair for validation with n = 0 (none) or n >= 2, got {every}")
    training = [pair for index, pair in enumerate(pairs) if index % every != every - 1]
    return training, list(pairs[every - 1 :: every])


_Found = tuple[tuple[str, ...], Path, Path]  # name, in parts; source 1; source 2


def _collect(
    listing: _Listing, prefix: tuple[str, ...], above: frozenset[str], task: str | None
) -> list[_Found]:
    scene = _scene_pairs(listing, strict=True)
    if scene:
        # A folder with one pair is a scene and gives its name; with several, each pair has its own.
        if len(scene) == 1 and prefix:
            return [(prefix, *files) for files in scene.values()]
        return [((*prefix, name), *files) for name, files in scene.items()]
    real = os.path.realpath(listing.folder)
    if len(above) >= _MAX_DEPTH or real in above:  # in above: a link to a folder above
        return []
    below = [_scan(folder) for folder in listing.folders]
    siblings = _known_siblings(listing.folder, below, task) or _other_siblings(listing.folder, below)
    if siblings is not None:
        first, second = siblings
        found = _match(_stems(first), _stems(second), first, second)
        return [((*prefix, *parts), a, b) for parts, a, b in found]
    only_input = [one for one in below if one.folder.name.lower() == "input"]
    above = above | {real}
    found = []
    for one in only_input or below:
        found += _collect(one, (*prefix, one.folder.name), above, task)
    return found


def _known_siblings(folder: Path, below: list[_Listing], task: str | None) -> tuple[Path, Path] | None:
    """The two folders below `folder` whose names say that they hold the sources, in order."""
    by_name = {listing.folder.name.lower(): listing for listing in below}
    tables = [
        *_FOLDER_NAMES.get(task or "", []),
        *(table for tables in _FOLDER_NAMES.values() for table in tables),
    ]
    for first_names, second_names in tables:
        first = [name for name in first_names.split() if name in by_name]
        second = [name for name in second_names.split() if name in by_name]
        if {"crop_lr_visible", "crop_hr_visible"} <= set(second):
            second.remove("crop_hr_visible")  # RoadScene: the infrared images have the size of the other
        if not first or not second:
            continue
        if len(first) > 1 or len(second) > 1:
            names = ", ".join(by_name[name].folder.name for name in first + second)
            raise InputError(
                f"{folder}: more than two folders of sources ({names}); give a folder with just two"
            )
        a, b = by_name[first[0]], by_name[second[0]]
        # Two scenes may happen to be called so.
        if _scene_pairs(a) and _scene_pairs(b) and not _folded(a) & _folded(b):
            continue
        return a.folder, b.folder
    return None


def _other_siblings(folder: Path, below: list[_Listing]) -> tuple[Path, Path] | None:
    """The two folders of images below `folder` with equal stems, by the alphabet."""
    below = [listing for listing in below if listing.images]
    stems = [_folded(listing) for listing in below]
    if not any(stems[i] & stems[j] for i in range(len(stems)) for j in range(i)):
        return None
    if all(_scene_pairs(listing) for listing in below):
        # Scenes whose files are named alike (img_A, img_B in each), or two folders of numbered images?
        numbered = len(below) == 2 and stems[0] == stems[1] and len(stems[0]) > 2
        if not numbered or any(stem.endswith("_a") for stem in stems[0]):
            return None
    folders = sorted((listing.folder for listing in below), key=lambda path: (path.name.lower(), path.name))
    if len(folders) > 2:
        listed = ", ".join(path.name for path in folders[:6]) + (", ..." if len(folders) > 6 else "")
        raise InputError(
            f"{folder}: {len(folders)} folders of images ({listed}) share file names and no two are known as"
            " sources; expected two folders, such as infrared and visible"
        )
    return folders[0], folders[1]


def _folded(listing: _Listing) -> set[str]:
    return {path.stem.casefold() for path in listing.images}


def _scene_pairs(listing: _Listing, strict: bool = False) -> dict[str, tuple[Path, Path]]:
    """NAME -> (NAME_A, NAME_B) of the images in one folder, or of _1 and _2 if there is no such pair.

    If strict, raises InputError for two files of one stem and for a file without partner that is clearly
    meant to have one: beside several pairs, or named as its folder is.
    """
    by_suffix: dict[tuple[str, str], Path] = {}
    for path in listing.images:
        match = _SUFFIX.fullmatch(path.stem)
        if match:
            key = match[1].casefold(), match[2].lower()
            if strict and key in by_suffix:
                raise InputError(f"{by_suffix[key]} and {path} have the same stem; keep one of them")
            by_suffix[key] = path
    scene_name = listing.folder.name.casefold()
    for one, other in ("ab", "12"):
        names = sorted({name for name, suffix in by_suffix if suffix in (one, other)})
        complete = [name for name in names if (name, one) in by_suffix and (name, other) in by_suffix]
        for name in names:
            expected = len(complete) > 1 or not complete and one == "a" and name == scene_name
            if strict and expected and name not in complete:
                path = by_suffix.get((name, one)) or by_suffix[name, other]
                missing = other if (name, one) in by_suffix else one
                raise InputError(
                    f"{path} is unpaired: there is no {path.stem[:-1]}{missing.upper()} beside it;"
                    " add the missing file or take this one away"
                )
        if complete:
            pairs = [(by_suffix[name, one], by_suffix[name, other]) for name in complete]
            return {a.stem[:-2]: (a, b) for a, b in pairs}
    return {}


def _stems(folder: Path) -> dict[tuple[str, ...], tuple[tuple[str, ...], Path]]:
    """Folded stem -> (stem, file) of a source folder's images; if it has none, of those further below."""
    files = [(path.name, path) for path in _scan(folder).images]
    if not files:
        files = [(str(path.relative_to(folder)), path) for path in _all_images(folder, frozenset())]
    stems: dict[tuple[str, ...], tuple[tuple[str, ...], Path]] = {}
    for relative, path in files:
        parts = PurePosixPath(relative).with_suffix("").parts
        key = tuple(part.casefold() for part in parts)
        if key in stems:
            raise InputError(f"{stems[key][1]} and {path} have the same stem; keep one of them")
        stems[key] = (parts, path)
    return stems


def _all_images(folder: Path, above: frozenset[str]) -> list[Path]:
    real = os.path.realpath(folder)
    if real in above or len(above) >= _MAX_DEPTH:
        return []
    listing = _scan(folder)
    found = list(listing.images)
    for child in listing.folders:
        found += _all_images(child, above | {real})
    return found


def _match(first: dict, second: dict, folder_a: Path, folder_b: Path) -> list[_Found]:
    for folder, stems in ((folder_a, first), (folder_b, second)):
        if not stems:
            raise InputError(f"{folder}: expected images of pairs, found none")
    alone = [(first[key][1], folder_b) for key in first.keys() - second.keys()]
    alone += [(second[key][1], folder_a) for key in second.keys() - first.keys()]
    if alone:
        alone.sort()
        listed = ", ".join(f"{path} (nothing of that stem in {folder})" for path, folder in alone[:3])
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise InputError(f"{len(alone)} unpaired: {listed}{more}; add the missing file or take this one away")
    return [(parts, path, second[key][1]) for key, (parts, path) in first.items()]


def _scan(folder: Path) -> _Listing:
    """The folders and images directly in a folder, sorted by name, hidden ones left out."""
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if os.path.splitext(entry.name)[1].lower() in READABLE_EXTENSIONS and entry.is_file():
                    images.append(Path(entry.path))
                elif entry.is_dir():
                    folders.append(Path(entry.path))
    except OSError as error:
        raise InputError(f"{folder}: cannot list the folder: {error.strerror}") from error
    return _Listing(folder, tuple(sorted(folders)), tuple(sorted(images)))


def _common_folders(names: list[tuple[str, ...]]) -> int:
    """How many leading parts all names share, the last part of each left out."""
    shortest = min(len(parts) for parts in names) - 1
    count = 0
    while count < shortest and len({parts[count] for parts in names}) == 1:
        count += 1
    return count


def _common_stem(a: str, b: str) -> str:
    if a.casefold() == b.casefold():
        return a
    match_a, match_b = _SUFFIX.fullmatch(a), _SUFFIX.fullmatch(b)
    if match_a and match_b and match_a[1].casefold() == match_b[1].casefold():
        return match_a[1]
    # Up to the last separator of the common beginning, so that img01 and img02 do not become "img0".
    beginning = re.match(r"(.+)[_\-. ]", os.path.commonprefix([a, b]))
    return beginning[1].rstrip("_-. ") if beginning and beginning[1].rstrip("_-. ") else f"{a}_{b}"
