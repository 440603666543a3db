"""Files and folders written whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from refusion_jax.errors import InputError


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes `data` to `path` as `whole_file` does."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` only when all went well; an older one stays until then.

    It lies in the same folder meanwhile, and is flushed to disk before it is renamed. Missing parent folders are made,
    a link is followed, an older file's permissions stay. Raises InputError with the reason where it cannot be
    written.
    """
    target = Path(os.path.realpath(path))
    # os.path, unlike Path, answers False where it cannot look; the writing then fails and says why.
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "not a regular file"
        raise InputError(f"cannot write {path}: it is {kind}; give a file name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: its folder cannot be made: {reason(error)}") from error
    # A short name of our own: the target's may already be as long as the file system allows.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        raise


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder to write files to that takes the name `path`, which must be free or an empty folder, only when all went
    well; a link is followed. It lies beside it meanwhile, or in the empty folder, into which its files then move.
    Raises InputError with the reason where it cannot be written."""
    target = Path(os.path.realpath(path))
    check_free(Path(path))
    # A folder that is there is kept: it may be a mount point, or the one that somebody works in.
    is_there = target.is_dir()
    temporary = (target if is_there else target.parent) / f".{secrets.token_hex(8)}.tmp"
    moved: list[Path] = []
    try:
        temporary.mkdir(parents=True)
        yield temporary
        check_free(Path(path))
        if is_there:
            for file in sorted(temporary.iterdir()):
                moved.append(file.rename(target / file.name))
            temporary.rmdir()
        else:
            os.rename(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            for file in moved:
                file.unlink()
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        raise


def is_half_written(path: Path) -> bool:
    """Whether a file or folder is, by its name, what a process leaves that is killed while it writes."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def check_free(path: Path) -> None:
    """InputError unless nothing, or an empty folder, has this name; what is half written does not count."""
    if path.is_dir():
        what = "is a folder with files in it"
        taken = any(not is_half_written(file) for file in path.iterdir())
    else:
        what, taken = "is a file", os.path.exists(path)
    if taken:
        raise InputError(f"cannot write the folder {path}: it {what}; choose another name")


def reason(error: OSError) -> str:
    """Why the system refused, in words that help."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(error.errno).lower()}; choose a place that you may use"
    return " ".join(str(error.strerror or error).split())
