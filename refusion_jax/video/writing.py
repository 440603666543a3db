"""Video files written whole or not at all, with the sound of another file copied packet by packet."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.reading import one_line
from refusion_jax.runtime.writing import whole_file
from refusion_jax.video.library import require_av
from refusion_jax.video.pixels import BT601, BT709, FULL, HD, LIMITED, exact
from refusion_jax.video.reading import file_start, opened

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_FINEST = 90_000  # parts of a second that time stamps are written in, where the source's are finer than a muxer takes


@dataclass(frozen=True)
class Codec:
    """How a codec is asked for.

    Attributes:
      encoder: FFmpeg's name.
      crf: the constant rate factor by default, lower is better; None: it is lossless. worst: the largest.
      options: others for the encoder.
    """

    encoder: str
    crf: int | None
    worst: int = 51
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", 18),
    "hevc": Codec("libx265", 20, options=(("x265-params", "log-level=none"),)),
    "vp9": Codec("libvpx-vp9", 24, 63, (("row-mt", "1"), ("cpu-used", "4"))),
    "ffv1": Codec("ffv1", None, options=(("level", "3"), ("slices", "4"))),
}


def available_codecs(extension: str) -> list[str]:
    """The names of CODECS that can be written to a file of this kind here."""
    av = require_av()
    found = []
    for name, codec in CODECS.items():
        with av.open(_Nowhere(), "w", format=FORMATS[extension]) as container:
            try:
                container.add_stream(codec.encoder)
            except ValueError:  # this build of FFmpeg has no such encoder, or the file does not hold it
                continue
            found.append(name)
    return found


def choose_codec(path: Path, name: str | None, crf: int | None) -> str:
    """The codec of a file: the one asked for, else h264, of .webm vp9. InputError where it cannot be had."""
    extension = path.suffix.lower()
    known = available_codecs(extension)
    chosen = name or ("vp9" if extension == ".webm" else "h264")
    if chosen not in known:
        raise InputError(f"codec {chosen} cannot be written to a {extension} file here; expected {', '.join(known)}")
    codec = CODECS[chosen]
    if crf is not None and codec.crf is None:
        raise InputError(f"codec {chosen} is lossless and has no --crf; leave it out")
    if crf is not None and not 0 <= crf <= codec.worst:
        raise InputError(f"--crf of {chosen} must lie within 0..{codec.worst}, got {crf}")
    return chosen


class _Nowhere:
    """A file for a container of which only its abilities are asked."""

    def write(self, data: bytes) -> int:
        return len(data)


@dataclass(frozen=True)
class Plan:
    """What a video is to be.

    Attributes:
      codec: a name of CODECS. crf: None for the codec's own.
      time_base: seconds, of which all times are multiples. rate: frames a second on average.
      sound: the file whose audio streams are copied, from `start` seconds on; None for silence.
      metadata: of the file.
    """

    codec: str
    time_base: Fraction
    rate: Fraction
    crf: int | None = None
    sound: Path | None = None
    metadata: dict[str, str] | None = None


class VideoWriter:
    """Encodes pictures as they come; `written` makes one.

    Attributes:
      count: pictures written. notes: what to know of the file.
    """

    def __init__(self, container: Any, plan: Plan):
        self.count = 0
        self.notes: list[str] = []
        self._container, self._plan = container, plan
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._start = self._end = Fraction(0)
        self._size = (0, 0)
        finest = max(plan.time_base, Fraction(1, _FINEST)) if plan.time_base.denominator > 1_000_000 else plan.time_base
        self._time_base = finest

    @property
    def duration(self) -> Fraction:
        """Seconds from the first picture's begin to the last one's end."""
        return self._end - self._start

    def write(self, time: Fraction, picture: np.ndarray) -> None:
        """The picture that is shown from `time` seconds on, uint8 or uint16, (H,W) or (H,W,3), each of one kind and
        size; times rise. The first one's is the file's 0."""
        stream = self._stream or self._begin(time, picture)
        frame = self._frame(picture)
        frame.pts = round((time - self._start) / self._time_base)
        frame.time_base = self._time_base
        if self._sound is not None:
            self._sound.copy_until(time)
        self._container.mux(stream.encode(frame))
        self._end = time + 1 / self._plan.rate
        self.count += 1

    def finish(self) -> None:
        """What encoders hold back, and the sound up to the end of the last picture."""
        if self._stream is None:
            return
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.copy_until(self._end)

    def close(self) -> None:
        """Stops reading the sound."""
        if self._sound is not None:
            self._sound.close()

    def _begin(self, time: Fraction, picture: np.ndarray) -> Any:
        codec = CODECS[self._plan.codec]
        height, width = picture.shape[:2]
        options = dict(codec.options)
        if codec.crf is not None:
            options["crf"] = str(codec.crf if self._plan.crf is None else self._plan.crf)
            if height % 2 or width % 2:
                even = height // 2 * 2, width // 2 * 2
                self.notes.append(
                    f"{self._plan.codec} is written with even sizes: {width}x{height} cut to {even[1]}x{even[0]};"
                    " --codec ffv1 keeps all"
                )
                height, width = even
        self._size = height, width
        stream = self._container.add_stream(codec.encoder, rate=self._plan.rate, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = self._pixel_format(picture)
        context = stream.codec_context
        context.time_base = self._time_base
        stream.time_base = self._time_base
        if self._plan.codec == "hevc" and self._container.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players know no other
        if codec.crf is not None:
            matrix = BT709 if height >= HD else BT601
            context.color_range, context.colorspace = LIMITED, matrix
            context.color_primaries = context.color_trc = matrix
        self._container.metadata.update(self._plan.metadata or {})
        self._stream, self._start = stream, time
        if self._plan.sound is not None:
            self._sound = _Sound(self._plan.sound, self._container, time)
            self.notes += self._sound.notes
        return stream

    def _pixel_format(self, picture: np.ndarray) -> str:
        if CODECS[self._plan.codec].crf is not None:
            return "yuv420p"
        grey, deep = picture.ndim == 2, picture.dtype == np.uint16
        return ("gray16le" if deep else "gray") if grey else ("gbrp16le" if deep else "bgr0")

    def _frame(self, picture: np.ndarray) -> Any:
        frame_type = require_av().VideoFrame
        height, width = self._size
        kinds = {(2, 1): "gray", (2, 2): "gray16le", (3, 1): "rgb24", (3, 2): "rgb48le"}
        pixels = np.ascontiguousarray(picture[:height, :width])
        frame = frame_type.from_ndarray(pixels, kinds[picture.ndim, picture.itemsize])
        frame.color_range = FULL
        if CODECS[self._plan.codec].crf is None:
            return frame.reformat(format=self._stream.pix_fmt)
        matrix = "ITU709" if height >= HD else "ITU601"
        return frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=LIMITED, interpolation=exact())


class _Sound:
    """The audio packets of a file, unchanged, from a time on, which becomes 0."""

    def __init__(self, path: Path, output: Any, start: Fraction):
        self.notes: list[str] = []
        self._context = opened(path)
        container = self._context.__enter__()
        self._output, self._start = output, start
        self._begin = file_start(container)
        self._streams = {}
        for stream in container.streams.audio:
            name = stream.codec_context.codec.canonical_name
            try:
                self._streams[stream.index] = output.add_stream_from_template(stream)
            except ValueError:
                self.notes.append(f"sound left out: {output.format.name} files do not hold {name}; .mkv does")
        chosen = [stream for stream in container.streams.audio if stream.index in self._streams]
        if start > 0 and chosen:
            try:
                container.seek(int((start + self._begin) * 1_000_000))
            except require_av().FFmpegError:
                pass  # read from its start
        self._packets = container.demux(chosen) if chosen else iter(())
        self._next: Any = None

    def copy_until(self, time: Fraction) -> None:
        """Writes all packets that begin before a time, seconds."""
        while True:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if packet.pts is None or packet.dts is None:
                continue  # the end of a stream
            at = packet.pts * packet.time_base - self._begin
            if at >= time:
                self._next = packet
                return
            # What stands before the start of a file is what its decoder needs first.
            if at >= self._start or self._start <= 0:
                shift = round((self._start + self._begin) / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = self._streams[packet.stream.index]
                self._output.mux(packet)

    def close(self) -> None:
        self._packets = iter(())
        self._context.__exit__(None, None, None)


@contextmanager
def written(path: Path, plan: Plan) -> Iterator[VideoWriter]:
    """A writer for a file that takes its name only when all went well (`whole_file`), and only if it has a picture.

    Raises InputError where the file cannot be written or FFmpeg refuses it.
    """
    av = require_av()
    with whole_file(path) as file:
        try:
            container = av.open(file, "w", format=FORMATS[path.suffix.lower()])
            writer = VideoWriter(container, plan)
            try:
                yield writer
                writer.finish()
            finally:
                writer.close()
            container.close()
        except av.FFmpegError as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ValueError):
                raise
            raise InputError(f"cannot write {path}: {one_line(error.strerror)}") from None
        if not writer.count:
            raise InputError(f"{path} not written: no picture came")
