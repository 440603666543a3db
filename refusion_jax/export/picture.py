"""What fuse.py does around F, as nodes of a graph: luma, order of the sources, range `sources`, colour (Eq. 15).

The numbers are those of imaging/color.py and imaging/ranges.py; pictures are (1,3,H,W) float32 on 0..255 inside.
"""

import numpy as np

from refusion_jax.export.graph import Graph
from refusion_jax.imaging.color import LUMA
from refusion_jax.imaging.ranges import BORDER, FLAT


class PictureWriter:
    """Writes the steps into a graph. All values are float32."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def levels(self, picture: str) -> str:
        """RGB (H,W,3) uint8 -> (1,3,H,W)."""
        planes = self.graph.op("Transpose", self.graph.cast(picture, np.float32), perm=[2, 0, 1])
        return self.graph.op("Unsqueeze", planes, self.graph.integers(0))

    def luma(self, levels: str) -> str:
        """(1,3,H,W) on 0..255 -> luma (1,1,H,W) in [0,1]."""
        kernel = np.reshape(LUMA, (1, 3, 1, 1)) / 255
        return self.graph.op("Conv", levels, self._constant(kernel, "luma"), kernel_shape=[1, 1])

    def darker_first(self, a: str, b: str) -> tuple[str, str]:
        """data.pairs.darker_first of two lumas: means in float64, equal ones keep the order."""
        op = self.graph.op
        mean_a, mean_b = (op("ReduceMean", self.graph.cast(x, np.float64), keepdims=0) for x in (a, b))
        swap = op("Less", mean_b, mean_a)
        return op("Where", swap, b, a), op("Where", swap, a, b)

    def to_sources(self, fused: str, sources: tuple[str, str]) -> str:
        """imaging.ranges.to_range, rule "sources", of two sources: (1,1,H,W) in [0,1]."""
        op, constant = self.graph.op, self._constant
        inside = self._without_border(fused)
        own_low, own_high = self._extremes(inside)
        lows, highs = zip(*map(self._extremes, sources), strict=True)
        low, high = op("Min", *lows), op("Max", *highs)
        # A gap between the levels of both is not in the span.
        gap = op("Max", op("Sub", op("Max", *lows), op("Min", *highs)), constant(0.0, "zero"))
        span = op("Sub", op("Sub", high, low), gap)
        spread = op("Sub", own_high, own_low)
        gain = op("Div", span, op("Max", spread, constant(FLAT, "flat")))
        half = op("Mul", op("Mul", gain, spread), constant(0.5, "half"))
        middle = op("Mul", op("Add", own_low, own_high), constant(0.5, "half"))
        level = self._clip(middle, op("Add", low, half), op("Sub", high, half))
        return self._clip(op("Add", op("Mul", op("Sub", fused, middle), gain), level), low, high)

    def _without_border(self, fused: str) -> str:
        """Rows and columns that F's zero padding disturbs cut off, of a small picture a quarter."""
        op, integers = self.graph.op, self.graph.integers
        size = op("Slice", op("Shape", fused), integers(2), integers(4))
        quarter = op("Div", op("ReduceMin", size, keepdims=1), integers(4))
        cut = op("Min", quarter, integers(BORDER))
        return op("Slice", fused, op("Concat", cut, cut, axis=0), op("Sub", size, cut), integers(2, 3))

    def _extremes(self, x: str) -> tuple[str, str]:
        """(lowest, highest) value."""
        return self.graph.op("ReduceMin", x, keepdims=0), self.graph.op("ReduceMax", x, keepdims=0)

    def colored(self, luma: str, sources: tuple[str, str]) -> str:
        """imaging.color.fuse_color: luma (1,1,H,W) in [0,1] with the chroma of both sources -> RGB (H,W,3) uint8."""
        op = self.graph.op
        # Cr-128 and Cb-128 from differences of the channels, which sum to zero: grey has none exactly.
        r, g, b = LUMA
        kernel = np.asarray([[0.713 * (1 - r), -0.713 * g, -0.713 * b], [-0.564 * r, -0.564 * g, 0.564 * (1 - b)]])
        kernel = self._constant(kernel[:, :, None, None], "chroma")
        distances = [op("Conv", self._differences(x), kernel, kernel_shape=[1, 1]) for x in sources]
        weights = [op("Abs", x) for x in distances]
        total = op("Add", *weights)
        weighted = op("Add", *(op("Mul", w, x) for w, x in zip(weights, distances, strict=True)))
        chroma = op("Div", weighted, op("Max", total, self._constant(1e-9, "tiny")))
        inverse = self._constant(np.reshape([[1.403, 0], [-0.714, -0.344], [0, 1.773]], (3, 2, 1, 1)), "inverse")
        rgb = op("Conv", chroma, inverse, kernel_shape=[1, 1])
        rgb = op("Add", op("Mul", luma, self._constant(255.0, "white")), rgb)
        rgb = op("Round", self._clip(rgb, self._constant(0.0, "zero"), self._constant(255.0, "white")))
        planes = op("Squeeze", rgb, self.graph.integers(0))
        return self.graph.cast(op("Transpose", planes, perm=[1, 2, 0]), np.uint8)

    def _differences(self, levels: str) -> str:
        """The picture less its green channel: grey becomes zero, and the rows of `chroma` sum to zero."""
        op, integers = self.graph.op, self.graph.integers
        return op("Sub", levels, op("Slice", levels, integers(1), integers(2), integers(1)))

    def _clip(self, x: str, low: str, high: str) -> str:
        return self.graph.op("Min", self.graph.op("Max", x, low), high)

    def _constant(self, values, name: str) -> str:
        return self.graph.shared(values, name, np.float32)
