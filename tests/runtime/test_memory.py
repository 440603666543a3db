"""What the machine has to spare, what follows for fusing, and the allocator's settings for training."""

import os
import platform
import subprocess
import sys

import pytest

from refusion_jax.fusing.model import default_max_memory
from refusion_jax.runtime import memory


def test_available_memory_is_what_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemFree: 100 kB\nMemAvailable:   2097152 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() == 2 * 2**30
    assert default_max_memory() == 2**30


@pytest.mark.parametrize(
    ("limit", "used", "cached"),
    [
        ("memory.max", "memory.current", "anon 5\ninactive_file 1048576\n"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "inactive_file 7\ntotal_inactive_file 1048576\n",
        ),
    ],
)
def test_a_container_s_limit_counts(monkeypatch, tmp_path, limit, used, cached):
    (tmp_path / "meminfo").write_text("MemAvailable:   2097152 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    files = [tmp_path / "cgroup" / name for name in (limit, used)]
    files[0].parent.mkdir(parents=True)
    files[0].with_name("memory.stat").write_text(cached)
    for values, expected in (((2**30, 2**29), 2**29 + 2**20), ((2**62, 2**29), 2**31), ((2**29, 2**30), 0)):
        for file, value in zip(files, values, strict=True):
            file.write_text(f"{value}\n")
        assert memory.available_bytes() == expected
    files[0].write_text("max\n")
    assert memory.available_bytes() == 2**31


def test_a_system_that_does_not_tell_gives_half_of_all_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "missing")
    sizes = {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert memory.available_bytes() == 2 * 2**30
    assert default_max_memory() == 2**30
    sizes["SC_PHYS_PAGES"] = 2**24
    assert memory.available_bytes() == 32 * 2**30
    assert default_max_memory() == 3 * 2**30
    monkeypatch.delattr(os, "sysconf")
    assert memory.available_bytes() == 4 * 2**30


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", None),  # as its user has it
    ],
)
def test_a_script_starts_anew_once_with_the_allocator_set(before, after):
    """In the same process and with its arguments; not where there is nothing to set, nor without glibc."""
    code = (
        "import os, sys; from refusion_jax.runtime.memory import restart_with_tuned_malloc as restart; "
        "print(os.getpid()); sys.stdout.flush(); restart(); print(os.environ.get('GLIBC_TUNABLES', ''), *sys.argv[1:])"
    )
    environment = {k: x for k, x in os.environ.items() if k != "GLIBC_TUNABLES"}
    if before:
        environment["GLIBC_TUNABLES"] = before
    done = subprocess.run(
        [sys.executable, "-c", code, "one", "two words"], env=environment, capture_output=True, text=True, check=True
    )
    *pids, last = done.stdout.splitlines()
    again = after is not None and platform.libc_ver()[0] == "glibc"
    assert last == f"{after if again else before} one two words"
    assert len(pids) == (2 if again else 1) and len(set(pids)) == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_until_it_is_handed_back():
    """A block of 200 MiB, as of a step."""
    code = """
import resource
from refusion_jax.runtime.memory import keep_freed, restart_with_tuned_malloc, return_freed
import ctypes
restart_with_tuned_malloc()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 200 * 2**20
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def use():
    block = c.malloc(size)
    ctypes.memset(block, 1, size)
    c.free(block)
    return held()
keep_freed()
kept = use()
return_freed()
print(kept - held() > size // 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
