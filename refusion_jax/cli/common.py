"""What all commands share: bad input becomes one line and exit status 2; what a command is called; progress bars."""

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from refusion_jax.errors import InputError

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


def progress_bar(total: int, unit: str, description: str | None = None):
    """tqdm's bar for what takes more than a second: on a terminal at once, in a log every ten seconds."""
    from tqdm import tqdm

    every = 0.1 if sys.stderr.isatty() else 10
    return tqdm(total=total, desc=description, unit=unit, mininterval=every, delay=1, dynamic_ncols=True, leave=False)


def run_command(command: Callable[[], int]) -> int:
    """Runs a command; an InputError or an OSError prints `error: ...` on standard error and returns 2."""
    try:
        return command()
    except InputError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {printable(f'{name}{error.strerror or error}')}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 2
