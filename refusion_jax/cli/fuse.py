"""fuse.py and refusion-fuse: fuse pairs of pictures with a trained or a released checkpoint."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from refusion_jax.cli.common import run_command
from refusion_jax.data.pairs import Pair, pairs_from_arguments
from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.imaging.files import WRITABLE_FORMATS, read_image, write_image


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
                   help="minmax (default) stretches the result to the full range as the paper does; clip does not")  # fmt: skip
    p.add_argument("--gray", action="store_true", help="write the fused luma alone, without colour")
    p.add_argument("--chroma", choices=["soft", "vivid"], default="soft", help="where both sources have colour: near "
                   "their mean (soft, default), or the more colourful one wins (vivid)")  # fmt: skip
    p.add_argument("--maps", action="store_true", help="also write P's weights as NAME_w.png and NAME_v.png: "
                   "blue, the loss follows B; white, both alike; red, A")  # fmt: skip
    return p


def output_paths(pairs: list[Pair], out: Path) -> list[Path]:
    """Where each pair's picture goes; InputError on collisions with each other or with an input."""
    if out.suffix.lower() in WRITABLE_FORMATS and not out.is_dir():
        if len(pairs) > 1:
            raise InputError(f"--out {out} names one picture, but there are {len(pairs)} pairs; give a folder")
        paths = [out]
    else:
        # A name is kept whole: with_suffix would take dots in it for extensions.
        paths = [out / f"{pair.name}.png" for pair in pairs]
    inputs = {os.path.realpath(p): p for pair in pairs for p in (pair.a, pair.b)}
    seen: dict[Path, Pair] = {}
    for path, pair in zip(paths, pairs, strict=True):
        if os.path.realpath(path) in inputs:
            raise InputError(f"the result {path} would overwrite an input; choose another --out")
        if path in seen:
            raise InputError(
                f"{pair.a} and {seen[path].a} would both be written to {path}; fuse them into different --out folders"
            )
        seen[path] = pair
    return paths


def write_maps(model, a: np.ndarray, b: np.ndarray, path: Path) -> list[Path]:
    """NAME_w.png and NAME_v.png beside the fused picture: the weights of source A as colours."""
    written = []
    for name, weights in zip("wv", model.maps(a, b), strict=True):
        target = path.with_name(f"{path.name[: -len(path.suffix)]}_{name}.png")
        written.append(write_image(target, apply_colormap(weights[..., 0], "diverging")))
    return written


def run(arguments) -> int:
    """Fuses every pair; returns 0, or 1 when some of several pairs failed (each named)."""
    pairs = [pair for a, b in arguments.pair for pair in pairs_from_arguments(a, b)]
    paths = output_paths(pairs, Path(arguments.out))

    from tqdm import tqdm

    from refusion_jax.compiling import enable_cache
    from refusion_jax.inference import load

    enable_cache()
    model = load(arguments.ckpt)
    if arguments.maps and "P" not in model.params:
        raise InputError(f"--maps needs the loss proposal network P, which {arguments.ckpt} does not have")
    failed = 0
    for pair, path in tqdm(list(zip(pairs, paths, strict=True)), disable=len(pairs) == 1, unit="pair"):
        try:
            a, b = read_image(pair.a), read_image(pair.b)
            fused = model.fuse(a, b, range=arguments.range, gray=arguments.gray, chroma=arguments.chroma)
            written = [write_image(path, fused)]
            if arguments.maps:
                written += write_maps(model, a, b, path)
        except InputError as error:
            if len(pairs) == 1:
                raise
            tqdm.write(f"error: pair {pair.name}: {error}", file=sys.stderr)
            failed += 1
        else:
            tqdm.write("wrote " + ", ".join(map(str, written)))
    if failed:
        print(f"error: {failed} of {len(pairs)} pairs could not be fused (named above)", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
