"""A video file: what it holds, its frames in order with their times, and its levels."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import EIGHT_BITS, Levels, Rule, Values, common, find_levels
from refusion_jax.imaging.reading import one_line
from refusion_jax.runtime.writing import reason
from refusion_jax.video.library import clock, require_av
from refusion_jax.video.pixels import bits_of, values_of

_CUT_SHORT = 1  # seconds that a file may end before what it declares
_TRIES = 50  # reads in a row that may fail before the rest of a file is given up
_FLAT = 4  # counts: a frame that spans no more, such as a black one at the start, says nothing of the others' levels
_EARLIER = 2  # seconds before the wanted time that a seek aims at first: some files seek too far


class Frame:
    """One frame.

    Attributes:
      time: when it is shown, seconds since the file's start.
      decoded: PyAV's frame.
    """

    def __init__(self, time: Fraction, decoded: Any):
        self.time = time
        self.decoded = decoded

    @cached_property
    def values(self) -> Values:
        """Its pixels, see `pixels.values_of`; converted when they are asked for."""
        return values_of(self.decoded)


@dataclass
class Damage:
    """What of a file could not be read: how many packets or frames, and from when on. now: how far it is read.
    ended: to its end."""

    count: int = 0
    first: Fraction = Fraction(0)
    now: Fraction = Fraction(0)
    ended: bool = False

    def add(self) -> None:
        """One more, at this time."""
        self.first = self.first if self.count else self.now
        self.count += 1

    def note(self, video: "Video") -> str | None:
        """A line on it, also on a file that ends earlier than it declares."""
        end = self.now + 1 / video.rate
        if self.count:
            return f"damaged from {clock(self.first)} on: {self.count} packets or frames left out, the others used"
        if self.ended and video.duration is not None and video.duration - end > _CUT_SHORT:
            return f"ends at {clock(end)} of the {clock(video.duration)} that it declares"
        return None


class Video:
    """A file with a video stream; each call of `frames` opens it anew.

    Attributes:
      path: the file. size: (H, W) of its frames as shown. bits: of a channel. rate: frames a second, on average.
      duration: seconds, as the file declares it; None where it does not. time_base: of its time stamps.
      has_sound: whether it has an audio stream. metadata: of the file, such as when and where it was taken.
    """

    def __init__(self, path: str | os.PathLike, max_pixels: int):
        """Raises InputError for what is no video or has no frame that can be decoded."""
        self.path = Path(path)
        with opened(self.path) as container:
            stream = _video_stream(container, self.path)
            height, width = stream.height, stream.width
            if height * width > max_pixels:
                raise InputError(
                    f"{self.path}: {width}x{height} is {width * height} pixels, over the limit of {max_pixels};"
                    " scale the video down, or raise the limit (--max-pixels)"
                )
            first = next(_decoded(container, stream, Damage()), None)
            if first is None:
                raise InputError(f"{self.path}: no frame of it can be decoded; it is damaged or cut short")
            turned = round(first.decoded.rotation / 90) % 2
            shown = first.decoded.height, first.decoded.width
            self.size: tuple[int, int] = shown[::-1] if turned else shown
            self.bits = bits_of(first.decoded)
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.time_base = Fraction(stream.time_base)
            self.duration = _duration(container, stream)
            self.has_sound = bool(container.streams.audio)
            self.metadata = dict(container.metadata)

    def frames(self, start: Fraction = Fraction(0), damage: Damage | None = None) -> Iterator[Frame]:
        """Its frames in the order in which they are shown, from `start` seconds on; what cannot be decoded is left out
        and counted in `damage`."""
        damage = damage or Damage()
        earlier = _EARLIER
        while True:
            with opened(self.path) as container:
                stream = _video_stream(container, self.path)
                stream.thread_type = "SLICE"  # with threads by frame FFmpeg now and then keeps a damaged one to itself
                sought = start > earlier and _can_seek(container)
                if sought:
                    _seek(container, stream, start - earlier + file_start(container))
                damage.count, damage.now = 0, start
                coming = _decoded(container, stream, damage, sought)
                first = next(coming, None)
                if sought and (first is None or first.time > start):
                    earlier *= 2  # the key frame lies before the place sought, as it may in MPEG-TS
                    continue
                for frame in chain([first] if first else [], coming):
                    if frame.time >= start:
                        yield frame
            damage.ended = True
            return


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """PyAV's container of a file; InputError where it cannot be opened."""
    av = require_av()
    try:
        with open(path, "rb"):  # FFmpeg's reasons are poorer, and it would take URLs and devices
            pass
        # A playlist could name what lies elsewhere.
        container = av.open(str(path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a video that FFmpeg can read, or damaged: {one_line(error.strerror)}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None
    with container:
        yield container


def file_start(container: Any) -> Fraction:
    """What the time stamps of a file begin with, seconds."""
    return Fraction(container.start_time or 0, 1_000_000)


def _video_stream(container: Any, path: Path) -> Any:
    covers = require_av().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if streams:
        return streams[0]
    kinds = sorted({stream.type for stream in container.streams})
    raise InputError(f"{path}: expected a video stream, found {' and '.join(kinds) or 'no stream'} alone")


def _duration(container: Any, stream: Any) -> Fraction | None:
    if stream.duration:
        begin = (stream.start_time or 0) * stream.time_base - file_start(container)
        return begin + stream.duration * stream.time_base
    return Fraction(container.duration, 1_000_000) if container.duration else None


class _Stamps:
    """The time stamps of a stream's frames as they come from the decoder, seconds since the file's start.

    These are their pts, or their dts where more pts than dts failed to rise, as FFmpeg's players have it: where a file
    holds no pts (AVI), FFmpeg makes some up, which are wrong with B-frames.
    """

    def __init__(self, container: Any):
        self._begin = file_start(container)
        self._faults = [int(container.format.name == "avi"), 0]
        self._before: list[int | None] = [None, None]

    def of(self, frame: Any) -> Fraction | None:
        """That of the next frame, None where it has none."""
        for kind, stamp in enumerate((frame.pts, frame.dts)):
            if stamp is not None:
                before = self._before[kind]
                self._faults[kind] += before is not None and stamp <= before
                self._before[kind] = stamp
        by_dts = self._faults[0] > self._faults[1] and self._before[1] is not None
        stamp = frame.dts if by_dts or frame.pts is None else frame.pts
        return None if stamp is None else stamp * frame.time_base - self._begin


def _decoded(container: Any, stream: Any, damage: Damage, sought: bool = False) -> Iterator[Frame]:
    """Frames with rising times: from the file's start on, or from the first key frame on behind the place sought."""
    stamps = _Stamps(container)
    period = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    last: Fraction | None = None
    for packet in dropwhile(lambda packet: sought and not packet.is_keyframe, _packets(container, stream, damage)):
        try:
            frames = packet.decode()
        except require_av().FFmpegError:
            damage.add()
            continue
        for frame in frames:
            time = stamps.of(frame)
            if time is None:
                if sought and last is None:
                    continue  # nothing says where in the file this is
                time = Fraction(0) if last is None else last + period
            if frame.is_corrupt or last is not None and time <= last:
                damage.add()
                continue
            last = damage.now = time
            yield Frame(time, frame)


def _packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The packets of a stream; reading goes on behind what cannot be read."""
    failed = 0
    while failed < _TRIES:
        try:
            for packet in container.demux(stream):
                failed = 0
                yield packet
            return
        except require_av().FFmpegError:
            failed += 1
            if failed == 1:
                damage.add()


def _can_seek(container: Any) -> bool:
    """Whether frames behind a seek have the times that they have from the file's start on: those of bare streams and
    of MPEG-PS are counted or guessed."""
    bare = require_av().format.Flags.no_timestamps.value
    return not container.format.flags & bare and container.format.name != "mpeg"


def _seek(container: Any, stream: Any, time: Fraction) -> None:
    """To the key frame before a time; a file that cannot seek is read from its start."""
    try:
        container.seek(int(time / stream.time_base), stream=stream)
    except require_av().FFmpegError:
        return


def find_video_levels(
    videos: Sequence[Video], rules: Sequence[Rule], spans: Sequence[tuple[Fraction, Fraction | None]], together: bool
) -> list[Levels]:
    """Black and white of videos, each one pair for all its frames, as pictures of one run have them.

    What 8 bits hold, a stream declares or a rule gives is known beforehand; else all frames of the span (start, end) of
    a video, seconds, are looked at. together: the videos are one camera's and have one black and one white.
    """
    found = [_levels(*each) for each in zip(videos, rules, spans, strict=True)]
    if together:
        joined = common([levels for each in found for levels in each])
        return [joined[0], joined[-1]]
    return [common(each)[0] for each in found]


def _levels(video: Video, rule: Rule, span: tuple[Fraction, Fraction | None]) -> list[Levels]:
    if video.bits <= 8:
        return [EIGHT_BITS]
    found: list[Levels] = []
    flat: list[Levels] = []
    for frame in video.frames(span[0]):
        if span[1] is not None and frame.time >= span[1]:
            break
        values = frame.values
        levels = find_levels(values, rule)
        if rule.kind == "fixed" or values.declared is not None and rule.kind != "percentile":
            return [levels]
        (flat if np.ptp(values.pixels) <= _FLAT else found).append(levels)
    # One that is not measured says what all frames have, such as the whole of the type; the others are as wide as all.
    joined = common(found or flat)
    return [levels for levels in joined if levels.measured][:1] or joined[:1] or [Levels(0, 65535)]
