"""The command fuse for volumes: NIfTI files and DICOM series, on one grid, slice by slice."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.cli.common import level_rules, printable, progress_bar
from refusion_jax.cli.jobs import Job, Sources, check_results, exit_status, jobs_waiting, make_folders
from refusion_jax.data.folders import stem_of
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import READABLE_EXTENSIONS
from refusion_jax.imaging.levels import AUTO
from refusion_jax.imaging.levels import RUN as LEVELS_OF_RUN
from refusion_jax.runtime.writing import check_free
from refusion_jax.volumes.color import PALETTES, pseudocolored
from refusion_jax.volumes.dicom import is_series
from refusion_jax.volumes.dicom_writing import write_series
from refusion_jax.volumes.nifti import ENDINGS, is_nifti, write_nifti
from refusion_jax.volumes.pair import read_pair
from refusion_jax.volumes.reading import is_volume
from refusion_jax.volumes.volume import AXES, slices

_NO_VOLUME = READABLE_EXTENSIONS | {".dcm", ".mha", ".nrrd"}
# What pictures have and volumes have not: (option, as argparse names it, what to say).
_OF_PICTURES = (
    ("--align", "align", "register them first, such as with SimpleITK, ANTs or 3D Slicer"),
    ("--transform", "transform", "resample them first"),
    ("--resize", "resize", "--grid a or b says whose grid to take"),
    ("--format", "format", "they are written as NIfTI or DICOM, as --out and the sources say"),
    ("--report", "report", "look at the result in a viewer"),
)
_OF_VOLUMES = ("grid", "axis", "pseudocolour")


def add_volume_options(group: Any) -> None:
    """--grid, --axis and --pseudocolour."""
    group.add_argument(
        "--grid", choices=["a", "b"], help="whose grid the result has where the two differ (default: the finer)"
    )
    group.add_argument("--axis", choices=AXES, help="of the slices that are fused (default: axial)")
    group.add_argument(
        "--pseudocolour",
        choices=list(PALETTES),
        help="show the first source, such as grey PET or SPECT, in this palette of DICOM; the result is RGB",
    )


def are_volumes(sources: Sequence[Sources], arguments: Any) -> bool:
    """Whether what is to be fused is volumes. InputError where some are and some not, and for options of volumes where
    none is."""
    kinds = {is_volume(path): path for one in sources for path in one.paths}
    if len(kinds) == 2:
        raise InputError(f"expected two volumes or two pictures, got the volume {kinds[True]} and {kinds[False]}")
    if True not in kinds:
        for name in _OF_VOLUMES:
            if getattr(arguments, name):
                raise InputError(f"--{name} is for volumes (NIfTI, DICOM), got pictures; leave it out")
        return False
    if any(one.stack for one in sources):
        raise InputError("--stack is for pictures; volumes are fused by --pair A B")
    for option, name, instead in _OF_PICTURES:
        if getattr(arguments, name):
            raise InputError(f"{option} is for pictures, not for volumes: {instead}")
    rules = level_rules(arguments) or ()
    if len(sources) > 1 and (arguments.range == "run" or LEVELS_OF_RUN in rules):
        raise InputError("a range over the run is for pictures: volumes have one each; fuse one pair, or leave out run")
    return True


def fuse_volumes(arguments: Any, sources: Sequence[Sources], load_model: Callable[[], Any]) -> int:
    """Fuses pairs of volumes, one after the other; returns 0, or 1 when some of several failed (each named)."""
    jobs = _planned(sources, Path(arguments.out), arguments)
    waiting = jobs_waiting(jobs, arguments.skip_existing)
    if not waiting:
        return 0
    for job in waiting:
        if not is_nifti(job.fused):
            check_free(job.fused)
    model = load_model()
    # A series goes into its folder where that is there already: nothing need be written beside it.
    make_folders([job.fused / "_" if job.fused.is_dir() else job.fused for job in waiting])
    make_folders([path for job in waiting for path in job.maps])
    failed = 0
    for job in waiting:
        try:
            _fuse(job, arguments, model)
            print(printable("wrote " + ", ".join(map(str, job.results))), flush=True)
        except (InputError, OSError) as error:
            if len(jobs) == 1:
                raise
            print(printable(f"error: pair {job.name}: {error}"), file=sys.stderr)
            failed += 1
    return exit_status(failed, len(waiting))


def _planned(sources: Sequence[Sources], out: Path, arguments: Any) -> list[Job]:
    """The jobs. InputError where `out` cannot be written as a volume, or over an input or another result."""
    if is_nifti(out) and not out.is_dir():
        if len(sources) > 1:
            raise InputError(f"--out {out} names one volume, but there are {len(sources)} pairs; give a folder")
        paths = [out]
    elif out.suffix.lower() in _NO_VOLUME and not out.is_dir():
        raise InputError(
            f"cannot write a volume to --out {out}; expected a name with {' or '.join(ENDINGS)}, or a folder"
        )
    else:
        series = [all(map(is_series, one.paths)) for one in sources]
        paths = [out if len(sources) == 1 else out / one.name for one in sources]
        paths = [
            path if is_dicom else out / f"{one.name}.nii.gz"
            for path, is_dicom, one in zip(paths, series, sources, strict=True)
        ]
    jobs = []
    for one, path in zip(sources, paths, strict=True):
        stem = stem_of(path.name) if is_nifti(path) else path.resolve().name
        extra = tuple(path.resolve().with_name(f"{stem}_{kind}.nii.gz") for kind in "wv") if arguments.maps else ()
        jobs.append(Job(one.name, one.paths, path, extra, levels=one.levels))
    check_results(jobs)
    for job in jobs:
        if not is_nifti(job.fused) and arguments.depth == 8:
            raise InputError("--depth 8 is for NIfTI: CT and MR images of DICOM have 16 bits; leave it out")
    return jobs


def _fuse(job: Job, arguments: Any, model: Any) -> None:
    """One pair from reading to writing."""
    from refusion_jax.fusing.volumes import fuse_slices, maps_of_slices, samples

    rules = level_rules(arguments) or job.levels or (AUTO, AUTO)
    pair = read_pair(job.sources, rules, arguments.grid, arguments.max_pixels)
    if arguments.pseudocolour and pair.volumes[0].is_color:
        raise InputError(f"{pair.volumes[0].path}: has colours of its own; leave out --pseudocolour")
    for kind, lines in (("warning", pair.warnings), ("note", pair.notes)):
        for line in lines:
            print(printable(f"{kind}: {line}"), file=sys.stderr)
    reference, arrays = pair.reference, pair.arrays
    if arguments.pseudocolour:
        arrays[0] = pseudocolored(arrays[0], arguments.pseudocolour)

    def sliced(array: np.ndarray) -> np.ndarray:
        return slices(array, reference.grid.affine, arguments.axis or "axial")

    is_color = not arguments.gray and any(array.ndim == 4 for array in arrays)
    if is_color and arguments.depth == 16:
        raise InputError("--depth 16 is for grey volumes: in colour they have 8 bits; leave it out, or add --gray")
    deep = any(array.dtype == np.uint16 for array in arrays)
    kind = np.uint8 if is_color or (arguments.depth or (16 if deep else 8)) == 8 else np.uint16
    fused = np.empty((*reference.grid.shape, 3) if is_color else reference.grid.shape, kind, "C" if is_color else "F")
    views = [sliced(array) for array in arrays]
    rule = "sources" if arguments.range == "run" else arguments.range
    shown = samples(*views)
    if not shown:
        print(printable(f"warning: {job.name}: neither source shows anything; --levels sets others"), file=sys.stderr)
    with progress_bar(len(views[0]) + len(shown), "slice", job.name) as bar:
        fuse_slices(model, views[0], views[1], sliced(fused), rule, bar.update)
    if is_nifti(job.fused):
        write_nifti(job.fused, fused, reference, "ReFusion, fused; not for diagnosis")
    else:
        write_series(job.fused, fused, reference, pair.volumes)
    if job.maps:
        weights = [np.empty(reference.grid.shape, np.uint16, "F") for _ in job.maps]
        maps_of_slices(model, views[0], views[1], *map(sliced, weights))
        for path, array, name in zip(job.maps, weights, "wv", strict=True):
            write_nifti(path, array, reference, f"ReFusion, {name}: weight of the first source")
