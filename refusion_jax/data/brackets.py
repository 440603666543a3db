"""Brackets of exposures: which two of several pictures of one scene are the pair."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import read_luma
from refusion_jax.imaging.levels import WHOLE
from refusion_jax.runtime.threads import in_order


def mean_luma(path: Path) -> float:
    """Mean luma of a picture, 0..255. JPEGs are decoded at an eighth of their size. Kept while the file stays as is.

    Raises InputError if the file cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return _mean_luma(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2**16)
def _mean_luma(path: Path, changed: int, size: int) -> float:
    try:
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode in ("L", "RGB"):
                image.draft("L", (1, 1))
                if image.mode == "L":
                    return float(np.asarray(image, np.float64).mean())
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, reading it says what
        pass
    return float(read_luma(path, WHOLE).mean(dtype=np.float64))


def choose(
    brackets: Sequence[Sequence[Path]], exposures: tuple[int, int] | None
) -> list[tuple[Path, Path] | InputError]:
    """The pair of each bracket, its pictures in natural order: the darkest and the brightest by mean luma.

    exposures: take these two instead, counted from 1, or from the end with negative numbers, in the order given.
    A bracket with a picture that cannot be read, with fewer pictures, or equally bright ones gives its InputError.
    """
    from tqdm import tqdm

    def chosen(files: Sequence[Path]) -> tuple[Path, Path] | InputError:
        try:
            return _numbered(files, exposures) if exposures else _extremes(files)
        except InputError as error:
            return error

    results = in_order(chosen, brackets, min(8, os.cpu_count() or 1))
    return list(tqdm(results, "brightness of exposures", len(brackets), unit="bracket", delay=2, leave=False))


def _extremes(files: Sequence[Path]) -> tuple[Path, Path]:
    means = [mean_luma(path) for path in files]
    darkest, brightest = int(np.argmin(means)), int(np.argmax(means))
    if darkest == brightest:
        raise InputError(f"{files[0].parent}: all {len(files)} exposures are equally bright; take the folder away")
    return files[darkest], files[brightest]


def _numbered(files: Sequence[Path], exposures: tuple[int, int]) -> tuple[Path, Path]:
    indices = [number - 1 if number > 0 else len(files) + number for number in exposures]
    if 0 in exposures or not all(0 <= index < len(files) for index in indices) or indices[0] == indices[1]:
        raise InputError(
            f"{files[0].parent}: has {len(files)} exposures, so {exposures[0]} and {exposures[1]} are no two of them;"
            " count from 1, or from the end with -1, -2, ..."
        )
    return files[indices[0]], files[indices[1]]
