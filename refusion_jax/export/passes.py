"""F cut at its sums: a graph for each pass over the tiles of a picture, for runtimes with little memory (web/).

The ONNX twin of layer_list.fuse_part. Tiles overlap by `reach` pixels on each side, of which the outermost come out
wrong; what is kept of a tile are its own pixels, without the overlap.
"""

import itertools

from refusion_jax.export.graph import Graph
from refusion_jax.export.network import Masks, Sums, Writer, layers_of
from refusion_jax.models.fusion import AttentionalFusion
from refusion_jax.models.layer_list import LayerList

OPSET = 18


def write_passes(module, params) -> list[bytes]:
    """A .onnx file for each pass, for tiles of any size (H,W), overlap included.

    Inputs of each: `inside` and `counted` (1,1,H,W), see Masks; `stream0` and, as long as the sources are apart,
    `stream1` (1,C,H,W): for the first pass the luma of each source in [0,1], for the others what the pass before gave,
    zero outside the picture; for the others also `sums0`, `sums1` (1,C,C+2): those of the pass before, added up over
    all tiles. Outputs: `next0`, `next1` and `next_sums0`, `next_sums1`; of the last pass `fused` (1,1,H,W).
    """
    layers = layers_of(module, params)
    return [_write_pass(layers, turn) for turn in range(len(layers.attention) + 1)]


def stream_channels(layers: LayerList) -> list[list[int]]:
    """Channels of each stream: before the first attention layer, before the second, ..."""
    found = [[stem.variables["params"]["kernel"].shape[-1] for stem in layers.stems]]  # type: ignore[attr-defined]
    for layer in layers.attention:
        found.append([sum(found[-1])] if isinstance(layer, AttentionalFusion) else found[-1])
    return found


def _write_pass(layers: LayerList, turn: int) -> bytes:
    graph, size = Graph(), ("height", "width")
    writer, masks, channels = Writer(graph), Masks("inside", "counted"), stream_channels(layers)
    taken = [1] * len(layers.stems) if turn == 0 else channels[turn - 1]
    streams = [f"stream{i}" for i in range(len(taken))]
    inputs = [graph.info(name, (1, 1, *size)) for name in ("inside", "counted")]
    inputs += [graph.info(name, (1, c, *size)) for name, c in zip(streams, taken, strict=True)]
    if turn == 0:
        streams = writer.stems(layers, streams, masks)
    else:
        inputs += [graph.info(f"sums{i}", (1, c, c + 2)) for i, c in enumerate(taken)]
        sums = [_apart(graph, f"sums{i}", c) for i, c in enumerate(taken)]
        _, values = writer.sums(layers.attention[turn - 1], streams, masks)
        streams = writer.result(layers.attention[turn - 1], streams, sums, values, masks)
    outputs = []
    if turn == len(layers.attention):
        graph.rename(writer.head(layers, streams, masks), "fused")
        outputs.append(graph.info("fused", (1, 1, *size)))
    else:
        sums, _ = writer.sums(layers.attention[turn], streams, masks)
        for i, (x, parts, c) in enumerate(zip(streams, sums, channels[turn], strict=True)):
            graph.rename(x, f"next{i}")
            graph.rename(graph.op("Concat", *parts, axis=2), f"next_sums{i}")
            outputs += [graph.info(f"next{i}", (1, c, *size)), graph.info(f"next_sums{i}", (1, c, c + 2))]
    return graph.model(f"F, pass {turn}", inputs, outputs, opset=OPSET, metadata={"reach": str(layers.reach)})


def _apart(graph: Graph, joined: str, channels: int) -> Sums:
    """The three sums that lie side by side in (1,C,C+2)."""
    edges = itertools.pairwise((0, channels, channels + 1, channels + 2))
    integers = graph.integers
    return Sums(*(graph.op("Slice", joined, integers(a), integers(b), integers(2)) for a, b in edges))
