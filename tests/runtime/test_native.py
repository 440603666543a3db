"""runtime/native.py: what is built, what is kept, and what is said where nothing can be built."""

import os
import subprocess
import sys

import pytest

from refusion_jax.models.operators import depthwise

CODE = """
import sys
import jax
from refusion_jax.models.operators import depthwise
if len(sys.argv) > 1:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
found = depthwise.cpp()
print(*found.targets, sep=",")
print(found.reason)
"""


def built(folder=None, **environment) -> tuple[str, str]:
    """(functions, reason) of a process of its own."""
    given = {k: x for k, x in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | environment
    command = [sys.executable, "-c", CODE, *([str(folder)] if folder else [])]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    functions, reason = done.stdout.split("\n")[:2]
    return functions, reason


def test_built_once_and_kept_beside_compiled_functions(tmp_path):
    if reason := depthwise.cpp().reason:
        pytest.skip(reason)
    folder = tmp_path / "cache"
    assert built(folder) == ("convolve,correlate", "")
    (library,) = folder.iterdir()
    before = library.stat()
    assert built(folder) == ("convolve,correlate", "") and library.stat().st_mtime_ns == before.st_mtime_ns
    user = tmp_path / "user"  # where JAX keeps nothing, in the user's cache folder
    assert built(XDG_CACHE_HOME=str(user)) == ("convolve,correlate", "")
    assert [path.name for path in user.glob("refusion_jax/xla/*")] == [library.name]
    (tmp_path / "file").write_text("")  # where nothing can be kept, for this process alone
    assert built(XDG_CACHE_HOME=str(tmp_path / "file")) == ("convolve,correlate", "")


def test_without_a_compiler_it_says_so(tmp_path):
    functions, reason = built(tmp_path, PATH=str(tmp_path), CXX="")
    assert functions == "" and "no C++ compiler" in reason


def test_a_compiler_that_fails_is_named(tmp_path):
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'fatal error: no such header' >&2\nexit 1\n")
    failing.chmod(0o755)
    functions, reason = built(tmp_path, CXX=str(failing))
    assert functions == "" and reason.startswith(str(failing)) and "fatal error: no such header" in reason
    assert not list(tmp_path.glob("*.so"))
