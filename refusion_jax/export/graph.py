"""An ONNX graph under construction: nodes and constants with readable names.

The package onnx is an extra (`pip install "refusion_jax[onnx]"`); it is imported where a graph is built.
"""

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from refusion_jax.errors import InputError

OPSETS = 18, 23  # the least and the largest that graphs are written for
IR_VERSION = 10  # of the file format; ONNX Runtime reads it since 1.18


def onnx_package():
    """The module onnx. InputError with the requirement's name where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise InputError('writing .onnx needs the package onnx: pip install "onnx>=1.18"') from None
    return onnx


class Graph:
    """Nodes and constants in the order in which they are added. A value is known by its name.

    number: the type of constants and of activations, np.float32 or np.float16.
    """

    def __init__(self, number: type = np.float32):
        self.number = number
        self._helper = onnx_package().helper
        self._nodes, self._constants, self._count, self._scope = [], {}, {}, []

    @contextmanager
    def scope(self, name: str):
        """Names made inside begin with name/."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def _name(self, last: str) -> str:
        """A name of the scope that is not taken yet."""
        name = "/".join([*self._scope, last])
        self._count[name] = self._count.get(name, -1) + 1
        return f"{name}_{self._count[name]}" if self._count[name] else name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        name = self._name(kind)
        self._nodes.append(self._helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def rename(self, value: str, name: str) -> str:
        """The value under a name that users see: an output of the graph."""
        self._nodes.append(self._helper.make_node("Identity", [value], [name]))
        return name

    def constant(self, values: Any, name: str = "constant", dtype: Any = None) -> str:
        """A constant, of the graph's type of number where none is given."""
        full = self._name(name)
        self._constants[full] = np.asarray(values, dtype or self.number)
        return full

    def shared(self, values: Any, name: str, dtype: Any = None) -> str:
        """A constant that several layers use: the one of this name, type and shape, made at the first call."""
        values = np.asarray(values, dtype or self.number)
        full = "_".join([name, values.dtype.name, *map(str, values.shape)])
        self._constants[full] = values
        return full

    def integers(self, *values: int) -> str:
        """A constant vector of int64: axes, shapes. Equal ones are one."""
        name = f"int64_{'_'.join(map(str, values))}"
        self._constants[name] = np.asarray(values, np.int64)
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """The value as another type of number."""
        return self.op("Cast", value, to=self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def info(self, name: str, shape: Sequence[int | str], dtype: Any = np.float32):
        """An input or output of the graph: its name, type and shape; a text in the shape is a free size."""
        return self._helper.make_tensor_value_info(name, self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def model(
        self, name: str, inputs: Iterable, outputs: Sequence, *, opset: int, metadata: dict[str, str], doc: str = ""
    ) -> bytes:
        """The file's bytes, checked by onnx. Nodes and constants that no output needs are left out."""
        from refusion_jax import __version__

        onnx, make = onnx_package(), self._helper
        needed, nodes = {output.name for output in outputs}, []
        for node in reversed(self._nodes):
            if needed & set(node.output):
                nodes.insert(0, node)
                needed |= set(node.input)
        constants = [onnx.numpy_helper.from_array(x, k) for k, x in self._constants.items() if k in needed]
        used = [x for x in inputs if x.name in needed]
        graph = make.make_graph(nodes, name, used, list(outputs), constants, doc_string=doc)
        opsets = [make.make_opsetid("", opset)]
        model = make.make_model(
            graph,
            opset_imports=opsets,
            producer_name="refusion_jax",
            producer_version=__version__,
            ir_version=IR_VERSION,
        )
        make.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
