"""Textures: 1/f noise, box-filtered patterns, lettering, posters, colours of things.

Images here are float32 with values about [0,1] (colours) or zero mean and unit variance (noise). Functions
that take a ``footprint`` want the size of one pixel in the texture's own units, so that detail finer than
a pixel is averaged away instead of aliasing.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from scipy import ndimage

# A 5x7 dot-matrix face: seven rows per letter, each a base-32 digit whose five bits are the dots.
_GLYPHS = (
    "ehhvhhh uhhuhhu ehggghe uhhhhhu vgguggv vgguggg ehgnhhf hhhvhhh e44444e hikokih ggggggv hrllhhh hpljhhh"
    " ehhhhhe uhhuggg uhhukih fgge11u v444444 hhhhhhe hhhhha4 hha4ahh v12488v 4c4444e eh1268v u11e11u 26aiv22"
    " vgu11he v124888 ehhehhe ehhf11e 00e1fhf 00ehvge 00uhhhh 00ehhhe 00mpggg 00fge1u 88u8896 40c444e c44444e"
    " 11fhhhf 00hhhjd gguhhhh 00qllll gguhhhu"
).split()


def smoothstep(low, high, x):
    """0 below ``low``, 1 above ``high``, a cubic between; ``low`` > ``high`` turns it round."""
    t = np.clip((x - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(a, b, t):
    """a where t is 0, b where t is 1."""
    return a + (b - a) * t


@lru_cache(maxsize=64)
def _log_radius(shape):
    """Logarithm of the spatial frequency (cycles per pixel) of every coefficient of a real transform."""
    fy = scipy.fft.fftfreq(shape[0])[:, None]
    fx = scipy.fft.rfftfreq(shape[1])[None, :]
    radius = np.log(np.maximum(np.hypot(fy, fx), 0.5 / max(shape))).astype(np.float32)
    radius.setflags(write=False)
    return radius


def _standardised(field):
    field = field - field.mean()
    return field * (1.0 / (field.std() + 1e-12))


def noise(rng, shape, beta=1.0, low=0.0, high=1.0):
    """Gaussian noise (H,W) with amplitude spectrum 1/f**beta, zero mean, unit variance.

    ``low`` and ``high`` are cut-off frequencies in cycles per pixel (wave lengths 1/low and 1/high), rolled
    off softly. It is periodic where the sides are fast lengths of the transform (powers of two are).
    """
    height, width = (scipy.fft.next_fast_len(int(n), real=True) for n in shape)
    log_radius = _log_radius((height, width))
    # coefficients are drawn where the band is, in the two corners that hold low frequencies
    rows, cols = height, width // 2 + 1
    if high < 0.2:
        rows, cols = min(rows, 2 * int(1.5 * high * height) + 3), min(cols, int(1.5 * high * width) + 2)
    top, bottom = (rows + 1) // 2, rows // 2
    part = log_radius if rows == height else np.concatenate([log_radius[:top], log_radius[height - bottom :]])
    part = part[:, :cols]
    exponent = part * np.float32(-beta)
    if high < 1.0:
        exponent = exponent - np.exp(4.0 * (part - np.float32(np.log(high))))
    gain = np.exp(exponent)
    if low > 0.0:
        gain *= 1.0 - np.exp(-np.exp(4.0 * np.minimum(part - np.float32(np.log(low)), 3.0)))
    drawn = rng.standard_normal((2, rows, cols), dtype=np.float32) * gain
    spectrum = np.zeros((height, width // 2 + 1), np.complex64)
    spectrum.real[:top, :cols], spectrum.imag[:top, :cols] = drawn[0, :top], drawn[1, :top]
    if bottom:
        spectrum.real[height - bottom :, :cols] = drawn[0, top:]
        spectrum.imag[height - bottom :, :cols] = drawn[1, top:]
    spectrum[:, 0] *= np.float32(np.sqrt(2.0))  # half of this column is lost: its image must be real
    spectrum[0, 0] = 0.0
    field = scipy.fft.irfft2(spectrum, s=(height, width))
    return _standardised(field[: shape[0], : shape[1]]).astype(np.float32)


def blur(image, sigma):
    """Gaussian blur over the last two axes, edges replicated; ``sigma`` in pixels (one or two)."""
    sigma = (sigma, sigma) if np.isscalar(sigma) else tuple(sigma)
    for axis, width in zip((-2, -1), sigma, strict=True):
        if width > 0.05:
            image = ndimage.gaussian_filter1d(image, width, axis=axis, mode="nearest", truncate=3.0)
    return image


def resized(image, shape):
    """Linear resampling of (..., h, w) to (..., H, W), corners of the pixel grid aligned on their areas."""
    out = image
    for axis, length in zip((-2, -1), shape, strict=True):
        count = out.shape[axis]
        position = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
        lower = np.minimum(position.astype(int), max(count - 2, 0))
        weight = (position - lower).astype(np.float32)
        weight = weight[:, None] if axis == -2 else weight
        out = np.take(out, lower, axis) * (1 - weight) + np.take(out, np.minimum(lower + 1, count - 1), axis) * weight
    return out.astype(np.float32)


class Pyramid(NamedTuple):
    """An image of power-of-two sides and its 2x2 averages, laid end to end for look-up."""

    flat: np.ndarray  # (channels, total)
    height: int
    width: int
    offsets: np.ndarray  # start of each level in ``flat``


def pyramid(image):
    """Pyramid of (H,W) or (C,H,W); sides that are no power of two are resampled to the next one."""
    image = image[None] if image.ndim == 2 else image
    height, width = (1 << (n - 1).bit_length() for n in image.shape[-2:])
    if image.shape[-2:] != (height, width):
        image = resized(image, (height, width))
    levels, level = [], image
    while True:
        levels.append(level.reshape(len(level), -1))
        if min(level.shape[-2:]) == 1:
            break
        level = 0.25 * (level[:, ::2, ::2] + level[:, 1::2, ::2] + level[:, ::2, 1::2] + level[:, 1::2, 1::2])
    offsets = np.cumsum([0] + [part.shape[1] for part in levels[:-1]])
    flat = np.concatenate(levels, axis=1).astype(np.float32)
    return Pyramid(flat, height, width, offsets.astype(np.int32))


@lru_cache(maxsize=32)
def grain(beta=1.0, stretch=1):
    """A fixed periodic 256x256 noise pyramid (read anywhere); ``stretch`` elongates it along rows."""
    field = noise(np.random.default_rng(20240901), (256, 256), beta)
    if stretch > 1:
        field = _standardised(ndimage.gaussian_filter1d(field, stretch, axis=1, mode="wrap"))
    result = pyramid(field.astype(np.float32))
    result.flat.setflags(write=False)
    return result


def lookup(tile, u, v, footprint):
    """Tile values at ``u`` (across) and ``v`` (down), in tiles (it repeats), as (C, ...) arrays; bilinear.

    ``footprint`` is the pixel's size in tiles: the level whose texels are about that large is read.
    """
    last = len(tile.offsets) - 1
    size = np.maximum(np.asarray(footprint, np.float32) * min(tile.height, tile.width), 1.0)
    level = np.minimum(np.rint(np.log2(size)), last).astype(np.int32)
    width, height = np.right_shift(np.int32(tile.width), level), np.right_shift(np.int32(tile.height), level)
    x, y = np.float32(u) * width - np.float32(0.5), np.float32(v) * height - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    fx, fy = (x - left).astype(np.float32), (y - top).astype(np.float32)
    left, top = left.astype(np.int32), top.astype(np.int32)
    start = tile.offsets[level]
    columns = (left & (width - 1), (left + 1) & (width - 1))
    rows = (start + (top & (height - 1)) * width, start + ((top + 1) & (height - 1)) * width)
    corners = rows[0] + columns[0], rows[0] + columns[1], rows[1] + columns[0], rows[1] + columns[1]
    out = []
    for channel in tile.flat:
        one, two, three, four = (channel.take(corner) for corner in corners)
        out.append(mix(mix(one, two, fx), mix(three, four, fx), fy))
    return out


def pulse(x, duty, footprint):
    """Share of the pixel lying in [n, n+duty) for some integer n: a box-filtered square wave."""
    half = np.maximum(footprint, 1e-3) * 0.5
    return (_ramp(x + half, duty) - _ramp(x - half, duty)) / (2.0 * half)


def _ramp(x, duty):
    whole = np.floor(x)
    return whole * duty + np.minimum(x - whole, duty)


def bar(x, low, high, footprint):
    """Share of the pixel lying in [low, high): one box-filtered bar."""
    half = np.maximum(footprint, 1e-4) * 0.5
    return (np.clip(x + half, low, high) - np.clip(x - half, low, high)) / (2.0 * half)


def pick(table, *cells):
    """One entry of ``table`` (N,) per integer cell; the same cell always gets the same one."""
    index = np.zeros((), np.int64)
    for cell, factor in zip(cells, (73856093, 19349663, 83492791), strict=False):
        index = index ^ (np.floor(cell).astype(np.int64) * factor)
    return table[(index >> 3) % len(table)]


def brick(s, t, footprint, length=0.24, height=0.075, joint=0.012):
    """Share of brick (1) against mortar (0) in running bond, and the brick's cell (row, column)."""
    row = np.floor(t / height)
    shifted = s / length + 0.5 * (row % 2)
    across = pulse(shifted, 1.0 - joint / length, footprint / length)
    down = pulse(t / height, 1.0 - joint / height, footprint / height)
    return across * down, row, np.floor(shifted)


def letters(rng, rows, columns, word=6.0):
    """Made-up lettering, (9*rows, 6*columns), 1 on the strokes: words of about ``word`` letters."""
    page = np.zeros((9 * rows, 6 * columns), np.float32)
    table = _glyph_table()
    for row in range(rows):
        length = columns if rng.random() < 0.75 else int(rng.integers(columns // 3, columns + 1))
        capitals = rng.random() < 0.4
        for column in range(length):
            if rng.random() < 1.0 / word:
                continue
            index = int(rng.integers(0, 30 if capitals else len(_GLYPHS)))
            page[9 * row + 1 : 9 * row + 8, 6 * column : 6 * column + 5] = table[index]
    return page


@lru_cache(maxsize=1)
def _glyph_table():
    rows = [[[int(digit, 32) >> bit & 1 for bit in (4, 3, 2, 1, 0)] for digit in glyph] for glyph in _GLYPHS]
    return np.array(rows, np.float32)


def enlarged(bitmap, factor):
    """A dot-matrix bitmap drawn ``factor`` times larger with rounded strokes."""
    if factor <= 1:
        return bitmap
    big = np.kron(bitmap, np.ones((factor, factor), np.float32))
    return smoothstep(0.28, 0.72, blur(big, 0.35 * factor)).astype(np.float32)


def hue(rng, saturation=(0.2, 0.8), value=(0.3, 0.9)):
    """A random colour, (3,) in [0,1]."""
    angle, s, v = rng.random() * 6.0, rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((angle + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (v * (1.0 - s + s * wheel)).astype(np.float32)


def wall_paint(rng):
    """A colour of walls, (3,): whites, creams, greys, ochres, brick tones, now and then another."""
    base = (
        (0.78, 0.76, 0.72),
        (0.72, 0.64, 0.5),
        (0.55, 0.54, 0.52),
        (0.66, 0.5, 0.3),
        (0.55, 0.32, 0.22),
        (0.7, 0.58, 0.45),
        (0.5, 0.58, 0.5),
        (0.48, 0.55, 0.64),
        (0.72, 0.52, 0.48),
        (0.36, 0.35, 0.36),
    )[int(rng.integers(10))]
    return (
        (np.array(base, np.float32) * (rng.uniform(0.7, 1.1) + rng.normal(0, 0.03, 3)))
        .clip(0.03, 0.85)
        .astype(np.float32)
    )


def poster(rng, shape=(128, 128)):
    """A printed page (3,H,W) in [0,1]: a picture of simple forms, a headline, lines of text, a border."""
    height, width = shape
    paper = hue(rng, (0.0, 0.25), (0.75, 0.98)) if rng.random() < 0.6 else hue(rng, (0.3, 0.9), (0.1, 0.7))
    ink = hue(rng, (0.0, 0.9), (0.02, 0.25)) if paper.mean() > 0.5 else hue(rng, (0.0, 0.4), (0.8, 1.0))
    page = np.broadcast_to(paper[:, None, None], (3, height, width)).copy()
    kind = rng.random()
    top = int(height * rng.uniform(0.16, 0.3))
    scale = int(rng.integers(width // 48, max(width // 22, width // 48 + 1) + 1))
    scale = max(1, min(scale, top // 9))
    head = enlarged(letters(rng, 1, max(2, int(width / (6 * scale)) - 1), 9.0), scale)
    _print(page, head, max(1, (top - head.shape[0]) // 2), max(2, scale), ink)
    if kind < 0.65:
        bottom = int(height * rng.uniform(0.55, 0.92))
        margin = int(width * rng.uniform(0.0, 0.1))
        box = page[:, top:bottom, margin : width - margin]
        box[...] = picture(rng, box.shape[1:])
        top = bottom + 2
    if height - top > 12:
        small = max(1, int(rng.integers(1, max(2, width // 90 + 1))))
        text = enlarged(
            letters(rng, max(1, (height - top - 4) // (9 * small)), max(2, width // (6 * small) - 2)), small
        )
        _print(page, text, top + 2, 4 * small, ink)
    return page


def _print(page, mask, row, column, ink):
    mask = mask[: max(0, page.shape[1] - row), : max(0, page.shape[2] - column)]
    area = page[:, row : row + mask.shape[0], column : column + mask.shape[1]]
    area += (ink[:, None, None] - area) * mask


def picture(rng, shape):
    """A flat coloured picture (3,H,W): hills under a sky, or overlapping discs and bars."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5) / height, (x + 0.5) / width
    if rng.random() < 0.5:
        out = mix(hue(rng, (0.4, 0.9), (0.4, 0.9))[:, None, None], hue(rng, (0, 0.3), (0.8, 1))[:, None, None], y)
        for level in np.sort(rng.uniform(0.3, 0.95, 3)):
            ridge = level + sum(rng.uniform(0.01, 0.07) * np.sin(x * f + rng.random() * 7) for f in (5, 11, 29))
            out = mix(out, hue(rng, (0.3, 0.9), (0.1, 0.7))[:, None, None], smoothstep(-0.006, 0.006, y - ridge))
        return out.astype(np.float32)
    out = np.broadcast_to(hue(rng)[:, None, None], (3, height, width))
    for _ in range(int(rng.integers(3, 9))):
        cx, cy, r = rng.random(), rng.random(), rng.uniform(0.06, 0.35)
        if rng.random() < 0.6:
            distance = np.hypot(x - cx, (y - cy) * height / width) - r
        else:
            c, s = np.cos(angle := rng.random() * 3.1416), np.sin(angle)
            distance = np.abs((x - cx) * c + (y - cy) * s) - 0.3 * r
        out = mix(out, hue(rng, (0.2, 0.95), (0.1, 1.0))[:, None, None], smoothstep(0.008, -0.008, distance))
    return out.astype(np.float32)
