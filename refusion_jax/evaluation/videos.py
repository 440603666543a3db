"""Scoring fused videos, or folders of fused frames in order, against their two sources."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refusion_jax.data.datasets import fold
from refusion_jax.data.folders import same_stem
from refusion_jax.data.pairs import Pair, darker_first, natural_key
from refusion_jax.data.reading import Rules, rules_of_run
from refusion_jax.errors import InputError
from refusion_jax.evaluation.methods import Method
from refusion_jax.evaluation.scoring import Data, Evaluation, Result, open_rows, rounded_levels
from refusion_jax.imaging.alignment import require_opencv
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import MAX_PIXELS, READABLE_EXTENSIONS, read_luma
from refusion_jax.imaging.levels import AUTO, RUN, WHOLE, Levels, Rule, scaled
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.raw import without_raw_doubles
from refusion_jax.metrics import Metric, Motion, Step, biswe, ms2r, protocol_metrics, step
from refusion_jax.metrics.temporal import Flow
from refusion_jax.tasks import STACK_TASKS
from refusion_jax.video.library import is_video
from refusion_jax.video.pairing import Followed, together
from refusion_jax.video.reading import Frame, Video, find_video_levels

TEMPORAL = {
    metric.name: metric
    for metric in (
        Metric("BiSWE", biswe, "grey levels", higher_is_better=False),
        Metric("MS2R", ms2r, "pixels per frame squared", higher_is_better=False),
    )
}


def dis_flow() -> Flow:
    """Optical flow as the metrics of videos take it, by OpenCV's DIS (Kroeger et al., "Fast optical flow using dense
    inverse search", ECCV 2016), preset "medium", on uint8 (H,W). InputError without OpenCV."""
    cv2: Any = require_opencv("scoring videos")
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: estimator.calc(first, second, None)


@dataclass(frozen=True)
class Moving:
    """A video or a folder of frames.

    Attributes:
      path: of it. count: of its frames, about. period: seconds for which one is shown; frames of a folder count as one
        a second.
      frames: gives them in order. luma: of one of them, 8-bit levels, uint8 (H,W).
    """

    path: Path
    count: int
    period: Fraction
    frames: Callable[[], Iterator[Frame]]
    luma: Callable[[Frame], np.ndarray]


def open_moving(
    paths: Sequence[Path], rules: Rules | None = None, task: str | None = None, max_pixels: int = MAX_PIXELS
) -> list[Moving]:
    """Two sources, each a video or a folder of frames in the order of their names, or one fused.

    rules: how black and white of each are found, over all of its frames; None: the whole of what a fused one's files
    hold. Raises InputError for anything else, and for a video with a folder.
    """
    videos = [path for path in paths if is_video(path)]
    if videos and len(videos) < len(paths):
        other = next(path for path in paths if path not in videos)
        raise InputError(f"expected two videos or two folders of frames, got the video {videos[0]} and {other}")
    chosen = rules or (WHOLE, WHOLE)
    if videos:
        opened = [Video(path, max_pixels) for path in paths]
        spans = [(Fraction(0), None)] * len(paths)
        levels = find_video_levels(opened, chosen[: len(paths)], spans, task in STACK_TASKS)
        return [_of_video(*each) for each in zip(opened, levels, strict=True)]
    files = [_frame_files(path) for path in paths]
    if len(paths) == 2:
        listed = [[(file, None) for file in own] for own in files]
        asked = tuple(RUN if rule == AUTO else rule for rule in chosen)
        chosen = rules_of_run((listed[0], listed[1]), (asked[0], asked[1]), task, max_pixels)
    return [_of_folder(*each) for each in zip(paths, files, chosen, strict=False)]


def _of_video(video: Video, levels: Levels) -> Moving:
    count = round((video.duration or 0) * video.rate)
    return Moving(
        video.path,
        count,
        1 / video.rate,
        video.frames,
        lambda frame: rounded_levels(to_luma(to_depth(scaled(frame.values, levels), 8))),
    )


def _of_folder(path: Path, files: Sequence[Path], rule: Rule) -> Moving:
    return Moving(
        path,
        len(files),
        Fraction(1),
        lambda: (Frame(Fraction(number), file) for number, file in enumerate(files)),
        lambda frame: rounded_levels(read_luma(frame.decoded, rule)),
    )


def _frame_files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(
            f"{path}: expected a video or a folder of frames; it {'is none' if path.exists() else 'is missing'}"
        )
    visible = [file for file in path.iterdir() if not file.name.startswith(".") and file.is_file()]
    names = without_raw_doubles([file.name for file in visible if file.suffix.lower() in READABLE_EXTENSIONS])
    return [path / name for name in sorted(names, key=lambda name: natural_key(name.casefold()))]


def order_remarks(
    sources: Sequence[Moving], fused: Sequence[Moving], start: Fraction | None = None, offset: Fraction | None = None
) -> list[str]:
    """What to know of folders of frames, which belong together by their places: that they hold different numbers of
    them, and that `start` or `offset` (as of `evaluate_videos`; None: not given) brings different names together.

    Raises InputError for a folder beside a video, where a name that another folder has is missing in between, and
    where equal names lie at different places though neither `start` nor `offset` is given.
    """
    a, b = sources
    every = [*sources, *fused]
    folders = [one for one in every if one.path.is_dir()]
    if not folders:
        return []
    if len(folders) < len(every):
        video = next(one for one in every if one not in folders)
        raise InputError(
            f"expected videos alone or folders of frames alone, got {video.path} and the folder {folders[0].path}"
        )
    remarks = []
    if len({one.count for one in folders}) > 1:
        listed = ", ".join(f"{one.count} in {one.path}" for one in folders)
        remarks.append(f"frames belong together by their places, but not all folders hold as many: {listed}")
    for one, option, given in ((a, "--offset", offset), *((one, "--start", start) for one in fused)):
        first = _first_in_both(one, b)
        if first is None or first[1] - first[0] == (given or 0):
            continue
        names = [_files(folder)[place] for folder, place in zip((one, b), first, strict=True)]
        text = f"{names[0]} is frame {first[0] + 1} of its folder, but {names[1]} is frame {first[1] + 1}"
        if given is None:
            raise InputError(
                f"{text}; give {option}={first[1] - first[0]} to score equal names together, or {option}=0 if the "
                "places are right"
            )
        remarks.append(f"{text}; {option} brings different names together")
    return remarks


def _first_in_both(one: Moving, other: Moving) -> tuple[int, int] | None:
    """The places in two folders, from 0, of the first name that both have; None where there is none. InputError where
    they differ between that name and the last that both have."""
    first, second = _by_name(one), _by_name(other)
    common = [place for place, name in enumerate(first) if name in second]
    if not common:
        return None
    names, others = list(first), list(second)
    begin = others.index(names[common[0]])
    for name, name_there in zip(names[common[0] : common[-1] + 1], others[begin:], strict=False):
        if name != name_there:
            lacking, file = (one, second[name_there]) if name in second else (other, first[name])
            raise InputError(
                f"expected the same frames in each folder, but {lacking.path} has none of the name of {file}; add it,"
                " or take it out of each"
            )
    return common[0], begin


def _files(folder: Moving) -> list[Path]:
    return [frame.decoded for frame in folder.frames()]


def _by_name(folder: Moving) -> dict[str, Path]:
    """Names as they are compared, in order, and their frames. InputError for two of one name."""
    found: dict[str, Path] = {}
    for file in _files(folder):
        earlier = found.setdefault(fold(file.stem), file)
        if earlier != file:
            raise InputError(same_stem(earlier, file))
    return found


def video_metrics(names: Sequence[str] | None, protocol: str) -> list[Metric]:
    """The metrics asked for: BiSWE and MS2R, without names; those of pictures as the protocol defines them, of each
    frame. Raises InputError as `protocol_metrics`."""
    by_name = {name.upper(): metric for name, metric in TEMPORAL.items()}
    if names is None:
        return list(TEMPORAL.values())
    return [
        by_name[name.upper()] if name.upper() in by_name else protocol_metrics(protocol, [name])[0] for name in names
    ]


def evaluate_videos(
    sources: Sequence[Moving],
    fused: Sequence[tuple[Method, Moving]],
    flow: Flow,
    metrics: Sequence[Metric],
    *,
    task: str | None = None,
    protocol: str = "paper",
    start: Fraction = Fraction(0),
    offset: Fraction = Fraction(0),
    table: Path | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Scores fused videos at each of their frames that has one before and one behind it.

    start: when on the second source's clock the fused videos begin; offset: added to the times of the first: as
    they were fused. table, task: as `scoring.evaluate`. Raises InputError where sizes differ, and where fewer than
    three frames belong together.
    """
    a, b = sources
    (_, leader), *others = fused
    followed = [Followed(one.frames(), Fraction(0), one.period) for _, one in others]
    followed += [Followed(a.frames(), offset - start, a.period), Followed(b.frames(), -start, b.period)]
    readers = [one.luma for _, one in fused] + [a.luma, b.luma]
    paths = [*(one.path for _, one in fused), a.path, b.path]
    names, sha256 = [metric.name for metric in metrics], _sha256(sources)
    window: deque[_Moment] = deque(maxlen=3)
    scores: list[dict[str, dict[str, float]]] = [{} for _ in fused]
    with open_rows(table, names, {"protocol": protocol, "data_sha256": sha256}) as write:
        for frames in together(leader.frames(), followed):
            lumas = [read(frame) for read, frame in zip(readers, frames, strict=True)]
            _check_sizes(lumas, paths)
            steps = [step(*both, flow) for both in zip(window[-1].lumas, lumas, strict=True)] if window else []
            window.append(_Moment(_name(frames[0]), lumas, steps))
            progress()
            for number, (method, _) in enumerate(fused if len(window) == 3 else ()):
                row = _scored(number, list(window), metrics, task)
                scores[number][window[1].name] = row
                write([method.name, window[1].name, *(repr(row[name]) for name in names)], "")
    if not scores[0]:
        raise InputError(
            "expected three frames or more at the same times; do --start and --offset fit the fused videos?"
        )
    pairs = tuple(Pair(name, a.path, b.path) for name in scores[0])
    results = tuple(Result(method, rows) for (method, _), rows in zip(fused, scores, strict=True))
    return Evaluation(protocol, tuple(metrics), Data(f"{a.path}, {b.path}", task, pairs, sha256), results)


class _Moment(NamedTuple):
    """What is shown at a time: the lumas of all videos, the sources' last, and the steps to them from before."""

    name: str
    lumas: list[np.ndarray]
    steps: list[Step]


def _name(frame: Frame) -> str:
    """The file of a frame, or its time."""
    return frame.decoded.stem if isinstance(frame.decoded, Path) else f"{float(frame.time):.3f}"


def _scored(number: int, window: Sequence[_Moment], metrics: Sequence[Metric], task: str | None) -> dict[str, float]:
    """The scores of the window's middle frame, of one of the fused videos."""
    motions = [Motion(*both) for both in zip(window[1].steps, window[2].steps, strict=True)]
    frames = [moment.lumas[number] for moment in window]
    a, b = window[1].lumas[-2:]
    if task == "meie":
        a, b = darker_first(a, b)
    found = {}
    for metric in metrics:
        if metric.name == "BiSWE":
            found[metric.name] = biswe(frames, motions[number], motions[-2:])
        elif metric.name == "MS2R":
            found[metric.name] = ms2r(motions[number], motions[-2:])
        else:
            found[metric.name] = metric(a, b, frames[1])
    return found


def _check_sizes(lumas: Sequence[np.ndarray], paths: Sequence[Path]) -> None:
    for luma, path in zip(lumas, paths, strict=True):
        if luma.shape != lumas[-1].shape:
            sizes = [f"{x.shape[1]}x{x.shape[0]}" for x in (luma, lumas[-1])]
            raise InputError(f"expected videos of one size, got {sizes[0]} ({path}) and {sizes[1]} ({paths[-1]})")


def _sha256(sources: Sequence[Moving]) -> str:
    total = hashlib.sha256()
    for source in sources:
        files = [source.path] if source.path.is_file() else [frame.decoded for frame in source.frames()]
        for path in files:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
