"""PyAV, where it is installed, and which files are taken for videos."""

import os
from numbers import Rational
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError

EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .mpg .mpeg .m2v .ts .mts .m2ts .wmv .asf .flv .3gp .ogv .y4m .nut .mxf .h264 "
    ".hevc .mjpeg".split()
)


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file's name says that it is a video. A folder is none."""
    return Path(path).suffix.lower() in EXTENSIONS and not os.path.isdir(path)


def require_av() -> Any:
    """The library. InputError where it is missing."""
    try:
        import av
    except ImportError:
        raise InputError("videos need PyAV: pip install 'av>=18.1'") from None
    return av


def clock(seconds: Rational | float) -> str:
    """A time as 0:01:02.5."""
    tenths = round(abs(float(seconds)) * 10)
    whole, tenth = divmod(tenths, 10)
    return f"{'-' if seconds < 0 and tenths else ''}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{tenth}"
