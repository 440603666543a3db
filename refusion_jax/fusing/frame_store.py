"""The frames of a stack: in memory while there is room, the others in temporary files, read in bands of rows."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.fusing.tile_store import ADVICE
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.runtime.disk import scratch_folder


class StoredFrame:
    """A picture uint8 or uint16, (H,W) or (H,W,3), like an array whose rows are read when they are asked for.

    Attributes:
      shape, ndim: as an array's.
      bits: 8 or 16, in which its rows are given.
    """

    def __init__(self, pixels: np.ndarray, path: Path | None = None):
        """path: a file that the pixels are moved to; None keeps them in memory."""
        self.shape, self.ndim = pixels.shape, pixels.ndim
        self.bits = pixels.dtype.itemsize * 8
        self._kept = pixels if path is None else path
        if path is not None:
            try:
                np.save(path, pixels)
            except OSError as error:
                raise InputError(f"{path.parent}: cannot hold a frame: {error.strerror}; {ADVICE}") from None

    @property
    def dtype(self) -> np.dtype:
        """Of the rows as they are given."""
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)

    @property
    def held_bytes(self) -> int:
        """What of it is in memory."""
        return 0 if isinstance(self._kept, Path) else self._kept.nbytes

    def __getitem__(self, rows: Any) -> np.ndarray:
        # Opened anew each time, so that no more of the file is mapped than these rows.
        pixels = np.load(self._kept, mmap_mode="r") if isinstance(self._kept, Path) else self._kept
        return to_depth(np.array(pixels[rows]), self.bits)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class FrameStore:
    """Keeps frames until it is closed. room: bytes of memory that they may take."""

    def __init__(self, room: int):
        self._room = room
        self._folder: tempfile.TemporaryDirectory | None = None
        self._count = 0

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def keep(self, pixels: np.ndarray) -> StoredFrame:
        """One frame. Raises InputError where the disk has no room."""
        self._room -= pixels.nbytes
        if self._room >= 0:
            return StoredFrame(pixels)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(dir=scratch_folder())
        self._count += 1
        return StoredFrame(pixels, Path(os.path.join(self._folder.name, f"{self._count}.npy")))
