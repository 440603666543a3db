"""fuse --calibrate: one transform from all pairs of a rig, with a picture to check it by."""

from pathlib import Path

from refusion_jax.cli.common import level_rules, printable
from refusion_jax.cli.jobs import overwritten
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover
from refusion_jax.errors import InputError
from refusion_jax.imaging.alignment import write_transform
from refusion_jax.imaging.calibration import calibrate
from refusion_jax.imaging.files import write_image
from refusion_jax.imaging.overlays import alignment_check

_PAIRS = 12  # more take longer and add little
_SHOWN = 4
_OPTIONS = {"calibrate", "save_transform", "align", "task", "levels", "max_pixels"}


def check_calibration_options(arguments, defaults) -> None:
    """InputError for options that do not go with --calibrate. defaults: the arguments of an empty command line."""
    if not arguments.save_transform:
        raise InputError("--calibrate finds the transform of a rig; say where to write it: --save-transform rig.json")
    for name, value in vars(arguments).items():
        if name not in _OPTIONS and value != getattr(defaults, name):
            raise InputError(f"--calibrate fuses nothing; leave out --{name.replace('_', '-')}")
    if Path(arguments.save_transform).suffix.lower() != ".json":
        raise InputError(f"--save-transform {arguments.save_transform}: expected a name that ends in .json")
    if arguments.align not in (None, "affine", "homography"):
        raise InputError(f"--calibrate finds an affine motion or a homography, got --align {arguments.align}")


def calibrate_rig(arguments, task: str | None) -> int:
    """Writes the transform of the pairs in a folder, and a picture beside it; returns 0. InputError if not sure."""
    pairs = discover(arguments.calibrate, task or "ivif").require().pairs
    path = Path(arguments.save_transform)
    check = path.with_suffix(".jpg")
    if overwritten(check, (source for pair in pairs for source in (pair.a, pair.b))):
        raise InputError(f"the picture to check {path} by, {check}, would overwrite a source; choose another name")
    kept = pairs[:: -(-len(pairs) // _PAIRS)]
    reader = PairReader(task or "ivif", level_rules(arguments), arguments.max_pixels).over(kept)
    lumas = [(a, b) for a, b in (reader.lumas(pair) for pair in kept)]
    found = calibrate(lumas, arguments.align or "affine")
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
