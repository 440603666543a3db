"""The command scenes: write built-in scenes as pairs of pictures, and their ground truth where it is asked for."""

import argparse
import sys
from pathlib import Path

import numpy as np
import tifffile

from refusion_jax.cli.common import picture_size, program
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image
from refusion_jax.runtime.writing import whole_file
from refusion_jax.scenes import ScenePair, make_pair
from refusion_jax.tasks import task_name

FOLDERS = {"ivif": ("infrared", "visible"), "mif": ("CT_PET_SPECT", "MRI")}
TRUTH = "ground_truth"  # a folder that the search for pairs passes over


def pair_paths(out: Path, task: str, name: str) -> tuple[Path, Path]:
    """Paths of a pair: sibling folders for ivif and mif, one folder per scene for mfif and meie."""
    if task in FOLDERS:
        first, second = FOLDERS[task]
        return out / first / f"{name}.png", out / second / f"{name}.png"
    return out / name / f"{name}_A.png", out / name / f"{name}_B.png"


def truth_paths(out: Path, task: str, name: str) -> tuple[Path, ...]:
    """Paths of a ground truth: two PNG files for ivif and mif, one for mfif, a TIFF file of float32 for meie."""
    if task in FOLDERS:
        return tuple(out / TRUTH / folder / f"{name}.png" for folder in FOLDERS[task])
    return (out / TRUTH / f"{name}{'.tif' if task == 'meie' else '.png'}",)


def truth_pictures(task: str, pair: ScenePair) -> tuple[np.ndarray, ...]:
    """What goes into the files of `truth_paths`: uint8 but for meie, whose linear radiance stays float32."""
    if task == "meie":
        return (pair.truth,)
    levels = np.rint(255 * pair.truth).astype(np.uint8)
    if task == "mfif":
        return (levels,)
    split = pair.a.shape[2] if pair.a.ndim == 3 else 1
    return tuple(part[..., 0] if part.shape[2] == 1 else part for part in (levels[..., :split], levels[..., split:]))


def write_pairs(
    task: str, out: Path, count: int, seed: int, size: tuple[int, int], start: int = 0, truth: bool = False
) -> list[Path]:
    """Write ``count`` pairs from index ``start`` and return the files. InputError if one exists already."""
    task = task_name(task)
    for option, value, least in (("--count", count, 1), ("--start", start, 0)):
        if value < least:
            raise InputError(f"{option}: expected {least} or more, got {value}")
    names = [f"{task}_{index:05d}" for index in range(start, start + count)]
    paths = [pair_paths(out, task, name) + (truth_paths(out, task, name) if truth else ()) for name in names]
    written = [path for files in paths for path in files]
    for path in written:
        if path.exists():
            raise InputError(f"{path} exists and is not overwritten; choose another --out or --start")
    for index, files in enumerate(paths, start):
        pair = make_pair(task, seed, index, size)
        for path, picture in zip(files, (pair.a, pair.b, *truth_pictures(task, pair)), strict=False):
            _write(path, picture)
    return written


def _write(path: Path, picture: np.ndarray) -> None:
    if picture.dtype == np.float32:
        with whole_file(path) as file:
            tifffile.imwrite(file, picture, photometric="rgb", compression="zlib", predictor=True)
    else:
        write_image(path, picture)


def main(arguments: list[str] | None = None) -> int:
    """Parse, write, print; 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(prog=program("scenes"), description="Write built-in scenes as PNG pairs.")
    parser.add_argument("--task", required=True, help="ivif, mif, mfif or meie")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=16, help="number of pairs (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="which stream of scenes (default 0)")
    parser.add_argument("--size", default="256x256", metavar="HxW", help="pixels (default 256x256)")
    parser.add_argument("--start", type=int, default=0, help="index of the first pair (default 0)")
    parser.add_argument("--truth", action="store_true", help=f"write the ground truth too, to OUT/{TRUTH}")
    options = parser.parse_args(arguments)
    try:
        task, size = task_name(options.task), picture_size(options.size)
        write_pairs(task, options.out, options.count, options.seed, size, options.start, options.truth)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    where = [options.out / folder for folder in FOLDERS[task]] if task in FOLDERS else [options.out]
    print(f"{options.count} {task} pairs in {' and '.join(str(folder) for folder in where)}")
    if options.truth:
        print(f"their ground truth in {options.out / TRUTH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
