"""C++ functions for XLA's CPU backend, built at their first use and kept beside JAX's compiled functions."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

from refusion_jax.errors import InputError
from refusion_jax.runtime.compiling import cache_folder
from refusion_jax.runtime.writing import write_bytes

FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared"]
if platform.machine() == "x86_64":
    FLAGS.append("-mprefer-vector-width=512")  # where the processor has it; compilers take halves else
CPUINFO = Path("/proc/cpuinfo")


class Native(NamedTuple):
    """The names by which XLA knows functions, by those in the source; without any, why."""

    targets: dict[str, str]
    reason: str = ""


@cache
def native(source: Path, functions: tuple[str, ...]) -> Native:
    """Builds, loads and registers `functions`, XLA FFI handlers of a C++ file, once in a process.

    The compiler is CXX, else c++, g++ or clang++; the headers come with JAX. What was built is kept for this source,
    JAX, compiler and processor.
    """
    compiler = next(filter(None, map(shutil.which, [os.environ.get("CXX") or "c++", "g++", "clang++"])), None)
    if compiler is None:
        return Native({}, "no C++ compiler was found (c++)")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout
        code = source.read_bytes()
        identity = [code, version, _processor(), jax.__version__.encode(), *map(str.encode, FLAGS)]
        name = hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]
        with tempfile.TemporaryDirectory(prefix="refusion_jax_") as scratch:
            kept = Path(cache_folder() or scratch) / f"{source.stem}-{name}.so"
            if not kept.exists():  # written whole or not at all: other processes may be at it too
                built = Path(scratch) / "built.so"
                command = [compiler, *FLAGS, "-I", jax.ffi.include_dir(), str(source), "-o", str(built)]
                subprocess.run(command, capture_output=True, check=True, timeout=300)
                write_bytes(kept, built.read_bytes())
            library = ctypes.CDLL(str(kept))
        targets = {function: f"refusion_{function}_{name}" for function in functions}
        for function, target in targets.items():
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, function)), platform="cpu")
        return Native(targets)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.decode(errors="replace").splitlines() if "error" in line]
        return Native({}, f"{compiler} could not build {source.name}: {(lines or ['no reason given'])[0]}")
    except (OSError, InputError, subprocess.TimeoutExpired) as error:
        return Native({}, f"{source.name} could not be built: {error}")


def _processor() -> bytes:
    """What -march=native depends on: a cache folder may be shared by machines."""
    try:
        lines = CPUINFO.read_bytes().splitlines()
    except OSError:
        return b""
    return b"\n".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))
