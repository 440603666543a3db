"""What all commands share: bad input becomes one line and exit status 2."""

import sys
import unicodedata
from collections.abc import Callable

from refusion_jax.errors import InputError


def printable(text: object) -> str:
    """The text on one line that any terminal can show: names of files and parameters may hold anything."""
    shown = (c if c.isprintable() or unicodedata.category(c) == "Zs" else repr(c)[1:-1] for c in str(text))
    return "".join(shown)


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
