"""What all commands share: bad input becomes one line and exit status 2."""

import sys
from collections.abc import Callable

from refusion_jax.errors import InputError


def run_command(command: Callable[[], int]) -> int:
    """Runs a command; an InputError or an OSError prints `error: ...` on standard error and returns 2."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {name}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 2
