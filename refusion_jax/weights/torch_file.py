"""Read a PyTorch checkpoint (.pth) without PyTorch and without executing anything that it contains.

A .pth file is a zip archive: `data.pkl` describes the tensors (read by torch_pickle), `data/KEY` holds the
bytes of each storage, `byteorder` may say "little" or "big". Everything the description claims is checked
against the archive.
"""

import math
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.weights import torch_pickle

MAX_BYTES = 1 << 30  # of all members of the archive, and of all arrays
_MAX_PICKLE_BYTES = 4 << 20  # the released files have 25 kB; each further tensor adds about 100 bytes
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number that old files begin with
_ENCRYPTED = 0x1  # bit of a member's flags


def read_state_dict(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch checkpoint by name: contiguous arrays of the stored type, native byte order.

    The file must hold a dict of names and tensors, or such a dict as the only entry of another
    (`{"state_dict": ...}`). bfloat16, which NumPy lacks, becomes float32, exactly.

    Raises InputError if the file is missing, truncated, damaged or of the format before PyTorch 1.6; if it
    holds anything but tensors (names it); if a tensor reaches outside its storage; or if the archive's
    members or the arrays take more than `max_bytes`.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: expected a PyTorch checkpoint file, got a folder or device")
    try:
        with open(path, "rb") as file:
            start = file.read(len(_LEGACY_START))
            if start == _LEGACY_START:
                raise InputError("in the format before PyTorch 1.6; load it there and torch.save it again")
            if not start.startswith(b"PK\x03\x04"):
                raise InputError("not a PyTorch checkpoint (expected a zip archive)")
            with zipfile.ZipFile(file) as archive:
                return _read(_Members(archive, max_bytes), max_bytes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{path}: truncated or damaged archive ({error}); fetch the file again") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def deduplicate(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop `X.conv.weight` beside `X.weight` (and bias alike): the released files name most tensors twice.

    Order and all other names are kept. Raises InputError if the two differ.
    """
    kept = {}
    for name, array in state.items():
        owner, _, last = name.rpartition(".")
        short = f"{owner.removesuffix('.conv')}.{last}"
        if short == name or short not in state:
            kept[name] = array
        elif not _same(state[short], array):
            raise InputError(f"expected '{short}' and '{name}' to be one tensor under two names, but they differ")
    return kept


class _Members:
    """The files in the archive, below its one folder, with declared sizes within a limit."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        infos = archive.infolist()
        total = sum(info.file_size for info in infos)
        if total > max_bytes:
            raise InputError(f"refused: the archive unpacks to {total} bytes, over the limit of {max_bytes}")
        if len({info.filename for info in infos}) < len(infos):
            raise InputError("refused: two files of one name in the archive")
        pickles = [info.filename for info in infos if info.filename.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise InputError("not a PyTorch checkpoint (expected one data.pkl in the archive)")
        self._archive = archive
        self._folder = pickles[0].removesuffix("data.pkl")
        self._infos = {info.filename: info for info in infos}

    def size(self, name: str) -> int | None:
        """Bytes of a member, None if there is no such."""
        info = self._infos.get(self._folder + name)
        return None if info is None else info.file_size

    def read(self, name: str) -> bytes:
        info = self._infos[self._folder + name]
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"refused: {name} in the archive is encrypted or of an unknown compression")
        data = self._archive.read(info)
        if len(data) != info.file_size:
            raise InputError(f"truncated or damaged archive ({name} is cut short); fetch the file again")
        return data


def _read(members: _Members, max_bytes: int) -> dict[str, np.ndarray]:
    if members.size("data.pkl") > _MAX_PICKLE_BYTES:
        raise InputError(f"refused: data.pkl has {members.size('data.pkl')} bytes, over {_MAX_PICKLE_BYTES}")
    tensors = _tensors(torch_pickle.interpret(members.read("data.pkl")))
    # Absent before PyTorch 2.1, where files were written on little-endian machines.
    byteorder = members.read("byteorder") if members.size("byteorder") is not None else b"little"
    if byteorder not in (b"little", b"big"):
        raise InputError(f"expected the byte order 'little' or 'big', got {byteorder[:20]!r}")
    total = sum(math.prod(tensor.shape) * _output_bytes(tensor.storage) for tensor in tensors.values())
    if total > max_bytes:
        raise InputError(f"refused: the tensors take {total} bytes, over the limit of {max_bytes}")
    described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if any(described[tensor.storage.key] != tensor.storage for tensor in tensors.values()):
        raise InputError("refused: one storage is described in two ways")
    entries = {key: _read_storage(members, storage, byteorder) for key, storage in described.items()}
    return {name: _view(name, tensor, entries[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(root: object) -> dict[str, torch_pickle.Tensor]:
    # {"state_dict": {...}}: an only entry is entered; thrice, as a dict may contain itself.
    for _ in range(3):
        if isinstance(root, dict) and len(root) == 1 and isinstance(value := next(iter(root.values())), dict):
            root = value
    if not isinstance(root, dict):
        raise InputError(f"expected a dict of tensors, got {torch_pickle.kind(root)}")
    if not root:
        raise InputError("expected a dict of tensors, got an empty one")
    for name, leaf in root.items():
        if not isinstance(leaf, torch_pickle.Tensor):
            raise InputError(
                f"expected tensors alone, but {name[:80]!r} is of type {torch_pickle.kind(leaf)};"
                " save the state dict by itself: torch.save(model.state_dict(), FILE)"
            )
    return root


def _output_bytes(storage: torch_pickle.Storage) -> int:
    """Bytes per entry of the array we return."""
    stored = "f4" if storage.kind == "BFloat16Storage" else torch_pickle.STORAGE_TYPES[storage.kind]
    return np.dtype(stored).itemsize


def _read_storage(members: _Members, storage: torch_pickle.Storage, byteorder: bytes) -> np.ndarray:
    """All entries of a storage, one-dimensional, native byte order."""
    member = f"data/{storage.key}"
    dtype = np.dtype(torch_pickle.STORAGE_TYPES[storage.kind])
    size = members.size(member)
    if size is None:
        raise InputError(f"{member} is missing from the archive; fetch the file again")
    if size != storage.count * dtype.itemsize:
        raise InputError(
            f"{member} has {size} bytes, but {storage.count} entries of {storage.kind} take"
            f" {storage.count * dtype.itemsize}; fetch the file again"
        )
    stored = dtype.newbyteorder("<" if byteorder == b"little" else ">")
    entries = np.frombuffer(members.read(member), stored).astype(dtype)
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        return (entries.astype(np.uint32) << 16).view(np.float32)
    if storage.kind == "BoolStorage":
        return entries.view(np.uint8) != 0  # a byte other than 0 and 1 is no valid boolean
    return entries


def _view(name: str, tensor: torch_pickle.Tensor, entries: np.ndarray) -> np.ndarray:
    if math.prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, entries.dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((extent - 1) * stride for extent, stride in steps)
    if last >= len(entries):
        raise InputError(f"refused: {name[:80]!r} reaches entry {last} of a storage with {len(entries)} entries")
    # The stride of a single entry is never taken, so it passed the check above whatever its size.
    strides = [s * entries.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(entries[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    # Bytes, so that NaN equals itself.
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
