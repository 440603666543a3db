"""PyTorch checkpoints (.pth) without PyTorch: a zip archive whose pickle may describe tensors and do nothing else.

A pickle is a program. Python's own unpickler runs this one with every name replaced by a record of this file, so
nothing that the pickle mentions is ever imported or called; sizes are checked before anything is read.
"""

import io
import math
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refusion_jax.errors import InputError

MAX_BYTES = 1 << 30  # of the file, of what it unpacks to, and of all arrays
_MAX_PICKLE_BYTES = 1 << 18  # the released files have 25 kB
_LEGACY_START = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number that files before PyTorch 1.6 begin with
)
# NumPy has no bfloat16: its bits are read as whole numbers.
_DTYPES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2"}
_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
_ADMITTED = {_DICT, _TENSOR, _PARAMETER, *(f"torch.{kind}" for kind in _DTYPES)}
# What torch.save and Python's pickler write for names, numbers, texts, tuples, lists, dicts, calls and references.
_INSTRUCTIONS = set(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL "
    "REDUCE BUILD BINPERSID BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET".split()
)


def read_state_dict(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch checkpoint by name: contiguous arrays of the stored type, native byte order.

    The file must hold a dict of names and floating-point tensors, or such a dict as the only entry of another
    (`{"state_dict": ...}`). bfloat16, which NumPy lacks, becomes float32, exactly.

    Raises InputError if the file is missing, truncated, damaged, of the format before PyTorch 1.6 or of a big-endian
    machine; if it holds anything but tensors (names it); if a tensor reaches outside its storage; or if the file, what
    it unpacks to or the arrays take more than `max_bytes`.
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
            _limit("the file has", os.fstat(file.fileno()).st_size, max_bytes)
            with zipfile.ZipFile(file) as archive:
                return _read(archive, max_bytes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # whatever zipfile and zlib make of a damaged archive
        raise InputError(f"{path}: truncated or damaged archive ({error}); fetch the file again") from error


def _limit(what: str, count: int, most: int) -> None:
    if count > most:
        raise InputError(f"refused: {what} more than {most} bytes")


def _read(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, np.ndarray]:
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    _limit("the archive unpacks to", sum(info.file_size for info in infos), max_bytes)
    if len(members) < len(infos):
        raise InputError("refused: two files of one name in the archive")
    pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise InputError("not a PyTorch checkpoint (expected one data.pkl in the archive)")
    folder = pickles[0].removesuffix("data.pkl")

    def content(name: str, most: int) -> bytes:
        if (info := members.get(folder + name)) is None:
            raise InputError(f"{name} is missing from the archive; fetch the file again")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"refused: {name} in the archive is encrypted or of an unknown compression")
        _limit(f"{name} has", info.file_size, most)
        with archive.open(info) as file:
            return file.read(info.file_size)  # no more is unpacked than is declared

    tensors = _tensors(_unpickled(content("data.pkl", _MAX_PICKLE_BYTES)))
    if folder + "byteorder" in members and (order := content("byteorder", 20)) != b"little":
        raise InputError(f"expected the byte order 'little', got {order!r}; save the file on another machine")
    size = 8 * sum(math.prod(tensor.shape) for tensor in tensors.values())
    _limit("the tensors may take", size, max_bytes)
    storages = {x: _entries(x, content(f"data/{x.key}", max_bytes)) for x in {t.storage for t in tensors.values()}}
    return {name: _array(name, tensor, storages[tensor.storage]) for name, tensor in tensors.items()}


class _Storage(NamedTuple):
    """A run of numbers in the archive's file `data/KEY`."""

    key: str
    kind: str  # of _DTYPES
    count: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides in entries. Not yet checked against the storage's length."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Names(dict):
    """Every dict of the pickle. Keys are seen before they are hashed: hashing tuples of tuples may never end."""

    def __setitem__(self, key, value):
        if type(key) is not str:
            raise InputError(f"refused: a dict key of type {_kind(key)}; expected names")
        super().__setitem__(key, value)

    def __setstate__(self, state):
        """Takes what PyTorch hangs on a state dict (`_metadata`), and drops it."""


class _Name:
    """One of _ADMITTED. Calling it makes a record; nothing can be hung on it."""

    def __init__(self, full: str):
        self.full = full

    def __setstate__(self, state):
        raise InputError(f"refused: attributes for {self.full}")

    def __call__(self, *arguments):
        if self.full == _DICT and not arguments:
            return _Names()
        if self.full == _PARAMETER and arguments and isinstance(arguments[0], _Tensor):
            return arguments[0]
        if self.full == _TENSOR and len(arguments) in (6, 7):
            return _tensor(*arguments[:4])
        raise InputError(f"refused: a call of {self.full} with {len(arguments)} arguments")


class _Unpickler(pickle.Unpickler):
    """Python's unpickler, with records for all that lies outside the pickle."""

    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in _ADMITTED:
            raise InputError(f"refused: the file mentions {full[:80]!r}; only floating-point tensors are read from it")
        return _Name(full)

    def persistent_load(self, pid: Any) -> _Storage:
        """From ("storage", type, key, device, number of entries)."""
        if not (type(pid) is tuple and len(pid) == 5 and pid[0] == "storage"):
            raise InputError("refused: a reference to something outside the pickle that is no storage")
        _, kind, key, _, count = pid
        name = kind.full.removeprefix("torch.") if isinstance(kind, _Name) else None
        if name not in _DTYPES:
            raise InputError(f"refused: a storage of type {_kind(kind)}")
        if not (type(key) is str and key.isascii() and key.isdigit()):
            raise InputError("refused: a storage whose key is no number")
        if not (type(count) is int and count >= 0):
            raise InputError(f"refused: storage {key} without a valid number of entries")
        return _Storage(key, name, count)


def _unpickled(data: bytes) -> Any:
    """What the pickle describes, out of records, dicts, lists, tuples, numbers and texts; it may contain itself."""
    try:
        return _Unpickler(io.BytesIO(_with_own_dicts(data))).load()
    except InputError:
        raise
    except Exception as error:  # a pickle can fail in any way
        raise InputError(f"the pickle is damaged ({type(error).__name__})") from error


def _with_own_dicts(data: bytes) -> bytes:
    """The pickle with `_Names` for dicts. InputError where there is an instruction that tensors do not need."""
    found = list(pickletools.genops(data))
    ends = [start for _, _, start in found[1:]] + [len(data)]
    parts = []
    for (opcode, argument, start), end in zip(found, ends, strict=True):
        if opcode.name not in _INSTRUCTIONS:
            what = f" {argument[:80]!r}" if isinstance(argument, str) else ""
            raise InputError(f"refused: pickle instruction {opcode.name}{what}, which tensors do not need")
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(data):
            raise InputError(f"refused: a pickle with {argument} places")
        if opcode.name == "EMPTY_DICT":
            parts.append(b"ccollections\nOrderedDict\n)R")
        elif opcode.name != "FRAME":  # a length, no longer right
            parts.append(data[start:end])
    return b"".join(parts)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    """The record of a tensor. InputError unless offset, shape and strides are whole numbers from 0."""
    if not isinstance(storage, _Storage):
        raise InputError("refused: a tensor that is no view of a storage")
    valid = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) <= 16
    if not (valid and all(type(number) is int and number >= 0 for number in (offset, *shape, *strides))):
        raise InputError(f"refused: a tensor of storage {storage.key} with no valid offset, shape and strides")
    return _Tensor(storage, offset, shape, strides)


def _tensors(root: Any) -> dict[str, _Tensor]:
    """The named tensors. An only entry that is a dict is entered; thrice, as a dict may contain itself."""
    for _ in range(3):
        if isinstance(root, dict) and len(root) == 1 and isinstance(value := next(iter(root.values())), dict):
            root = value
    if not isinstance(root, dict) or not root:
        raise InputError(f"expected a dict of tensors, got {'an empty one' if isinstance(root, dict) else _kind(root)}")
    for name, leaf in root.items():
        if not isinstance(leaf, _Tensor):
            raise InputError(
                f"expected tensors alone, but {name[:80]!r} is of type {_kind(leaf)};"
                " save the state dict by itself: torch.save(model.state_dict(), FILE)"
            )
    return root


def _kind(value: Any) -> str:
    """What a value is, in a word for a message."""
    if isinstance(value, _Name):
        return value.full
    return "dict" if isinstance(value, dict) else type(value).__name__.removeprefix("_")


def _entries(storage: _Storage, data: bytes) -> np.ndarray:
    """All numbers of a storage, one-dimensional."""
    dtype = np.dtype(_DTYPES[storage.kind])
    if len(data) != (expected := storage.count * dtype.itemsize):
        raise InputError(
            f"data/{storage.key} has {len(data)} bytes, but {storage.count} entries of {storage.kind} take {expected}; "
            "fetch the file again"
        )
    entries = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        return (entries.astype(np.uint32) << 16).view(np.float32)
    return entries


def _array(name: str, tensor: _Tensor, entries: np.ndarray) -> np.ndarray:
    """The tensor as an array of its own. InputError if it reaches outside its storage."""
    if math.prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, entries.dtype)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(entries):
        raise InputError(f"refused: {name[:80]!r} reaches outside its storage of {len(entries)} entries")
    # The stride of a single entry is never taken, so it passed the check above whatever its size.
    strides = [s * entries.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(entries[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")
