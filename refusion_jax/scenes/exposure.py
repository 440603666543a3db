"""Multi-exposure pairs: one scene of wide dynamic range, under- and over-exposed by one camera."""

import numpy as np

from refusion_jax.scenes import sensor
from refusion_jax.scenes.indoors import room
from refusion_jax.scenes.places import PLACES_BY_NAME, outdoors

_TIMES = {
    "open": (("day", 0.42), ("overcast", 0.14), ("golden", 0.16), ("sunset", 0.12), ("dusk", 0.06), ("night", 0.1)),
    "inside": (("day", 0.6), ("overcast", 0.18), ("golden", 0.1), ("dusk", 0.05), ("night", 0.07)),
}


def radiance(rng, size):
    """Linear radiance (3,H,W) of a random scene: open air, a room with windows, a hall, a dark arch."""
    kind = str(rng.choice(["open", "room", "hall", "arch"], p=[0.55, 0.25, 0.1, 0.1]))
    names, odds = zip(*_TIMES["open" if kind == "open" else "inside"], strict=True)
    time = str(rng.choice(names, p=odds))
    place = str(rng.choice(PLACES_BY_NAME, p=[0.28, 0.16, 0.16, 0.14, 0.12, 0.14]))
    ahead = time == "sunset" or rng.random() < 0.3
    if kind == "open":
        return outdoors(size, rng, time, place, ahead=ahead).canvas
    if kind == "arch" and time in ("dusk", "night"):
        time = "day"
    # what is seen through an opening needs less in it
    world = outdoors(size, rng, time, place, ahead=ahead, eye=rng.uniform(1.6, 7.0), traffic=0.4)
    room(world, rng, kind, dark=np.exp(rng.uniform(np.log(0.12), 0.0)))
    return world.canvas


def pair(rng, size):
    """Under- and over-exposed uint8 (H,W,3) of one scene.

    The short exposure keeps a high percentile of the light below saturation, the long one lifts a low
    percentile to mid-grey; they lie 2 to 6 stops apart.
    """
    light = radiance(rng, size)
    light = sensor.vignette(sensor.glare(light, rng.uniform(0.01, 0.05)), rng.uniform(0.0, 0.5))
    light = np.maximum(light, 1e-6)
    grey = sensor.luma(light[:, ::2, ::2])  # enough to meter by
    low = np.log2(np.exp(rng.uniform(np.log(0.07), np.log(0.7))) / np.percentile(grey, rng.uniform(92, 99)))
    high = np.log2(rng.uniform(0.06, 0.25) / np.percentile(grey, rng.uniform(10, 45)))
    # no more than a share of the long exposure may clip, no more than a share of the short one may drown
    high = min(high, -np.log2(np.percentile(grey, 100 * rng.uniform(0.4, 0.85))))
    low = max(low, np.log2(0.005 / np.percentile(grey, rng.uniform(50, 90))))
    stops = np.clip(high - low, rng.uniform(2.0, 4.0), 6.0)
    low, high = 0.5 * (low + high - stops), 0.5 * (low + high + stops)
    curve = sensor.response(rng)
    white = 1.0 + rng.normal(0.0, 0.05, 3)
    electrons, read = float(np.exp(rng.uniform(np.log(2500), np.log(40000)))), rng.uniform(2.0, 8.0)
    under = sensor.expose(rng, light, 2.0**low, curve, electrons, read, white)
    over = sensor.expose(rng, light, 2.0**high, curve, electrons, read, white)
    return under, over
