"""The one place where functions are compiled: `jit` with the options this project runs best and most exactly with."""

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, update_wrapper
from typing import Any

import jax
import jax.numpy as jnp

from refusion_jax.runtime.memory import return_freed

# Keeps XLA's CPU backend from handing convolutions to a library path that is slow for our shapes (jaxlib 0.10):
# measured 1.2 to 1.4 times faster training steps, results equal to 4e-7.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@cache
def cpu_options() -> dict[str, Any]:
    """The CPU compiler options this jaxlib knows; empty on other backends and on releases without them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=CPU_OPTIONS).lower(jnp.zeros(())).compile()
    except Exception:  # an unknown option is an error whose type differs by release
        return {}
    return CPU_OPTIONS


def compute_in_calls() -> None:
    """From now on, on a CPU, a compiled function's working memory is freed when its call returns.

    By default JAX fetches that of the next call while the last one's is still held: twice as much, two gigabytes and a
    half more for meta steps. It holds for calls whose arguments are there (training/devices.py: put_batch). To be
    called before the first computation, and by scripts alone.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def run_once(function: Callable, *args):
    """function(*args), compiled without optimisation: for what runs a single time, compiling is the cost."""
    options: dict[str, Any] = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else {}
    lowered = jax.jit(function).lower(*args)
    try:
        return lowered.compile(compiler_options=options)(*args)
    except jax.errors.JaxRuntimeError:  # a release without the option
        return lowered.compile()(*args)


class Jitted:
    """jax.jit of a function with the options of this project; `jit` makes it.

    Nothing is compiled or asked of the backend before the first call.
    """

    def __init__(self, function: Callable, **options):
        update_wrapper(self, getattr(function, "func", function))
        self._function, self._options = function, options
        self._compiled = None
        self._under_way: Future | None = None

    def __call__(self, *args, **kwargs):
        self._finish()
        with _exact():
            return self._ready()(*args, **kwargs)

    def begin(self, *args, **kwargs) -> None:
        """Compiles for such arguments in a thread of its own, where nothing was compiled before.

        Tracing is done when this returns; XLA, which does the rest, leaves Python to others. `prepare` and a call wait.
        """
        if self._compiled is None:
            with _exact(), no_collection():
                lowered = self._ready().lower(*args, **kwargs)
            pool = ThreadPoolExecutor(1)
            self._under_way = pool.submit(lowered.compile)
            pool.shutdown(wait=False)

    def prepare(self, *args, **kwargs) -> None:
        """Compiles for such arguments without running, where nothing was compiled before, or waits for what `begin`
        has begun.

        Then hands the memory that compiling took back to the system: of a meta step a gigabyte, which would else lie
        beside the step's own.
        """
        self.begin(*args, **kwargs)
        self._finish()

    def _finish(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None
            return_freed()

    def eval_shape(self, *args, **kwargs):
        """jax.eval_shape of the function."""
        with _exact(), no_collection():
            return self._ready().eval_shape(*args, **kwargs)

    def _ready(self):
        if self._compiled is None:
            self._compiled = jax.jit(self._function, compiler_options=cpu_options(), **self._options)
        return self._compiled


@contextmanager
def no_collection() -> Iterator[None]:
    """Tracing makes many objects that stay: looking for rubbish among them takes a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _exact():
    # Many accelerators round float32 inputs of products to 10 bits by default; the meta-gradient needs them all.
    return jax.default_matmul_precision("float32")


def jit(function: Callable, **options) -> Jitted:
    """jax.jit with float32 products kept in float32 on accelerators, and the CPU options where they exist.

    `options` go to jax.jit.
    """
    return Jitted(function, **options)


def cache_folder() -> str | None:
    """Where compiled functions are kept: in JAX_COMPILATION_CACHE_DIR, else in the user's cache folder. None where that
    cannot be written."""
    if (given := jax.config.values["jax_compilation_cache_dir"]) is not None:
        return given
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "refusion_jax", "xla")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def enable_cache() -> None:
    """Keeps compiled functions on disk, in `cache_folder`, for the scripts.

    Without a folder that can be written nothing is kept; JAX would warn of every function.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_folder()
        if folder is None:
            return
        jax.config.update("jax_compilation_cache_dir", folder)
    # Less than a pass of fuse.py takes on an idle machine: with 0.5 s most of them would be compiled anew each time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def nothing_kept() -> bool:
    """Whether no compiled function is on disk: what comes next takes its time."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    return not (folder and os.path.isdir(folder) and os.listdir(folder))
