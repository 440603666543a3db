"""The command fuse: fuse pairs and stacks of pictures with a trained or a released checkpoint."""

import argparse
import dataclasses
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from refusion_jax.cli import fusing
from refusion_jax.cli.common import printable, program, run_command
from refusion_jax.cli.outputs import Job, Sources, check_extra, make_folders, plan_jobs
from refusion_jax.data.search import find_pairs, pairs_from_arguments
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import READABLE_EXTENSIONS, WRITABLE_FORMATS, supports_16_bits, write_image
from refusion_jax.imaging.metadata import Metadata, fitted
from refusion_jax.imaging.ranges import RANGES
from refusion_jax.imaging.resizing import to_one_size
from refusion_jax.tasks import task_name
from refusion_jax.weights.pretrained import pretrained


def quality(text: str) -> int:
    """A JPEG or WebP quality, 1 to 100."""
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {value}")
    return value


def memory(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 2G or 800M, got {text!r}")
    return int(float(match[1]) * 1024 ** " KMG".index(match[2].upper() or " "))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program("fuse"),
        description="Fuse two registered pictures of one scene, or the frames of a bracket or focus stack. Order of a "
        "pair: infrared visible; PET, SPECT or CT before MRI; near far; for meie any order (the darker counts as the "
        "first).",
    )
    g = p.add_argument_group("what to fuse")
    g.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar=("A", "B"),
        help="two pictures, or two folders with equal file names; may be given several times",
    )
    g.add_argument("--data", metavar="DIR", help="a folder of pairs in any known layout, or a manifest of pairs")
    g.add_argument(
        "--stack",
        nargs="+",
        action="append",
        metavar="IMG",
        help="two or more frames of one scene, or a "
        "folder of them: an exposure bracket (meie) or a focus stack (mfif); may be given several "
        "times",
    )
    g = p.add_argument_group("with what")
    g.add_argument(
        "--ckpt",
        metavar="CKPT",
        help="run directory, a checkpoint inside one, a .safetensors or a "
        "released .pth file; may be left out where the package has weights for --task",
    )
    g.add_argument("--task", help="ivif, mif, mfif or meie, where the checkpoint does not know or is left out")
    g = p.add_argument_group("results")
    g.add_argument(
        "--out",
        metavar="FILE_OR_DIR",
        default="fused",
        help="a picture's name (one result only) or a folder (default: fused)",
    )
    g.add_argument("--format", choices=[e[1:] for e in WRITABLE_FORMATS], help="of pictures in a folder (default: png)")
    g.add_argument(
        "--depth",
        type=int,
        choices=[8, 16],
        help="bits of the result (default: 16 when a source has 16 and the format holds them, else 8)",
    )
    g.add_argument("--quality", type=quality, default=95, help="of JPEG and WebP, 1 to 100 (default: 95)")
    g.add_argument(
        "--metadata-from",
        choices=["a", "b", "none"],
        default="b",
        help="which source's EXIF and colour "
        "profile the result gets: of a stack, the first's or the last's (default: b)",
    )
    g.add_argument(
        "--range",
        choices=RANGES,
        default="sources",
        help="levels of the result: sources (default), those that the sources span, for pictures to look at; minmax, "
        "the full range, as the paper's tables have it; clip, the network's own",
    )
    g.add_argument("--gray", action="store_true", help="write the fused luma alone, without colour")
    g.add_argument(
        "--maps",
        action="store_true",
        help="also write P's weights as NAME_w.png and NAME_v.png: blue, the loss follows B; white, both alike; red, A",
    )
    g.add_argument("--report", metavar="FILE.html", help="also one page to compare sources and results on")
    g.add_argument("--skip-existing", action="store_true", help="leave out what has been fused already")
    g.add_argument(
        "--max-memory",
        type=memory,
        metavar="SIZE",
        help="what a fusion may take, such as 2G or 800M "
        "(default: half of the free memory, 3G at most); with less a large one takes longer",
    )
    g = p.add_argument_group("pictures that do not lie on each other")
    g.add_argument(
        "--resize",
        choices=["a", "b"],
        help="bring both to the size of A or of B first (of a stack: of the first or the last frame)",
    )
    g.add_argument(
        "--align",
        choices=["translation", "euclidean", "affine", "homography"],
        help="register B to A first (needs OpenCV: the extra photo)",
    )
    g.add_argument(
        "--align-frame",
        choices=["overlap", "full"],
        help="fuse what both show (default), or all of A: where B shows nothing the result shows A",
    )
    g.add_argument("--save-transform", metavar="FILE.json", help="write what --align found (one pair)")
    g.add_argument("--transform", metavar="FILE.json", help="align every pair with a saved transform")
    g.add_argument("--no-check", action="store_true", help="no warning when a pair looks shifted")
    return p


def stack_frames(words: list[str]) -> tuple[Path, ...]:
    """The frames that one --stack names: pictures, or the pictures directly in a folder, by name."""
    frames: list[Path] = []
    for path in map(Path, words):
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in READABLE_EXTENSIONS and p.is_file()]
            inside = [p for p in inside if not p.name.startswith(".")]
            if not inside:
                raise InputError(f"{path}: expected a folder of pictures, found none")
            frames += sorted(inside, key=lambda p: (p.name.casefold(), p.name))
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder")
        else:
            frames.append(path)
    if len(frames) < 2:
        raise InputError(f"--stack needs two or more pictures, got {len(frames)}: {', '.join(map(str, frames))}")
    return tuple(frames)


def sources_of(arguments, task: str | None) -> list[Sources]:
    """Every pair and stack that the command line names."""
    pairs = [pair for a, b in arguments.pair or [] for pair in pairs_from_arguments(a, b)]
    if arguments.data:
        pairs += find_pairs(arguments.data, task)
    sets = [Sources(pair.name, (pair.a, pair.b)) for pair in pairs]
    for words in arguments.stack or []:
        frames = stack_frames(words)
        folder = Path(words[0])
        name = folder.resolve().name if len(words) == 1 and folder.is_dir() else frames[0].stem
        sets.append(Sources(name, frames, stack=True))
    return sets


def check_options(arguments) -> None:
    """InputError for options that do not go together."""
    if not (arguments.pair or arguments.data or arguments.stack):
        raise InputError("nothing to fuse: give --pair A B, --data DIR or --stack IMG IMG ...")
    if arguments.align and arguments.transform:
        raise InputError("--align finds a transform and --transform gives one; leave out one of them")
    if arguments.align_frame and not (arguments.align or arguments.transform):
        raise InputError("--align-frame says what to fuse of aligned pictures; add --align or --transform")
    if arguments.save_transform and not arguments.align:
        raise InputError("--save-transform writes what --align finds; add --align")
    if arguments.stack and (arguments.transform or arguments.save_transform):
        raise InputError("--transform and --save-transform are for pairs, --stack can only be aligned anew (--align)")
    if arguments.stack and arguments.maps:
        raise InputError("--maps shows how P weighs the two pictures of a pair; leave it out with --stack")


def checkpoint_of(arguments, task: str | None) -> Path:
    """The checkpoint to load: --ckpt, or what the package carries for --task."""
    if arguments.ckpt:
        return Path(arguments.ckpt)
    if task is None:
        raise InputError("expected --ckpt CKPT, or --task to use the weights that come with the package")
    return pretrained(task)


def load_model(checkpoint: Path, task: str | None, max_memory: int | None = None):
    """The model, of `task` if the checkpoint does not know its own. InputError when the two disagree."""
    from refusion_jax.fusing.model import load
    from refusion_jax.runtime.compiling import enable_cache

    enable_cache()
    model = load(checkpoint)
    if task and model.task and task != model.task:
        raise InputError(f"{checkpoint} is for the task {model.task}, not {task}; leave out --task or change --ckpt")
    return dataclasses.replace(model, task=model.task or task, max_memory=max_memory)


class Notes:
    """Remarks and warnings on standard error; a remark on files of one kind is made once."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._made: set[str] = set()

    def remark(self, path: Path, note: str) -> None:
        if note not in self._made:
            self._made.add(note)
            self._say(f"note: {path}: {note} (said once)")

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")


def prepare(
    images: list[np.ndarray], names: list[str], job: Job, arguments, transform, notes: Notes
) -> tuple[list[np.ndarray], dict[str, str]]:
    """The pictures of a job on each other, and what was found, for the report. They are of one size."""
    if transform is None and not arguments.align:
        warnings = [] if arguments.no_check else fusing.shift_warnings(images, names)
        for said in warnings:
            notes.warn(f"{job.name}: {said}; --align affine brings them together, --no-check silences this")
        return images, {"looks shifted": "; ".join(warnings)} if warnings else {}
    from refusion_jax.imaging.alignment import Transform, write_transform
    from refusion_jax.imaging.common_frame import find_transforms, onto_one_frame

    images = fusing.in_depth(images)
    reference = len(images) // 2 if job.stack else 0
    if transform is None:
        transforms = find_transforms(images, arguments.align, reference)
    else:
        transforms = [Transform(np.eye(3), transform.motion, transform.size_a, transform.size_a), transform]
    aligned = onto_one_frame(images, transforms, arguments.align_frame or "overlap", reference)
    if arguments.save_transform:
        write_transform(Path(arguments.save_transform), transforms[1])
    found = "; ".join(f"{names[i]} {t}" for i, t in enumerate(transforms) if i != reference)
    return aligned, {"aligned": found}


def fuse_job(job: Job, model, arguments, transform, report, notes: Notes) -> list[Path]:
    """One job from reading to writing; the files written."""
    deep = arguments.depth != 8 and supports_16_bits(job.fused)
    pictures = fusing.read_all(job.sources, deep)
    for path, picture in zip(job.sources, pictures, strict=True):
        for note in picture.notes:
            notes.remark(path, note)
    bits = fusing.result_bits(arguments.depth, [picture.pixels for picture in pictures], job.fused)
    images, names = [picture.pixels for picture in pictures], [path.name for path in job.sources]
    images = to_one_size(images, arguments.resize)
    if job.stack:
        from refusion_jax.fusing.stacks import distinct

        kept = distinct(images)
        images, names = [images[i] for i in kept], [names[i] for i in kept]
    if job.stack and model.task == "meie":  # neighbours in brightness have most in common
        order = sorted(range(len(images)), key=lambda i: float(to_luma(images[i]).mean(dtype=np.float64)))
        images, names = [images[i] for i in order], [names[i] for i in order]
    images, facts = prepare(images, names, job, arguments, transform, notes)
    how = {"range": arguments.range, "gray": arguments.gray}
    fused = fusing.fused_picture(model, images, bits, job.stack, **how)
    metadata = {"a": pictures[0].metadata, "b": pictures[-1].metadata, "none": Metadata()}[arguments.metadata_from]
    for note in fitted(metadata, job.fused, fused)[1]:
        notes.remark(job.fused, note)
    write_image(job.fused, fused, quality=arguments.quality, metadata=metadata)
    w = v = None
    if not job.stack and (job.maps or report is not None and model.params.p is not None):
        w, v = fusing.write_maps(model, images[0], images[1], job.maps)
    if report is not None:
        facts = {"sources": ", ".join(names), "result": str(job.fused)} | facts
        report.add(job.name, images[0], images[-1], fused, w, v, facts)
    return list(job.results)


def run(arguments) -> int:
    """Fuses everything named; returns 0, or 1 when some of several failed (each named)."""
    check_options(arguments)
    task = task_name(arguments.task) if arguments.task else None
    if arguments.stack and task not in (None, "meie", "mfif"):
        raise InputError(f"--stack is for the tasks meie and mfif, got {task}")
    out = Path(arguments.out)
    jobs = plan_jobs(
        sources_of(arguments, task), out, f".{arguments.format}" if arguments.format else None, arguments.maps
    )
    if arguments.depth == 16 and not supports_16_bits(jobs[0].fused):
        raise InputError(f"--depth 16 cannot be written to {jobs[0].fused.suffix}; use png or tif")
    if arguments.save_transform and len(jobs) > 1:
        raise InputError(f"--save-transform is for one pair, but there are {len(jobs)}")
    extras = {"--save-transform": arguments.save_transform, "--report": arguments.report}
    for option, path in extras.items():
        if path:
            check_extra(Path(path), jobs, option)
    transform = None
    if arguments.transform:
        from refusion_jax.imaging.alignment import read_transform

        transform = read_transform(Path(arguments.transform))
    if arguments.align or transform is not None:
        from refusion_jax.imaging.alignment import require_opencv

        require_opencv()
    waiting = jobs
    if arguments.skip_existing:
        waiting = [job for job in jobs if not all(path.exists() for path in job.results)]
        if len(waiting) < len(jobs):
            print(f"skipped {len(jobs) - len(waiting)} of {len(jobs)}: fused already")
        if not waiting:
            return 0
    checkpoint = checkpoint_of(arguments, task)
    model = load_model(checkpoint, task, arguments.max_memory)
    if arguments.maps and model.params.p is None:
        raise InputError(f"--maps needs the loss proposal network P, which {checkpoint} does not have")
    if arguments.stack and model.task not in ("meie", "mfif"):
        raise InputError(
            f"--stack is for the tasks meie and mfif; {checkpoint} is for "
            f"{model.task or 'a task it does not tell: add --task'}"
        )
    make_folders([job.fused for job in waiting])
    report = None
    if arguments.report:
        from refusion_jax.report import FusionReport

        names = {"ivif": ("infrared", "visible"), "mif": ("functional or CT", "MRI"), "mfif": ("near", "far")}
        sources = names.get(model.task or "", ("source A", "source B")) if not arguments.stack else ("first", "last")
        report = FusionReport(Path(arguments.report), f"Fused pictures: {out.name}", sources=sources)
    failed = fuse_all(
        waiting, len(jobs) == 1, lambda job, notes: fuse_job(job, model, arguments, transform, report, notes)
    )
    if report is not None and failed < len(waiting):
        print(printable(f"wrote {report.close()}"))
    if failed:
        print(f"error: {failed} of {len(waiting)} pairs could not be fused (named above)", file=sys.stderr)
    return 1 if failed else 0


def fuse_all(jobs: list[Job], single: bool, fuse: Callable[[Job, Notes], list[Path]]) -> int:
    """Every job in turn with a progress bar; how many failed. A single one's error is raised."""
    if single:
        written = fuse(jobs[0], Notes(lambda line: print(printable(line), file=sys.stderr)))
        print(printable("wrote " + ", ".join(map(str, written))))
        return 0
    from tqdm import tqdm

    notes = Notes(lambda line: tqdm.write(printable(line), file=sys.stderr))
    failed = done = 0
    asked: list[int] = []

    def interrupt(number, frame):
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for job in tqdm(jobs, unit="pair", disable=None):  # None: no bar in a log file
            if asked:  # the interrupt came where exceptions are not passed on, such as in a callback of a library
                raise KeyboardInterrupt
            try:
                written = fuse(job, notes)
            except (InputError, OSError) as error:
                tqdm.write(printable(f"error: pair {job.name}: {error}"), file=sys.stderr)
                failed += 1
            else:
                tqdm.write(printable("wrote " + ", ".join(map(str, written))))
                done += 1
    except KeyboardInterrupt:
        print(f"\n{done} of {len(jobs)} fused, all of them whole; --skip-existing goes on from here", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
