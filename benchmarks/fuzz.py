"""Feeds mutated pictures, weights, settings and manifests to the readers: each input is read or refused in one line.

    python benchmarks/fuzz.py --seed 0 --minutes 10            # all kinds in turn, until the time is up
    python benchmarks/fuzz.py --kind weights --count 2000

An input counts as a failure when it raises anything but InputError, when the message has more than one line, when it
takes more than --limit seconds of the processor, or when it takes more than 1 GiB of memory. Failures are kept in --out
with their traceback; the exit status is 1 if there was any. The same seed gives the same inputs.
"""

import argparse
import io
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from refusion_jax import config  # noqa: E402
from refusion_jax.data.search import discover  # noqa: E402
from refusion_jax.errors import InputError  # noqa: E402
from refusion_jax.fusing.model import load  # noqa: E402
from refusion_jax.imaging.files import read_picture, write_image  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT.parent / "shared" / "reference" / "official_weights"
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
MEMORY = 2**30  # bytes that one input may take


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data with a few faults: changed bytes, cuts, copies of its own parts, noise, most near the head."""
    out = bytearray(data)
    for _ in range(int(rng.geometric(0.4))):
        if not out:
            break
        reach = len(out) if rng.random() < 0.5 else min(len(out), 512)
        at, length = int(rng.integers(reach)), int(2 ** rng.uniform(0, 8))
        match int(rng.integers(7)):
            case 0:
                out[at] = int(rng.integers(256))
            case 1:
                out[at] ^= 1 << int(rng.integers(8))
            case 2:
                out[at : at + 4] = bytes([INTERESTING[int(rng.integers(5))]]) * min(4, len(out) - at)
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.bytes(length)
            case 5:
                source = int(rng.integers(len(out)))
                out[at:at] = out[source : source + length]
            case 6:
                del out[int(rng.integers(len(out))) :]
    return bytes(out)


def pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(suffix, bytes) of small sound pictures in every format, depth and kind that is read."""
    y, x = np.mgrid[0:24, 0:32]
    grey = (x * 8 + y).astype(np.uint8)
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], -1)
    for suffix in ("png", "jpg", "webp", "bmp", "tif"):
        for array in (grey, colour):
            path = folder / f"sound.{suffix}"
            write_image(path, array)
            yield suffix, path.read_bytes()
    for suffix in ("png", "tif"):
        for array in (grey, colour):
            path = folder / f"deep.{suffix}"
            write_image(path, array.astype(np.uint16) * 257)
            yield suffix, path.read_bytes()
    for options in (
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "tile": (16, 16), "byteorder": ">"},
        {"compression": "zstd", "bigtiff": True},
        {"compression": "packbits", "rowsperstrip": 5},
        {"compression": "lzma", "planarconfig": "separate"},
    ):
        planes = np.moveaxis(colour, -1, 0) if "planarconfig" in options else colour
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, planes.astype(np.uint16) * 257, photometric="rgb", **options)
        yield "tif", buffer.getvalue()
    geo = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (42113, "s", 0, "7", True), (340, "H", 1, 0, True)]
    for values in (grey.astype(np.float32) / 9 - 5, grey.astype(np.int16) - 99, colour.astype(np.float64) / 255):
        buffer = io.BytesIO()
        kind = "rgb" if values.ndim == 3 else "minisblack"
        tifffile.imwrite(buffer, values, photometric=kind, compression="zlib", extratags=geo)
        yield "tif", buffer.getvalue()
    yield "pgm", b"P5 32 24 4095\n" + (grey.astype(">u2") * 16).tobytes()
    buffer = io.BytesIO()
    dng = [(50706, "B", 4, bytes([1, 4, 0, 0]), True), (33422, "B", 4, bytes([0, 1, 1, 2]), True)]
    tifffile.imwrite(buffer, grey.astype(np.uint16) * 16, photometric="cfa", extratags=dng)
    yield "dng", buffer.getvalue()
    image = Image.fromarray(colour)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    for kind, suffix, options in (
        ("P", "png", {}),
        ("RGBA", "png", {}),
        ("CMYK", "jpg", {"exif": exif}),
        ("RGB", "jpg", {"exif": exif}),
        ("RGB", "tif", {"compression": "tiff_lzw"}),
        ("L", "tif", {"compression": "tiff_adobe_deflate", "exif": exif}),
        ("1", "tif", {"compression": "group4"}),
    ):
        buffer = io.BytesIO()
        image.convert(kind).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
        yield suffix, buffer.getvalue()


def weights(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The package's weights and, where they are at hand, the released ones."""
    del folder
    for path in [
        *sorted((ROOT / "refusion_jax" / "pretrained").glob("*.safetensors")),
        *sorted(RELEASED.glob("*.pth")),
    ]:
        yield path.suffix[1:], path.read_bytes()


def settings(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The presets and a whole run's settings."""
    del folder
    for path in sorted((ROOT / "configs").glob("*.toml")):
        yield "toml", path.read_bytes()
    yield "toml", config.to_toml(config.resolve("meie", "tuned")).encode()


def manifests(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Lists of pairs: with hashes, written by hand, with a root."""
    for name in ("a", "b"):
        for i in range(3):
            write_image(folder / name / f"{i}.png", np.full((8, 8), 40 * i, np.uint8))
    rows = "".join(f"p{i},a/{i}.png,b/{i}.png{{}}\n" for i in range(3))
    yield "csv", ("name,a,b\n" + rows.replace("{}", "")).encode()
    yield "csv", ("# task: meie\n# root: .\nname,a,b,split\n" + rows.replace("{}", ",train")).encode()
    yield "csv", ("\ufeffname;a;b\n" + rows.replace("{}", "").replace(",", ";")).encode()


KINDS: dict[str, tuple[Callable, Callable]] = {
    "pictures": (pictures, read_picture),
    "weights": (weights, load),
    "settings": (settings, config.load),
    "manifests": (manifests, lambda path: discover(path).require()),
}


def fault_of(read: Callable, path: Path, limit: float) -> tuple[str | None, bool]:
    """(what is wrong with how the file was treated, None if nothing; whether it was read)."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fault, sound = None, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would be text that nobody asked for
            read(path)
        sound = True
    except InputError as error:
        if "\n" in str(error) or not str(error):
            fault = f"the message is not one line: {error!r}"
    except BaseException:
        fault = traceback.format_exc()
    taken = time.process_time() - started
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if fault is None and taken > limit:
        fault = f"took {taken:.1f} s of the processor"
    if fault is None and grown > MEMORY:
        fault = f"took {grown / 2**30:.1f} GiB"
    return fault, sound


def fuzz(kind: str, seed: int, count: int, *, limit: float, out: Path, deadline: float = float("inf")) -> Counter:
    """Reads `count` mutated inputs of one kind, fewer at the deadline. Returns how many were read, refused, failed."""
    samples, read = KINDS[kind]
    result: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = list(samples(folder))
        for number in range(count):
            if time.monotonic() > deadline:
                break
            rng = np.random.default_rng([seed, sorted(KINDS).index(kind), number])
            suffix, data = sound[int(rng.integers(len(sound)))]
            path = folder / f"mutated.{suffix}"
            path.write_bytes(mutated(data, rng))
            fault, was_read = fault_of(read, path, limit)
            result["failed" if fault else "read" if was_read else "refused"] += 1
            if fault:
                out.mkdir(parents=True, exist_ok=True)
                kept = out / f"{kind}-{seed}-{number}.{suffix}"
                kept.write_bytes(path.read_bytes())
                kept.with_suffix(f".{suffix}.txt").write_text(fault)
                print(f"{kept}: {fault.strip().splitlines()[-1]}", flush=True)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 1 if any input was treated badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9, help="inputs of each kind (default: as time allows)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of all kinds together (default 10)")
    parser.add_argument(
        "--limit", type=float, default=10.0, help="seconds of the processor that one input may take (default 10)"
    )
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"), help="where failures are kept")
    options = parser.parse_args(arguments)
    kinds = options.kind or sorted(KINDS)
    failed = 0
    for kind in kinds:
        deadline = time.monotonic() + 60 * options.minutes / len(kinds)
        result = fuzz(kind, options.seed, options.count, limit=options.limit, out=options.out, deadline=deadline)
        failed += result["failed"]
        numbers = ", ".join(f"{result[name]} {name}" for name in ("read", "refused", "failed"))
        print(f"{kind}: {result.total()} inputs, {numbers}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
