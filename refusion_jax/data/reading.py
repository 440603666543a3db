"""The pictures of pairs, read with levels that belong together: the same in training, scoring and fusing."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusion_jax.data.pairs import Pair
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import MAX_PIXELS, Picture, levels_of_file, read_pictures
from refusion_jax.imaging.levels import AUTO, RUN, Levels, Rule, common
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.tasks import STACK_TASKS

Rules = tuple[Rule, Rule]
File = tuple[Path, int | None]  # and its page


@dataclass(frozen=True)
class PairReader:
    """Reads the two pictures of a pair.

    Attributes:
      task: for meie and mfif both pictures are one camera's and have one black and one white.
      rules: of source a and source b, for all pairs; None: those of each pair, or else automatic ones.
      max_pixels: of a picture.
    """

    task: str | None = None
    rules: Rules | None = None
    max_pixels: int = MAX_PIXELS

    def rules_of(self, pair: Pair) -> Rules:
        """How the levels of a pair are found."""
        return self.rules or pair.levels or (AUTO, AUTO)

    def pictures(self, pair: Pair) -> list[Picture]:
        """Both pictures. Raises InputError as `imaging.files.read_picture`."""
        return read_pictures((pair.a, pair.b), self.rules_of(pair), self.task in STACK_TASKS, self.max_pixels)

    def images(self, pair: Pair) -> list[np.ndarray]:
        """Both pictures as uint8, (H,W) or (H,W,3)."""
        return [to_depth(picture.pixels, 8) for picture in self.pictures(pair)]

    def lumas(self, pair: Pair) -> list[np.ndarray]:
        """The luma of both, (H,W) float32 on 0..255, not rounded."""
        return [to_luma(image) for image in self.images(pair)]

    def over(self, pairs: Iterable[Pair]) -> "PairReader":
        """The same with levels "run" found: one range over the pictures of all pairs, of each source its own."""
        if self.rules is None or RUN not in self.rules:
            return self
        pairs = list(pairs)
        files = ([(pair.a, None) for pair in pairs], [(pair.b, None) for pair in pairs])
        return dataclasses.replace(self, rules=rules_of_run(files, self.rules, self.task, self.max_pixels))

    def remarks(self, pairs: Sequence[Pair]) -> list[str]:
        """What to know of the levels, by the first pair: a line for each source whose file does not tell them."""
        if not pairs:
            return []
        try:
            pictures = self.pictures(pairs[0])
        except InputError:  # named when the pair is used
            return []
        return [
            f"{path}: {picture.levels.note}, and so on for the others; --levels sets them, in training data.levels"
            for path, picture in zip((pairs[0].a, pairs[0].b), pictures, strict=True)
            if picture.levels.note
        ]


def rules_of_run(
    files: tuple[Sequence[File], Sequence[File]], rules: Rules, task: str | None, max_pixels: int = MAX_PIXELS
) -> Rules:
    """The rules with "run" replaced by one range over all files of a source, for meie and mfif of both sources.

    A rule stays "auto" where all files have 8 bits. Raises InputError for a file that cannot be read.
    """
    found = tuple(
        [levels_of_file(path, AUTO, max_pixels, page) for path, page in own] if rule == RUN else []
        for own, rule in zip(files, rules, strict=True)
    )
    if task in STACK_TASKS:
        found = (found[0] + found[1],) * 2
    first, second = (_one_range(own) if rule == RUN else rule for own, rule in zip(found, rules, strict=True))
    return first, second


def _one_range(found: Sequence[Levels]) -> Rule:
    measured = [one for one in common(found) if one.measured]
    return Rule("fixed", measured[0].low, measured[0].high) if measured else AUTO
