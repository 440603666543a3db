"""F's attention layers for fusing in tiles, in C++ (cpp_layers.cc): another way through the same list of layers.

What XLA makes of a layer writes every map to memory and reads it again; cpp_layers.cc goes through a tile row by row,
and all between what comes in and what goes out stays in a core's own cache. No derivatives. The layers of blocks.py and
fusion.py say what is computed; those it does not fit stay as they are.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from refusion_jax.models.blocks import ChannelAttention, TransformerBlock
from refusion_jax.models.fusion import AttentionalFusion
from refusion_jax.models.layer_list import AttentionLayer, EachStream, LayerList
from refusion_jax.models.operators.depthwise import LANES
from refusion_jax.models.operators.frames import Grid
from refusion_jax.runtime.native import Native, native


def cpp() -> Native:
    """cpp_layers.cc for this machine's CPU, built where that was not done before."""
    return native(Path(__file__).with_suffix(".cc"), ("merge", "sums"))


def in_cpp(layers: LayerList) -> LayerList:
    """The list with those attention layers in C++ that it fits, if on a CPU and built; for programs that run in this
    process alone. To be called inside `module.apply`."""
    if jax.default_backend() != "cpu" or not cpp().targets:
        return layers
    return layers._replace(attention=tuple(map(_in_cpp, layers.attention)))


def _in_cpp(layer: Any) -> AttentionLayer:
    if type(layer) is EachStream and all(type(block) is TransformerBlock for block in layer.blocks):
        blocks = [Block(block.heads, block.variables["params"]) for block in layer.blocks]
        fits, found = all(_fits(b.heads, b.params["norm1"]["scale"].size) for b in blocks), EachStream(tuple(blocks))
    elif type(layer) is AttentionalFusion:
        params = layer.variables["params"]
        fits, found = _fits(layer.heads, len(params["qkv1"]["pointwise"])), Merging(layer.heads, params)
    else:
        return layer
    return found if fits else layer


def _fits(heads: int, channels: int) -> bool:
    """Whether LANES channels together are whole heads."""
    return channels % LANES == 0 and LANES % (channels // heads) == 0


class Projection(NamedTuple):
    """blocks.PointwiseDepthwise of a frame x (N,C), or of its layer norm: its kernels (C,D) and (3,3,1,D)."""

    x: jax.Array
    pointwise: jax.Array
    depthwise: jax.Array
    norm: Any = None  # parameters of blocks.LayerNorm

    @property
    def operands(self) -> tuple[jax.Array, ...]:
        """As cpp_layers.cc takes them."""
        return _exact(self.x, self.pointwise, self.depthwise.reshape(9, -1))


def projections(x: jax.Array, params: Any, parts: int, norm: Any = None) -> list[Projection]:
    """Of all parts of a PointwiseDepthwise with these parameters."""
    pointwise, depthwise = (jnp.split(params[name], parts, -1) for name in ("pointwise", "depthwise"))
    return [Projection(x, *kernels, norm) for kernels in zip(pointwise, depthwise, strict=True)]


def merged(base: jax.Array, out: jax.Array, grid: Grid, value: Projection, gate: Projection | None = None) -> jax.Array:
    """base + (gelu(gate) * value) @ out, without a gate base + value @ out: base (N,E), out (D,E) -> (N,E)."""
    call = jax.ffi.ffi_call(cpp().targets["merge"], jax.ShapeDtypeStruct(base.shape, np.float32))
    operands = *value.operands, *(gate or value).operands
    attributes = {"pitch": np.int64(grid.pitch), "normed": value.norm is not None, "gated": gate is not None}
    return call(*_exact(base, grid.mask), *_norm(value), *_exact(out), *operands, **attributes)


def attention_sums(query: Projection, key: Projection, grid: Grid) -> tuple[jax.Array, jax.Array, jax.Array]:
    """blocks.attention_sums over the pixels that the grid counts. Of q.k those entries alone that LANES channels have
    with each other; the others are 0."""
    channels = query.x.shape[-1]
    vector = jax.ShapeDtypeStruct((1, channels), np.float32)
    matrix = jax.ShapeDtypeStruct((1, channels, channels), np.float32)
    call = jax.ffi.ffi_call(cpp().targets["sums"], [matrix, vector, vector])
    attributes = {"pitch": np.int64(grid.pitch), "normed": query.norm is not None}
    masks = _exact(grid.mask, grid.summed.mask)
    dots, of_query, of_key = call(*masks, *_norm(query), *query.operands, *key.operands, **attributes)
    return dots, of_query, of_key


def _norm(projection: Projection) -> tuple[jax.Array, ...]:
    given = projection.norm
    return _exact(given["scale"], given["bias"]) if given is not None else (jnp.zeros(0), jnp.zeros(0))


def _exact(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """float32, whatever a checkpoint's parameters are."""
    return tuple(x.astype(np.float32) for x in arrays)


def attended(x: jax.Array, v: Projection, heads: int, params: Any, sums: Any, grid: Grid) -> jax.Array:
    """x with blocks.ChannelAttention's share added; `params` are that module's."""
    matrix = ChannelAttention(heads, parent=None).apply({"params": params}, sums)
    return merged(x, matrix[0], grid, v)


class Block(NamedTuple):
    """blocks.TransformerBlock."""

    heads: int
    params: Any

    def sums(self, x, grid):
        """(attention_sums, nothing: v is formed where it is used)."""
        q, k, _ = projections(x, self.params["self_attention"]["qkv"], 3, self.params["norm1"])
        return attention_sums(q, k, grid), None

    def result(self, x, sums, values, grid):
        """The block's output, given the sums of the whole image."""
        attention = self.params["self_attention"]
        _, _, v = projections(x, attention["qkv"], 3, self.params["norm1"])
        x = attended(x, v, self.heads, attention["attention"], sums, grid)
        gate, value = projections(x, self.params["feed_forward"]["project_in"], 2, self.params["norm2"])
        return merged(x, self.params["feed_forward"]["project_out"]["kernel"], grid, value, gate)


class Merging(NamedTuple):
    """fusion.AttentionalFusion."""

    heads: int
    params: Any

    def sums(self, streams, grid):
        """See AttentionalFusion.sums."""
        (q1, k1, _), (q2, k2, _) = self._qkv(streams)
        return (attention_sums(q2, k1, grid), attention_sums(q1, k2, grid)), None

    def result(self, streams, sums, values, grid):
        """Both sources in one frame."""
        vs = [v for _, _, v in self._qkv(streams)]
        x1, x2 = (
            attended(x, v, self.heads, self.params[f"attention{i}"], s, grid)
            for i, (x, v, s) in enumerate(zip(streams, vs, sums, strict=True), 1)
        )
        both = jnp.concatenate([x1, x2], -1)
        gates, whole = projections(both, self.params["gate"], 2), both
        for i, (x, gate) in enumerate(zip((x1, x2), gates, strict=True), 1):
            (value,) = projections(x, self.params[f"value{i}"], 1)
            whole = merged(whole, self.params[f"project_out{i}"]["kernel"], grid, value, gate)
        return (whole,)

    def _qkv(self, streams):
        return [projections(x, self.params[f"qkv{i}"], 3) for i, x in enumerate(streams, 1)]
