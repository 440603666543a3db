"""What the machine has to spare, what follows for fusing, and huge pages for what a step works on."""

import os
import subprocess
import sys

import pytest

from refusion_jax import memory
from refusion_jax.inference import default_max_memory


def test_available_memory_is_what_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemFree: 100 kB\nMemAvailable:   2097152 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() == 2 * 2**30
    assert default_max_memory() == 2**30


def test_a_system_that_does_not_tell_gives_half_of_all_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "missing")
    assert memory.available_bytes() > 2**28
    assert default_max_memory() <= 3 * 2**30


@pytest.mark.parametrize("before", ["", "glibc.malloc.check=0"])
def test_a_script_starts_anew_once_for_huge_pages(before):
    """In the same process, with its arguments, and the setting beside those that were there."""
    code = (
        "import os, sys; from refusion_jax.memory import restart_with_huge_pages as restart; print(os.getpid()); "
        "sys.stdout.flush(); restart(); print(os.environ.get('GLIBC_TUNABLES', ''), *sys.argv[1:])"
    )
    environment = {k: x for k, x in os.environ.items() if k != "GLIBC_TUNABLES"}
    if before:
        environment["GLIBC_TUNABLES"] = before
    done = subprocess.run(
        [sys.executable, "-c", code, "one", "two words"], env=environment, capture_output=True, text=True, check=True
    )
    *pids, last = done.stdout.splitlines()
    asked = memory.HUGE_PAGES.exists() and "[madvise]" in memory.HUGE_PAGES.read_text()
    expected = ":".join(filter(None, [before, "glibc.malloc.hugetlb=1"])) if asked else before
    assert last == f"{expected} one two words"
    assert len(pids) == (2 if asked else 1) and len(set(pids)) == 1


def test_no_new_start_where_it_is_of_no_use(monkeypatch, tmp_path):
    def never(*_):
        raise AssertionError("started anew")

    monkeypatch.setattr(os, "execv", never)
    monkeypatch.setattr(memory, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    memory.restart_with_huge_pages()  # a system that knows no huge pages
    (tmp_path / "enabled").write_text("[always] madvise never\n")
    memory.restart_with_huge_pages()
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    memory.restart_with_huge_pages()  # as its user has it
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
