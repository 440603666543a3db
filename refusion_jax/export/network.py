"""F as nodes of an ONNX graph, written from its list of layers (models/layer_list.py) and their parameters.

Feature maps are (B,C,H,W) here, as ONNX has them. Each layer is written in two parts as in the list: its sums over the
picture and, given the sums, its result. `write_whole` folds over the list; passes.py writes F cut at its sums.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from refusion_jax.errors import InputError
from refusion_jax.export.graph import Graph
from refusion_jax.models.blocks import Conv3x3, TransformerBlock
from refusion_jax.models.fusion import AttentionalFusion, FusionNet
from refusion_jax.models.layer_list import EachStream, LayerList

EPS = 1e-12  # of the norms of q and k, as in blocks.inverse_norm


class Masks(NamedTuple):
    """What a tile's pixels are: values (1,1,H,W) of 0 and 1. None: a whole picture, where all count.

    inside: 1 inside the picture. counted: 1 at the tile's own pixels inside the picture, which its sums count.
    """

    inside: str | None = None
    counted: str | None = None


class Sums(NamedTuple):
    """blocks.attention_sums: q.k (B,C,C), |q|^2 and |k|^2 (B,C,1)."""

    product: str
    square_q: str
    square_k: str


def layers_of(module: nn.Module, params: Any) -> LayerList:
    """F's list of layers with its parameters. InputError that names the part that cannot be written."""
    kind = type(module).__name__
    if not hasattr(module, "layer_list"):
        raise InputError(f"F ({kind}) cannot be written: it offers no list of layers (method layer_list)")
    layers = module.bind({"params": params}).layer_list()  # type: ignore[attr-defined]
    for stem in layers.stems:
        _require(type(stem) is Conv3x3, kind, "stem", stem)
    for layer in layers.attention:
        if type(layer) is EachStream:
            for block in layer.blocks:
                _require(type(block) is TransformerBlock, kind, "attention layer", block)
        else:
            _require(type(layer) is AttentionalFusion, kind, "attention layer", layer)
    _require(getattr(layers.head, "__func__", None) is FusionNet.head, kind, "head", layers.head)
    return layers


def _require(known: bool, kind: str, role: str, part: Any) -> None:
    if not known:
        name = getattr(part, "__qualname__", type(part).__name__)
        path = "/".join(getattr(part, "path", ()))
        raise InputError(
            f"F ({kind}) cannot be written: its {role} {name}{f' ({path})' * bool(path)} is not one of ours"
        )


def write_whole(graph: Graph, layers: LayerList, sources: Sequence[str]) -> str:
    """F on whole pictures (B,1,H,W) float32 -> the name of the fused luma, as float32."""
    writer, masks = Writer(graph), Masks()
    streams = writer.stems(layers, [narrow(graph, x) for x in sources], masks)
    for layer in layers.attention:
        sums, values = writer.sums(layer, streams, masks)
        streams = writer.result(layer, streams, sums, values, masks)
    return writer.head(layers, streams, masks)


class Writer:
    """Writes the parts of F into a graph. Every convolution pads with zeros by 1, and none has a bias."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def stems(self, layers: LayerList, sources: Sequence[str], masks: Masks) -> tuple[str, ...]:
        """The features of each source."""
        return tuple(self._dense(*_named(stem), x, masks) for stem, x in zip(layers.stems, sources, strict=True))

    def sums(self, layer: Any, streams: Sequence[str], masks: Masks) -> tuple[list[Sums], list[str]]:
        """(the sums of each attention, v of each): see layer_list.AttentionLayer."""
        if type(layer) is EachStream:
            each = [self._block_qkv(block, x, masks) for block, x in zip(layer.blocks, streams, strict=True)]
            return [self._attention_sums(q, k) for q, k, _ in each], [v for *_, v in each]
        path, params = _named(layer)
        with self.graph.scope(path):
            (q1, k1, v1), (q2, k2, v2) = (
                self._parts(f"qkv{i + 1}", params[f"qkv{i + 1}"], x, 3, masks) for i, x in enumerate(streams)
            )
            return [self._attention_sums(q2, k1), self._attention_sums(q1, k2)], [v1, v2]

    def result(self, layer: Any, streams, sums, values, masks: Masks) -> tuple[str, ...]:
        """The new streams, given the sums of the whole picture."""
        if type(layer) is EachStream:
            parts = zip(layer.blocks, streams, sums, values, strict=True)
            return tuple(self._block_result(*part, masks) for part in parts)
        path, params = _named(layer)
        with self.graph.scope(path):
            return (self._merged(layer.heads, params, streams, sums, values, masks),)

    def head(self, layers: LayerList, streams, masks: Masks) -> str:
        """The fused luma (B,1,H,W), float32."""
        network = layers.head.__self__  # type: ignore[attr-defined]
        x = self._dense(*_named(network.project_out_0), streams[0], masks)
        x = self._dense(*_named(network.project_out_1), self.graph.op("LeakyRelu", x, alpha=0.01), masks)
        return self.graph.op("Sigmoid", self._exact(x))

    def _block_qkv(self, block: TransformerBlock, x: str, masks: Masks) -> list[str]:
        path, params = _named(block)
        with self.graph.scope(path):
            normal = self._norm("norm1", params["norm1"], x, masks)
            return self._parts("qkv", params["self_attention"]["qkv"], normal, 3, masks)

    def _block_result(self, block: TransformerBlock, x: str, sums: Sums, v: str, masks: Masks) -> str:
        path, params = _named(block)
        with self.graph.scope(path):
            x = self.graph.op("Add", x, self._mixed(block.heads, params["self_attention"]["attention"], sums, v))
            normal = self._norm("norm2", params["norm2"], x, masks)
            with self.graph.scope("feed_forward"):
                params = params["feed_forward"]
                gate, value = self._parts("project_in", params["project_in"], normal, 2, masks)
                return self.graph.op(
                    "Add", x, self._pointwise("project_out", params["project_out"]["kernel"], self._gated(gate, value))
                )

    def _merged(self, heads: int, params, streams, sums, values, masks: Masks) -> str:
        """AttentionalFusion.result."""
        add = self.graph.op
        x1, x2 = (
            add("Add", x, self._mixed(heads, params[f"attention{i + 1}"], sums[i], values[i]))
            for i, x in enumerate(streams)
        )
        both = add("Concat", x1, x2, axis=1)
        gates = self._parts("gate", params["gate"], both, 2, masks)
        merged = both
        for i, (x, gate) in enumerate(zip((x1, x2), gates, strict=True), 1):
            (value,) = self._parts(f"value{i}", params[f"value{i}"], x, 1, masks)
            gated = self._gated(gate, value)
            merged = add("Add", merged, self._pointwise(f"project_out{i}", params[f"project_out{i}"]["kernel"], gated))
        return merged

    def _dense(self, path: str, params, x: str, masks: Masks) -> str:
        """A 3x3 convolution."""
        with self.graph.scope(path):
            kernel = self.graph.constant(np.transpose(params["kernel"], (3, 2, 0, 1)), "kernel")
            return self._masked(self.graph.op("Conv", x, kernel, kernel_shape=[3, 3], pads=[1] * 4), masks.inside)

    def _pointwise(self, name: str, kernel, x: str) -> str:
        """A 1x1 convolution by a kernel (C,D)."""
        with self.graph.scope(name):
            weights = self.graph.constant(np.transpose(kernel)[:, :, None, None], "kernel")
            return self.graph.op("Conv", x, weights, kernel_shape=[1, 1])

    def _parts(self, name: str, params, x: str, parts: int, masks: Masks) -> list[str]:
        """blocks.PointwiseDepthwise: 1x1, then depthwise 3x3, for each part of the channels. Three parts are q, k, v,
        the first two of them for sums alone.

        The kernels are split and not the result, so that a pass of write_pass computes only the parts it needs.
        """
        pointwise = np.split(np.asarray(params["pointwise"]), parts, -1)
        depthwise = np.split(np.asarray(params["depthwise"])[:, :, 0], parts, -1)
        found = []
        for i, (first, second) in enumerate(zip(pointwise, depthwise, strict=True)):
            with self.graph.scope(name if parts == 1 else f"{name}_{'qkv'[i] if parts == 3 else i + 1}"):
                kernel = self.graph.constant(second.transpose(2, 0, 1)[:, None], "depthwise_kernel")
                wide = self._pointwise("pointwise", first, x)
                y = self.graph.op("Conv", wide, kernel, kernel_shape=[3, 3], pads=[1] * 4, group=second.shape[-1])
                found.append(self._masked(y, masks.counted if parts == 3 and i < 2 else masks.inside))
        return found

    def _norm(self, name: str, params, x: str, masks: Masks) -> str:
        """blocks.LayerNorm, over the channels, in float32."""
        with self.graph.scope(name):
            scale, bias = (self.graph.constant(params[key], key, np.float32) for key in ("scale", "bias"))
            last = self.graph.op("Transpose", self._exact(x), perm=[0, 2, 3, 1])
            normal = self.graph.op("LayerNormalization", last, scale, bias, axis=-1, epsilon=1e-5)
            normal = narrow(self.graph, self.graph.op("Transpose", normal, perm=[0, 3, 1, 2]))
            return self._masked(normal, masks.inside)

    def _gated(self, gate: str, value: str) -> str:
        """gelu(gate) * value, the exact (erf) GELU."""
        op, shared = self.graph.op, self.graph.shared
        phi = op("Add", op("Erf", op("Div", gate, shared(2**0.5, "sqrt2"))), shared(1.0, "one"))
        gelu = op("Mul", op("Mul", gate, phi), shared(0.5, "half"))
        return op("Mul", gelu, value)

    def _attention_sums(self, q: str, k: str) -> Sums:
        """In float32, whatever the activations are."""
        op, last = self.graph.op, self.graph.integers(-1)
        q, k = (self._exact(op("Reshape", x, self.graph.integers(0, 0, -1))) for x in (q, k))
        product = op("MatMul", q, op("Transpose", k, perm=[0, 2, 1]))
        return Sums(product, *(op("ReduceSumSquare", x, last, keepdims=1) for x in (q, k)))

    def _mixed(self, heads: int, params, sums: Sums, v: str) -> str:
        """blocks.ChannelAttention and mix: softmax of the normalised product in each head, times the output projection,
        times v."""
        op = self.graph.op
        constant = self.graph.constant
        temperature = np.asarray(params["temperature"], np.float32)
        project = np.asarray(params["project_out"], np.float32)
        size = len(project) // heads
        block = np.kron(np.eye(heads), np.ones((size, size)))
        eps = self.graph.shared(EPS, "eps", np.float32)
        norm_q, norm_k = (op("Max", op("Sqrt", x), eps) for x in (sums.square_q, sums.square_k))
        scores = op("Div", op("Div", sums.product, norm_q), op("Transpose", norm_k, perm=[0, 2, 1]))
        scores = op("Mul", scores, constant(np.repeat(temperature, size)[:, None], "temperature", np.float32))
        # Channels of other heads get a weight of zero.
        scores = op("Add", scores, self.graph.shared(np.where(block, 0, -1e9), f"other_of_{heads}_heads", np.float32))
        matrix = op("MatMul", constant(project.T, "project_out", np.float32), op("Softmax", scores, axis=-1))
        mixed = op("MatMul", narrow(self.graph, matrix), op("Reshape", v, self.graph.integers(0, 0, -1)))
        return op("Reshape", mixed, op("Shape", v))

    def _masked(self, x: str, mask: str | None) -> str:
        return x if mask is None else self.graph.op("Mul", x, mask)

    def _exact(self, x: str) -> str:
        """As float32."""
        return x if self.graph.number is np.float32 else self.graph.cast(x, np.float32)


def narrow(graph: Graph, x: str) -> str:
    """A float32 value in the graph's type of number."""
    return x if graph.number is np.float32 else graph.cast(x, graph.number)


def _named(module: Any) -> tuple[str, Any]:
    """(path of a bound Linen module, its parameters)."""
    return "/".join(map(str, module.path)), module.variables["params"]
