"""Two volumes read, on one grid, from black to white."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusion_jax.imaging.levels import Rule
from refusion_jax.volumes.dicom import strangers
from refusion_jax.volumes.grid import on_one_grid
from refusion_jax.volumes.reading import read_volume
from refusion_jax.volumes.volume import Volume, to_levels


@dataclass(frozen=True)
class VolumePair:
    """Two volumes as they are fused.

    Attributes:
      volumes: as their files have them.
      reference: the one whose grid both are on.
      arrays: both, (I,J,K) uint8 or uint16 from black to white, or (I,J,K,3) uint8 RGB.
      warnings, notes: one line each: what may be wrong; what was decided.
    """

    volumes: tuple[Volume, Volume]
    reference: Volume
    arrays: list[np.ndarray]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def read_pair(
    paths: Sequence[Path], rules: Sequence[Rule], side: str | None = None, max_voxels: int = 2**62
) -> VolumePair:
    """The volumes at two paths on the grid of one, `side` "a" or "b", None: the finer. rules: which of their values are
    black and white. Raises InputError where one cannot be read or the two not brought together."""
    a, b = (read_volume(path, max_voxels) for path in paths)
    levels = [volume.levels(rule) for volume, rule in zip((a, b), rules, strict=True)]
    reference, placed = on_one_grid(a, b, side, (levels[0].low, levels[1].low))
    warnings, notes = [f"{volume.path}: {line}" for volume in (a, b) for line in volume.notes], []
    for volume, own in zip((a, b), levels, strict=True):
        if own.note:
            notes.append(f"{volume.path}: {own.note}; --levels sets others")
    for volume, one in zip((a, b), placed, strict=True):
        if one.resampled:
            notes.append(
                f"{volume.path}: {volume.grid}, resampled to {reference.grid}, of which it covers {one.covered:.0%}"
            )
    arrays = [to_levels(one.values, own) for one, own in zip(placed, levels, strict=True)]
    return VolumePair((a, b), reference, arrays, (*strangers(a, b), *warnings), tuple(notes))
