"""Levels: which values of a picture file are black and white, and its values as 8 or 16 bits between them.

What a file's type could hold says little of what its values mean: a thermal core of 14 bits or a microscope of 12
writes files of 16 bits and uses a small part of them. A file of 8 bits has 0 and 255. Of more bits, the first of these
decides:

1. A rule that is given: `LO..HI` in the file's own values, `percentile:P,Q`, or `run`, one range over all pictures.
2. The bits that the file declares: its number of bits where that is not 16 or more, the largest value of its format
   or of its tags.
3. The whole of 0..65535 (of floats within 0..1: 0..1) where the values span a quarter of it. `whole` asks for it.
4. The values used, which is said in a note.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.pixels import bands

_STRAY = 10_000  # one pixel in so many at either end may be a stray one
_WHOLE = 0.25  # part of a type's range from which a picture is taken to use all of it
_FEWEST = 64  # counts that are at least spread from black to white: the noise of a flat scene is no picture
_FLOATS = float(np.finfo(np.float32).eps) * 16  # the same of floats, as part of their size
_NOISE = 4  # counts that are a sensor's noise where there is no more
_LITTLE = 0.1  # part of what a file declares that is little enough for a note
_SAMPLE = 4_000_000  # pixels that tell the levels of a larger picture
_NO_DATA = (-9999.0,)  # what programs write where they have no value, though the file does not say so


@dataclass(frozen=True)
class Rule:
    """How the levels of a source are found.

    Attributes:
      kind: "auto", as the file declares them or uses them; "whole", all that its type holds; "percentile", what lies
        between two percentiles of each picture; "run", one range over all pictures of a run; "fixed".
      low, high: percentiles 0..100, or of "fixed" black and white in the file's own values.
    """

    kind: str = "auto"
    low: float = 0.0
    high: float = 0.0


AUTO, WHOLE, RUN = Rule("auto"), Rule("whole"), Rule("run")
_PLAIN = ("auto", "whole", "run")


def parse_rule(text: str) -> Rule:
    """The rule of `auto`, `whole`, `run`, `LO,HI` or `LO..HI`, `percentile:P,Q`. InputError for anything else."""
    word = text.strip()
    if word.lower() in _PLAIN:
        return Rule(word.lower())
    kind, colon, numbers = word.rpartition(":")
    values = re.split(r"\.\.|,", numbers)
    try:
        low, high = map(float, values)
    except ValueError:
        low = high = math.nan
    percentile = kind.lower() == "percentile"
    inside = 0 <= low < high <= 100 if percentile else -math.inf < low < high < math.inf
    if not inside or colon and not percentile:
        raise InputError(
            "levels must be auto, whole, run, LO,HI with LO below HI, or percentile:P,Q such as percentile:0.1,99.9,"
            f" got {text.strip()[:80]!r}"
        )
    return Rule("percentile" if percentile else "fixed", low, high)


def parse_rules(text: str) -> tuple[Rule, Rule]:
    """The rules of source a and source b: one for both, or words `a=RULE` and `b=RULE`, separated by blanks."""
    rules = [AUTO, AUTO]
    for word in text.split():
        side, equals, rule = word.partition("=")
        if equals and side.lower() not in ("a", "b"):
            raise InputError(f"levels are for the source a or b, as in a=7300,7800, got {word[:80]!r}")
        for i in range(2) if not equals else [("a", "b").index(side.lower())]:
            rules[i] = parse_rule(rule if equals else word)
    return rules[0], rules[1]


def text_of(rule: Rule) -> str:
    """The rule as `parse_rule` takes it, without a comma or a blank."""
    if rule.kind in _PLAIN:
        return rule.kind
    return ("percentile:" if rule.kind == "percentile" else "") + f"{rule.low:.10g}..{rule.high:.10g}"


class Values(NamedTuple):
    """What a file holds.

    Attributes:
      pixels: (H,W) or (H,W,3), as shown: uint8, or integers or floats of more bits in the file's own values.
      declared: the file's own black and white, None where it does not say them.
      no_data: the value that stands for none, besides NaN and infinity; None where the file names none.
    """

    pixels: np.ndarray
    declared: tuple[float, float] | None = None
    no_data: float | None = None


@dataclass(frozen=True)
class Levels:
    """Black and white of a picture.

    Attributes:
      low, high: in the file's own values.
      note: how they were found, where that needs to be known.
      measured: whether they are taken from the values that happen to be there, so that another picture of the same
        source may have others.
    """

    low: float
    high: float
    note: str = ""
    measured: bool = False


EIGHT_BITS = Levels(0, 255)


def find_levels(values: Values, rule: Rule = AUTO) -> Levels:
    """Black and white of what a file holds. A rule "run" is for many files (`common`): for one it is as "auto"."""
    if values.pixels.dtype == np.uint8:
        return EIGHT_BITS
    if rule.kind == "fixed":
        return Levels(rule.low, rule.high)
    if rule.kind == "whole" and values.pixels.dtype == np.uint16 and values.declared is None:
        return Levels(0, 65535)
    valid = _valid(values)
    if not valid.size:
        return Levels(*(values.declared or (0, 1)), note="it has no data")
    if rule.kind == "percentile":
        low, high = (float(x) for x in np.percentile(valid, (rule.low, rule.high)))
        return Levels(*_apart(low, high, valid.dtype), measured=True)
    lowest, highest = float(valid.min()), float(valid.max())
    if values.declared is not None and values.declared[0] <= lowest and highest <= values.declared[1]:
        return _declared(values.declared, lowest, highest)
    if rule.kind == "whole" and (whole := _whole(valid.dtype, lowest, highest)):
        return Levels(*whole)
    return _used(valid, lowest, highest)


def common(found: Sequence[Levels]) -> list[Levels]:
    """The levels of pictures that have one black and one white: where they are measured, the lowest and the highest of
    all; a file that declares its own keeps them."""
    if not any(one.measured for one in found):
        return list(found)
    # A bright frame may use the whole range of its type; then the dark ones of its bracket have it, too.
    deep = [one for one in found if one != EIGHT_BITS]
    low, high = min(one.low for one in deep), max(one.high for one in deep)
    note = next((_note(low, high) for one in found if one.measured and one.note), "")
    return [Levels(low, high, note, True) if one.measured else one for one in found]


def has_data(values: Values) -> np.ndarray | None:
    """Where a picture's values mean something: a mask of its shape, None for all of it."""
    pixels = values.pixels
    none = [values.no_data] if values.no_data is not None else []
    none += _NO_DATA if pixels.dtype.kind in "if" else ()
    mask = np.isfinite(pixels) if pixels.dtype.kind == "f" else None
    for value in none:
        same = pixels != value
        if same.ndim == 3:  # a colour of which all is no data
            same = np.broadcast_to(same.any(-1, keepdims=True), same.shape)
        mask = same if mask is None else mask & same
    return None if mask is None or mask.all() else mask


def scaled(values: Values, levels: Levels) -> np.ndarray:
    """The picture as uint8 or, of more bits, as uint16: black is 0, white the largest value, what lies beyond is
    clipped, and 0 stands where there is no data."""
    pixels = values.pixels
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16 and (levels.low, levels.high) == (0, 65535):
        mask = has_data(values) if values.no_data else None
        return pixels if mask is None else np.where(mask, pixels, pixels.dtype.type(0))
    result = np.empty(pixels.shape, np.uint16)
    gain = 65535 / (levels.high - levels.low)
    for rows in bands(*pixels.shape[:2]):
        part = pixels[rows]
        with np.errstate(invalid="ignore"):
            inside = np.clip((part.astype(np.float64) - levels.low) * gain, 0, 65535)
        mask = has_data(values._replace(pixels=part))
        result[rows] = np.rint(inside if mask is None else np.where(mask, inside, 0))
    return result


def _valid(values: Values) -> np.ndarray:
    """The values that mean something, (N,); of a large picture every n-th pixel."""
    height, width = values.pixels.shape[:2]
    step = math.isqrt(height * width // _SAMPLE) + 1
    pixels = values.pixels[::step, ::step]
    mask = has_data(values._replace(pixels=pixels))
    return np.ravel(pixels) if mask is None else pixels[mask]


def _declared(declared: tuple[float, float], lowest: float, highest: float) -> Levels:
    low, high = declared
    if not 0 < highest - lowest < _LITTLE * (high - low):
        return Levels(low, high)
    used = f"{lowest:.7g}..{highest:.7g}"
    return Levels(low, high, f"of the levels {low:.7g}..{high:.7g} that it declares it uses {used} alone")


def _used(valid: np.ndarray, lowest: float, highest: float) -> Levels:
    """The levels of values (N,) whose file does not say them."""
    whole = _whole(valid.dtype, lowest, highest)
    inner_low, inner_high = _inner(valid)
    if whole and (inner_high - inner_low >= _WHOLE * (whole[1] - whole[0]) or _is_widened(valid)):
        return Levels(*whole)
    lowest, highest = _without_extremes(valid, lowest, highest)
    inner_low, inner_high = _inner(valid[(valid >= lowest) & (valid <= highest)])
    if whole and valid.dtype.kind in "ui" and inner_high - inner_low <= _NOISE:
        return Levels(*whole)
    reach = inner_high - inner_low
    low, high = _apart(max(lowest, inner_low - reach), min(highest, inner_high + reach), valid.dtype)
    if whole and low < 0:
        low, high = 0.0, high - low
    return Levels(low, high, _note(low, high), True)


def _note(low: float, high: float) -> str:
    return f"its levels {low:.7g}..{high:.7g}, the range that it uses, are read as black..white"


def _whole(dtype: Any, lowest: float, highest: float) -> tuple[float, float] | None:
    """Black and white of a type by convention; None for values that have none, such as negative ones."""
    if np.dtype(dtype).kind == "f":
        return (0, 1) if 0 <= lowest and highest <= 1 else None
    return (0, 65535) if 0 <= lowest and highest <= 65535 else None


def _is_widened(valid: np.ndarray) -> bool:
    """Whether these are 8 bits that were made 16."""
    return valid.dtype.kind in "ui" and not np.any(valid % 257)


def _inner(valid: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest value without stray ones."""
    first = valid.size // _STRAY
    last = valid.size - 1 - first
    ends = np.partition(valid, (first, last))
    return float(ends[first]), float(ends[last])


def _without_extremes(valid: np.ndarray, lowest: float, highest: float) -> tuple[float, float]:
    """The lowest and the highest value but for 0 and the ends of an integer type, where all others lie far from them: a
    warped frame has 0 outside, a saturated pixel the largest value."""
    extremes = {0, 65535} | (
        {np.iinfo(valid.dtype).min, np.iinfo(valid.dtype).max} if valid.dtype.kind in "ui" else set()
    )
    inside = valid[~np.isin(valid, [value for value in extremes if value in (lowest, highest)])]
    if not inside.size:
        return lowest, highest
    first, last = float(inside.min()), float(inside.max())
    reach = max(last - first, _FEWEST if valid.dtype.kind in "ui" else 0)
    return (first if first - lowest > reach else lowest), (last if highest - last > reach else highest)


def _apart(low: float, high: float, dtype: Any) -> tuple[float, float]:
    """The two widened about their middle where they are too close to be the ends of a picture."""
    least = _FEWEST if np.dtype(dtype).kind in "ui" else max(abs(low), abs(high), 1e-30) * _FLOATS
    if high - low >= least:
        return low, high
    middle = (low + high) / 2
    return middle - least / 2, middle + least / 2
