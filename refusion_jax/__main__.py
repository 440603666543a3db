"""python -m refusion_jax COMMAND, and `refusion COMMAND` once installed."""

import importlib
import sys

COMMANDS = {
    "train": "train F, R and P on pairs of pictures",
    "fuse": "fuse pairs of pictures with trained weights",
    "evaluate": "score fused pictures",
    "data": "look over a folder of pairs, write its manifest",
    "scenes": "write built-in scenes as pictures",
    "report": "make an HTML page of a training run",
    "weights": "export trained weights",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command named by the first argument; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print("usage: refusion COMMAND [...]; COMMAND --help tells more\n")
        print("\n".join(f"  {name:10s}{purpose}" for name, purpose in COMMANDS.items()))
        return 0
    if command not in COMMANDS:
        print(f"refusion: unknown command {command!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"refusion_jax.cli.{command}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
