"""A pair of image files, the natural order of names, and which pairs are held out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from refusion_jax.errors import InputError

T = TypeVar("T")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """Two files of one scene. `a` is source 1 and `b` source 2 of the task, as far as the layout tells.

    For meie the layout does not decide: the darker image is source 1 (`darker_first`).
    """

    name: str  # unique in its list; '/'-joined below sub data sets
    a: Path
    b: Path
    split: str | None = None  # "train", "validation" or "test" where the folders or the manifest say so


def natural_key(text: str) -> tuple:
    """A sort key that takes digits as numbers: img2 before img10. Capitals first, as in plain order."""
    words = re.split(r"(\d+)", text)
    for i in range(1, len(words), 2):
        digits = words[i].lstrip("0")
        words[i] = (len(digits), digits)
    return tuple(words), text


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
