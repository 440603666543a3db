"""The cameras: a lens with a depth of field, a colour sensor, a thermal detector."""

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve

from refusion_jax.scenes.surfaces import blur, mix, resized


def glare(radiance, amount, vignette=0.3):
    """Radiance (3,H,W) behind a lens: a share ``amount`` of the light lands in halos; corners are darker."""
    _, height, width = radiance.shape
    small = radiance[:, : height // 4 * 4, : width // 4 * 4].reshape(3, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    halo = sum(w * blur(small, s * min(height, width)) for w, s in ((0.5, 0.003), (0.3, 0.012), (0.2, 0.05)))
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    bright = 1.0 - 0.5 * vignette * (x * x + (y * y)[:, None])
    return bright * mix(radiance, resized(halo, (height, width)), np.float32(amount))


class Sensor(NamedTuple):
    """A colour sensor with shot and read noise, and its response: gamma with a toe and a shoulder."""

    gamma: float
    shoulder: float
    toe: float
    electrons: float  # full well
    read: float  # electrons

    @classmethod
    def random(cls, rng, least, most):
        """A random camera whose full well lies between two numbers of electrons."""
        electrons = float(np.exp(rng.uniform(np.log(least), np.log(most))))
        return cls(rng.uniform(1.7, 2.3), rng.uniform(0.8, 3), rng.uniform(0.2, 0.9), electrons, rng.uniform(2, 7))

    def response(self, exposure):
        """Signal in [0,1] of an exposure, of which 1 saturates."""
        x = np.clip(exposure, 0.0, 1.0)
        signal = (x * (1.0 + self.shoulder) / (x + self.shoulder)) ** (1.0 / self.gamma)
        return signal * (1.0 - self.toe) + self.toe * signal * signal * (3.0 - 2.0 * signal)

    def expose(self, radiance, gain, rng=None):
        """Picture (H,W,3) in [0,1] of linear radiance (3,H,W) times ``gain``; noisy where ``rng`` is given."""
        signal = np.clip(radiance * np.float32(gain), 0.0, 1.5)
        if rng is not None:
            variance = signal * np.float32(1 / self.electrons) + np.float32((self.read / self.electrons) ** 2)
            signal = signal + np.sqrt(variance) * rng.standard_normal(signal.shape, dtype=np.float32)
        # the curve is steep near 0: a table over the root of the exposure
        table = self.response(np.linspace(0.0, 1.0, 8192) ** 2).astype(np.float32)
        index = (np.sqrt(np.clip(signal, 0.0, 1.0)) * np.float32(8191) + np.float32(0.5)).astype(np.int32)
        return np.ascontiguousarray(np.moveaxis(table.take(index), 0, -1))


def thermal(rng, heat):
    """Pictures (H,W) in [0,1] of apparent temperatures, as the detector gives it and clean (no blur, no noise)."""
    shares = np.concatenate([[0.0, 0.2], np.linspace(1, 99, 50), [99.8, 100.0]])
    levels = np.percentile(heat[::2, ::2], shares)
    low, high = max(levels[2], np.interp(40, shares, levels) - 0.8 * np.ptp(levels[2:])), levels[-2]
    flatten, gamma = np.float32(rng.uniform(0.0, 0.6)), np.float32(rng.uniform(0.85, 1.4))  # of the gain control

    def gain(temperature):
        level, flat = np.clip((temperature - low) / (high - low), 0, 1), np.interp(temperature, levels, shares / 100)
        return np.clip(0.03 + 0.95 * mix(level, flat, flatten), 0.0, 1.0) ** gamma

    seen = blur(heat, rng.uniform(0.6, 1.1) * max(min(heat.shape) / 256.0, 0.5))
    columns, rows = (rng.standard_normal(n).astype(np.float32) for n in heat.shape[::-1])  # what calibration leaves
    grain = rng.standard_normal(heat.shape, dtype=np.float32) + 0.6 * columns + 0.35 * rows[:, None]
    return gain(seen + np.exp(rng.uniform(np.log(0.0015), np.log(0.007))) * (high - low) * grain), gain(heat)


def defocus(stack, radius):
    """(C,H,W) spread over a disc of ``radius`` pixels, edges replicated."""
    if radius < 0.3:
        return stack
    reach = int(np.ceil(radius)) + 1
    grid = np.arange(-reach, reach + 1, dtype=np.float32)
    kernel = np.clip(np.float32(radius + 0.5) - np.hypot(grid[:, None], grid), 0.0, 1.0)
    padded = np.pad(stack, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    return fftconvolve(padded, kernel[None] / kernel.sum(), mode="valid", axes=(1, 2))


def through_lens(layers, focus, aperture):
    """Radiance (3,H,W) of layers, far to near, through a thin lens focused at ``focus`` (1/metres); sharp if None.

    A layer is (inverse depth: a number, or (H,) for one per row; canvas (4,H,W): colours times coverage, coverage). It
    is spread over a disc of ``aperture`` pixels times its distance from the focus in 1/metres, then laid over others.
    """
    out = np.zeros_like(layers[0][1][:3])
    for inverse, canvas in layers:
        radii = aperture * np.abs(inverse - (inverse if focus is None else focus)) * np.ones(out.shape[1])
        reach, (rows, cols) = int(radii.max()) + 2, np.nonzero(canvas[3])
        if len(rows):
            down = slice(max(0, rows.min() - reach), rows.max() + reach)
            part = np.s_[:, down, max(0, cols.min() - reach) : cols.max() + reach]
            steps = np.linspace(radii.min(), radii.max(), 3 if np.ptp(radii) > 0.3 else 1)  # between them, interpolate
            place = np.interp(radii[down], steps, np.arange(len(steps)))
            weights = np.clip(1.0 - np.abs(place - np.arange(len(steps))[:, None]), 0.0, 1.0).astype(np.float32)
            spread = np.sum([weights[k][:, None] * defocus(canvas[part], r) for k, r in enumerate(steps)], axis=0)
            out[part] = out[part] * (1.0 - np.clip(spread[3], 0.0, 1.0)) + spread[:3]
    return out
