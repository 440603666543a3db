"""The names by which data sets are told: of source folders, file suffixes, parts, data sets. Nothing here reads a disk.

Names are compared in any case and without separators: `crop_LR_visible`, `Crop-lr-visible` and `CropLRVisible` are one.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# How the order of the sources came about.
MEANING = "by meaning"
LETTERS = "by the letters or numbers in the names"
ALPHABET = "by the alphabet"
BRIGHTNESS = "the darkest, then the brightest"
CHOSEN = "as chosen"


@dataclass(frozen=True)
class Sides:
    """Names of the folders of source 1 and source 2.

    Attributes:
      first, second: names, normalised.
      task: the task they tell; None where they do not.
      layout: the data set that is known for them, if one is.
      by_meaning: whether they say which source is which, or only number the two.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    task: str | None = None
    layout: str | None = None
    by_meaning: bool = False


def _meaning(task: str, first: str, second: str) -> Sides:
    return Sides(tuple(first.split()), tuple(second.split()), task, None, True)


# In the order of the networks: infrared, CT or PET or SPECT, near, under-exposed come first.
MEANINGS = (
    _meaning(
        "ivif",
        "infrared ir cropinfrared thermal tir lwir inf",
        "visible vi vis rgb croplrvisible crophrvisible visual visiblelight",
    ),
    _meaning("mif", "ctpetspect functional ct pet spect", "mri mr"),
    _meaning("mfif", "near nearfocus", "far farfocus"),
    _meaning("meie", "under ue underexposed underexposure", "over oe overexposed overexposure"),
)
NUMBERED = (
    Sides(("a",), ("b",)),
    Sides(("sourcea",), ("sourceb",), "mfif", "Lytro"),
    Sides(("source1",), ("source2",), "mfif", "MFI-WHU"),
    Sides(("imagea",), ("imageb",), "mfif", "Real-MFF"),
    Sides(("image1",), ("image2",)),
    Sides(("imga",), ("imgb",)),
    Sides(("img1",), ("img2",)),
)
_ROLES = {
    name: (sides.task, number)
    for sides in MEANINGS
    for number, names in ((1, sides.first), (2, sides.second))
    for name in names
}

# Data sets by a name that stands in their path, and the task of each.
DATASETS = {
    "MSRS": "ivif",
    "RoadScene": "ivif",
    "LLVIP": "ivif",
    "M3FD": "ivif",
    "TNO": "ivif",
    "VIFB": "ivif",
    "AANLIB": "mif",
    "Harvard": "mif",
    "Lytro": "mfif",
    "MFIFB": "mfif",
    "MFFW": "mfif",
    "MFI-WHU": "mfif",
    "Real-MFF": "mfif",
    "RealMFF": "mfif",
    "MEFB": "meie",
    "SICE": "meie",
}
_TASK_FOLDERS = {"ivif": "ivif", "mif": "mif", "mfif": "mfif", "meie": "meie", "meif": "meie"}
_SICE_FOLDER = re.compile(r"dataset_?part_?\d+")

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# What lies beside the sources without being one.
_ASIDE = frozenset(
    "label labels mask masks annotation annotations segmentation segmentationlabels segmentationvisualize gt"
    " groundtruth fullclear fusion fused fusedimages fusionresults result results output outputs preview previews"
    " detection bboxes".split()
)


def normalise(name: str) -> str:
    """A folder's name without case and separators."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name.casefold()


def fold(stem: str) -> str:
    """What two file names must share to be a pair: case does not count, nor how accents are encoded."""
    return stem.casefold() if stem.isascii() else unicodedata.normalize("NFC", stem).casefold()


def tables(task: str | None) -> Iterator[Sides]:
    """All sides: those of the task first, then by meaning, then those that only number the sources."""
    yield from (sides for sides in MEANINGS if sides.task == task)
    yield from (sides for sides in MEANINGS if sides.task != task)
    yield from NUMBERED


def role(name: str) -> tuple[str, int] | None:
    """(task, 1 or 2) of a name that means one source, also as one of its words ("visible_gray"); else None."""
    if (exact := _ROLES.get(normalise(name))) is not None:
        return exact
    roles = {_ROLES[word] for word in re.split(r"[\W_]+", name.casefold()) if word in _ROLES}
    return roles.pop() if len(roles) == 1 else None


def split_named(name: str) -> str | None:
    """ "train", "validation" or "test" if a folder is called so."""
    return _PARTS.get(name.casefold())


def split_of(folders: Sequence[str]) -> str | None:
    """The part of its data set that a pair below these folders belongs to. `test` anywhere wins."""
    found = {split_named(name) for name in folders}
    return next((part for part in ("test", "validation", "train") if part in found), None)


def is_aside(name: str) -> bool:
    """Whether a folder holds labels, masks or results rather than a source."""
    return normalise(name) in _ASIDE


def dataset_in(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """(data set, task) told by folder names, the last one first; a task's own name tells the task alone."""
    for folder in reversed(folders):
        name = folder.casefold()
        for dataset, task in DATASETS.items():
            if re.match(rf"{re.escape(dataset.casefold())}(?![^\W_])", name):
                return ("Real-MFF" if dataset == "RealMFF" else dataset), task
        if _SICE_FOLDER.fullmatch(name):
            return "SICE", "meie"
        if name in _TASK_FOLDERS:
            return None, _TASK_FOLDERS[name]
    return None, None


@dataclass(frozen=True)
class Affix:
    """The part of a file's stem that tells its source: `door_A` is base "door", kind "letters", number 1.

    kind: "letters" (A, B), "numbers" (1, 2) or the task whose words they are (`door_under`, `IR12`).
    """

    base: str
    kind: str
    number: int


_LETTER = re.compile(r"(.+)[_\- ]([ab])", re.IGNORECASE)
_NUMBER = re.compile(r"(.+)_([12])")
_LAST_WORD = re.compile(r"(?:(.+)[_\-. ])?([^\W\d_]+)")
_FIRST_WORD = re.compile(r"([^\W\d_]+)(?:[_\-. ]|(?=\d))(.+)")


def suffix(stem: str) -> Affix | None:
    """How the end of a stem tells the source; a word that means one may be the whole stem (base "")."""
    match = _LAST_WORD.fullmatch(stem)
    if match and (found := _ROLES.get(match[2].casefold())):
        return Affix(match[1] or "", *found)
    if match := _LETTER.fullmatch(stem):
        return Affix(match[1], "letters", 1 if match[2] in "aA" else 2)
    if match := _NUMBER.fullmatch(stem):
        return Affix(match[1], "numbers", int(match[2]))
    return None


def prefix(stem: str) -> Affix | None:
    """How the beginning of a stem tells the source (`VIS12`, `ir_street`)."""
    match = _FIRST_WORD.fullmatch(stem)
    found = _ROLES.get(match[1].casefold()) if match else None
    return Affix(match[2], *found) if found else None


def labels(kind: str) -> tuple[str, str]:
    """How the files of a kind of suffix are called: ("NAME_A", "NAME_B")."""
    if kind in ("letters", "numbers"):
        return ("NAME_A", "NAME_B") if kind == "letters" else ("NAME_1", "NAME_2")
    sides = next(sides for sides in MEANINGS if sides.task == kind)
    return f"NAME_{sides.first[0]}", f"NAME_{sides.second[0]}"


def siblings_layout(
    sides: Sides, names: tuple[str, str], task: str | None, dataset: str | None, above: bool, below: bool
) -> str:
    """What to call two source folders: a data set where its form is unmistakable or its name stands in the path.

    names: of the two folders. task: the one they and their path tell. above, below: whether train and test lie above
    the sources or below them.
    """
    if dataset and DATASETS[dataset] == task:
        return dataset
    if sides.layout and sides.task == task:
        return sides.layout
    first, second = (normalise(name) for name in names)
    known = {
        ("cropinfrared", "croplrvisible"): "RoadScene",
        ("cropinfrared", "crophrvisible"): "RoadScene",
        ("infrared", "visible"): "LLVIP" if below else None,
        ("ir", "vi"): "MSRS" if above else "TNO or VIFB",
        ("ir", "vis"): "M3FD",
    }
    if sides.task == "mif" and second == "mri":
        return "Harvard (AANLIB)"
    return known.get((first, second)) or "two folders"
