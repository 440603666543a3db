"""Scoring fused videos, or folders of fused frames in order, against their two sources."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
    files = [file for file in path.iterdir() if file.suffix.lower() in READABLE_EXTENSIONS]
    return sorted(files, key=lambda file: natural_key(file.name.casefold()))


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
