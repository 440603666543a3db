"""Shared fixtures: where the reference data lies (tests that need it skip where it is absent)."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"


# Code without optimisation, made by the emitter that is then the faster, by one thread: a worker has one core.
FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):  # a release that does not know a flag ends the process
    FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]


def pytest_configure(config):
    """The suite spends most of its time compiling: compiled functions are kept beside pytest's own cache, and code is
    compiled without optimisation, which tests do not need."""
    os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPO / ".pytest_cache" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


# Files that take longest, first: two workers then end at about the same time. test_precision well after test_meta, for
# it finds there what both compile.
SLOW = ("test_meta", "test_cli_train", "test_resume", "test_distributed", "test_wiring", "test_model", "test_tiles")
SLOW += ("test_precision", "test_devices", "test_models", "test_steps", "test_training", "test_evaluate")
SLOW += ("test_notebook", "test_telling_apart", "test_feed", "test_ablations", "test_examples", "test_cli_videos")


def pytest_collection_modifyitems(config, items):
    """For several workers slow files first; the order within a file stays."""
    if not hasattr(config, "workerinput"):
        return
    rank = {name: i for i, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(SLOW)))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"reference data not here: {path.relative_to(REPO.parent)}")
    return path


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout's root."""
    return REPO


@pytest.fixture(scope="session")
def reference() -> Path:
    """Released weights, test pairs and golden outputs."""
    return _folder(SHARED / "reference")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real pairs: ivif/, mif/, mfif/, meie/."""
    return _folder(SHARED / "data")
