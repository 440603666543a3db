"""Pairs of image files: what is found of them, their natural order, which are held out, their sizes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import MAX_PIXELS, image_size
from refusion_jax.imaging.levels import Rule

T = TypeVar("T")
SPLITS = ("train", "validation", "test")
FORMS = (
    "two sibling folders with equal file stems (such as infrared/ and visible/),"
    " or NAME_A and NAME_B (or NAME_1 and NAME_2) in one folder per scene, directly or under input/"
)


@dataclass(frozen=True)
class Pair:
    """Two files of one scene. `a` is source 1 and `b` source 2 of the task, as far as their names say it.

    For meie the names do not decide: the darker image is source 1 (`darker_first`).
    """

    name: str  # unique in its list; '/'-joined below sub data sets
    a: Path
    b: Path
    split: str | None = None  # "train", "validation" or "test" where the folders or the manifest say so
    levels: tuple[Rule, Rule] | None = None  # of a and b, where the manifest says them


@dataclass(frozen=True)
class Unpaired:
    """A file without partner, and what was looked for."""

    path: Path
    missing: str


@dataclass(frozen=True)
class Group:
    """Pairs found in one way.

    Attributes:
      layout: a data set's name or the form.
      task: by the names; None where they do not say it.
      order: how it was decided which source is the first.
      first, second: folders relative to the one searched, or forms of file names.
      count: number of pairs.
    """

    layout: str
    task: str | None
    order: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Discovery:
    """The pairs of a folder or a manifest, and everything noticed on the way.

    Attributes:
      source: the folder or the manifest.
      pairs: in natural order of their names.
      groups: how they were recognised.
      unpaired: files without partner.
      errors: what else is wrong, one line each.
      aside: folders passed over: labels, masks, results, what lies beside known sources.
      remarks: what a user should know though nothing is wrong, one line each.
    """

    source: Path
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    errors: tuple[str, ...] = ()
    aside: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def task(self) -> str | None:
        """The one task that all names say; None if they say none or several."""
        tasks = {group.task for group in self.groups}
        return tasks.pop() if len(tasks) == 1 else None

    @property
    def layout(self) -> str:
        """The layouts of all groups, each once."""
        return ", ".join(dict.fromkeys(group.layout for group in self.groups))

    def require(self) -> "Discovery":
        """Itself. Raises InputError if there is no pair, a file without partner, or anything else wrong."""
        if self.errors:
            more = f" (and {len(self.errors) - 1} more; the command data lists all)"
            raise InputError(self.errors[0] + (more if len(self.errors) > 1 else ""))
        if self.unpaired:
            count, first = len(self.unpaired), self.unpaired[0]
            text = f"{count} unpaired: " + ", ".join(f"{one.path} ({one.missing})" for one in self.unpaired[:3])
            text += f" and {count - 3} more" if count > 3 else ""
            if count == 1 and first.missing.startswith("there is"):
                text = f"{first.path} is unpaired: {first.missing}"
            raise InputError(f"{text}; add the missing file or take this one away")
        if not self.pairs:
            raise InputError(f"{self.source}: no image pairs found; looked for {FORMS}")
        return self


def natural_key(text: str) -> tuple:
    """A sort key that takes digits as numbers: img2 before img10. Capitals first, as in plain order."""
    words = re.split(r"(\d+)", text)
    for i in range(1, len(words), 2):
        digits = words[i].lstrip("0")
        words[i] = (len(digits), digits)
    return tuple(words), text


def in_natural_order(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs sorted by `natural_key` of their names."""
    return tuple(sorted(pairs, key=lambda pair: natural_key(pair.name)))


def hold_out(items: Sequence[T], every: int) -> tuple[list[T], list[T]]:
    """(training, validation): of the items in order, positions every-1, 2*every-1, ... are for validation.

    every=0 keeps all for training. Raises InputError for every=1 or less than 0.
    """
    if every == 0:
        return list(items), []
    if every < 2:
        raise InputError(f"expected every n-th pair for validation with n = 0 (none) or n >= 2, got {every}")
    training = [item for index, item in enumerate(items) if index % every != every - 1]
    return training, list(items[every - 1 :: every])


def split_validation(pairs: Sequence[Pair], every: int = 10) -> tuple[list[Pair], list[Pair]]:
    """(training, validation), each sorted by plain name; pairs of a test part are in neither.

    Pairs marked for validation are the validation. Where none is, it is every n-th pair in plain sorted order of the
    names (not in natural order: the pairs held out so far stay held out), and none with every=0.
    Raises InputError for every=1 or less than 0.
    """
    usable = sorted((pair for pair in pairs if pair.split != "test"), key=lambda pair: pair.name)
    marked = [pair for pair in usable if pair.split == "validation"]
    if not marked:
        return hold_out(usable, every)
    hold_out([], every)  # the same error for a bad value
    return [pair for pair in usable if pair.split != "validation"], marked if every else []


def check_sizes(pairs: Sequence[Pair], max_pixels: int = MAX_PIXELS) -> list[tuple[int, int]]:
    """The size (H, W) of every pair, read from the files' headers.

    Raises InputError at the first pair whose images differ in size.
    """
    sizes = []
    for pair in pairs:
        size_a, size_b = image_size(pair.a, max_pixels), image_size(pair.b, max_pixels)
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
