"""python -m refusion_jax weights export RUN out.safetensors"""

import argparse
import sys
from pathlib import Path

from refusion_jax.cli.common import printable, run_command
from refusion_jax.errors import InputError
from refusion_jax.fusing.model import load
from refusion_jax.weights.safetensors_file import write_safetensors


def run(arguments) -> int:
    """Exports; returns 0."""
    if arguments.out.suffix != ".safetensors":
        raise InputError(f"expected an output name ending in .safetensors, got {arguments.out}")
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists already; choose another name or delete it first")
    model = load(arguments.run)
    write_safetensors(arguments.out, model.params, model.info)
    print(printable(f"wrote {arguments.out} ({', '.join(model.params)})"))
    return 0


def main(argv: list[str] | None = None) -> int:
    """The export command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refusion_jax weights", description="Export trained weights.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write the three parameter trees as one .safetensors file")
    export.add_argument("run", help="a run directory, a checkpoint inside one, or any other weights file")
    export.add_argument("out", type=Path, help="the .safetensors file to write")
    arguments = parser.parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
