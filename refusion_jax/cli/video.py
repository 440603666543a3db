"""The command fuse on two videos: paired by time, fused frame by frame, written with the sound of the second."""

import argparse
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.cli.common import add_clock_options, level_rules, printable, progress_bar, seconds
from refusion_jax.cli.fusing import RUN, in_one_depth, shift_warnings
from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import AUTO, Levels, scaled
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.ranges import SAMPLED
from refusion_jax.imaging.resizing import to_one_size
from refusion_jax.tasks import STACK_TASKS
from refusion_jax.training.stopping import StopRequest
from refusion_jax.video.library import clock, is_video, require_av
from refusion_jax.video.pairing import Followed, TimedPair, paired
from refusion_jax.video.reading import Damage, Video, find_video_levels
from refusion_jax.video.writing import CODECS, FORMATS, Plan, VideoWriter, choose_codec, written

_OPTIONS = ("start", "end", "offset", "fps", "codec", "crf")
_WITHOUT = ("--maps", "--report", "--format", "--save-transform", "--grid", "--axis", "--pseudocolour")
_PARTS = 1_000_000  # of a frame a second, as files hold rates; 24000/1001 is found in its digits, too
_BY_THE_MUXER = ("major_brand", "minor_version", "compatible_brands", "encoder")  # written anew


def rate(text: str) -> Fraction:
    """Frames a second, above 0, as the nearest fraction that a file can hold: 25, 29.97, 30000/1001."""
    try:
        value = Fraction(text).limit_denominator(_PARTS)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected frames a second such as 25 or 30000/1001, got {text!r}") from None
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"expected frames a second above 0, 1000 at most, got {text!r}")
    return value


def add_video_options(g) -> None:
    """The options that only videos have."""
    add_clock_options(g)
    g.add_argument("--end", type=seconds, metavar="TIME", help="of B, where the result ends")
    g.add_argument("--fps", type=rate, metavar="N", help="frames a second of the result (default: each frame of B)")
    g.add_argument("--codec", metavar="NAME", help=f"{', '.join(CODECS)} (default: h264, of .webm vp9)")
    g.add_argument("--crf", type=int, metavar="N", help="quality of the codec, lower is better (default: h264 18)")


def are_videos(arguments) -> bool:
    """Whether the command line is about videos. InputError for options of videos without one, and for what videos
    cannot be combined with."""
    named = [path for pair in arguments.pair or () for path in pair]
    others = [*(arguments.stack and [path for stack in arguments.stack for path in stack] or ()), arguments.data or ""]
    if found := [path for path in others if is_video(path)]:
        raise InputError(f"{found[0]}: videos are fused in pairs; give --pair A B")
    if not any(map(is_video, named)):
        asked = [name for name in _OPTIONS if getattr(arguments, name) is not None]
        if asked:
            raise InputError(f"--{asked[0]} is for videos; give --pair A.mp4 B.mp4")
        return False
    for path in named:
        if not is_video(path):
            kind = "a folder" if Path(path).is_dir() else "a still picture"
            video = next(filter(is_video, named))
            raise InputError(
                f"expected two videos, got the video {video} and {kind}, {path}; save its frames as pictures"
            )
    _check_alone(arguments)
    return True


def _check_alone(arguments) -> None:
    """InputError for what goes with pictures alone, and for more than one pair."""
    if len(arguments.pair) > 1 or arguments.data or arguments.stack:
        raise InputError("videos are fused one pair at a time; give one --pair A B and nothing else")
    for option in _WITHOUT:
        if getattr(arguments, option[2:].replace("-", "_")):
            raise InputError(f"{option} is not for videos; leave it out")
    if arguments.align:
        raise InputError(
            "--align looks at each picture anew, which would shake in a video; find one transform with "
            "--calibrate FOLDER --save-transform rig.json and give --transform rig.json"
        )
    if arguments.end is not None and arguments.end <= (arguments.start or 0):
        raise InputError("--end must lie behind --start")


def result_path(arguments) -> Path:
    """The file to write: --out, or in the folder --out a file named as B. InputError for another name."""
    out, named = Path(arguments.out), arguments.pair[0]
    known = " ".join(FORMATS)
    if out.suffix.lower() not in FORMATS or out.is_dir():
        if out.suffix and not out.is_dir():
            raise InputError(f"cannot write a video to --out {out}; expected a folder or a name with one of {known}")
        out = out / f"{Path(named[1]).stem}.mp4"
    if any(out.resolve() == Path(path).resolve() for path in named):
        raise InputError(f"the result {out} would overwrite an input; choose another --out")
    return out


@dataclass
class VideoPair:
    """Two videos, read as the command line says.

    Attributes:
      a, b: the files. options: the command line's. levels: of each. transform: that brings B onto A, or None.
      damage: of each, as far as they were read.
    """

    a: Video
    b: Video
    options: Any
    levels: list[Levels]
    transform: Any
    damage: tuple[Damage, Damage]

    def pairs(self) -> Iterator[TimedPair]:
        """The pairs of frames of the span asked for, from its start."""
        self.damage = Damage(), Damage()
        start, end = self.options.start or Fraction(0), self.options.end
        offset = self.options.offset or Fraction(0)
        a = self.a.frames(max(start - offset - 1, Fraction(0)), self.damage[0])
        b = self.b.frames(start, self.damage[1])
        every = 1 / self.options.fps if self.options.fps else None
        followed = Followed(a, offset, 1 / self.a.rate), Followed(b, Fraction(0), 1 / self.b.rate)
        for pair in paired(*followed, every):
            if end is not None and pair.time >= end:
                return
            yield pair

    def pictures(self, pair: TimedPair) -> tuple[np.ndarray, np.ndarray]:
        """The pictures of a pair, of one size and depth, as they are fused."""
        images = [scaled(frame.values, levels) for frame, levels in zip(pair[1:], self.levels, strict=True)]
        if self.transform is None or self.options.resize:
            images = to_one_size(images, self.options.resize)
        if self.transform is not None:
            from refusion_jax.imaging.common_frame import onto_one_frame

            both = self.transform.of_pictures(*images)
            images = onto_one_frame(in_one_depth(images), both, self.options.align_frame or "overlap")
        first, second = in_one_depth(images)
        return first, second

    def expected(self) -> int | None:
        """How many pairs there will be, about; None where a file does not say how long it is. InputError where the
        videos share no time."""
        start, end = self.span()
        return None if end is None else max(1, round((end - start) * (self.options.fps or self.b.rate)))

    def span(self) -> tuple[Fraction, Fraction | None]:
        """From when to when both are there, on B's clock, as far as they tell."""
        offset = self.options.offset or Fraction(0)
        start = max(self.options.start or Fraction(0), offset, Fraction(0))
        ends = [self.options.end, self.b.duration, None if self.a.duration is None else self.a.duration + offset]
        known = [end for end in ends if end is not None]
        if known and min(known) <= start:
            raise self.nothing_shared()
        return start, min(known) if self.a.duration is not None and self.b.duration is not None else self.options.end

    def nothing_shared(self) -> InputError:
        """The error of two videos without a common time in the span asked for."""
        offset = self.options.offset or Fraction(0)
        lasts = [f"{clock(video.duration)}" if video.duration else "a time unknown" for video in (self.a, self.b)]
        asked = [
            f"--{name} {clock(getattr(self.options, name))}"
            for name in ("start", "end", "offset")
            if getattr(self.options, name) is not None
        ]
        return InputError(
            f"no common time: {self.a.path} lasts {lasts[0]} and begins at {clock(offset)} of {self.b.path}, "
            f"which lasts {lasts[1]}" + (f"; change {', '.join(asked)}" if asked else "")
        )

    def notes(self) -> list[str]:
        """What to know of what was read: damage, files that end early."""
        both = zip((self.a, self.b), self.damage, strict=True)
        return [f"{video.path}: {note}" for video, damage in both if (note := damage.note(video))]


def fuse_videos(arguments, task: str | None, load_model: Callable[[Any, str | None], Any], transform: Any) -> int:
    """Fuses the two videos that --pair names; returns 0, or 128 + a signal's number where one cut the result short."""
    require_av()
    out = result_path(arguments)
    codec = choose_codec(out, arguments.codec, arguments.crf)
    if arguments.depth == 16 and codec != "ffv1":
        raise InputError(f"--depth 16 needs --codec ffv1 (in .mkv); {codec} is written with 8 bits")
    if arguments.skip_existing and out.exists():
        print(printable(f"skipped {out}: fused already"))
        return 0
    a, b = videos = [Video(path, arguments.max_pixels) for path in arguments.pair[0]]
    pair = VideoPair(a, b, arguments, [], transform, (Damage(), Damage()))
    pair.span()
    if transform is not None:
        transform.check_sizes(a.size, b.size)
    elif arguments.resize is None:
        to_one_size([np.empty(video.size, np.uint8) for video in videos], None)
    model = load_model(arguments, task)
    pair.levels = _levels(pair, model.task)
    with StopRequest(None) as stop:
        try:
            return _fuse(pair, model, out, codec, stop)
        except KeyboardInterrupt:  # before the first frame, or Ctrl-C twice: there is no result
            return _stopped(stop)


def _levels(pair: VideoPair, task: str | None) -> list[Levels]:
    """Black and white of each video, held over it; says how they were found where that is not known from the file."""
    rules = level_rules(pair.options) or (AUTO, AUTO)
    start, end = pair.span()
    offset = pair.options.offset or Fraction(0)
    spans = [(max(start - offset, Fraction(0)), None if end is None else end - offset), (start, end)]
    levels = find_video_levels((pair.a, pair.b), rules, spans, task in STACK_TASKS)
    for video, found in zip((pair.a, pair.b), levels, strict=True):
        if found.note:
            _say(f"note: {video.path}: {found.note}; --levels sets others")
    return levels


def _fuse(pair: VideoPair, model: Any, out: Path, codec: str, stop: StopRequest) -> int:
    options = pair.options
    held = _looked_at(pair, model, stop) if options.range == RUN else None
    if stop.requested():
        return _stopped(stop)
    times: deque[Fraction] = deque()
    plan = Plan(
        codec,
        1 / options.fps if options.fps else pair.b.time_base,
        options.fps or pair.b.rate,
        options.crf,
        pair.b.path if pair.b.has_sound else None,
        _metadata(pair),
    )
    with written(out, plan) as writer, progress_bar(pair.expected(), "frame", out.name) as bar:
        fused = model.fuse_stream(_timed(pair, times), "sources" if held else options.range, options.gray, held)
        failure = None
        try:
            while not stop.requested() and (picture := next(fused, None)) is not None:
                writer.write(times.popleft(), to_depth(picture, _bits(pair, codec)))
                bar.update()
        except InputError as error:  # what is fused by then is kept
            failure = error
        fused.close()
        if not writer.count:
            raise KeyboardInterrupt if stop.requested() else failure or pair.nothing_shared()
    for note in (*pair.notes(), *(f"{out}: {note}" for note in writer.notes)):
        _say(f"note: {note}")
    if stop.requested():
        _say(f"{out} ends here, playable: {_lasts(writer)}")
        return _stopped(stop)
    if failure is not None:
        _say(f"error: {failure}; {out} ends there, playable: {_lasts(writer)}")
        return 2
    print(printable(f"wrote {out}: {_lasts(writer)}"))
    return 0


def _timed(pair: VideoPair, times: deque[Fraction]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pictures of all pairs; their times go to `times`. Warns once where the first ones look shifted."""
    for number, timed in enumerate(pair.pairs()):
        images = pair.pictures(timed)
        if not number and not pair.options.no_check and pair.transform is None:
            for warning in shift_warnings(images, [pair.a.path.name, pair.b.path.name]):
                _say(
                    f"warning: {warning}; --transform brings them together (see --calibrate), --no-check silences this"
                )
        times.append(timed.time)
        yield images


def _looked_at(pair: VideoPair, model: Any, stop: StopRequest) -> Any:
    """What all frames have in common (--range run); None where the user stopped it."""
    total = pair.expected()
    with progress_bar(total and total + 2 * SAMPLED, "frame", "levels of the run") as bar:

        def seen() -> None:
            bar.update()
            if stop.requested():
                raise KeyboardInterrupt

        def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            first = next(pairs := pair.pairs(), None)
            if first is None:
                raise pair.nothing_shared()
            return map(pair.pictures, chain([first], pairs))

        try:
            return model.look_at(pictures, seen)
        except KeyboardInterrupt:
            return None


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _bits(pair: VideoPair, codec: str) -> int:
    deep = max(pair.a.bits, pair.b.bits) > 8 and codec == "ffv1"
    return pair.options.depth or (16 if deep else 8)


def _metadata(pair: VideoPair) -> dict[str, str]:
    """What the result says of itself, as the source that --metadata-from names does."""
    chosen = {"a": pair.a, "b": pair.b}.get(pair.options.metadata_from)
    found = chosen.metadata if chosen else {}
    return {key: value for key, value in found.items() if key not in _BY_THE_MUXER}


def _lasts(writer: VideoWriter) -> str:
    return f"{writer.count} frames, {clock(writer.duration)}"


def _stopped(stop: StopRequest) -> int:
    number = stop.requested()
    _say(f"stopped by {signal.Signals(number).name}")
    return 128 + number
