"""The command export: trained weights as a file for other runtimes, .onnx or .stablehlo."""

import argparse
import sys
from pathlib import Path

from refusion_jax.cli.common import picture_size, printable, program, run_command
from refusion_jax.errors import InputError
from refusion_jax.runtime.writing import write_bytes

DESCRIPTION = (
    "Write the fusion network F with its weights as one file for other programs: OUT.onnx for ONNX Runtime and others, "
    "any picture size; OUT.stablehlo for JAX, one size."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog=program("export"), description=DESCRIPTION)
    p.add_argument(
        "checkpoint",
        metavar="CKPT",
        help="a run directory, a checkpoint inside one, a .safetensors or .pth file, or a task's name",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the file to write: .onnx or .stablehlo")
    p.add_argument(
        "--with-colour",
        action="store_true",
        help="the whole of fuse.py as one graph: RGB in, RGB out, range and colour included (.onnx)",
    )
    p.add_argument("--opset", type=int, metavar="N", help="of the ONNX operators, 18 to 23 (default: 18)")
    p.add_argument(
        "--precision", choices=["float32", "float16"], help="of weights and features (.onnx; default: float32)"
    )
    p.add_argument("--size", metavar="HxW", help="of the pictures (.stablehlo)")
    return p


def run(arguments) -> int:
    """Writes OUT; returns 0."""
    out = arguments.out
    if out.suffix not in (".onnx", ".stablehlo"):
        raise InputError(f"expected an output name ending in .onnx or .stablehlo, got {out}")
    if out.exists():
        raise InputError(f"{out} exists already; choose another name or delete it first")
    write = _onnx if out.suffix == ".onnx" else _stablehlo
    data = write(arguments)
    write_bytes(out, data)
    print(printable(f"wrote {out} ({len(data) / 1000:.0f} kB)"))
    return 0


def _onnx(arguments) -> bytes:
    from refusion_jax.export.graph import OPSETS, onnx_package
    from refusion_jax.export.onnx_file import onnx_file
    from refusion_jax.fusing.model import load

    if arguments.size:
        raise InputError("--size is for .stablehlo; an .onnx file takes pictures of any size")
    onnx_package()
    return onnx_file(
        load(arguments.checkpoint),
        opset=OPSETS[0] if arguments.opset is None else arguments.opset,
        precision=arguments.precision or "float32",
        color=arguments.with_colour,
    )


def _stablehlo(arguments) -> bytes:
    from refusion_jax.export.stablehlo import stablehlo_file
    from refusion_jax.fusing.model import load

    if arguments.with_colour or arguments.opset or arguments.precision:
        raise InputError("--with-colour, --opset and --precision are for .onnx files")
    if arguments.size is None:
        raise InputError("a .stablehlo file is for pictures of one size; give it as --size HEIGHTxWIDTH")
    return stablehlo_file(load(arguments.checkpoint), picture_size(arguments.size))


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
