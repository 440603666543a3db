"""A data set looked over before it is used: every pair read, its sizes, order and registration checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refusion_jax.data import datasets
from refusion_jax.data.datasets import MEANING
from refusion_jax.data.pairs import Discovery, Pair
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import image_size, read_image
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
    headers_only: bool = False,
    progress: Callable[[], object] = lambda: None,
    threads: int = 2,
) -> Survey:
    """Looks at every pair of a discovery.

    task: what the pairs are for; without it, what their names say. headers_only: sizes and names alone, no picture is
    decoded. progress: called after each pair.
    """
    task = task or found.task
    other_task = [group for group in found.groups if task and group.task and group.task != task]
    result = Survey([line for line in found.remarks if not (other_task and line.startswith("the names of "))])
    result.add(OTHER, found.errors)
    result.add(OTHER, (f"the names of {g.count} pairs say {g.task} ({g.layout}), not {task}" for g in other_task))
    result.add(UNPAIRED, (f"{one.path} ({one.missing})" for one in found.unpaired))
    means_order = bool(found.groups) and all(group.order == MEANING for group in found.groups)

    def look(pair: Pair) -> tuple[list[Problem], bool]:
        return _headers(pair) if headers_only else _contents(pair, task, means_order)

    brighter = 0
    for pair, (problems, first_is_brighter) in zip(found.pairs, in_order(look, found.pairs, threads), strict=True):
        for kind, line in problems:
            result.add(kind, [line])
            if kind in _UNSOUND:
                result.unsound.add(pair.name)
        brighter += first_is_brighter
        progress()
    if task == "meie" and not means_order and brighter:
        result.remarks.append(
            f"in {brighter} of {len(found.pairs)} pairs source 1 as named is the brighter;"
            " the darker counts as source 1"
        )
    return result


def _headers(pair: Pair) -> tuple[list[Problem], bool]:
    """The problems of a pair that names and sizes show."""
    sizes, problems = _each(image_size, pair)
    return problems + _swapped_names(pair) + _two_sizes(pair, sizes), False


def _contents(pair: Pair, task: str | None, means_order: bool) -> tuple[list[Problem], bool]:
    """The problems of a pair, and whether its first picture is the brighter."""
    pictures, problems = _each(read_image, pair)
    named = _swapped_names(pair)
    problems += named + _two_sizes(pair, [picture.shape[:2] for picture in pictures])
    if problems[len(named) :] or len(pictures) < 2:
        return problems, False
    a, b = pictures
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


def _swapped_names(pair: Pair) -> list[Problem]:
    """Whether the names of files or folders mean the sources the other way round, as they may in a manifest."""
    a, b = _role(pair.a), _role(pair.b)
    if a and b and a == (b[0], 2) and b[1] == 1:
        return [(SWAPPED, f"{pair.name}: by their names, {pair.b} is the first source and {pair.a} the second")]
    return []


def _role(path: Path) -> tuple[str, int] | None:
    names = (path.parent.name, path.parent.parent.name)
    return datasets.role_of_file(path.stem) or next(filter(None, map(datasets.role, names)), None)


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
