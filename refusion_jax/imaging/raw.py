"""Camera raw files developed by LibRaw (rawpy): linear, 16 bits, with the camera's white balance."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import Values
from refusion_jax.imaging.metadata import Metadata, carried_over

RAW_EXTENSIONS = frozenset({".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef"})


class RawSource:
    """A raw file as a `reading.Source`.

    Black and white are those of the sensor, whatever the frame holds, so that the frames of a bracket keep their
    brightness. Raises InputError where rawpy is missing and for what LibRaw cannot read.
    """

    is_deep = True

    def __init__(self, path: Path, file: BinaryIO):
        try:
            import rawpy
        except ImportError:
            raise InputError(
                f"{path}: a camera's raw file; to develop it install rawpy (pip install 'rawpy>=0.24'), or save it as a"
                " TIFF of 16 bits"
            ) from None
        self.path, self.file = path, file
        file.seek(0)
        with _refused(path, rawpy.LibRawError):
            self._raw: Any = rawpy.imread(file)
        self._error = rawpy.LibRawError

    @property
    def shape(self) -> tuple[int, int]:
        sizes = self._raw.sizes
        return (sizes.iwidth, sizes.iheight) if sizes.flip in (5, 6) else (sizes.iheight, sizes.iwidth)

    def values(self) -> Values:
        with _refused(self.path, self._error):
            pixels = self._raw.postprocess(
                gamma=(1, 1), output_bps=16, use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0.0
            )
        return Values(np.ascontiguousarray(pixels), (0, 65535))

    def metadata(self) -> tuple[Metadata, tuple[str, ...]]:
        self.file.seek(0)
        is_tiff = self.file.read(4) in (b"II*\0", b"MM\0*")
        return carried_over(self.file if is_tiff else None, None)

    def remarks(self) -> list[str]:
        return ["a raw file, developed to linear 16 bits with the camera's white balance"]


@contextmanager
def _refused(path: Path, error_type: type[Exception]) -> Iterator[None]:
    """LibRaw's error, which comes on opening or only on developing a damaged file, as an InputError of one line."""
    try:
        yield
    except error_type as error:
        raise InputError(f"{path}: a raw file that LibRaw cannot read: {_text_of(error)}") from None


def _text_of(error: Exception) -> str:
    words = error.args[0] if error.args else type(error).__name__
    return " ".join((words.decode("ascii", "replace") if isinstance(words, bytes) else str(words)).split())


def without_raw_doubles(names: Sequence[str]) -> list[str]:
    """The names of pictures without the raw files beside which the camera put a picture of the same stem."""
    parts = [(name, *name.lower().rpartition(".")[::2]) for name in names]
    developed = {stem for _, stem, extension in parts if f".{extension}" not in RAW_EXTENSIONS}
    return [name for name, stem, extension in parts if f".{extension}" not in RAW_EXTENSIONS or stem not in developed]
