"""Pairs of volumes as pairs of pictures: what training, scoring and the survey take."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusion_jax.data.pairs import Pair, split_validation
from refusion_jax.data.reading import Rules
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import MAX_PIXELS, write_image
from refusion_jax.imaging.levels import AUTO, RUN
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.volumes.pair import read_pair
from refusion_jax.volumes.reading import is_volume
from refusion_jax.volumes.volume import slices

_DARK, _SHOWN = 16, 0.02  # of 255; part of the pixels above it that is content


@dataclass(frozen=True)
class Sliced:
    """Pairs of pictures out of pairs of volumes.

    Attributes:
      pairs: one for each axial slice that shows something in both volumes, named VOLUME/axial_NNN; pairs of pictures as
        they are.
      errors: name -> one line, of each pair of volumes that cannot be read.
      remarks: what to know, one line each.
    """

    pairs: list[Pair]
    errors: dict[str, str]
    remarks: list[str]

    def require(self) -> "Sliced":
        """Itself. Raises InputError for a pair that cannot be read, and where nothing is left."""
        for line in self.errors.values():
            raise InputError(line)
        if not self.pairs:
            raise InputError("no slice shows something in both volumes of its pair; look at their levels and places")
        return self


def has_volumes(pairs: Sequence[Pair]) -> bool:
    """Whether any of the pairs is of volumes."""
    return any(is_volume(path) for pair in pairs for path in (pair.a, pair.b))


def sliced(
    pairs: Sequence[Pair],
    folder: Path,
    rules: Rules | None = None,
    validation_every: int = 0,
    max_voxels: int = MAX_PIXELS,
    progress: Callable[[], object] = lambda: None,
) -> Sliced:
    """Writes the slices of all pairs of volumes into a folder, as pictures of 8 bits.

    Both volumes of a pair are on the finer grid. rules: the levels of source a and b, None: those of each pair, or else
    of each file; they hold over a volume. validation_every: which pairs become those for validation, as
    `split_validation` of the volumes: no slice of a volume that is trained on is among them. Raises InputError for
    levels "run".
    """
    if rules and RUN in rules:
        raise InputError("levels run is for pictures: volumes have one range each; give LO,HI, or leave it out")
    held_out = {pair.name for pair in split_validation(pairs, validation_every)[1]}
    found: list[Pair] = []
    result = Sliced([], {}, [])
    resampled = volumes = 0
    for pair in pairs:
        if pair.name in held_out:
            pair = dataclasses.replace(pair, split="validation")
        if not has_volumes([pair]):
            result.pairs.append(dataclasses.replace(pair, levels=rules or pair.levels))
            continue
        try:
            both = read_pair((pair.a, pair.b), rules or pair.levels or (AUTO, AUTO), None, max_voxels)
        except InputError as error:
            result.errors[pair.name] = f"pair {pair.name}: {error}"
            continue
        volumes += 1
        resampled += any("resampled" in note for note in both.notes)
        result.remarks.extend(f"pair {pair.name}: {line}" for line in both.warnings)
        found += _written(pair, both.arrays, both.reference.grid.affine, folder)
        progress()
    result.pairs.extend(found)
    result.remarks.append(
        f"{volumes} pairs of volumes, {resampled} of them resampled to one grid: {len(found)} axial slices that show"
        " something in both"
    )
    return result


def _written(pair: Pair, arrays: Sequence[np.ndarray], affine: np.ndarray, folder: Path) -> list[Pair]:
    """The pairs of slices of one pair of volumes, their pictures written."""
    found = []
    for k, both in enumerate(zip(*(slices(array, affine, "axial") for array in arrays), strict=True)):
        images = [to_depth(np.ascontiguousarray(image), 8) for image in both]
        if min(float(np.mean(to_luma(image) > _DARK)) for image in images) < _SHOWN:
            continue
        name = f"{pair.name}/axial_{k:03d}"
        a, b = (write_image(folder / side / f"{name}.png", image) for side, image in zip("ab", images, strict=True))
        found.append(Pair(name, a, b, pair.split))
    return found
