"""python -m refusion_jax COMMAND, and `refusion COMMAND` once installed."""

import importlib
import sys

from refusion_jax import __version__
from refusion_jax.cli.common import printable, program
from refusion_jax.tasks import nearest

COMMANDS = {
    "train": "train F, R and P on pairs of pictures",
    "fuse": "fuse pairs of pictures with trained weights",
    "evaluate": "score fused pictures",
    "data": "look over a folder of pairs, write its manifest",
    "scenes": "write built-in scenes as pictures",
    "experiments": "the paper's Tables 5, 6, 7 and its figures, one command each",
    "report": "make an HTML page of a training run",
    "export": "write weights as a file for other runtimes (ONNX, StableHLO)",
    "weights": "export trained weights, or say what they are",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command named by the first argument; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(f"usage: {program('COMMAND')} [...]\n\n{program('COMMAND')} --help tells more.\n")
        print("\n".join(f"  {name:13s}{purpose}" for name, purpose in COMMANDS.items()))
        return 0
    if command == "--version":
        print(f"refusion_jax {__version__}")
        return 0
    if command not in COMMANDS:
        print(printable(f"error: unknown command {command!r}{nearest(command, COMMANDS)}"), file=sys.stderr)
        return 2
    run = importlib.import_module(f"refusion_jax.cli.{command}").main
    if arguments is not None:
        return run(rest)
    sys.argv[1:] = rest  # a command started as a process reads them there itself
    return run()


if __name__ == "__main__":
    sys.exit(main())
