"""Random fields, box-filtered patterns and colours (3,1,1): what the surfaces of a scene are made of.

A surface is a function of plane coordinates ``s``, ``t`` (metres) and the size of a pixel in them, ``ds``, ``dt``. It
returns albedo (3,h,w) in [0,1], emission (3,h,w) as radiance, and warmth (h,w) in degrees above the air.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

WALLS = ((0.7, 0.66, 0.58), (0.6, 0.48, 0.33), (0.48, 0.46, 0.44), (0.46, 0.24, 0.16), (0.52, 0.56, 0.6))
WOODS = ((0.36, 0.2, 0.1), (0.5, 0.32, 0.17), (0.22, 0.12, 0.07), (0.56, 0.42, 0.27))


def mix(a, b, t):
    """a where t is 0, b where t is 1."""
    return a + (b - a) * t


def blur(image, sigma):
    """Gaussian blur over the last two axes, ``sigma`` in pixels, edges replicated."""
    for axis in (-2, -1) if sigma > 0.05 else ():
        image = ndimage.gaussian_filter1d(image, sigma, axis=axis, mode="nearest", truncate=3.0)
    return image


def resized(image, shape):
    """Linear resampling of (...,h,w) to (...,H,W), the areas aligned."""
    for axis, n in zip((-2, -1), shape, strict=True):
        nearest = np.take(image, np.arange(n) * image.shape[axis] // n, axis)
        image = ndimage.uniform_filter1d(nearest, round(n / image.shape[axis]), axis, mode="nearest")
    return image


def noise(rng, shape, beta=1.0, low=0.0, high=1.0):
    """Gaussian noise (H,W) of spectrum 1/f**beta between two frequencies (cycles per pixel), mean 0, variance 1."""
    step = int(0.25 / high) if high < 0.12 else 1
    if step > 1:  # a smooth field is made on a coarser grid
        field = resized(noise(rng, tuple(n // step + 2 for n in shape), beta, low * step, high * step), shape)
    else:
        radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])).astype(np.float32)
        radius[0, 0] = 1.0
        gain = radius ** np.float32(-beta) * (np.exp(-((radius / np.float32(high)) ** 4)) if high < 1.0 else 1.0)
        gain = gain * (1.0 - np.exp(-((radius / np.float32(low)) ** 4))) if low > 0.0 else gain
        field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * gain, s=shape)
    field = field - field.mean()
    return (field / (field.std() + 1e-12)).astype(np.float32)


def lookup(field, u, v):
    """Values of a repeating field (H,W) at ``u`` (across) and ``v`` (down), in its widths and heights; bilinear."""
    where = [x * n - 0.5 for x, n in zip(np.broadcast_arrays(v, u), field.shape, strict=True)]
    return ndimage.map_coordinates(field, where, order=1, mode="grid-wrap")


_grain = lru_cache(lambda beta: noise(np.random.default_rng(20240901), (256, 256), beta))


def grain(u, v, footprint, beta=0.7):
    """Noise (h,w) that is fixed in the plane, in tiles of 1 x 1; it fades at a distance."""
    field, fade = _grain(beta), np.minimum(1.0, 1.0 / np.maximum(120.0 * footprint, 1e-6))
    if np.min(footprint) < 1 / 256:
        return lookup(field, u, v) * fade
    return field[(v * 256).astype(np.int32) & 255, (u * 256).astype(np.int32) & 255] * fade


def pulse(x, duty, footprint):
    """Share of the pixel that lies in [n, n+duty) for some integer n: a box-filtered square wave."""
    half = np.maximum(footprint, 1e-3) * 0.5
    low, high = ((whole := np.floor(y)) * duty + np.minimum(y - whole, duty) for y in (x - half, x + half))
    return (high - low) / (2.0 * half)


def bar(x, low, high, footprint):
    """Share of the pixel that lies in [low, high)."""
    half = np.maximum(footprint, 1e-4) * 0.5
    return (np.clip(x + half, low, high) - np.clip(x - half, low, high)) / (2.0 * half)


def rgb(colour):
    """A colour as (3,1,1)."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


def hue(rng, saturation=(0.2, 0.7), value=(0.2, 0.7)):
    """A random colour in [0,1]."""
    wheel = np.clip(np.abs((6.0 * rng.random() + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return rgb(rng.uniform(*value) * mix(1.0, wheel, rng.uniform(*saturation)))


def shade_of(rng, table, spread=0.25):
    """One of a table's colours, a little lighter or darker."""
    return rgb(table[rng.integers(len(table))]) * rng.uniform(1.0 - spread, 1.0 + 0.6 * spread)


def plain(rng, colour, rough=0.08, scale=0.4, warmth=0.0, glow=0.0):
    """One colour with grain of ``scale`` tiles per metre; ``glow`` is the radiance that it emits."""
    shift, colour, glow = float(rng.random()), rgb(colour), rgb(np.broadcast_to(glow, (3, 1, 1)))

    def surface(s, t, ds, dt):
        fine = grain(t * scale + shift, s * scale, np.maximum(ds, dt) * scale)
        return colour * np.clip(1.0 + 1.2 * rough * fine, 0.1, 2.0), glow, warmth + 3.0 * rough * fine

    return surface


def cells(rng, colours, size, joint=0.06, stagger=0.5, between=None, rough=0.1, glow=None):
    """Cells in rows, ``size`` metres: bricks, boards, books, windows; ``glow`` (3,251) of each kind of cell."""
    table = np.concatenate(colours, axis=1)[:, rng.integers(len(colours), size=251), 0] * rng.uniform(0.82, 1.18, 251)
    table, glow = (np.asarray(x, np.float32) for x in (table, np.zeros((3, 251)) if glow is None else glow))
    warm, shift, (width, height) = rng.uniform(-2.5, 0.0, 251).astype(np.float32), float(rng.random()), map(float, size)

    def surface(s, t, ds, dt):
        down = t / height - 0.5 * joint
        row = np.floor(down)
        across = s / width + stagger * (row % 2) + shift
        solid = pulse(across, 1.0 - joint, ds / width) * pulse(down, 1.0 - joint, dt / height)
        kind = ((row.astype(np.int64) * 73856093 ^ np.floor(across).astype(np.int64) * 19349663) >> 3) % 251
        near = np.clip(2.0 - np.maximum(ds / width, dt / height), 0.0, 1.0)
        base, light, warmth = between(s, t, ds, dt) if between else (rgb(0.5 * table.mean(axis=1)), 0.0, 0.0)
        tone = 1.0 + rough * grain(t * 0.4 + shift, s * 1.2, np.maximum(ds, dt) * 1.2)
        albedo, emission = (mix(rgb(c.mean(axis=1)), c[:, kind], near) for c in (table, glow))
        return mix(base, tone * albedo, solid), light + solid * emission, warmth + solid * warm[kind]

    return surface


def printed(rng, tall):
    """Paper or paint with lines of text-like marks for something ``tall`` metres, dark on light or light on dark."""
    paper, ink = rng.permutation([hue(rng, (0.2, 0.9), (0.03, 0.4)), hue(rng, (0.0, 0.4), (0.5, 0.85))])
    inks, size = [paper, ink, ink, 0.5 * (paper + ink)], tall * rng.uniform(0.02, 0.05)
    return cells(rng, inks, (0.6 * size, size), 0.35, 0.5, plain(rng, paper, 0.03))
