"""The data sets and naming forms that are recognised: one table, and what names of folders and files mean by it.

Adding a data set is adding a row. Nothing here reads a disk. Names are compared in any case, and those of folders
without separators: `crop_LR_visible`, `Crop-lr-visible` and `CropLRVisible` are one.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from refusion_jax.tasks import TASK_ALIASES, TASKS

# How it was decided which source is the first.
MEANING = "by meaning"
LETTERS = "by the letters or numbers in the names"
ALPHABET = "by the alphabet"
BRIGHTNESS = "the darkest, then the brightest"
CHOSEN = "as chosen"


class Row(NamedTuple):
    """A data set or a naming form.

    Attributes:
      name: of the data set, "" for a form in common use. Folders whose names begin with it name the data set, too.
      task: None where the names do not say it.
      first, second: names of source 1 and of source 2, separated by blanks. "ir/" is a folder, "*_ir" the end of a
        file's stem, "ir" both; "#" and "*_#" are the numbers of a bracket of exposures. Without any, only the name in
        the path says which data set it is.
      order: what the names say of the order of the sources.
      splits: "above" or "below" if train and test must lie above the two folders or in them.
      beside: folders of the same pictures in another size or depth; "ir/" and "vi/" are preferred to them.
      path: pattern of the data set's name in the path, where `name` will not do.
    """

    name: str
    task: str | None
    first: str = ""
    second: str = ""
    order: str = MEANING
    splits: str | None = None
    beside: str = ""
    path: str = ""


TABLE = (
    # Infrared is source 1, visible source 2.
    Row("RoadScene", "ivif", "cropinfrared/", "crop_LR_visible/", beside="crop_HR_visible/"),
    Row("RoadScene", "ivif", "cropinfrared/", "crop_HR_visible/"),
    Row("LLVIP", "ivif", "infrared/", "visible/", splits="below"),
    Row("MSRS", "ivif", "ir/", "vi/", splits="above"),
    Row("TNO or VIFB", "ivif", "ir/", "vi/"),
    Row("TNO", "ivif"),
    Row("VIFB", "ivif"),
    Row("M3FD", "ivif", "ir/", "vis/"),
    Row("FLIR", "ivif", "thermal_8_bit/", "RGB/", beside="thermal_16_bit/"),
    Row("FLIR", "ivif", "thermal_16_bit/", "RGB/"),
    Row("FLIR", "ivif", "*_PreviewData", "*_RGB"),
    Row("DJI thermal", "ivif", "*_T", "*_W"),
    Row("VEDAI", "ivif", "*_ir", "*_co"),
    Row("", "ivif", "infrared ir thermal tir lwir inf", "visible vi vis rgb visual visiblelight"),
    # CT, PET or SPECT is source 1, MRI source 2.
    Row("Harvard (AANLIB)", "mif", "CT/ PET/ SPECT/ CT_PET_SPECT/ functional/", "MRI/ MR/", path="harvard|aanlib"),
    Row("", "mif", "ct pet spect ctpetspect functional", "mri mr"),
    # Near focus is source 1, far focus source 2.
    Row("", "mfif", "near nearfocus", "far farfocus"),
    Row("Lytro", "mfif", "sourceA/", "sourceB/", LETTERS),
    Row("MFI-WHU", "mfif", "source_1/", "source_2/", LETTERS),
    Row("Real-MFF", "mfif", "imageA/", "imageB/", LETTERS),
    Row("MFIFB", "mfif"),
    Row("MFFW", "mfif"),
    # The under-exposed picture is source 1, the over-exposed source 2.
    Row("", "meie", "under ue underexposed underexposure", "over oe overexposed overexposure"),
    Row("MEFB", "meie"),
    Row("SICE", "meie", "#", "#", BRIGHTNESS, path=r"sice|dataset_?part_?\d+"),
    Row("", "meie", "*_#", "*_#", BRIGHTNESS),
    # Any task.
    Row("", None, "A/ *_A", "B/ *_B", LETTERS),
    Row("", None, "*_1", "*_2", LETTERS),
    Row("", None, "image_1/", "image_2/", LETTERS),
    Row("", None, "imgA/", "imgB/", LETTERS),
    Row("", None, "img_1/", "img_2/", LETTERS),
)
NUMBERS = next(row for row in TABLE if row.first == "*_1")

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# What lies beside the sources without being one.
ASIDE = frozenset(
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


@cache
def rows(task: str | None) -> list[Row]:
    """The table, with what has a meaning first and, of that, the rows of the task."""
    return sorted(TABLE, key=lambda row: (row.order != MEANING, task is not None and row.task != task))


def folder_names(names: str) -> frozenset[str]:
    """The folders among the names of a row's source, normalised."""
    return frozenset(normalise(name) for name in names.split() if not name.startswith(("*", "#")))


def file_words(names: str) -> list[str]:
    """The ends of stems among the names of a row's source, as the table writes them."""
    return [name.removeprefix("*_") for name in names.split() if not name.endswith(("/", "#"))]


class Affix(NamedTuple):
    """The part of a file's stem that says which source it is: `door_A` has the base "door" and the word "A".

    side: 1 or 2. word: as the table writes it.
    """

    row: Row
    side: int
    base: str
    word: str

    @property
    def form(self) -> str:
        """What such files are called: NAME_A."""
        return f"NAME_{self.word}" if self.base else self.word


_SIDES = [(row, side, names) for row in TABLE for side, names in ((1, row.first), (2, row.second))]
_FOLDERS = {(row, side): folder_names(names) for row, side, names in _SIDES}
_ROLES = {
    name: (row.task or "", side) for (row, side), names in _FOLDERS.items() if row.order == MEANING for name in names
}
_WORDS = [(word.casefold(), (row, side, word)) for row, side, names in _SIDES for word in file_words(names)]
_BY_WORD = {word: [meaning for known, meaning in _WORDS if known == word] for word, _ in _WORDS}
_LAST_WORD = re.compile(r"(?:(.+)([_\-. ]))?([^\W_]+)")
_FIRST_WORD = re.compile(r"([^\W\d_]+)(?:[_\-. ]|(?=\d))(.+)")


def endings(stem: str) -> list[Affix]:
    """How the end of a stem says which source it is, for each row that knows it.

    A word may be the whole stem (base ""), a letter or a number may not; a number stands behind `_`.
    """
    if not (match := _LAST_WORD.fullmatch(stem)):
        return []
    base, separator, word = match[1] or "", match[2], match[3].casefold()
    if len(word) == 1 and not base or word.isdecimal() and separator != "_":
        return []
    return [Affix(row, side, base, known) for row, side, known in _BY_WORD.get(word, ())]


def beginnings(stem: str) -> list[Affix]:
    """How a word at the beginning of a stem says which source it is (`VIS12`, `ir_street`)."""
    match = _FIRST_WORD.fullmatch(stem)
    if not match or len(match[1]) == 1:
        return []
    return [Affix(row, side, match[2], known) for row, side, known in _BY_WORD.get(match[1].casefold(), ())]


def is_side(row: Row, side: int, folder: str) -> bool:
    """Whether a folder is source 1 or 2 of a row: for words in common use, whatever means that source of the task."""
    name = normalise(folder)
    if row.order == MEANING and not row.name:
        return _ROLES.get(name) == (row.task, side)
    return name in _FOLDERS[row, side]


def means_source(row: Row, folder: str) -> bool:
    """Whether a folder means a source of the row's task and is not one that may lie beside the row's two."""
    name = normalise(folder)
    return row.order == MEANING and name in _ROLES and _ROLES[name][0] == row.task and name != normalise(row.beside)


def role(folder: str) -> tuple[str, int] | None:
    """(task, 1 or 2) of a folder's name that means one source, also as one of its words ("visible_gray"); else None."""
    if (exact := _ROLES.get(normalise(folder))) is not None:
        return exact
    roles = {_ROLES[word] for word in re.split(r"[\W_]+", folder.casefold()) if word in _ROLES}
    return roles.pop() if len(roles) == 1 else None


def role_of_file(stem: str) -> tuple[str, int] | None:
    """(task, 1 or 2) that the last word of a stem means; else None."""
    return next(((row.task, side) for row, side, *_ in endings(stem) if row.task and row.order == MEANING), None)


def split_named(folder: str) -> str | None:
    """ "train", "validation" or "test" if a folder is called so."""
    return SPLIT_FOLDERS.get(folder.casefold())


def split_of(folders: Sequence[str]) -> str | None:
    """The part of its data set that a pair below these folders belongs to. `test` anywhere wins."""
    found = {split_named(name) for name in folders}
    return next((part for part in ("test", "validation", "train") if part in found), None)


def is_aside(folder: str) -> bool:
    """Whether a folder holds labels, masks or results rather than a source."""
    return normalise(folder) in ASIDE


def dataset_in(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """(data set, task) by the names of folders, the last one first; a task's own name gives the task alone."""
    known = map(_dataset_and_task, map(str.casefold, reversed(folders)))
    return next((found for found in known if found != (None, None)), (None, None))


@lru_cache(maxsize=2**16)
def _dataset_and_task(folder: str) -> tuple[str | None, str | None]:
    for row in TABLE:
        name = row.path or re.sub("[^a-z0-9]+", r"[\\W_]*", row.name.casefold())
        if name and re.match(rf"(?:{name})(?![^\W_])", folder):
            return row.name, row.task
    task = TASK_ALIASES.get(folder, folder)
    return None, task if task in TASKS else None
