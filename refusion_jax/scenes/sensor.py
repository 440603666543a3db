"""The camera behind the lens: glare, exposure, shot and read noise, clipping, response curve, eight bits."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from refusion_jax.scenes.textures import blur, mix, resized

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(image):
    """(3,H,W) -> (H,W), weights of BT.601."""
    return np.tensordot(LUMA, image, axes=1)


def glare(radiance, amount=0.04):
    """Light the lens spreads: a share of every pixel lands in halos about it; (3,H,W)."""
    height, width = radiance.shape[1:]
    small = radiance[:, : height // 4 * 4, : width // 4 * 4]
    small = small.reshape(3, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    unit = min(height, width) / 4.0
    near, far = blur(small, 0.012 * unit), blur(small, 0.06 * unit)
    wide = _wide(small, 0.25 * unit)
    halo = resized(0.5 * near + 0.3 * far + 0.2 * wide, (height, width))
    return mix(radiance, halo, np.float32(amount))


def _wide(image, sigma):
    for axis in (-2, -1):
        for _ in range(2):
            image = ndimage.uniform_filter1d(image, max(3, int(1.7 * sigma)), axis=axis, mode="nearest")
    return image


def vignette(image, strength):
    """Darken towards the corners by cos**4-like falloff."""
    height, width = image.shape[1:]
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / height - 0.5
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :] / width - 0.5
    return image * (1.0 - strength * 2.0 * (x * x + y * y))


class Response(NamedTuple):
    """A film-like curve from exposure (1 saturates) to signal: gamma with a toe and a shoulder."""

    gamma: float
    shoulder: float
    toe: float

    def __call__(self, exposure):
        x = np.clip(exposure, 0.0, 1.0)
        bent = x * (1.0 + self.shoulder) / (x + self.shoulder)
        signal = bent ** (1.0 / self.gamma)
        return signal * (1.0 - self.toe) + self.toe * signal * signal * (3.0 - 2.0 * signal)

    def levels(self, exposure):
        """The same in 8 bits, by a table over the root of the exposure (the curve is steep near 0)."""
        table = np.rint(255.0 * self(np.linspace(0.0, 1.0, 8192) ** 2)).astype(np.uint8)
        index = np.sqrt(np.clip(exposure, 0.0, 1.0)) * np.float32(8191) + np.float32(0.5)
        return table.take(index.astype(np.int32))


def response(rng):
    """A random camera's curve."""
    return Response(rng.uniform(1.7, 2.3), rng.uniform(0.6, 3.0), rng.uniform(0.2, 0.95))


def expose(rng, radiance, gain, curve, electrons=8000.0, read=4.0, white=(1.0, 1.0, 1.0)):
    """uint8 (H,W,3) picture of linear ``radiance`` (3,H,W): ``gain`` maps radiance to the sensor's full well.

    ``electrons`` is the full well, ``read`` the read noise in electrons; ``white`` the gains of the colour
    balance.
    """
    signal = radiance * (np.float32(gain) * np.asarray(white, np.float32)[:, None, None])
    signal = np.minimum(signal, 1.5)
    deviation = np.sqrt(np.maximum(signal, 0.0) * np.float32(1.0 / electrons) + np.float32((read / electrons) ** 2))
    signal = signal + deviation * rng.standard_normal(signal.shape, dtype=np.float32)
    # demosaicking and the camera's noise filter tie neighbours together a little
    signal = 0.6 * signal + 0.4 * _cross(signal) if electrons < 4000 else signal
    return np.ascontiguousarray(np.moveaxis(curve.levels(signal), 0, -1))


def _cross(image):
    out = ndimage.uniform_filter1d(image, 3, axis=-1, mode="nearest")
    return ndimage.uniform_filter1d(out, 3, axis=-2, mode="nearest")
