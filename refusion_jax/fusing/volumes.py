"""Fusing volumes: slice by slice, with one attention and one range over the whole volume."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.fusing.model import Model
from refusion_jax.fusing.tiles import added_sums
from refusion_jax.imaging.color import finished_picture, unit_luma
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.ranges import RANGES, SAMPLED, LinearStep, Spans, span_of


def fuse_slices(
    model: Model,
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    range: str = "sources",  # noqa: A002
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Fuses each slice of two volumes on one grid.

    a, b: (S,H,W) uint8 or uint16, or (S,H,W,3) RGB, slices first, in the trained order. out: gets the result, (S,H,W)
    or, in colour, (S,H,W,3), uint8 or uint16; may be a view of a volume that is stored in another order.
    range: as of `Model.fuse`, but found once for all slices: "sources", the levels that both volumes span together;
    "minmax", the full range over the volume; "clip". progress(): called len(a) + samples(a, b) times.

    The sums of F's attention are those of at most SAMPLED slices that show something, and the same for all slices.
    Raises InputError for shapes that differ, another range, and a model for exposures.
    """
    if a.shape[:3] != b.shape[:3]:
        raise InputError(f"expected two volumes on one grid, got slices of shape {a.shape} and {b.shape}")
    if range not in RANGES:
        raise InputError(f"range must be one of {', '.join(RANGES)}, got {range!r}")
    if model.task == "meie":
        raise InputError("volumes are not for exposures (meie): which is the darker would differ from slice to slice")
    held = _attention(model, a, b, progress)
    outputs, spans = np.empty(a.shape[:3], np.float32), Spans()
    for i, output in enumerate(_outputs(model, a, b, held)):
        outputs[i] = output
        spans.add(output, [span_of(unit_luma(source[i])) for source in (a, b)])
        progress()
    step = _step(spans, range)
    bits = out.dtype.itemsize * 8
    for i, output in enumerate(outputs):
        finished = finished_picture(step(output), (a[i], b[i]), gray=out.ndim == 3)
        out[i] = to_depth(finished, bits)


def samples(a: np.ndarray, b: np.ndarray) -> list[int]:
    """The slices whose attention counts: SAMPLED at most of those in which both sources, or else one, show anything."""
    shown = [[_constant(source[i]) is None for source in (a, b)] for i in range(len(a))]
    found = [i for i, both in enumerate(shown) if all(both)] or [i for i, both in enumerate(shown) if any(both)]
    return found[:: 1 + max(len(found) - 1, 0) // SAMPLED]


def _attention(model: Model, a: np.ndarray, b: np.ndarray, progress: Callable[[], object]) -> list[Any] | None:
    """F's sums over the samples; None for a network that has none."""
    each: list[list[Any]] = []
    for i in samples(a, b):
        seen: list[Any] = []
        model.network_output(a[i], b[i], seen=seen)
        each.append(seen)
        progress()
    return added_sums(each)


def _outputs(model: Model, a: np.ndarray, b: np.ndarray, held: Sequence[Any] | None) -> Iterator[np.ndarray]:
    """F's output on each slice, (H,W); computed once for those that are constant in both sources, such as air."""
    constant: dict[tuple[Any, Any], np.ndarray] = {}
    for one, other in zip(a, b, strict=True):
        key = _constant(one), _constant(other)
        if None in key:
            yield model.network_output(one, other, held=held)
            continue
        if key not in constant:
            constant[key] = model.network_output(one, other, held=held)
        yield constant[key]


def _constant(image: np.ndarray) -> tuple | None:
    """The colour of an image that has one alone."""
    first = image[0, 0]
    return tuple(np.atleast_1d(first).tolist()) if (image == first).all() else None


def _step(spans: Spans, rule: str) -> Callable[[np.ndarray], np.ndarray]:
    if rule == "sources":
        return spans.step()
    low, high = spans.output or (0.0, 1.0)
    if rule == "clip" or high <= low:
        return LinearStep(0, 1, 0, 0, 1)
    return LinearStep(low, 1 / (high - low), 0, 0, 1)


def maps_of_slices(model: Model, a: np.ndarray, b: np.ndarray, w: np.ndarray, v: np.ndarray) -> None:
    """P's weights of source a for each slice into w and v, (S,H,W) uint8 or uint16 each: 0 all b, the largest all a."""
    peak = np.iinfo(w.dtype).max
    for i, (one, other) in enumerate(zip(a, b, strict=True)):
        w[i], v[i] = (np.rint(weights[..., 0] * np.float32(peak)) for weights in model.maps(one, other))
