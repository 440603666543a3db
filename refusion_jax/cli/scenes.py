"""The command scenes: write built-in scenes as pairs of PNG files."""

import argparse
import re
import sys
from pathlib import Path

from refusion_jax.cli.common import program
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image
from refusion_jax.scenes.pairs import make_pair, task_name

FOLDERS = {"ivif": ("infrared", "visible"), "mif": ("CT_PET_SPECT", "MRI")}


def pair_paths(out: Path, task: str, name: str) -> tuple[Path, Path]:
    """Paths of a pair: sibling folders for ivif and mif, one folder per scene for mfif and meie."""
    if task in FOLDERS:
        first, second = FOLDERS[task]
        return out / first / f"{name}.png", out / second / f"{name}.png"
    return out / name / f"{name}_A.png", out / name / f"{name}_B.png"


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "HxW" or "N". Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text.strip())
    if not match:
        raise InputError(f"--size: expected HEIGHTxWIDTH in pixels, such as 256x256, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def write_pairs(task: str, out: Path, count: int, seed: int, size: tuple[int, int], start: int = 0) -> list[Path]:
    """Write ``count`` pairs from index ``start`` and return the files. InputError if one exists already."""
    task = task_name(task)
    if count < 1:
        raise InputError(f"--count: expected 1 or more, got {count}")
    if start < 0:
        raise InputError(f"--start: expected 0 or more, got {start}")
    names = [f"{task}_{index:05d}" for index in range(start, start + count)]
    paths = [pair_paths(out, task, name) for name in names]
    for path in (p for both in paths for p in both):
        if path.exists():
            raise InputError(f"{path} exists and is not overwritten; choose another --out or --start")
    for index, both in enumerate(paths, start):
        made = make_pair(task, seed, index, size)
        for path, picture in zip(both, (made.a, made.b), strict=True):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"cannot make the folder {path.parent}: {error.strerror}; choose another --out"
                ) from None
            write_image(path, picture)
    return [path for both in paths for path in both]


def main(arguments: list[str] | None = None) -> int:
    """Parse, write, print; 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(prog=program("scenes"), description="Write built-in scenes as PNG pairs.")
    parser.add_argument("--task", required=True, help="ivif, mif, mfif or meie")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=16, help="number of pairs (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="which stream of scenes (default 0)")
    parser.add_argument("--size", default="256x256", help="HEIGHTxWIDTH in pixels (default 256x256)")
    parser.add_argument("--start", type=int, default=0, help="index of the first pair (default 0)")
    options = parser.parse_args(arguments)
    try:
        write_pairs(options.task, options.out, options.count, options.seed, parse_size(options.size), options.start)
        task = task_name(options.task)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    where = [options.out / folder for folder in FOLDERS[task]] if task in FOLDERS else [options.out]
    print(f"{options.count} {task} pairs in {' and '.join(str(folder) for folder in where)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
