"""How much memory the machine has to spare."""

import os
import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


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
