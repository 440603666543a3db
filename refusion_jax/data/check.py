"""A data set looked over before it is used: every pair read, its sizes, order and registration checked."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from refusion_jax.data import datasets
from refusion_jax.data.datasets import MEANING
from refusion_jax.data.folders import stem_of
from refusion_jax.data.pairs import Discovery, Pair
from refusion_jax.data.reading import PairReader
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import Picture, image_size, read_picture
from refusion_jax.imaging.levels import Levels
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.registration import looks_misregistered
from refusion_jax.runtime.threads import in_order

# The kinds of problems, in the order they are printed. Pairs with one of the first three are not sound: they cannot be
# trained on nor scored.
UNREADABLE, SIZES, IDENTICAL = "unreadable files", "size mismatches", "both pictures the same"
SWAPPED, SHIFTED = "pairs that look swapped", "pairs that look misregistered"
UNPAIRED, OTHER, CONTENT = "unpaired files", "other problems", "files that are not those listed"
KINDS = (OTHER, UNPAIRED, UNREADABLE, SIZES, IDENTICAL, SWAPPED, SHIFTED, CONTENT)
_UNSOUND = (UNREADABLE, SIZES, IDENTICAL)

# Mean difference of the largest and the smallest channel, in levels of 0..255: grey pictures saved as colour JPEG
# stay below the one, pictures of coloured things are above the other.
_GREY, _COLORED = 1.5, 4.0


@dataclass
class Survey:
    """What a survey found.

    Attributes:
      remarks: what to know though nothing is wrong.
      problems: kind -> one line each.
      unsound: names of the pairs that cannot be used.
    """

    remarks: list[str]
    problems: dict[str, list[str]] = field(default_factory=dict)
    unsound: set[str] = field(default_factory=set)

    def add(self, kind: str, lines: Iterable[str]) -> None:
        """Some lines of one kind."""
        if lines := list(lines):
            self.problems.setdefault(kind, []).extend(lines)

    @property
    def count(self) -> int:
        """Number of problems."""
        return sum(map(len, self.problems.values()))


Problem = tuple[str, str]  # kind, line


def survey(
    found: Discovery,
    task: str | None = None,
    *,
    reader: PairReader | None = None,
    headers_only: bool = False,
    progress: Callable[[], object] = lambda: None,
    threads: int = 2,
) -> Survey:
    """Looks at every pair of a discovery.

    task: what the pairs are for; without it, what their names say. reader: with what levels they are read.
    headers_only: sizes and names alone, no picture is decoded. progress: called after each pair.
    """
    task = task or found.task
    reader = dataclasses.replace(reader or PairReader(), task=task)
    other_task = [group for group in found.groups if task and group.task and group.task != task]
    result = Survey([line for line in found.remarks if not (other_task and line.startswith("the names of "))])
    result.add(OTHER, found.errors)
    result.add(OTHER, (f"the names of {g.count} pairs say {g.task} ({g.layout}), not {task}" for g in other_task))
    result.add(UNPAIRED, (f"{one.path} ({one.missing})" for one in found.unpaired))
    means_order = bool(found.groups) and all(group.order == MEANING for group in found.groups)

    levels = _MeasuredLevels()

    def look(pair: Pair) -> tuple[list[Problem], bool]:
        if headers_only:
            return _headers(pair, reader.max_pixels)
        return _contents(pair, reader, means_order, levels)

    brighter = 0
    for pair, (problems, first_is_brighter) in zip(found.pairs, in_order(look, found.pairs, threads), strict=True):
        for kind, line in problems:
            result.add(kind, [line])
            if kind in _UNSOUND:
                result.unsound.add(pair.name)
        brighter += first_is_brighter
        progress()
    result.remarks += levels.remarks(len(found.pairs))
    if task == "meie" and not means_order and brighter:
        result.remarks.append(
            f"in {brighter} of {len(found.pairs)} pairs source 1 as named is the brighter;"
            " the darker counts as source 1"
        )
    return result


class _MeasuredLevels:
    """The levels of the sources whose files do not say them."""

    def __init__(self) -> None:
        self._found: tuple[list[Levels], list[Levels]] = ([], [])

    def add(self, pictures: Sequence[Picture]) -> None:
        """Those of one pair."""
        for own, picture in zip(self._found, pictures, strict=True):
            if picture.levels.measured:
                own.append(picture.levels)

    def remarks(self, count: int) -> list[str]:
        """A line for each source that has any."""
        lines = []
        for number, own in enumerate(self._found, 1):
            if own:
                low, high = min(one.low for one in own), max(one.high for one in own)
                each = "" if len({(one.low, one.high) for one in own}) == 1 else ", each its own range within it"
                lines.append(
                    f"{len(own)} of {count} pictures of source {number} have more than 8 bits and do not say what is"
                    f" black and white: read by the values they use, {low:.7g}..{high:.7g}{each} (--levels sets it)"
                )
        return lines


def _headers(pair: Pair, max_pixels: int) -> tuple[list[Problem], bool]:
    """The problems of a pair that names and sizes show."""
    sizes, problems = _each(partial(image_size, max_pixels=max_pixels), pair)
    return problems + swapped_names(pair) + _two_sizes(pair, sizes), False


def _contents(pair: Pair, reader: PairReader, means_order: bool, levels: _MeasuredLevels) -> tuple[list[Problem], bool]:
    """The problems of a pair, and whether its first picture is the brighter."""
    task, named = reader.task, swapped_names(pair)
    try:
        pictures = reader.pictures(pair)
    except InputError:  # of one file or of both
        sizes, problems = _each(lambda path: read_picture(path, max_pixels=reader.max_pixels).pixels.shape[:2], pair)
        return problems + named + _two_sizes(pair, sizes), False
    if sizes := _two_sizes(pair, [picture.pixels.shape[:2] for picture in pictures]):
        return named + sizes, False
    levels.add(pictures)
    problems = list(named)
    a, b = (to_depth(picture.pixels, 8) for picture in pictures)
    if np.array_equal(a, b):
        return [*problems, (IDENTICAL, f"{pair.name}: {pair.a} and {pair.b}")], False
    if not named and (reason := _swapped_colors(a, b, task)):
        problems.append((SWAPPED, f"{pair.name}: {reason}"))
    luma_a, luma_b = to_luma(a), to_luma(b)
    mean_a, mean_b = (float(luma.mean(dtype=np.float64)) for luma in (luma_a, luma_b))
    if task == "meie" and means_order and mean_a > mean_b and not named:
        problems.append((SWAPPED, f"{pair.name}: the first is the brighter (mean {mean_a:.0f} and {mean_b:.0f})"))
    if warning := looks_misregistered(luma_a, luma_b):
        problems.append((SHIFTED, f"{pair.name}: {warning}"))
    return problems, mean_a > mean_b


def _each(read: Callable, pair: Pair) -> tuple[list, list[Problem]]:
    """(what can be read of the two files, what cannot)."""
    contents, problems = [], []
    for path in (pair.a, pair.b):
        try:
            contents.append(read(path))
        except InputError as error:
            problems.append((UNREADABLE, str(error)))
    return contents, problems


def _two_sizes(pair: Pair, sizes: list[tuple[int, int]]) -> list[Problem]:
    if len(set(sizes)) < 2:
        return []
    (height_a, width_a), (height_b, width_b) = sizes
    text = f"{width_a}x{height_a} and {width_b}x{height_b} pixels"
    return [(SIZES, f"{pair.name}: {text} ({pair.a}, {pair.b})")]


def swapped_names(pair: Pair) -> list[Problem]:
    """Whether the names of files or folders mean the sources the other way round, as they may in a manifest."""
    a, b = _role(pair.a), _role(pair.b)
    if a and b and a == (b[0], 2) and b[1] == 1:
        return [(SWAPPED, f"{pair.name}: by their names, {pair.b} is the first source and {pair.a} the second")]
    return []


def _role(path: Path) -> tuple[str, int] | None:
    names = (path.parent.name, path.parent.parent.name)
    return datasets.role_of_file(stem_of(path.name)) or next(filter(None, map(datasets.role, names)), None)


def _swapped_colors(a: np.ndarray, b: np.ndarray, task: str | None) -> str | None:
    """For ivif and mif: a reason if only the picture that should be grey is coloured."""
    if task not in ("ivif", "mif"):
        return None
    first, second = _colorfulness(a), _colorfulness(b)
    if task == "ivif" and first > _COLORED and second < _GREY:
        return "the first is in colour and the second grey, but infrared comes first"
    if task == "mif" and first < _GREY and second > _COLORED:
        return "the first is grey and the second in colour, but the MRI comes second"
    return None


def _colorfulness(image: np.ndarray) -> float:
    if image.ndim == 2:
        return 0.0
    return float((image.max(2).astype(np.int16) - image.min(2)).mean())
