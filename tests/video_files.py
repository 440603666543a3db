"""Short videos made for the tests by PyAV, and read again by another reader, OpenCV."""

from fractions import Fraction

import av
import cv2
import numpy as np

FULL, LIMITED = 2, 1
EXACT = av.video.reformatter.Interpolation.BILINEAR | av.video.reformatter.Interpolation.ACCURATE_RND


def write_video(
    path,
    pictures,
    rate=10,
    codec="ffv1",
    form=None,
    times=None,
    rotation=None,
    matrix=None,
    limits=None,
    sound=None,
    metadata=None,
    **options,
):
    """A video of pictures uint8 or uint16, (H,W) or (H,W,3); lossless if nothing else is said.

    times: milliseconds of each, for a variable rate. matrix: of YUV, 1 BT.709 or 6 BT.601, with its tags; limits: FULL
    or LIMITED. sound: seconds of it in AAC.
    """
    deep, grey = pictures[0].dtype == np.uint16, pictures[0].ndim == 2
    kind = ("gray16le" if deep else "gray") if grey else ("rgb48le" if deep else "rgb24")
    form = form or {"gray16le": "gray16le", "gray": "gray", "rgb24": "bgr0", "rgb48le": "gbrp16le"}[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], form
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if matrix:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, limits
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), kind)
            frame.color_range = FULL
            if form != kind:
                names = {None: None, 1: "ITU709", 6: "ITU601"}
                frame = frame.reformat(
                    format=form, dst_colorspace=names[matrix], dst_color_range=limits, interpolation=EXACT
                )
            frame.pts, frame.time_base = (times[number], Fraction(1, 1000)) if times else (number, 1 / Fraction(rate))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _add_sound(container, audio, sound)
    return path


def _add_sound(container, audio, seconds):
    samples = np.sin(np.arange(int(seconds * 48000), dtype=np.float32) / 20)
    for first in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], "fltp", "mono")
        frame.rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def read_video(path):
    """(RGB pictures, their times in whole milliseconds), by OpenCV."""
    video, pictures, times = cv2.VideoCapture(str(path)), [], []
    while True:
        there, picture = video.read()
        if not there:
            return pictures, times
        pictures.append(picture[..., ::-1])
        times.append(round(video.get(cv2.CAP_PROP_POS_MSEC)))


def exact_pictures(path):
    """The frames of a lossless video as they are stored."""
    kinds = {"gray": "gray", "gray16le": "gray16le", "bgr0": "rgb24", "gbrp16le": "rgb48le"}
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=kinds[frame.format.name]) for frame in container.decode(video=0)]


def sound_packets(path):
    """[(seconds, bytes)] of the audio packets of a file."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]
