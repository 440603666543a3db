"""The one exception for what a user can mend: bad files, folders, options, checkpoints."""


class InputError(ValueError):
    """Bad input. The message is one line: what was expected, what came, what to do.

    The scripts print it as ``error: MESSAGE`` and exit with status 2; library callers may catch it as ValueError.
    """
