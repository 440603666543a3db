"""Infrared-visible pairs: one street or landscape seen by a thermal and by a colour camera."""

import numpy as np

from refusion_jax.scenes import sensor
from refusion_jax.scenes.places import PLACES_BY_NAME, outdoors
from refusion_jax.scenes.textures import blur, mix, noise

_TIMES = (("day", 0.28), ("overcast", 0.1), ("golden", 0.08), ("sunset", 0.06), ("dusk", 0.13), ("night", 0.35))


def pair(rng, size):
    """Infrared uint8 (H,W) and visible uint8 (H,W,3) of one scene."""
    names, odds = zip(*_TIMES, strict=True)
    time = str(rng.choice(names, p=odds))
    place = str(rng.choice(PLACES_BY_NAME, p=[0.5, 0.18, 0.1, 0.04, 0.06, 0.12]))
    eye = rng.uniform(1.2, 2.0) if rng.random() < 0.85 else rng.uniform(3.0, 8.0)
    world = outdoors(size, rng, time, place, thermal=True, ahead=rng.random() < 0.2, eye=eye, traffic=1.4)
    light, heat = world.canvas[:3], world.canvas[3]
    if rng.random() < 0.1:
        light = _smoke(rng, world, light)
    return infrared(rng, heat), visible(rng, light, world.night)


def _smoke(rng, world, light):
    """A drifting cloud of smoke or mist: it scatters visible light and lets long waves through."""
    height, width = light.shape[1:]
    density = noise(rng, (height, width), 2.0)
    y = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    x = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :]
    cx, cy, r = rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.2, 0.5)
    spot = np.exp(-(((x - cx) / r) ** 2) - ((y - cy) / (0.7 * r)) ** 2)
    cover = np.clip(1.5 * spot + 0.35 * spot * density, 0.0, 1.0) * rng.uniform(0.75, 0.98)
    tone = world.sky * 0.7 + world.sun * 0.2 + 0.15 * light.mean(axis=(1, 2))
    relief = 1.0 + 0.15 * density
    return np.stack([mix(light[c], float(tone[c]) * relief, cover) for c in range(3)]).astype(np.float32)


def infrared(rng, heat):
    """Grey picture of apparent temperatures (H,W): optics, detector noise, gain control, detail."""
    height, width = heat.shape
    unit = min(height, width) / 256.0
    heat = blur(heat, rng.uniform(0.65, 1.15) * max(unit, 0.5))
    spread = max(float(np.subtract(*np.percentile(heat[::2, ::2], (99, 30)))), 2.0)
    grain = np.exp(rng.uniform(np.log(0.0015), np.log(0.007))) * spread
    columns = rng.standard_normal(width).astype(np.float32)  # what non-uniformity correction leaves
    rows = rng.standard_normal(height).astype(np.float32)
    pattern = 0.6 * columns[None, :] + 0.35 * rows[:, None]
    heat = heat + grain * (blur(rng.standard_normal(heat.shape, dtype=np.float32), 0.45) * 1.5 + pattern)
    # gain: the histogram is flattened part of the way, each level's share limited (plateau equalisation)
    low, high = np.percentile(heat[::2, ::2], (0.3, 99.8))
    level = np.clip((heat - low) / (high - low), 0.0, 1.0)
    bins = 512
    histogram = np.bincount((level * (bins - 1)).astype(np.int32).ravel(), minlength=bins).astype(np.float64)
    histogram = np.minimum(histogram, rng.uniform(0.006, 0.02) * heat.size) + 0.05 * heat.size / bins
    curve = np.concatenate([[0.0], np.cumsum(histogram)])
    curve = (curve / curve[-1]).astype(np.float32)
    flat = np.interp(level, np.linspace(0.0, 1.0, bins + 1, dtype=np.float32), curve).astype(np.float32)
    out = mix(level, flat, np.float32(rng.uniform(0.3, 0.85)))
    detail = out - blur(out, rng.uniform(2.0, 4.0) * unit)
    out = out + np.clip(rng.uniform(0.1, 0.9) * detail, -0.15, 0.15)
    middle, gain = rng.uniform(0.4, 0.58), rng.uniform(0.75, 1.0)
    low, high = np.percentile(out[::2, ::2], (1, 99))
    out = 0.5 + (out - 0.5 * (low + high)) / max(high - low, 1e-3) * gain
    out = np.clip(out, 0.0, 1.0) ** np.float32(np.log(middle) / np.log(np.clip(out.mean(), 0.2, 0.8)))
    return (np.clip(out, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def visible(rng, light, night):
    """Colour picture of radiance (3,H,W): automatic exposure, glare of lamps, more noise the darker it is."""
    light = sensor.glare(light, rng.uniform(0.02, 0.06) if night < 0.5 else rng.uniform(0.03, 0.09))
    light = sensor.vignette(np.maximum(light, 0.0), rng.uniform(0.0, 0.5))
    grey = sensor.luma(light[:, ::2, ::2])
    # the meter follows the mean of the logarithm; at night it runs out of gain
    key = np.exp(np.mean(np.log(grey + 1e-4)))
    aim = rng.uniform(0.12, 0.3) if night < 0.5 else np.exp(rng.uniform(np.log(0.02), np.log(0.25)))
    gain = min(aim / key, 1.0 / np.percentile(grey, 70 if night < 0.5 else 90))
    electrons = (
        np.exp(rng.uniform(np.log(6000), np.log(30000)))
        if night < 0.5
        else np.exp(rng.uniform(np.log(250), np.log(3000)))
    )
    white = 1.0 + rng.normal(0.0, 0.06, 3)
    if night > 0.5:
        white = white * np.array([1.0 + rng.uniform(-0.05, 0.25), 1.0, 1.0 - rng.uniform(-0.1, 0.3)])
    light = light + rng.uniform(0.001, 0.03) * (0.5 + night) / gain  # stray light in the lens lifts the blacks
    soft = rng.uniform(0.3, 0.8) * min(light.shape[1:]) / 256.0
    return sensor.expose(rng, blur(light, soft), gain, sensor.response(rng), electrons, rng.uniform(3.0, 9.0), white)
