"""Packs what a bare GPU machine needs into one folder: pairs of all tasks and values to compare with.

    python benchmarks/gpu_pack.py --pairs TASK=SOURCE [TASK=SOURCE ...] [--out build/gpu] [--side 192]

SOURCE is a folder of pairs or a manifest, as train.py takes it; several for one task are put together, and each holds
out the pairs that it would alone. OUT gets

    pairs/TASK/pairs.csv    a manifest with these splits
    pairs/TASK/a, b/        the pictures' luma, 8 bits, as PNG; of larger pictures the middle SIDE x SIDE pixels
    parity.npz              values of this machine (benchmarks/gpu_parity.py); kept where it exists

Wheels of packages that the machine lacks may be put beside them, in OUT/wheels; benchmarks/gpu.sh installs them there.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from refusion_jax.data import manifest  # noqa: E402
from refusion_jax.data.pairs import Pair, split_validation  # noqa: E402
from refusion_jax.data.reading import PairReader  # noqa: E402
from refusion_jax.data.search import discover  # noqa: E402
from refusion_jax.errors import InputError  # noqa: E402
from refusion_jax.imaging.files import write_image  # noqa: E402
from refusion_jax.tasks import task_name  # noqa: E402


def middle(image: np.ndarray, side: int) -> np.ndarray:
    """The middle side x side pixels of an image (H,W), all of it along an axis that is shorter."""
    height, width = image.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return image[top : top + side, left : left + side]


def pack_pairs(out: Path, task: str, sources: Sequence[Path], side: int) -> list[Pair]:
    """Writes out/pairs.csv and the pictures that it lists; returns the pairs, with the splits of their sources.

    Raises InputError as train.py does for such a source, and where OUT has a list already.
    """
    manifest.check_new(out / "pairs.csv")
    packed: list[Pair] = []
    for source in sources:
        found = discover(source, task).require().pairs
        reader = PairReader(task)
        for split, pairs in zip(("train", "validation"), split_validation(found), strict=True):
            for pair in pairs:
                name = f"{len(packed):04d}"
                files = [out / letter / f"{name}.png" for letter in "ab"]
                for file, luma in zip(files, reader.lumas(pair), strict=True):
                    write_image(file, np.rint(middle(luma, side)).astype(np.uint8))
                packed.append(replace(pair, name=name, a=files[0], b=files[1], split=split, levels=None))
    manifest.write(out / "pairs.csv", packed, out, task, {})
    return packed


def sources_by_task(given: Sequence[str]) -> dict[str, list[Path]]:
    """{task: its sources} of TASK=SOURCE."""
    sources: dict[str, list[Path]] = {}
    for text in given:
        task, equals, source = text.partition("=")
        if not equals or not source:
            raise InputError(f"expected TASK=SOURCE, got {text!r}")
        sources.setdefault(task_name(task), []).append(Path(source))
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", required=True, metavar="TASK=SOURCE")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--side", type=int, default=192)
    arguments = parser.parse_args()
    try:
        for task, sources in sources_by_task(arguments.pairs).items():
            pairs = pack_pairs(arguments.out / "pairs" / task, task, sources, arguments.side)
            held_out = sum(pair.split == "validation" for pair in pairs)
            print(f"{task}: {len(pairs)} pairs, {held_out} of them held out", flush=True)
    except InputError as error:
        sys.exit(str(error))
    values = arguments.out / "parity.npz"
    if not values.exists():
        subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu_parity.py", values, "--store"], check=True)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
