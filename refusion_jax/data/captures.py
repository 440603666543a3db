"""Which frames of a folder were taken as one bracket or one focus stack, by the time and exposure in their EXIF."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from PIL import Image
from PIL.ExifTags import IFD, Base

from refusion_jax.data.pairs import natural_key
from refusion_jax.errors import InputError
from refusion_jax.imaging.reading import register_heif

PAUSE = 10.0  # seconds without an exposure after which another scene begins
STEP = 1 / 6  # stops within which two exposures are the same; cameras go by thirds


@dataclass(frozen=True)
class Capture:
    """When and how a frame was taken. seconds: of the exposure. stops: log2 of the light that reaches the picture."""

    path: Path
    time: datetime
    seconds: float
    stops: float


def by_capture(frames: Sequence[Path]) -> list[list[Path]]:
    """The frames in the order in which they were taken, in groups of one scene each.

    A group ends at a pause of more than PAUSE seconds and, unless all frames have one exposure, where an exposure comes
    that the group has already. Raises InputError for a frame whose file does not tell its time.
    """
    captures = sorted(map(read_capture, frames), key=lambda c: (c.time, natural_key(c.path.name)))
    stops = [capture.stops for capture in captures]
    bracketed = max(stops) - min(stops) > STEP
    groups = [captures[:1]]
    for before, capture in pairwise(captures):
        pause = (capture.time - before.time).total_seconds() - before.seconds
        again = bracketed and any(abs(capture.stops - other.stops) <= STEP for other in groups[-1])
        if pause > PAUSE or again:
            groups.append([])
        groups[-1].append(capture)
    return [[capture.path for capture in group] for group in groups]


def read_capture(path: Path) -> Capture:
    """The time and exposure that a file's EXIF tells. Aperture and sensitivity count as 1 where it has none."""
    entries: dict[int, object] = {}
    head = b""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(12)
    register_heif(path, head)
    with suppress(Exception), Image.open(path) as image:  # whatever is wrong with the file: it does not tell
        exif = image.getexif()
        entries = {**exif, **exif.get_ifd(IFD.Exif)}
    seconds, aperture, sensitivity = (
        _positive(entries.get(tag)) for tag in (Base.ExposureTime, Base.FNumber, Base.ISOSpeedRatings)
    )
    try:
        time = datetime.strptime(str(entries[Base.DateTimeOriginal])[:19], "%Y:%m:%d %H:%M:%S")
        fraction = str(entries.get(Base.SubsecTimeOriginal, "")).strip()
        time += timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0)
        if seconds is None:
            raise ValueError
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: --group exif needs the time and the exposure of each frame in its EXIF, and this file does not "
            "tell them; --group N takes every N frames by name"
        ) from None
    light = seconds * (sensitivity or 1) / (aperture or 1) ** 2
    return Capture(path, time, seconds, math.log2(light))


def _positive(value: object) -> float | None:
    """A number above 0, the first of several; else None."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    with suppress(TypeError, ValueError, ZeroDivisionError):
        number = float(first)  # type: ignore[arg-type]
        return number if math.isfinite(number) and number > 0 else None
    return None
