"""How much memory the machine has to spare, and how it is fetched from the system and handed back."""

import ctypes
import os
import platform
import re
import sys
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLE = "glibc.malloc.hugetlb"


def available_bytes() -> int:
    """Bytes that new work can take without swapping: free memory and what the system can drop at once (Linux), else
    half of all memory, else 4 GiB where the system does not tell."""
    try:
        return 1024 * int(re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text())[1])
    except (OSError, TypeError):  # not Linux, or a kernel without the figure
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30


def restart_with_huge_pages() -> None:
    """Starts this program anew, in the same process, with memory fetched in pages of 2 MiB.

    Returns where that is of no use: already so, not Linux, another C library than glibc (2.35 or later), or a system
    that does not leave the choice to programs.

    XLA's CPU backend takes a step's working memory, over a gigabyte, from the C library anew each time, which takes it
    from the system page by page: with the usual 4 KiB measured a third of a training step. The C library reads this
    setting at the start of a process only. To be called before anything else is done, and by scripts alone.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if not sys.platform.startswith("linux") or TUNABLE in tunables or not sys.executable:
        return
    try:
        if "[madvise]" not in HUGE_PAGES.read_text() or platform.libc_ver()[0] != "glibc":
            return
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:{TUNABLE}=1".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # no such file, or no new start: as it is
        return


def return_freed() -> None:
    """Hands memory that was freed, but is still held by the C library, back to the system. glibc alone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
