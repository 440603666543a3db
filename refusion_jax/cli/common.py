"""What all commands share: bad input becomes one line and exit status 2; what a command is called; progress bars."""

import argparse
import io
import os
import re
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import MAX_PIXELS
from refusion_jax.imaging.levels import parse_rules

SCRIPTS = ("train", "fuse", "evaluate")  # commands that are also a script of the checkout


def program(command: str) -> str:
    """How the user starts a command of this package: "python fuse.py", "refusion fuse" or
    "python -m refusion_jax fuse", in the form in which this process was started."""
    started = Path(sys.argv[0])
    if started.stem == "refusion":
        return f"refusion {command}"
    if started.suffix == ".py" and started.stem in SCRIPTS and command in SCRIPTS:
        return f"python {command}.py"
    return f"python -m refusion_jax {command}"


def printable(text: object) -> str:
    """The text on one line that any terminal can show: names of files and parameters may hold anything."""
    shown = (c if c.isprintable() or unicodedata.category(c) == "Zs" else repr(c)[1:-1] for c in str(text))
    return "".join(shown)


def picture_size(text: str) -> tuple[int, int]:
    """(height, width) from "480x640", or from "256" for a square. InputError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,4})(?:[xX]([1-9]\d{0,4}))?", text.strip())
    if not match:
        raise InputError(f"--size: expected HEIGHTxWIDTH in pixels, such as 480x640, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def add_reading_options(group) -> None:
    """--levels and --max-pixels, of every command that reads pictures."""
    group.add_argument(
        "--levels",
        nargs="+",
        metavar="RULE",
        help="which values of pictures of more than 8 bits are black and white: LO,HI in their own values; "
        "percentile:P,Q of each picture; run, one range over all pictures of the run; whole, all that the type holds; "
        "default: what the file declares or uses, with a note. a=RULE b=RULE for one source; --levels=-100,300 for a "
        "negative value",
    )
    group.add_argument(
        "--max-pixels",
        type=number_of_pixels,
        default=MAX_PIXELS,
        metavar="N",
        help=f"refuse larger pictures, before they are decoded (default {MAX_PIXELS})",
    )


def add_setting_option(p: argparse.ArgumentParser, purpose: str) -> None:
    """--set, of every command that trains: `assignments`, a list of texts."""
    p.add_argument("--set", dest="assignments", action="append", default=[], metavar="section.key=value", help=purpose)


def add_clock_options(g) -> None:
    """--start and --offset, of every command that takes two videos."""
    g.add_argument("--start", type=seconds, metavar="TIME", help="of B, where the result begins: seconds or H:MM:SS")
    g.add_argument(
        "--offset",
        type=seconds,
        metavar="SECONDS",
        help="added to the times of A: 2 when A's recording began 2 seconds after B's, --offset=-2 when before",
    )


def seconds(text: str) -> Fraction:
    """A time in seconds: 90, 90.5, 1:30, 0:01:30.5, or the like with a minus."""
    sign = -1 if text.startswith("-") else 1
    total = Fraction(0)
    try:
        for part in text.removeprefix("-").split(":"):
            total = total * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected seconds or H:MM:SS, got {text!r}") from None
    return sign * total


def number_of_pixels(text: str) -> int:
    """A whole number above 0, also as 2e9."""
    value = float(text)
    if not 1 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a number of pixels such as 400e6, got {text!r}")
    return int(value)


def level_rules(arguments):
    """The rules of --levels for source a and source b; None without."""
    return parse_rules(" ".join(arguments.levels)) if arguments.levels else None


def progress_bar(total: int | None, unit: str, description: str | None = None):
    """tqdm's bar for what takes more than a second: on a terminal at once, in a log every ten seconds."""
    from tqdm import tqdm

    every = 0.1 if sys.stderr.isatty() else 10
    return tqdm(total=total, desc=description, unit=unit, mininterval=every, delay=1, dynamic_ncols=True, leave=False)


def run_command(command: Callable[[], int]) -> int:
    """Runs a command; an InputError or an OSError prints `error: ...` on standard error and returns 2.

    What the encoding of the output does not have is printed as an escape. A reader that has seen enough (head) ends the
    command quietly; its files are written by then. SIGTERM ends it with status 143, its temporary files removed.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            return _run(command)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return _run(command)


def _run(command: Callable[[], int]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a program may have put something else in its place
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return 141
    except InputError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {printable(f'{name}{error.strerror or error}')}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 2
