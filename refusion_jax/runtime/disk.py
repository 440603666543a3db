"""Room on the disk, asked for before writing: libraries below fail in many voices once it is full; and where large
temporary files go."""

import os
import shutil
import tempfile
from pathlib import Path

from refusion_jax.errors import InputError

MARGIN = 2**20  # bytes left over for names, logs and event files


def require_space(folder: Path, size: int = 0) -> None:
    """InputError when the folder's disk has no room for `size` bytes and a margin of 1 MiB."""
    free = shutil.disk_usage(folder).free
    if free < size + MARGIN:
        raise InputError(
            f"the disk of {folder} is full: {free / 2**20:.1f} MiB free, {(size + MARGIN) / 2**20:.1f} MiB needed; "
            "free space, then continue with --resume"
        )


def scratch_folder() -> Path:
    """Where large temporary files go: TMPDIR, else /var/tmp, which is on a disk also where /tmp is memory."""
    lasting = Path("/var/tmp")
    usable = "TMPDIR" not in os.environ and lasting.is_dir() and os.access(lasting, os.W_OK)
    return lasting if usable else Path(tempfile.gettempdir())
