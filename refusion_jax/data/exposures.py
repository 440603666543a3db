"""Brackets of exposures: which two of several pictures of one scene are the pair."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import read_image


def mean_luma(path: Path) -> float:
    """Mean luma of a picture, 0..255. JPEGs are decoded at an eighth of their size. Kept while the file stays as is.

    Raises InputError if the file cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return _mean_luma(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2**16)
def _mean_luma(path: str, changed: int, size: int) -> float:
    try:
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode in ("L", "RGB"):
                image.draft("L", (1, 1))
                return float(np.asarray(image, np.float64).mean()) if image.mode == "L" else _mean_of_all(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, reading it says what
        pass
    return _mean_of_all(path)


def _mean_of_all(path: str) -> float:
    return float(to_luma(read_image(path)).mean(dtype=np.float64))


def choose(
    brackets: Sequence[Sequence[Path]], exposures: tuple[int, int] | None
) -> list[tuple[Path, Path] | InputError]:
    """The pair of each bracket, its pictures in natural order: the darkest and the brightest by mean luma.

    exposures: take these two instead, counted from 1, or from the end with negative numbers, in the order given.
    A bracket with a picture that cannot be read, with fewer pictures, or equally bright ones gives its InputError.
    """
    if exposures is not None:
        return [_outcome(lambda files=files: _chosen(files, exposures)) for files in brackets]
    from tqdm import tqdm

    total = sum(map(len, brackets))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bar = tqdm(total=total, unit="picture", desc="brightness of exposures", delay=2, leave=False)
        with bar:

            def darkest_and_brightest(files: Sequence[Path]) -> tuple[Path, Path] | InputError:
                found = _outcome(lambda: _extremes(files))
                bar.update(len(files))
                return found

            try:
                return list(pool.map(darkest_and_brightest, brackets))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _outcome(function: Callable[[], tuple[Path, Path]]) -> tuple[Path, Path] | InputError:
    try:
        return function()
    except InputError as error:
        return error


def _extremes(files: Sequence[Path]) -> tuple[Path, Path]:
    means = [mean_luma(path) for path in files]
    darkest, brightest = int(np.argmin(means)), int(np.argmax(means))
    if darkest == brightest:
        raise InputError(f"{files[0].parent}: all {len(files)} exposures are equally bright; take the folder away")
    return files[darkest], files[brightest]


def _chosen(files: Sequence[Path], exposures: tuple[int, int]) -> tuple[Path, Path]:
    indices = [number - 1 if number > 0 else len(files) + number for number in exposures]
    if 0 in exposures or not all(0 <= index < len(files) for index in indices) or indices[0] == indices[1]:
        raise InputError(
            f"{files[0].parent}: has {len(files)} exposures, so {exposures[0]} and {exposures[1]} are no two of them;"
            " count from 1, or from the end with -1, -2, ..."
        )
    return files[indices[0]], files[indices[1]]
