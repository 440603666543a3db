"""The command fuse: fuse pairs and stacks of pictures with a trained or a released checkpoint."""

import argparse
import dataclasses
import re
import sys
from pathlib import Path

from refusion_jax.cli.calibrating import calibrate_rig, check_calibration_options
from refusion_jax.cli.common import add_reading_options, level_rules, printable, program, run_command
from refusion_jax.cli.fusing import RUN, Fusion, fuse_all
from refusion_jax.cli.jobs import (
    BY_EXIF,
    Job,
    Sources,
    check_extra,
    exit_status,
    find_sources,
    jobs_waiting,
    make_folders,
    plan_jobs,
)
from refusion_jax.cli.video import add_video_options, are_videos, fuse_videos
from refusion_jax.cli.volumes import add_volume_options, are_volumes, fuse_volumes
from refusion_jax.data.reading import Rules, rules_of_run
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import WRITABLE_FORMATS, supports_16_bits
from refusion_jax.imaging.levels import RUN as LEVELS_OF_RUN
from refusion_jax.imaging.radiometric import require_two_pictures
from refusion_jax.imaging.ranges import RANGES
from refusion_jax.tasks import SOURCES, STACK_TASKS, task_name
from refusion_jax.weights.pretrained import pretrained


def quality(text: str) -> int:
    """A JPEG or WebP quality, 1 to 100."""
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {value}")
    return value


def group(text: str) -> int | str:
    """How many frames are one stack, 2 or more, or "exif"."""
    if text == BY_EXIF:
        return text
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"expected 2 or more frames, got {value}")
    return value


def memory(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
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
    _add_sources(p.add_argument_group("what to fuse"))
    _add_checkpoint(p.add_argument_group("with what"))
    _add_results(p.add_argument_group("results"))
    _add_alignment(p.add_argument_group("pictures that do not lie on each other"))
    add_volume_options(p.add_argument_group("volumes: NIfTI files, folders of DICOM series (no medical device)"))
    add_video_options(p.add_argument_group("two videos (--pair A.mp4 B.mp4 --out fused.mp4)"))
    return p


def _add_sources(g) -> None:
    g.add_argument(
        "--pair",
        nargs="+",
        action="append",
        metavar=("A", "B"),
        help="two pictures, volumes or videos, or two folders with equal file names; or one FLIR radiometric JPEG, or "
        "a folder of them, which hold a thermal and a visible picture each; may be given several times",
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
    g.add_argument(
        "--group",
        type=group,
        metavar="N|exif",
        help="frames of a --stack that make one picture, named as the first of them: every N in the order of their "
        "names, or exif, those that their EXIF times and exposures say were taken as one bracket or focus stack",
    )
    add_reading_options(g)


def _add_checkpoint(g) -> None:
    g.add_argument(
        "--ckpt",
        metavar="CKPT",
        help="run directory, a checkpoint inside one, a .safetensors or a "
        "released .pth file; may be left out where the package has weights for --task",
    )
    g.add_argument("--task", help="ivif, mif, mfif or meie, where the checkpoint does not know or is left out")


def _add_results(g) -> None:
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
        choices=(*RANGES, RUN),
        default="sources",
        help="levels of the result: sources (default), those that the sources span, for pictures to look at; run, the "
        "same for all pictures of the run, for the frames of a sequence; minmax, the full range, as the paper's tables "
        "have it; clip, the network's own",
    )
    g.add_argument("--gray", action="store_true", help="write the fused luma alone, without colour")
    g.add_argument(
        "--maps",
        action="store_true",
        help="also write P's weights as NAME_w.png and NAME_v.png: blue, the loss follows B; white, both alike; red, A",
    )
    g.add_argument(
        "--source-index",
        action="store_true",
        help="of a focus stack also NAME_index.png, 16 bits: which frame is the sharpest at each pixel, from 1",
    )
    g.add_argument(
        "--depth-map",
        action="store_true",
        help="of a focus stack also NAME_depth.png, 16 bits: where the focus lies, from 0, the first frame, to 65535",
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


def _add_alignment(g) -> None:
    g.add_argument(
        "--resize",
        choices=["a", "b"],
        help="bring both to the size of A or of B first (of a stack: of the first or the last frame)",
    )
    g.add_argument(
        "--align",
        choices=["translation", "euclidean", "affine", "homography"],
        help="register B to A first (needs OpenCV: pip install opencv-python-headless)",
    )
    g.add_argument(
        "--calibrate",
        metavar="DIR",
        help="find the one transform of two cameras from the pairs of a folder, write it to --save-transform and a "
        "picture to check it by beside it; fuse nothing",
    )
    g.add_argument(
        "--align-frame",
        choices=["overlap", "full"],
        help="fuse what both show (default), or all of A: where B shows nothing the result shows A",
    )
    g.add_argument("--save-transform", metavar="FILE.json", help="write what --align or --calibrate found")
    g.add_argument("--transform", metavar="FILE.json", help="align every pair with a saved transform")
    g.add_argument("--no-check", action="store_true", help="no warning when a pair looks shifted")


def check_options(arguments) -> None:
    """InputError for options that do not go together."""
    if arguments.calibrate:
        return check_calibration_options(arguments, parser().parse_args([]))
    if not (arguments.pair or arguments.data or arguments.stack):
        raise InputError("nothing to fuse: give --pair A B, --data DIR or --stack IMG IMG ...")
    for words in arguments.pair or ():
        if len(words) > 2:
            raise InputError(f"--pair: expected two sources, or one that holds both, got {len(words)}")
        if len(words) == 1 and Path(words[0]).is_file():
            require_two_pictures(Path(words[0]))
    if arguments.align and arguments.transform:
        raise InputError("--align finds a transform and --transform gives one; leave out one of them")
    if arguments.align_frame and not (arguments.align or arguments.transform):
        raise InputError("--align-frame says what to fuse of aligned pictures; add --align or --transform")
    if arguments.save_transform and not arguments.align:
        raise InputError("--save-transform writes what --align finds; add --align")
    if (arguments.source_index or arguments.depth_map) and not arguments.stack:
        raise InputError("--source-index and --depth-map are for focus stacks; add --stack")
    if arguments.group and not arguments.stack:
        raise InputError("--group says how many frames of --stack are one picture; add --stack")
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


def load_model(arguments, task: str | None):
    """The model, of `task` if the checkpoint does not know its own. InputError when it is not for what is asked."""
    from refusion_jax.fusing.model import load
    from refusion_jax.runtime.compiling import enable_cache, nothing_kept

    enable_cache()
    if nothing_kept() and sys.stderr.isatty():
        print("compiling for this machine, about 5 seconds; once, where it can be kept", file=sys.stderr)
    checkpoint = checkpoint_of(arguments, task)
    shows_maps = arguments.maps or (arguments.report and not arguments.stack)
    model = load(checkpoint, ("F", "P") if shows_maps else ("F",))  # a network takes 0.1 to 0.3 s to check
    if task and model.task and task != model.task:
        raise InputError(f"{checkpoint} is for the task {model.task}, not {task}; leave out --task or change --ckpt")
    model = dataclasses.replace(model, task=model.task or task, max_memory=arguments.max_memory)
    if arguments.maps and model.params.p is None:
        raise InputError(f"--maps needs the loss proposal network P, which {checkpoint} does not have")
    if arguments.stack and model.task not in STACK_TASKS:
        raise InputError(
            f"--stack is for the tasks {' and '.join(STACK_TASKS)}; {checkpoint} is for "
            f"{model.task or 'a task it does not tell: add --task'}"
        )
    if (arguments.source_index or arguments.depth_map) and model.task != "mfif":
        raise InputError(
            f"--source-index and --depth-map are for focus stacks (mfif); {checkpoint} is for {model.task}"
        )
    return model


def named(arguments, task: str | None) -> list[Sources]:
    """What the command line names to be fused. InputError where there is no such thing."""
    if arguments.stack and task not in (None, *STACK_TASKS):
        raise InputError(f"--stack is for the tasks {' and '.join(STACK_TASKS)}, got {task}")
    sources, remarks = find_sources(arguments.pair or [], arguments.data, arguments.stack or [], task, arguments.group)
    for remark in remarks:
        print(printable(f"note: {remark}"), file=sys.stderr)
    return sources


def planned(arguments, sources: list[Sources]) -> list[Job]:
    """The jobs of these sources. InputError where one cannot be written as it is asked for."""
    extension = f".{arguments.format}" if arguments.format else None
    asked = (("index", arguments.source_index), ("depth", arguments.depth_map))
    positions = [name for name, wanted in asked if wanted]
    jobs = plan_jobs(sources, Path(arguments.out), extension, arguments.maps, positions)
    if arguments.depth == 16 and not supports_16_bits(jobs[0].fused):
        raise InputError(f"--depth 16 cannot be written to {jobs[0].fused.suffix}; use png or tif")
    if arguments.save_transform and len(jobs) > 1:
        raise InputError(f"--save-transform is for one pair, but there are {len(jobs)}")
    for option, path in (("--save-transform", arguments.save_transform), ("--report", arguments.report)):
        if path:
            check_extra(Path(path), jobs, option)
    return jobs


def saved_transform(arguments):
    """The transform that --transform names, or None. InputError where aligning is asked for and OpenCV is missing."""
    from refusion_jax.imaging.alignment import read_transform, require_opencv

    transform = read_transform(Path(arguments.transform)) if arguments.transform else None
    if arguments.align or transform is not None:
        require_opencv()
    return transform


def open_report(arguments, task: str | None):
    """The page that --report names, or None."""
    if not arguments.report:
        return None
    from refusion_jax.report import FusionReport

    # Exposures may come in any order.
    known = None if task == "meie" else SOURCES.get(task or "")
    sources = ("first", "last") if arguments.stack else known or ("source A", "source B")
    return FusionReport(Path(arguments.report), f"Fused pictures: {Path(arguments.out).name}", sources=sources)


def run(arguments) -> int:
    """Fuses everything named; returns 0, or 1 when some of several failed (each named)."""
    check_options(arguments)
    task = task_name(arguments.task) if arguments.task else None
    if arguments.calibrate:
        return calibrate_rig(arguments, task)
    if are_videos(arguments):
        return fuse_videos(arguments, task, load_model, saved_transform(arguments))
    sources = named(arguments, task)
    if are_volumes(sources, arguments):
        return fuse_volumes(arguments, sources, lambda: load_model(arguments, task))
    if arguments.range == RUN and arguments.skip_existing:
        raise InputError(
            "--range run finds one range for all pictures of a run, so none can be left out; leave out --skip-existing"
        )
    jobs = planned(arguments, sources)
    transform = saved_transform(arguments)
    waiting = jobs_waiting(jobs, arguments.skip_existing)
    if not waiting:
        return 0
    model = load_model(arguments, task)
    make_folders([job.fused for job in waiting])
    report = open_report(arguments, model.task)
    fusion = Fusion(model, arguments, transform, report, rules_of_jobs(arguments, model.task, waiting))
    try:
        failed = fuse_all(fusion, waiting, alone=len(jobs) == 1)
    finally:  # a page of the pairs fused so far where the run is stopped
        if report is not None and len(report):
            print(printable(f"wrote {report.close()}"))
    return exit_status(failed, len(waiting))


def rules_of_jobs(arguments, task: str | None, jobs: list[Job]) -> Rules | None:
    """The levels of source a and b for all jobs; None where each file or the manifest tells its own."""
    rules = level_rules(arguments)
    if rules is None and arguments.range == RUN and not any(job.levels for job in jobs):
        rules = LEVELS_OF_RUN, LEVELS_OF_RUN
    if rules is None or LEVELS_OF_RUN not in rules:
        return rules
    files = [list(zip(job.sources, job.pages or (None,) * len(job.sources), strict=True)) for job in jobs]
    firsts = [file for job, own in zip(jobs, files, strict=True) for file in (own if job.stack else own[:1])]
    seconds = [file for job, own in zip(jobs, files, strict=True) if not job.stack for file in own[1:]]
    return rules_of_run((firsts, seconds), rules, task, arguments.max_pixels)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
