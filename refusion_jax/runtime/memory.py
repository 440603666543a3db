"""How much memory the machine has to spare, and how it is fetched from the system and handed back."""

import ctypes
import os
import platform
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # as a container sees its own
HUGE_PAGES = "glibc.malloc.hugetlb"
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)
RESERVE = 2 * 2**30


def available_bytes() -> int:
    """Bytes that new work can take without swapping: free memory and what the system can drop at once, in a container
    no more than its limit leaves (Linux); else half of all memory, else 4 GiB where the system does not tell."""
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text())
    except OSError:  # not Linux
        found = None
    if found:
        return min([1024 * int(found[1]), *_left_in_container()])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30


def _left_in_container() -> list[int]:
    """Bytes that a container's limit leaves, what the system can drop at once counted as free; nothing without one."""
    for folder, limit, used in (
        (CGROUP, "memory.max", "memory.current"),
        (CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such file; "max"
            most, taken = (int((folder / name).read_text()) for name in (limit, used))
            cached = re.findall(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
            return [max(most - taken + max(map(int, cached), default=0), 0)]
    return []


def restart_with_tuned_malloc() -> None:
    """Starts this program anew, in the same process, with the C library's allocator set for training on a CPU.

    XLA's CPU backend takes a step's working memory, over a gigabyte, from the C library anew each time, which takes it
    from the system page by page: with 4 KiB pages a third of a training step. Pages of 2 MiB mend that. The library
    reads this at the start of a process only (glibc 2.35 or later; GLIBC_TUNABLES). Returns where it is set already or
    there is no glibc. To be called before anything else is done, and by scripts alone.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES in given or not sys.platform.startswith("linux") or not sys.executable:
        return
    try:
        if platform.libc_ver()[0] == "glibc":
            os.environ["GLIBC_TUNABLES"] = f"{given}:{HUGE_PAGES}=1".lstrip(":")
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # no new start: as it is
        return


def keep_freed() -> None:
    """From now on the C library keeps what is freed for the next step; what it held so far goes back to the system.

    What is kept need not be fetched again, a tenth of a fusion step and a quarter of a meta step. It holds the next
    step's memory where that step begins when the last one's is freed (compiling.compute_in_calls), and where nothing
    that lives longer is put behind it: for such blocks are RESERVE bytes, taken from the system when written to. In a
    process that restart_with_tuned_malloc has started; without effect where there is no glibc.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return
    return_freed()
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, -1)
    _reserve()


@cache
def _reserve() -> None:
    """RESERVE free bytes of the heap that its end does not take up again, once in a process."""
    c = ctypes.CDLL(None)
    c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    c.realloc.restype, c.realloc.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
    c.free.restype, c.free.argtypes = None, [ctypes.c_void_p]
    before, behind = c.malloc(RESERVE), c.malloc(RESERVE)
    c.realloc(behind, 1)  # a small block that stays keeps the freed one before it apart from the end of the heap
    c.free(before)


def return_freed() -> None:
    """Hands memory that was freed, but is still held by the C library, back to the system. glibc alone."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str):
    """A function of the C library that other libraries lack; None there."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
