"""Tests of the PyTorch checkpoint reader: the released files, hand-made files of every kind, hostile files.

PyTorch is not needed: the pickles are put together here, instruction by instruction, or by the standard
pickler from objects whose __reduce__ names whatever the test wants.
"""

import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from refusion_jax.errors import InputError
from refusion_jax.weights.torch_file import read_state_dict

KINDS = {"DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16}


class _Reference:
    """Stands for a storage; becomes a persistent id."""

    def __init__(self, kind, key, count):
        self.description = ("storage", kind, key, "cpu", count)


class _View:
    """Stands for a tensor; becomes a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.description if isinstance(obj, _Reference) else None


@pytest.fixture
def torch(monkeypatch):
    """Stand-ins that give the pickler PyTorch's names."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    for name in (*KINDS, "BFloat16Storage", "LongStorage", "ComplexFloatStorage"):
        setattr(modules["torch"], name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_from_type_v2"):

        def function(*arguments):
            raise AssertionError("called")

        function.__module__, function.__name__, function.__qualname__ = "torch._utils", name, name
        setattr(modules["torch._utils"], name, function)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return modules["torch"]


def pickled(obj, protocol=2):
    out = io.BytesIO()
    _Pickler(out, protocol).dump(obj)
    return out.getvalue()


def archive(path, data_pkl, storages=(), byteorder=None, folder="archive", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        if data_pkl is not None:
            file.writestr(f"{folder}/data.pkl", data_pkl)
        if byteorder is not None:
            file.writestr(f"{folder}/byteorder", byteorder)
        for key, data in dict(storages).items():
            file.writestr(f"{folder}/data/{key}", data)
        file.writestr(f"{folder}/version", b"3\n")
    return path


def one_tensor(torch, values, **change):
    """The pickle and the storages of {"w": values}, with parts of the description changed."""
    kind = next(name for name, dtype in KINDS.items() if dtype == values.dtype)
    strides = tuple(stride // values.itemsize for stride in values.strides)
    storage = _Reference(getattr(torch, kind), "0", change.get("count", values.size))
    view = _View(storage, change.get("offset", 0), change.get("shape", values.shape), change.get("strides", strides))
    return pickled(OrderedDict(w=view)), {"0": values.tobytes()}


VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) - len(str(path)) < 200 and str(path) in message
    for word in words:
        assert word in message


# The released files.


@pytest.mark.parametrize("task", ["IVIF", "MIF", "MFIF", "MEIF"])
def test_released_files(reference, task):
    state = read_state_dict(reference / "official_weights" / f"ReFusion_{task}.pth")
    expected = json.loads((reference / "official_weights" / "state_dict_shapes.json").read_text())
    assert {name: list(array.shape) for name, array in state.items()} == expected
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
    # Layer norms start at scale 1; trained ones stay near it. Garbled bytes would not.
    scales = np.concatenate([array for name, array in state.items() if name.endswith("norm1.body.weight")])
    assert np.isfinite(scales).all() and 0.1 < scales.mean() < 3


def test_a_released_file_cut_off_or_changed(reference, tmp_path):
    path = reference / "official_weights" / "ReFusion_MEIF.pth"
    whole = bytearray(path.read_bytes())
    for part in (0, 1, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:part])
        refused(tmp_path / "cut.pth")
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("ReFusion_MEIF/data/0").header_offset
    whole[start + 200] ^= 1  # inside the first storage
    (tmp_path / "changed.pth").write_bytes(whole)
    refused(tmp_path / "changed.pth", "CRC")


# What may stand in a file.


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type(torch, tmp_path, kind, protocol):
    values = np.array([[0, 1.5, 1], [-2, 0, 1]]).astype(KINDS[kind])
    view = _View(_Reference(getattr(torch, kind), "7", 6), 0, (2, 3), (3, 1))
    path = archive(tmp_path / "a.pth", pickled({"w": view}, protocol), {"7": values.tobytes()}, b"little")
    (read,) = read_state_dict(path).values()
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_bfloat16_is_widened(torch, tmp_path):
    exact = np.array([1.0, -2.5, 3.0e38, 0.0078125], np.float32)  # 3e38 is rounded by the cut
    upper = (exact.view(np.uint32) >> 16).astype(np.uint16)
    view = _View(_Reference(torch.BFloat16Storage, "0", 4), 0, (4,), (1,))
    path = archive(tmp_path / "a.pth", pickled({"w": view}), {"0": upper.tobytes()})
    read = read_state_dict(path)["w"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.view(np.uint32) >> 16, upper)
    np.testing.assert_array_equal(read[[0, 1, 3]], exact[[0, 1, 3]])


@pytest.mark.parametrize("byteorder", [b"big", b"middle\n", b"x" * 30])
def test_other_byte_orders(torch, tmp_path, byteorder):
    data, storages = one_tensor(torch, VALUES)
    refused(archive(tmp_path / "a.pth", data, storages, byteorder), "byteorder" if len(byteorder) > 20 else "'little'")


def test_views(torch, tmp_path):
    storage = _Reference(torch.FloatStorage, "0", 12)
    state = {
        "transposed": _View(storage, 0, (4, 3), (1, 4)),
        "inside": _View(storage, 5, (2, 2), (4, 1)),
        "repeated": _View(storage, 3, (2, 3), (0, 1)),
        "scalar": _View(storage, 11, (), ()),
        "empty": _View(storage, 0, (0, 4), (4, 1)),
        "stride never taken": _View(storage, 0, (1, 4), (1 << 80, 1)),
    }
    read = read_state_dict(archive(tmp_path / "a.pth", pickled(state), {"0": VALUES.tobytes()}))
    np.testing.assert_array_equal(read["transposed"], VALUES.T)
    np.testing.assert_array_equal(read["inside"], VALUES[1:, 1:3])
    np.testing.assert_array_equal(read["repeated"], [[3, 4, 5], [3, 4, 5]])
    assert read["scalar"] == 11 and read["scalar"].shape == ()
    assert read["empty"].shape == (0, 4)
    np.testing.assert_array_equal(read["stride never taken"], VALUES[:1])
    assert all(array.flags.c_contiguous and array.flags.owndata for array in read.values())


def test_parameters_metadata_wrapper_and_compression(torch, tmp_path):
    class Parameter:
        def __reduce__(self):
            view = _View(_Reference(torch.FloatStorage, "0", 12), 0, (12,), (1,))
            return sys.modules["torch._utils"]._rebuild_parameter, (view, True, OrderedDict())

    state = OrderedDict(w=Parameter())
    state._metadata = OrderedDict({"": {"version": 1}})  # pickled as attributes, as PyTorch does
    data = pickled({"state_dict": state})
    path = archive(tmp_path / "a.pth", data, {"0": VALUES.tobytes()}, compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read_state_dict(path)["w"], VALUES.ravel())


# What may not.


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_code_is_refused_and_not_run(torch, tmp_path, protocol):
    target = tmp_path / "proof"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(target),)

    for content in (Attack(), {"w": Attack()}, {"state_dict": OrderedDict(w=Attack())}):
        data = pickled(content, protocol)
        refused(archive(tmp_path / "a.pth", data), "refused")
        assert not target.exists()
        pickle.loads(data)  # the attack works elsewhere, so the test is one
        assert target.exists()
        target.rmdir()


@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_from_type_v2"),
        ("collections", "Counter"),
        ("torch.FloatStorage", "__class__"),
        ("collections", "OrderedDict.__init__"),
    ],
)
def test_other_names_are_refused_and_said(tmp_path, module, name):
    old = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")R."
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    new = b"\x80\x04" + texts + b"\x93)R."
    for data in (old, new):
        refused(archive(tmp_path / "a.pth", data), "refused", f"{module}.{name}")


ORDERED_DICT = b"ccollections\nOrderedDict\n"
DEEP = b")" + b"\x85" * 100_000  # tuples in tuples, far deeper than the stack
WIDE = b")" + b"q\1h\1\x86" * 60  # 2^60 tuples, of which 60 are kept


@pytest.mark.parametrize(
    "data, word",
    [
        (b"(ios\nsystem\n.", "os system"),
        (b"(cos\nsystem\nS'true'\no.", "refused"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pspam\n.", "PERSID"),
        (b"\x80\x02" + ORDERED_DICT + b")\x81.", "NEWOBJ"),
        (b"\x80\x02" + ORDERED_DICT + b"}b.", "attributes"),
        (b"\x80\x02" + ORDERED_DICT + b"N}X\x08\0\0\0__call__K\1s\x86b.", "attributes"),
        (b"\x80\x02" + ORDERED_DICT + b"K\x01\x85R.", "1 arguments"),
        (b"\x80\x02" + ORDERED_DICT + b"]" + WIDE + b"K\1\x86a\x85R.", "1 arguments"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
        (b"\x80\x02]q\0h\0b.", "damaged"),  # attributes for a list
        (b"\x80\x02}K\x01K\x02s.", "key"),
        (b"\x80\x02(X\x07\0\0\0storagetQ.", "outside"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02]K\x01K\x01s.", "damaged"),
        (b"\x80\x02}K\x01a.", "damaged"),
        (b"", "damaged"),
        (b"\xff", "damaged"),
        (b"\x80\x02K\x05.", "int"),
        (b"\x80\x02}.", "empty"),
        (b"\x80\x02}q\0X\x01\0\0\0ah\0s.", "'a' is of type dict"),  # a dict that contains itself
        (b"\x80\x02]q\0h\0a.", "list"),
        (b"\x80\x02" + DEEP + b".", "tuple"),
        (b"\x80\x02}" + DEEP + b"K\x01s.", "key"),
        (b"\x80\x02}(" + WIDE + b"K\x01u.", "key"),
        (b"\x80\x02" + WIDE + b".", "tuple"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "places"),  # a memo of 2^32 places
        (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "damaged"),  # a number of 2 GB
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.", "damaged"),  # a text of 1 TB
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.", "empty"),  # a frame of 1 TB
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.", "damaged"),  # a byte array of 1 TB
    ],
)
def test_hostile_pickles(tmp_path, data, word):
    refused(archive(tmp_path / "a.pth", data), word)


def test_what_a_pickle_hangs_on_a_name_is_gone(torch, tmp_path):
    """A state dict with methods of its own, and one read after it."""
    hung = b"\x80\x02" + ORDERED_DICT + b")RN}X\x05\0\0\0itemsK\1s\x86b."
    refused(archive(tmp_path / "a.pth", hung), "empty")
    data, storages = one_tensor(torch, VALUES)
    np.testing.assert_array_equal(read_state_dict(archive(tmp_path / "b.pth", data, storages))["w"], VALUES)


@pytest.mark.parametrize(
    "description, word",
    [
        (("storage", "FloatStorage", "0", "cpu", 12), "type str"),
        (("storage", OrderedDict, "0", "cpu", 12), "OrderedDict"),
        (("module", None, "0", "cpu", 12), "outside"),
        (("storage", None, "0", "cpu"), "outside"),
        ("storage", "outside"),
        *((("storage", float, key, "cpu", 12), "key") for key in ("../../etc/passwd", "0/../1", "", 0, "٣", None)),
    ],
)
def test_wrong_references(torch, tmp_path, description, word):
    if description[1] is float:
        description = (description[0], torch.FloatStorage, *description[2:])
    reference = _Reference(None, "0", 12)
    reference.description = description
    data = pickled({"w": _View(reference, 0, (12,), (1,))})
    refused(archive(tmp_path / "a.pth", data, {"0": VALUES.tobytes()}), word)


@pytest.mark.parametrize("kind", ["ComplexFloatStorage", "LongStorage"])
def test_storages_of_other_numbers(torch, tmp_path, kind):
    data = pickled({"w": _View(_Reference(getattr(torch, kind), "0", 6), 0, (6,), (1,))})
    refused(archive(tmp_path / "a.pth", data, {"0": VALUES.tobytes()}), f"torch.{kind}")


@pytest.mark.parametrize(
    "change, word",
    [
        ({"offset": 1}, "reaches outside"),
        ({"shape": (4, 4)}, "reaches outside"),
        ({"strides": (5, 1)}, "reaches outside"),
        ({"shape": (1 << 20, 1), "strides": (1, 1)}, "reaches outside"),
        ({"offset": 1 << 70}, "reaches outside"),
        ({"offset": -1}, "offset"),
        ({"shape": (-1, 4)}, "shape"),
        ({"strides": (-4, 1)}, "strides"),
        ({"strides": (4,)}, "strides"),
        ({"shape": (3.0, 4)}, "shape"),
        ({"shape": (True, 4)}, "shape"),
        ({"shape": [3, 4]}, "shape"),
        ({"offset": "0"}, "offset"),
        ({"shape": (1,) * 17, "strides": (1,) * 17}, "shape"),
        ({"shape": (1 << 40, 1 << 40), "strides": (0, 0)}, "more than"),  # one entry repeated without end
        ({"shape": (1 << 200,) * 16, "strides": (0,) * 16}, "more than"),
        ({"shape": (0, 1 << 100)}, "damaged"),
        ({"count": 13}, "48 bytes"),
        ({"count": 11}, "48 bytes"),
        ({"count": -1}, "entries"),
        ({"count": 12.0}, "entries"),
        ({"count": True}, "entries"),
    ],
)
def test_tensors_outside_their_storage(torch, tmp_path, change, word):
    data, storages = one_tensor(torch, VALUES, **change)
    refused(archive(tmp_path / "a.pth", data, storages), word)


def test_other_content_is_named(torch, tmp_path):
    view = _View(_Reference(torch.FloatStorage, "0", 12), 0, (12,), (1,))
    data = pickled({"epoch": 3, "state_dict": {"w": view}})
    refused(archive(tmp_path / "a.pth", data, {"0": VALUES.tobytes()}), "'epoch'", "int", "state_dict()")


@pytest.mark.parametrize("protocol", [2, 4])
def test_mutated_pickles(torch, tmp_path, protocol):
    """A sound archive around a pickle with some wrong bytes: read, or refused in one line."""
    rng = np.random.default_rng(protocol)
    storage = _Reference(torch.FloatStorage, "0", 12)
    state = OrderedDict({name: _View(storage, 0, (3, 4), (4, 1)) for name in ("a.weight", "b.weight")})
    sound = np.frombuffer(pickled({"state_dict": state}, protocol), np.uint8)
    outcomes = set()
    for _ in range(400):
        data = sound.copy()
        places = rng.integers(len(data), size=rng.integers(1, 4))
        data[places] = rng.integers(256, size=len(places)) if rng.random() < 0.5 else rng.choice(data, len(places))
        path = archive(tmp_path / "a.pth", data.tobytes(), {"0": VALUES.tobytes()})
        try:
            outcomes.add(type(read_state_dict(path)))
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add(InputError)
    assert outcomes == {dict, InputError}


# The archive.


def test_what_is_no_archive(tmp_path):
    path = tmp_path / "a.pth"
    refused(path, "no such file")
    refused(tmp_path, "folder")
    refused(tmp_path / ("n" * 300 + ".pth"), "cannot read", "too long")
    for content in (b"", b"weights", os.urandom(1000), b"PK", b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        refused(path)
    # Files before PyTorch 1.6 begin with this number, pickled by protocol 2.
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    refused(path, "1.6")


def test_archives_with_members_missing_or_twice(torch, tmp_path):
    data, storages = one_tensor(torch, VALUES)
    refused(archive(tmp_path / "a.pth", data), "data/0", "missing")
    refused(archive(tmp_path / "a.pth", None), "data.pkl")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        file.writestr("one/data.pkl", b"\x80\x02}.")
        file.writestr("two/data.pkl", b"\x80\x02}.")
    refused(tmp_path / "a.pth", "data.pkl")
    archive(tmp_path / "a.pth", data, storages)
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/data/0", b"\0" * 48)
    refused(tmp_path / "a.pth", "one name")


def test_an_archive_that_unpacks_to_too_much(torch, tmp_path):
    data, _ = one_tensor(torch, VALUES)
    path = archive(tmp_path / "a.pth", data, {"0": bytes(2 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks to more than 1048576"):
        read_state_dict(path, max_bytes=1 << 20)
    with pytest.raises(InputError, match="the file has more than 1000"):
        read_state_dict(path, max_bytes=1000)
    much = b"\x80\x02" + b"K\x01" * (1 << 18) + b"."
    refused(archive(tmp_path / "a.pth", much, compression=zipfile.ZIP_DEFLATED), "data.pkl", "more than")


def test_a_member_longer_than_it_declares(torch, tmp_path):
    """Of a bomb that declares 48 bytes no more than those are unpacked, and the check sum does not fit."""
    data, _ = one_tensor(torch, VALUES)
    path = archive(tmp_path / "a.pth", data, {"0": bytes(1_234_567)}, compression=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    declared = struct.pack("<I", 1_234_567)
    assert content.count(declared) == 2
    path.write_bytes(content.replace(declared, struct.pack("<I", 48)))
    refused(path, "CRC")


def test_encrypted_and_oddly_compressed_members(torch, tmp_path):
    data, storages = one_tensor(torch, VALUES)
    path = archive(tmp_path / "a.pth", data, storages, compression=zipfile.ZIP_BZIP2)
    refused(path, "compression")
    path = archive(tmp_path / "b.pth", data, storages)
    content = bytearray(path.read_bytes())
    for signature, position in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + position] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")
