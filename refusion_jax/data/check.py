"""A data set looked over before it is used: every pair read, its sizes, order and registration checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from refusion_jax.data import datasets
from refusion_jax.data.datasets import MEANING
from refusion_jax.data.pairs import Discovery, Pair
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import image_size, read_image
from refusion_jax.imaging.registration import looks_misregistered
from refusion_jax.runtime.threads import in_order

# The kinds of problems, in the order they are told. Pairs with one of the first three are not sound: they cannot be
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
      problems: kind -> one line each.
      remarks: what to know though nothing is wrong.
      unsound: names of the pairs that cannot be used.
    """

    problems: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    unsound: set[str] = field(default_factory=set)

    def add(self, kind: str, lines: Iterable[str]) -> None:
        """Some lines of one kind."""
        if lines := list(lines):
            self.problems.setdefault(kind, []).extend(lines)

    @property
    def count(self) -> int:
        """Number of problems."""
        return sum(map(len, self.problems.values()))


@dataclass(frozen=True)
class _Findings:
    """Of one pair: (kind, line) each, and which of its files is the brighter: 1, 2, or 0 where nobody looked."""

    lines: tuple[tuple[str, str], ...]
    brighter: int = 0


def survey(
    found: Discovery,
    task: str | None = None,
    *,
    headers_only: bool = False,
    progress: Callable[[], None] = lambda: None,
    threads: int = 2,
) -> Survey:
    """Looks at every pair of a discovery.

    task: what the pairs are for; without it, what their names tell. headers_only: sizes and names alone, no picture is
    decoded. progress: called after each pair.
    """
    task = task or found.task
    result = Survey(remarks=list(found.remarks))
    result.add(OTHER, found.errors)
    result.add(UNPAIRED, (f"{one.path} ({one.missing})" for one in found.unpaired))
    for group in found.groups:
        if task and group.task and group.task != task:
            result.add(OTHER, [f"the names of {group.count} pairs say {group.task} ({group.layout}), not {task}"])
            result.remarks = [line for line in result.remarks if not line.startswith("the names of ")]
    means_order = bool(found.groups) and all(group.order == MEANING for group in found.groups)

    def look(pair: Pair) -> _Findings:
        return _headers(pair) if headers_only else _contents(pair, task, means_order)

    brighter = []
    for pair, findings in zip(found.pairs, in_order(look, found.pairs, threads), strict=True):
        for kind, line in findings.lines:
            result.add(kind, [line])
            if kind in _UNSOUND:
                result.unsound.add(pair.name)
        brighter.append(findings.brighter)
        progress()
    if task == "meie" and not means_order and (first := brighter.count(1)):
        result.remarks.append(
            f"in {first} of {len(brighter)} pairs source 1 as named is the brighter; the darker counts as source 1"
        )
    return result


def _headers(pair: Pair) -> _Findings:
    lines, sizes = [], []
    for path in (pair.a, pair.b):
        try:
            sizes.append(image_size(path))
        except InputError as error:
            lines.append((UNREADABLE, str(error)))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        lines.append(_mismatch(pair, *sizes))
    return _Findings((*lines, *_swapped_names(pair)))


def _contents(pair: Pair, task: str | None, means_order: bool) -> _Findings:
    lines, pictures = [], []
    for path in (pair.a, pair.b):
        try:
            pictures.append(read_image(path))
        except InputError as error:
            lines.append((UNREADABLE, str(error)))
    named = _swapped_names(pair)
    if len(pictures) < 2:
        return _Findings((*lines, *named))
    a, b = pictures
    if a.shape[:2] != b.shape[:2]:
        return _Findings((_mismatch(pair, a.shape[:2], b.shape[:2]), *named))
    if np.array_equal(a, b):
        return _Findings(((IDENTICAL, f"{pair.name}: {pair.a} and {pair.b}"), *named))
    lines += named
    if not named and (reason := _swapped_colors(a, b, task)):
        lines.append((SWAPPED, f"{pair.name}: {reason}"))
    luma = [to_luma(picture) for picture in (a, b)]
    means = [float(picture.mean(dtype=np.float64)) for picture in luma]
    brighter = 1 if means[0] > means[1] else 2
    if task == "meie" and means_order and brighter == 1 and not named:
        lines.append((SWAPPED, f"{pair.name}: the first is the brighter (mean {means[0]:.0f} and {means[1]:.0f})"))
    if warning := looks_misregistered(*luma):
        lines.append((SHIFTED, f"{pair.name}: {warning}"))
    return _Findings(tuple(lines), brighter)


def _mismatch(pair: Pair, one: tuple[int, ...], other: tuple[int, ...]) -> tuple[str, str]:
    sizes = f"{one[1]}x{one[0]} and {other[1]}x{other[0]} pixels"
    return SIZES, f"{pair.name}: {sizes} ({pair.a}, {pair.b})"


def _swapped_names(pair: Pair) -> list[tuple[str, str]]:
    """Whether the names of files or folders mean the sources the other way round, as they may in a manifest."""
    roles = [_role(path) for path in (pair.a, pair.b)]
    if all(roles) and roles[0][0] == roles[1][0] and (roles[0][1], roles[1][1]) == (2, 1):
        return [(SWAPPED, f"{pair.name}: by their names, {pair.b} is the first source and {pair.a} the second")]
    return []


def _role(path: PurePath) -> tuple[str, int] | None:
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
