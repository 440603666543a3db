"""What is evaluated: a checkpoint that fuses the pairs, or a folder of images that were fused elsewhere."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from refusion_jax.data.datasets import fold
from refusion_jax.data.pairs import Pair
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS
from refusion_jax.weights.pretrained import find_checkpoint


@dataclass(frozen=True)
class Method:
    """One row of the results. Either `fuse` or `fused` is set."""

    name: str
    checkpoint: str | None = None
    """The checkpoint's file or folder; None for images fused elsewhere."""
    fuse: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """Of both sources, uint8 (H, W) or (H, W, 3); returns the fused luma, (H, W), float in [0, 1] or uint8."""
    folder: str | None = None
    fused: dict[str, Path] = field(default_factory=dict)
    """Pair name -> fused image."""
    baseline: str | None = None
    """How a baseline is computed; None for what is none."""
    task: str | None = None
    """What the checkpoint was trained for, where known."""

    @property
    def origin(self) -> str:
        """What to name in a report: the checkpoint, the folder or the baseline."""
        if self.baseline:
            return f"baseline, {self.baseline}"
        return f"checkpoint {self.checkpoint}" if self.checkpoint else f"fused images in {self.folder}"


def checkpoint_method(name: str, path: str | Path, range: str = "minmax") -> Method:  # noqa: A002
    """A checkpoint of any kind `refusion_jax.load` reads. range: one of imaging.ranges.RANGES.

    Of a run directory the newest checkpoint is taken and named. Imports JAX. Raises InputError for what is no
    checkpoint.
    """
    from refusion_jax.fusing import model as inference

    exact = path = find_checkpoint(path)
    if path.is_dir():
        from refusion_jax.weights import orbax_folder

        # The run may go on training: its name alone would not tell which checkpoint was scored.
        exact = path if orbax_folder.is_checkpoint(path) else orbax_folder.newest(path) or path
    model = inference.load(exact)
    return Method(name, checkpoint=str(exact), fuse=partial(model.fuse_luma, range=range), task=model.task)


def folder_method(name: str, folder: Path, pairs: Sequence[Pair]) -> Method:
    """A folder of fused images, one for each pair (`find_fused`)."""
    return Method(name, folder=str(folder), fused=find_fused(folder, pairs))


def find_fused(folder: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Pair name -> its fused image below `folder`; every other file is passed over. In any case and image
    format.

    The fused image of pair "IVIF/00710N" is the first there is of: IVIF/00710N.png (as fuse.py writes it),
    IVIF_00710N.png, and 00710N.png if no other pair ends in 00710N; else the one file that has such a name
    and then a suffix set off by _ or - (00710N_fused.png), unless it is another pair's name that is
    continued.

    Raises InputError if the folder is missing or holds no image, and for a pair without a fused image or with
    several.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: expected a folder of fused images, but it {what}")
    files = _stems_below(folder)
    if not files:
        raise InputError(f"{folder}: expected fused images, found none")
    names = {pair.name: _possible_stems(pair.name, pairs) for pair in pairs}
    all_stems = {stem for stems in names.values() for stem in stems}
    found, missing = {}, []
    for pair_name, stems in names.items():
        matches = next((files[stem] for stem in stems if stem in files), None)
        if matches is None:
            matches = [path for stem in files for path in files[stem] if _continued(stem, all_stems) in stems]
        if len(matches) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in matches[:4])
            raise InputError(
                f"{folder}: expected one fused image of pair '{pair_name}', got {len(matches)} ({listed}"
                f"{', ...' if len(matches) > 4 else ''}); keep one of them"
            )
        if matches:
            found[pair_name] = matches[0]
        else:
            missing.append(pair_name)
    if missing:
        listed = ", ".join(f"'{name}'" for name in missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise InputError(
            f"{folder}: the fused image of {len(missing)} of {len(pairs)} pairs is missing: {listed};"
            f" expected files such as {missing[0]}.png; fuse these pairs too or leave them out of the data"
        )
    return found


def unique_names(paths: Sequence[Path], given: Sequence[str | None]) -> list[str]:
    """A name for every method: the one given, else the path's own (a file's without extension, RUN-STEP for a
    checkpoint inside a run), with its parent's in front where two would be the same, and a number where these
    are.

    Raises InputError for a name given twice.
    """
    chosen = [name for name in given if name is not None]
    for name in chosen:
        if chosen.count(name) > 1:
            raise InputError(f"two methods are named {name!r}; give each its own NAME=PATH")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    own = [name or _own_name(path) for name, path in zip(given, absolute, strict=True)]
    names: list[str] = []
    for name, explicit, path in zip(own, given, absolute, strict=True):
        if explicit is None and own.count(name) > 1:
            name = f"{path.parent.name}/{name}"
        base, number = name, 2
        while name in names or explicit is None and name in chosen:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _own_name(path: Path) -> str:
    if path.is_dir():
        return f"{path.parent.parent.name}-{path.name}" if path.parent.name == "checkpoints" else path.name
    return path.stem


def _stems_below(folder: Path) -> dict[str, list[Path]]:
    """Folded path below the folder, '/'-joined, without extension -> the image files of it; none hidden."""
    stems: dict[str, list[Path]] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in READABLE_EXTENSIONS and not name.startswith("."):
                path = Path(root, name)
                relative = path.relative_to(folder).as_posix()
                stems.setdefault(fold(os.path.splitext(relative)[0]), []).append(path)
    return stems


def _possible_stems(name: str, pairs: Sequence[Pair]) -> list[str]:
    """The folded stems that mean this pair, best first."""
    last = name.rsplit("/", 1)[-1]
    stems = [name, name.replace("/", "_")]
    if sum(fold(pair.name.rsplit("/", 1)[-1]) == fold(last) for pair in pairs) == 1:
        stems.append(last)
    return list(dict.fromkeys(map(fold, stems)))


def _continued(stem: str, known: set[str]) -> str | None:
    """The longest known stem that this one continues after _ or -; None if there is none or it is known."""
    if stem in known:
        return None
    cuts = (i for i in range(len(stem) - 1, 0, -1) if stem[i] in "_-")
    return next((stem[:i] for i in cuts if stem[:i] in known), None)
