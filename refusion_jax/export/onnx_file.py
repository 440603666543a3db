"""F, and fuse.py around it, as one ONNX file that any runtime reads, for pictures of any size."""

from dataclasses import asdict

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.export.graph import OPSETS, Graph
from refusion_jax.export.network import layers_of, write_whole
from refusion_jax.export.picture import PictureWriter
from refusion_jax.fusing.model import Model
from refusion_jax.models import build as networks
from refusion_jax.tasks import SOURCES

PRECISIONS = {"float32": np.float32, "float16": np.float16}


def onnx_file(model: Model, *, opset: int = OPSETS[0], precision: str = "float32", color: bool = False) -> bytes:
    """The bytes of a .onnx file.

    Without color F alone. Inputs `a` and `b` (batch,1,height,width) float32, the lumas of both sources in [0,1], in the
    order of the metadata; output `fused`, likewise, F's output before any range step.

    With color fuse.py's default: inputs `a` and `b` (height,width,3) uint8 RGB, output `fused` likewise: luma, for meie
    the darker source first, F, range `sources`, colour by Eq. 15.

    precision: float32, or float16 for F's weights and activations; normalisations, sums over pixels, inputs and outputs
    stay float32 then. Metadata: task, source_order, range, precision, and what is known of the weights' origin.
    Raises InputError for another opset, and where F is not a list of our layers.
    """
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(f"expected an opset from {OPSETS[0]} to {OPSETS[1]}, got {opset}")
    graph = Graph(PRECISIONS[precision])
    fusion, *_ = networks.build(**asdict(model.settings))
    layers = layers_of(fusion, model.params.f)
    if color:
        shape, number = ("height", "width", 3), np.uint8
        graph.rename(_colored(graph, layers, model.task), "fused")
    else:
        shape, number = ("batch", 1, "height", "width"), np.float32
        graph.rename(write_whole(graph, layers, ("a", "b")), "fused")
    a, b, fused = (graph.info(name, shape, number) for name in ("a", "b", "fused"))
    metadata = _metadata(model, precision, color)
    doc = "; ".join(f"{key}: {value}" for key, value in metadata.items())
    return graph.model("ReFusion", [a, b], [fused], opset=opset, metadata=metadata, doc=doc)


def _colored(graph: Graph, layers, task: str | None) -> str:
    """What Model.fuse does with two RGB pictures."""
    writer = PictureWriter(graph)
    pictures = [writer.levels(name) for name in ("a", "b")]
    lumas = writer.luma(pictures[0]), writer.luma(pictures[1])
    if task == "meie":
        lumas = writer.darker_first(*lumas)
    fused = writer.to_sources(write_whole(graph, layers, lumas), lumas)
    return writer.colored(fused, (pictures[0], pictures[1]))


def _metadata(model: Model, precision: str, color: bool) -> dict[str, str]:
    """What a user of the file has to know, as texts."""
    inputs = "RGB (height,width,3) uint8" if color else "luma (batch,1,height,width) float32 in [0,1]"
    order = ", ".join(SOURCES.get(model.task or "", ("not known",)))
    if color and model.task == "meie":
        order = "any; the darker is taken as the first"
    found = {
        "task": model.task or "not known",
        "source_order": order,
        "inputs": inputs,
        "luma": "0.299 R + 0.587 G + 0.114 B",
        "range": "sources" if color else "none; fuse.py applies the rule sources to the output",
        "precision": precision,
    }
    return found | {key: str(model.info[key]) for key in ("step", "released", "preset") if key in model.info}
