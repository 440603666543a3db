"""A fusion network as a list of layers, and the two ways through it: the whole image at once, or part by part.

Channel attention needs sums over an image and nothing else of what lies far away. So every attention layer says two
things: its sums over the picture and, given the sums, its result. `fuse_whole` goes through the list with whole images;
`fuse_part` is the same walk with a part of an image, paused at every sum (fusing/tiles.py adds up the parts' sums).

A network offers its list by a method `layer_list()`, which is called inside `module.apply`. Networks without it are
fused as whole images.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from refusion_jax.models.operators.frames import Grid, from_frame, grid_like, to_frame

Streams = tuple[jax.Array, ...]  # feature maps of one size: one for each source, or one of both; frames (N,C)


class AttentionLayer(Protocol):
    """A layer whose result at a pixel depends on pixels nearby and on sums over the image.

    Frames must keep their zero border (models/operators/frames.py). Sums count the pixels of `grid.summed.mask` alone:
    of a part, those that no other part counts as well.
    """

    def sums(self, streams: Streams, grid: Grid) -> tuple[Any, Any]:
        """(sums over the pixels, values at each pixel that `result` needs as well): two trees of arrays."""
        ...

    def result(self, streams: Streams, sums: Any, values: Any, grid: Grid) -> Streams:
        """The new streams, with the sums of the whole image."""
        ...


class LayerList(NamedTuple):
    """F in order: a stem for each source, attention layers, a head.

    Stems and head take whole images (B,H,W,C), and with a grid frames (N,C) of a part of an image, as blocks.Conv3x3
    does. stem(luma, grid=None) -> features; head(streams, grid=None) -> the fused luma, of one channel.
    """

    stems: Sequence[Callable]
    attention: Sequence[AttentionLayer]
    head: Callable
    reach: int  # pixels that a pass of `fuse_part` looks sideways at most: the number of its 3x3 convolutions in a row


class EachStream(NamedTuple):
    """An attention layer made of one block (blocks.TransformerBlock) for each stream, side by side."""

    blocks: tuple

    def sums(self, streams, grid):
        """See AttentionLayer."""
        each = [block.sums(x, grid) for block, x in zip(self.blocks, streams, strict=True)]
        sums, values = zip(*each, strict=True)
        return sums, values

    def result(self, streams, sums, values, grid):
        """See AttentionLayer."""
        parts = zip(self.blocks, streams, sums, values, strict=True)
        return tuple(block.result(*part, grid) for block, *part in parts)


def fuse_whole(layers: LayerList, images: Sequence[jax.Array]) -> jax.Array:
    """The fused luma (B,H,W,1) of whole images, one (B,H,W,1) for each stem."""
    grid = grid_like(images[0])
    streams = tuple(to_frame(stem(image)) for stem, image in zip(layers.stems, images, strict=True))
    for layer in layers.attention:
        streams = layer.result(streams, *layer.sums(streams, grid), grid)
    return layers.head(tuple(from_frame(x, grid) for x in streams))


def fuse_part(layers: LayerList, turn: int, streams: Streams, sums: Any, grid: Grid) -> tuple[Any, Any]:
    """Pass `turn`, from one sum to the next, on a part of an image: (streams, sums).

    streams: what the pass before gave; for pass 0 the part's luma of each source. sums: those of the pass before, added
    up over the whole image; None for pass 0. The last pass, one for each attention layer and one more, gives the fused
    luma and no sums.
    """
    if turn == 0:
        streams = tuple(stem(x, grid) for stem, x in zip(layers.stems, streams, strict=True))
    else:
        # The sums are known and the values needed here; it was the other way round in the pass before. XLA drops what
        # is not used.
        layer = layers.attention[turn - 1]
        _, values = layer.sums(streams, grid)
        streams = layer.result(streams, sums, values, grid)
    if turn == len(layers.attention):
        return layers.head(streams, grid), None
    sums, _ = layers.attention[turn].sums(streams, grid)
    return streams, sums
