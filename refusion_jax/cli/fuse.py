"""fuse.py and refusion-fuse: fuse pairs of pictures with a trained or a released checkpoint."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from refusion_jax.cli.common import printable, run_command
from refusion_jax.data.pairs import Pair, pairs_from_arguments
from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.imaging.files import READABLE_EXTENSIONS, WRITABLE_FORMATS, read_image, write_image


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="fuse.py",
        description="Fuse two registered pictures of one scene. Order of a pair: infrared visible; PET, SPECT or CT "
        "before MRI; near far; for meie any order (the darker counts as the first).",
    )
    p.add_argument("--ckpt", required=True, metavar="CKPT",
                   help="run directory, a checkpoint inside one, a .safetensors or a released .pth file")  # fmt: skip
    p.add_argument("--pair", nargs=2, required=True, action="append", metavar=("A", "B"),
                   help="two pictures, or two folders with equal file names; may be given several times")  # fmt: skip
    p.add_argument("--out", metavar="FILE_OR_DIR", default="fused",
                   help="a picture's name (one pair only) or a folder (default: fused)")  # fmt: skip
    p.add_argument("--range", choices=["minmax", "clip"], default="minmax",
                   help="minmax (default) stretches to the full range as the paper does; clip does not")  # fmt: skip
    p.add_argument("--gray", action="store_true", help="write the fused luma alone, without colour")
    p.add_argument("--chroma", choices=["soft", "vivid"], default="soft", help="where both sources have colour: near "
                   "their mean (soft, default), or the more colourful one wins (vivid)")  # fmt: skip
    p.add_argument("--maps", action="store_true", help="also write P's weights as NAME_w.png and NAME_v.png: "
                   "blue, the loss follows B; white, both alike; red, A")  # fmt: skip
    return p


def output_paths(pairs: list[Pair], out: Path, maps: bool = False) -> list[list[Path]]:
    """Where each pair's fused picture goes, and with maps its w and v; InputError on collisions with each other or
    with an input, and when `out` can be neither a picture nor a folder."""
    suffix = out.suffix.lower()
    if suffix in WRITABLE_FORMATS and not out.is_dir():
        if len(pairs) > 1:
            raise InputError(f"--out {out} names one picture, but there are {len(pairs)} pairs; give a folder")
        paths = [out]
    elif not out.is_dir() and (suffix in READABLE_EXTENSIONS or out.exists()):
        known = " ".join(sorted(WRITABLE_FORMATS))
        raise InputError(f"cannot write pictures to --out {out}; expected a folder or a name with one of {known}")
    else:
        # A name is kept whole: with_suffix would take dots in it for extensions.
        paths = [out / f"{pair.name}.png" for pair in pairs]
    inputs = {os.path.realpath(p): p for pair in pairs for p in (pair.a, pair.b)}
    results = [[path] for path in paths]
    if maps:
        for result in results:
            path = result[0]
            result += [path.with_name(f"{path.name[: -len(path.suffix)]}_{name}.png") for name in "wv"]
    seen: dict[str, Pair] = {}
    for pair, result in zip(pairs, results, strict=True):
        for path in result:
            real = os.path.realpath(path)
            if real in inputs:
                raise InputError(f"the result {path} would overwrite an input; choose another --out")
            if real in seen:
                raise InputError(
                    f"results of {seen[real].a} and {pair.a} would both be written to {path}; "
                    "fuse them into different --out folders"
                )
            seen[real] = pair
    return results


def make_folders(paths: list[Path]) -> None:
    """The folders of the results; InputError where one cannot be made or written to, before any work is done."""
    for folder in dict.fromkeys(path.parent for path in paths):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from None
        if not os.access(folder, os.W_OK):
            raise InputError(f"cannot write to the folder {folder}: permission denied; choose another --out")


def write_maps(model, a: np.ndarray, b: np.ndarray, paths: list[Path]) -> list[Path]:
    """P's w and v as colours: the weights of source A."""
    both = zip(paths, model.maps(a, b), strict=True)
    return [write_image(path, apply_colormap(weights[..., 0], "diverging")) for path, weights in both]


def run(arguments) -> int:
    """Fuses every pair; returns 0, or 1 when some of several pairs failed (each named)."""
    pairs = [pair for a, b in arguments.pair for pair in pairs_from_arguments(a, b)]
    results = output_paths(pairs, Path(arguments.out), arguments.maps)

    from tqdm import tqdm

    from refusion_jax.compiling import enable_cache
    from refusion_jax.inference import load

    enable_cache()
    model = load(arguments.ckpt)
    if arguments.maps and "P" not in model.params:
        raise InputError(f"--maps needs the loss proposal network P, which {arguments.ckpt} does not have")
    make_folders([result[0] for result in results])
    failed = 0
    for pair, (path, *map_paths) in tqdm(
        list(zip(pairs, results, strict=True)), disable=len(pairs) == 1, unit="pair"
    ):
        try:
            a, b = read_image(pair.a), read_image(pair.b)
            fused = model.fuse(a, b, range=arguments.range, gray=arguments.gray, chroma=arguments.chroma)
            written = [write_image(path, fused)]
            if arguments.maps:
                written += write_maps(model, a, b, map_paths)
        except InputError as error:
            if len(pairs) == 1:
                raise
            tqdm.write(printable(f"error: pair {pair.name}: {error}"), file=sys.stderr)
            failed += 1
        else:
            tqdm.write(printable("wrote " + ", ".join(map(str, written))))
    if failed:
        print(f"error: {failed} of {len(pairs)} pairs could not be fused (named above)", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
