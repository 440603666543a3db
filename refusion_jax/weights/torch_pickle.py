"""Interpreter for the pickle inside a PyTorch checkpoint: builds descriptions of tensors and executes
nothing.

A pickle is a program, and unpickling one from elsewhere runs whatever it names. This interpreter knows the
instructions that a dict of tensors needs and no other, and never calls anything: the few names it admits
(ordered dict, tensor, parameter, storage types) stand for records. Errors are InputError without the file's
name.
"""

import pickletools
from dataclasses import dataclass

from refusion_jax.errors import InputError

# Storage type -> NumPy type without byte order. NumPy has no bfloat16: its bits are read as uint16.
STORAGE_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ADMITTED = {_ORDERED_DICT, _TENSOR, _PARAMETER, *(f"torch.{name}" for name in STORAGE_TYPES)}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset("BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8".split())
# Instructions with a method of _Interpreter each, named alike.
_OPERATIONS = frozenset(
    "MARK MEMOIZE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM"
    " SETITEMS STACK_GLOBAL BINPERSID REDUCE BUILD".split()
)
_MAX_DIMENSIONS = 16


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the archive member `data/KEY`."""

    key: str
    kind: str  # key of STORAGE_TYPES
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides in entries. Not yet checked against the storage's length."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """One of _ADMITTED, mentioned by the pickle."""

    full: str


def interpret(data: bytes) -> object:
    """What the pickle describes: dicts, lists, tuples, numbers, text, None, Storage and Tensor.

    Raises InputError for a damaged pickle and for any instruction or name that tensors do not need. The
    result may contain itself: do not walk it without a limit.
    """
    try:
        return _Interpreter().run(data)
    except InputError:
        raise
    except (ValueError, IndexError, KeyError) as error:  # malformed; stack or marks empty; not in the memo
        raise InputError(f"the pickle is damaged ({type(error).__name__})") from error


class _Interpreter:
    def __init__(self) -> None:
        self.stack: list = []
        self.below_marks: list[list] = []  # the stacks set aside by MARK
        self.memo: dict[int, object] = {}

    def run(self, data: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif name == "GLOBAL":
                self.stack.append(_admit(argument.replace(" ", ".", 1)))
            elif name in _OPERATIONS:
                getattr(self, f"_{name.lower()}")()
            elif name not in ("PROTO", "FRAME"):
                # INST, an old way to name something and call it, has that name as its argument: show it.
                what = f" {_shown(argument)}" if isinstance(argument, str) else ""
                raise InputError(f"refused: pickle instruction {name}{what}, which tensors do not need")
        raise InputError("the pickle is damaged (no end)")

    # One method per instruction.

    def _mark(self) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _empty_list(self) -> None:
        self.stack.append([])

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _tuple(self) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _tuple1(self) -> None:
        self._tuple_of(1)

    def _tuple2(self) -> None:
        self._tuple_of(2)

    def _tuple3(self) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def _append(self) -> None:
        self._extend_list([self.stack.pop()])

    def _appends(self) -> None:
        self._extend_list(self._since_mark())

    def _extend_list(self, items: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise InputError("the pickle is damaged (appends to what is no list)")
        self.stack[-1].extend(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._extend_dict([key, value])

    def _setitems(self) -> None:
        self._extend_dict(self._since_mark())

    def _extend_dict(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise InputError("the pickle is damaged (sets entries of what is no dict)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Checked before it is hashed: hashing a deep enough nest of tuples overflows the C stack.
            if not isinstance(key, str):
                raise InputError(f"refused: a dict key of type {kind(key)}; expected names")
            if key in target:
                raise InputError(f"refused: the name {_shown(key)} occurs twice in one dict")
            target[key] = value

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise InputError("the pickle is damaged (a name that is no text)")
        self.stack.append(_admit(f"{module}.{name}"))

    def _binpersid(self) -> None:
        self.stack.append(_storage(self.stack.pop()))

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, _Name) and isinstance(arguments, tuple)):
            raise InputError(f"refused: a call of {kind(function)}")
        if function.full == _ORDERED_DICT and not arguments:
            self.stack.append({})
        elif function.full == _TENSOR:
            self.stack.append(_tensor(arguments))
        elif function.full == _PARAMETER and len(arguments) == 3 and isinstance(arguments[0], Tensor):
            self.stack.append(arguments[0])
        else:
            raise InputError(f"refused: a call of {function.full} with {len(arguments)} arguments")

    def _build(self) -> None:
        # Modules hang `_metadata` on their state dict; nobody needs it here.
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise InputError(f"refused: attributes for {kind(self.stack[-1])}")


def kind(value: object) -> str:
    """What `value` is, in a word for a message."""
    if isinstance(value, _Name):
        return value.full
    return type(value).__name__


def _admit(full: str) -> _Name:
    if full not in _ADMITTED:
        raise InputError(f"refused: the file mentions {_shown(full)}; only tensors are read from it")
    return _Name(full)


def _storage(description: object) -> Storage:
    """From a persistent id: ("storage", type, key, device, number of entries)."""
    if not (isinstance(description, tuple) and len(description) == 5 and description[0] == "storage"):
        raise InputError("refused: a reference to something outside the pickle that is no storage")
    _, type_name, key, _, count = description
    storage_type = type_name.full.removeprefix("torch.") if isinstance(type_name, _Name) else None
    if storage_type not in STORAGE_TYPES:
        raise InputError(f"refused: a storage of type {kind(type_name)}")
    if not (isinstance(key, str) and key.isascii() and key.isdigit()):
        raise InputError("refused: a storage whose key is no number")
    if not (type(count) is int and count >= 0):
        raise InputError(f"refused: storage {key} without a valid number of entries")
    return Storage(key, storage_type, count)


def _tensor(arguments: tuple) -> Tensor:
    """From (storage, offset, shape, strides, requires_grad, hooks and perhaps metadata)."""
    if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
        raise InputError("refused: a tensor that is no view of a storage")
    storage, offset, shape, strides = arguments[:4]
    numbers = [offset]
    for extents in (shape, strides):
        if not isinstance(extents, tuple) or len(extents) > _MAX_DIMENSIONS:
            raise InputError(f"refused: a tensor of storage {storage.key} with no valid shape and strides")
        numbers.extend(extents)
    if len(shape) != len(strides) or not all(type(number) is int and number >= 0 for number in numbers):
        raise InputError(f"refused: a tensor of storage {storage.key} with no valid offset, shape and strides")
    return Tensor(storage, offset, shape, strides)


def _shown(text: str) -> str:
    """Text from the file, fit for one line of a message."""
    return repr(text if len(text) <= 80 else text[:80] + "...")
