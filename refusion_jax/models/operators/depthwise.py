"""Depthwise 3x3 convolution of frames as nine shifted multiply-adds, with derivative rules fast to any order.

XLA's grouped convolution is far slower on a CPU, and so are the derivatives that JAX finds for shifted multiply-adds
(padded sums, reductions over shifted slices). The convolution D(x, k) and the correlation C(x, g) are closed under
differentiation: the rule of each is written with the other, so that derivatives of any order are as fast.

    D(x, k)[p, c] = sum_t k[t, c] x[p + t, c]        dD/dx: D(g, flipped k)    dD/dk: C(x, g)
    C(x, g)[t, c] = sum_p x[p + t, c] g[p, c]        dC/dx: D(g, flipped u)    dC/dg: D(x, u)

p runs over the pixels of a frame (frames.py), t over the nine offsets. Reverse mode only (jax.custom_vjp).

What is traced within `kernels()` calls D and C of depthwise.cc where they fit: faster, and sooner compiled.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from refusion_jax.runtime.native import Native, native

LANES = 16  # channels that depthwise.cc works on together
_USED: ContextVar[bool] = ContextVar("kernels", default=False)

# The correlation goes through blocks of TERMS * PLACES pixels, which stay in cache while all nine sums are formed.
TERMS = 16  # products added at a time; XLA does not vectorise fewer
PLACES = 500  # partial sums at most, about; odd, for terms a power of two apart would share one place of the cache
SMALL = 1500  # pixels of a frame up to which gathering all taps at once, slower by far, is worth its quick compiling


def cpp() -> Native:
    """depthwise.cc for this machine's CPU, built where that was not done before."""
    return native(Path(__file__).with_suffix(".cc"), ("convolve", "correlate"))


@contextmanager
def kernels() -> Iterator[None]:
    """What is traced within uses depthwise.cc, if on a CPU and built: for programs that run in this process alone."""
    token = _USED.set(jax.default_backend() == "cpu")
    try:
        yield
    finally:
        _USED.reset(token)


def _kernel(name: str, *frames) -> str:
    """The registered name of a function of depthwise.cc for such frames; "" to do without."""
    fits = all(x.dtype == jnp.float32 and x.shape[1] % LANES == 0 and x.shape[0] >= SMALL for x in frames)
    return cpp().targets.get(name, "") if fits and _USED.get() else ""


def offsets(pitch: int) -> list[int]:
    """Offsets of the nine taps, in row order."""
    return [(i - 1) * pitch + j - 1 for i in range(3) for j in range(3)]


def depthwise3x3(x: jax.Array, kernel: jax.Array, grid) -> jax.Array:
    """Depthwise 3x3 convolution of a frame with zero border. x (N,C), kernel (3,3,C) -> (N,C), zero border."""
    return depthwise_parts(x, kernel, grid, 1)[0]


def depthwise_parts(x: jax.Array, kernel: jax.Array, grid, parts: int) -> tuple[jax.Array, ...]:
    """depthwise3x3 of all channels at once, the result in `parts` frames (N,C/parts)."""
    return _convolution((x,), kernel, grid, parts)


# Both take a frame in parts of its channels, as derivatives come: nothing need be put together.
def _convolution_of(xs, kernel, grid, parts: int) -> tuple[jax.Array, ...]:
    part = jax.ShapeDtypeStruct((xs[0].shape[0], kernel.shape[-1] // parts), xs[0].dtype)
    return _convolve(xs, kernel, grid.mask, grid.pitch, parts, _kernel("convolve", *xs, part))


_convolution = jax.custom_vjp(_convolution_of, nondiff_argnums=(3,))


# Compiled on their own, so that they are fast as well where the rest runs operation by operation.
@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _convolve(xs, kernel, mask, pitch: int, parts: int, target: str = ""):
    if target:
        part = jax.ShapeDtypeStruct((xs[0].shape[0], kernel.shape[-1] // parts), xs[0].dtype)
        call = jax.ffi.ffi_call(target, [part] * parts, vmap_method="sequential")
        return tuple(call(kernel.reshape(9, -1), mask, *xs, pitch=np.int64(pitch)))

    x = _joined(xs)

    def taps(x, kernel, mask):
        return tuple(jnp.split(_sum_of_taps(x, kernel, mask, pitch), parts, -1))

    if x.shape[0] < SMALL:
        edge = pitch + 1
        taps = kernel.reshape(9, -1)
        total = jnp.einsum("tnc,tc->nc", _gathered(x, pitch), taps, precision="highest", preferred_element_type=wide(x))
        total = jnp.pad((total * mask[edge:-edge]).astype(x.dtype), ((edge, edge), (0, 0)))
        return tuple(jnp.split(total, parts, -1))
    return jax.lax.platform_dependent(
        x, kernel, mask, cpu=lambda *operands: _apart(taps, kernel, *operands), default=taps
    )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _correlate(xs, gs, pitch: int, target: str = ""):
    if target:
        sums = jax.ShapeDtypeStruct((9, sum(x.shape[1] for x in xs)), xs[0].dtype)
        call = jax.ffi.ffi_call(target, sums, vmap_method="sequential")
        return call(*xs, *gs, parts=np.int64(len(xs)), pitch=np.int64(pitch)).reshape(3, 3, -1)

    x, g = _joined(xs), _joined(gs)

    def plain(x, g):
        return _correlation_plain(x, g, pitch)

    if x.shape[0] < SMALL:
        edge = pitch + 1
        sums = jnp.einsum(
            "tnc,nc->tc", _gathered(x, pitch), g[edge:-edge], precision="highest", preferred_element_type=wide(x)
        )
    else:
        sums = jax.lax.platform_dependent(x, g, cpu=lambda x, g: _correlation_by_blocks(x, g, pitch), default=plain)
    return sums.reshape(3, 3, -1).astype(x.dtype)


def _joined(xs):
    return xs[0] if len(xs) == 1 else jnp.concatenate(xs, -1)


def wide(x) -> jnp.dtype:
    """The type for sums of x: its own, at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _gathered(x, pitch: int):
    """x shifted by each tap: (9,n,C), of the n places that have all neighbours. Nine times the memory, little code."""
    edge = pitch + 1
    return x[np.asarray(offsets(pitch))[:, None] + np.arange(edge, x.shape[0] - edge)]


def _sum_of_taps(x, kernel, mask, pitch: int):
    edge = pitch + 1  # places at both ends of the frame that lack neighbours
    size = x.shape[0] - 2 * edge
    taps = kernel.reshape(9, -1).astype(wide(x))
    shifted = (x[edge + offset : edge + offset + size].astype(wide(x)) for offset in offsets(pitch))
    total = sum(tap * part for tap, part in zip(taps, shifted, strict=True))
    return jnp.pad((total * mask[edge : edge + size]).astype(x.dtype), ((edge, edge), (0, 0)))


def _apart(function, number, x, *operands):
    """function(x, ...), kept apart from the operations that made x.

    XLA's CPU backend would fuse them and compute x anew for each of the nine taps. It does not fuse into the branches
    of a conditional. The condition is whether `number` is finite; where it is not, the result is NaN.
    """
    known = jnp.isfinite(number.reshape(-1)[0])
    shapes = jax.eval_shape(function, x, *operands)

    def unknown(*_):
        return jax.tree.map(lambda shape: jnp.full(shape.shape, jnp.nan, shape.dtype), shapes)

    return jax.lax.cond(known, function, unknown, x, *operands)


def depthwise_correlation(x: jax.Array, g: jax.Array, grid) -> jax.Array:
    """The gradient of depthwise3x3 in its kernel: sums over pixels of g times shifted x. (N,C) twice -> (3,3,C)."""
    return _correlation((x,), (g,), grid)


@jax.custom_vjp
def _correlation(xs, gs, grid):
    return _correlate(xs, gs, grid.pitch, _kernel("correlate", *xs, *gs))


def _correlation_plain(x, g, pitch: int, first: int = 0):
    """The sums over the pixels from `first` on: (9,C), of the type `wide` gives."""
    edge = pitch + 1
    start, stop = edge + first, x.shape[0] - edge
    here = g[start:stop].astype(wide(x))
    return jnp.stack([jnp.sum(x[start + o : stop + o].astype(wide(x)) * here, 0) for o in offsets(pitch)])


def _correlation_by_blocks(x, g, pitch: int):
    """The same sums block by block; the sums over places come last and are small."""
    edge, channels = pitch + 1, x.shape[1]
    size = x.shape[0] - 2 * edge
    blocks = max(2, -(-size // (TERMS * PLACES)))
    places = -(-size // (TERMS * blocks)) | 1  # odd, as the terms must not lie a power of two apart
    length = TERMS * places
    again = blocks * length - size  # pixels of the last block that the one before it has summed
    if again >= length:  # so few pixels, or so many blocks
        return _correlation_plain(x, g, pitch)
    repeated = -(-again // places)  # terms with such pixels
    counted = np.ones((blocks, repeated * places, 1), np.float32)
    counted[-1, :again] = 0

    def add_block(sums, block):
        start, counted = block

        def part(image, first, count):
            taken = jax.lax.dynamic_slice(image, (first, 0), (count, channels), allow_negative_indices=False)
            return taken.astype(wide(x))

        near, here = part(x, start, length + 2 * edge), part(g, start + edge, length)
        terms = [here[k : k + places] for k in range(0, length, places)]
        for i in range(repeated):
            terms[i] *= counted[i * places : (i + 1) * places]
        new = []
        for total, offset in zip(sums, offsets(pitch), strict=True):
            first = edge + offset
            products = sum(near[first + k * places :][:places] * term for k, term in enumerate(terms))
            new.append(total + products)
        return new, None

    starts = np.minimum(np.arange(blocks) * length, size - length)
    zeros = [jnp.zeros((places, channels), wide(x))] * 9
    sums, _ = jax.lax.scan(add_block, zeros, (starts, counted))
    return jnp.stack([jnp.sum(s, 0) for s in sums])


def _flipped(kernel):
    return kernel[::-1, ::-1]


def _convolution_rule(parts, saved, gs):
    xs, kernel, grid = saved
    return _convolution(gs, _flipped(kernel), grid, len(xs)), _correlation(xs, gs, grid), None


def _correlation_rule(saved, u):
    xs, gs, grid = saved
    return _convolution(gs, _flipped(u), grid, len(xs)), _convolution(xs, u, grid, len(gs)), None


_convolution.defvjp(
    lambda xs, kernel, grid, parts: (_convolution(xs, kernel, grid, parts), (xs, kernel, grid)), _convolution_rule
)
_correlation.defvjp(lambda xs, gs, grid: (_correlation(xs, gs, grid), (xs, gs, grid)), _correlation_rule)
