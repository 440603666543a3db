"""fuse --calibrate: one transform from all pairs of a rig, with a picture to check it by."""

from pathlib import Path

from refusion_jax.cli.common import level_rules, printable
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover
from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import write_transform
from refusion_jax.imaging.calibration import calibrate
from refusion_jax.imaging.files import write_image
from refusion_jax.imaging.overlays import alignment_check

_PAIRS = 12  # more take longer and add little
_SHOWN = 4


def check_calibration_options(arguments) -> None:
    """InputError for options that do not go with --calibrate."""
    if not arguments.save_transform:
        raise InputError("--calibrate finds the transform of a rig; say where to write it: --save-transform rig.json")
    if arguments.pair or arguments.data or arguments.stack or arguments.transform:
        raise InputError("--calibrate fuses nothing; fuse with --transform afterwards")
    if arguments.align not in (None, "affine", "homography"):
        raise InputError(f"--calibrate finds an affine motion or a homography, got --align {arguments.align}")


def calibrate_rig(arguments, task: str | None) -> int:
    """Writes the transform of the pairs in a folder, and a picture beside it; returns 0. InputError if not sure."""
    pairs = discover(arguments.calibrate, task or "ivif").require().pairs
    kept = pairs[:: -(-len(pairs) // _PAIRS)]
    reader = PairReader(task or "ivif", level_rules(arguments), arguments.max_pixels).over(kept)
    lumas = [(a, b) for a, b in (reader.lumas(pair) for pair in kept)]
    found = calibrate(lumas, arguments.align or "affine")
    path = Path(arguments.save_transform)
    check = path.with_suffix(".jpg") if path.suffix else path.with_name(path.name + ".jpg")
    write_transform(path, found.transform)
    write_image(check, alignment_check([lumas[i] for i in found.used[:_SHOWN]], found.transform))
    print(f"{found.transform}; confidence {found.transform.confidence:.2f}")
    if len(kept) > 1:
        print(
            f"{len(found.used)} of {len(kept)} pairs agree on it, to {found.spread:.1f} pixels of the second picture"
            + (f" ({len(pairs)} are there)" if len(pairs) > len(kept) else "")
        )
    left_out = [pair.name for i, pair in enumerate(kept) if i not in found.used]
    if left_out:
        print(printable(f"left out: {', '.join(left_out)}"))
    print(printable(f"wrote {path} and, to check by eye, {check}"))
    return 0
