"""One pair of a task by seed and index, with its ground truth."""

import hashlib
from typing import NamedTuple

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.scenes import anatomy, sensors
from refusion_jax.scenes.places import TIMES, open_air
from refusion_jax.scenes.rooms import room, still_life
from refusion_jax.scenes.surfaces import blur
from refusion_jax.tasks import task_name


class ScenePair(NamedTuple):
    """Two registered pictures of one scene and what no camera sees.

    Attributes:
      a, b: uint8 (H,W) or (H,W,3), in the order in which they are trained: ivif infrared (grey) and visible; mif CT
        (grey), PET or SPECT, and MRI (grey); mfif near and far focus; meie under- and over-exposed.
      truth: float32. mfif: the picture with everything in focus, without noise, (H,W,3) in [0,1]. meie: the linear
        radiance at the sensor, (H,W,3), not negative; 1 saturates `a`. ivif and mif: both pictures without noise and
        blur (PET and SPECT keep their point spread), channels of `a`, then of `b`, (H,W,2) or (H,W,4) in [0,1].
      name: such as "meie_00012".
    """

    a: np.ndarray
    b: np.ndarray
    truth: np.ndarray
    name: str


def _ivif(rng, size):
    time = str(rng.choice(list(TIMES), p=[0.26, 0.1, 0.08, 0.06, 0.14, 0.36]))
    world = open_air(rng, size, time, eye=rng.uniform(1.3, 2.2), busy=1.4)
    dark = world.light.night > 0.5
    light = sensors.glare(world.canvas[:3], rng.uniform(0.02, 0.05) * (1 + dark))
    grey = light[1, ::2, ::2]
    aim = np.exp(rng.uniform(np.log(0.03), np.log(0.2))) if dark else rng.uniform(0.12, 0.28)  # of the meter
    gain = min(aim / np.exp(np.mean(np.log(grey + 1e-4))), 1.0 / np.percentile(grey, 92 if dark else 75))
    sensor = sensors.Sensor.random(rng, *((400, 3000) if dark else (6000, 30000)))
    infrared, clean = sensors.thermal(rng, world.canvas[3])
    visible = sensor.expose(blur(light, rng.uniform(0.3, 0.7) * min(size) / 256.0), gain, rng)
    return infrared, visible, np.dstack([clean, sensor.expose(light, gain)])


def _mif(rng, size):
    section, kind = anatomy.Section(rng, size), rng.integers(3)
    a, clean_a = anatomy.ct(section) if kind == 2 else anatomy.nuclear(section, kind == 1)
    b, clean_b = anatomy.mri(section)
    return a, b, np.clip(np.dstack([clean_a, clean_b]), 0.0, 1.0)


def _mfif(rng, size):
    layers, near, far = still_life(rng, size)
    layers = [(depth, world.canvas[[0, 1, 2, 4]]) for depth, world in layers]
    aperture = max(rng.uniform(1.8, 5.5) * min(size) / 256.0, 1.5) / (1.0 / near - 1.0 / far)  # pixels times metres
    pictures = [sensors.through_lens(layers, focus, aperture) for focus in (1.0 / near, 1.0 / far, None)]
    grey = pictures[2][1]
    gain = min(rng.uniform(0.5, 1.2) / np.percentile(grey, 98), 0.3 / np.exp(np.mean(np.log(grey + 1e-3))))
    sensor = sensors.Sensor.random(rng, 6000, 40000)
    return [sensor.expose(p, gain, noisy) for p, noisy in zip(pictures, (rng, rng, None), strict=True)]


def _meie(rng, size):
    place, time = (room, open_air)[rng.integers(2)], str(rng.choice(list(TIMES), p=[0.45, 0.16, 0.15, 0.1, 0.06, 0.08]))
    light = np.maximum(sensors.glare(place(rng, size, time).canvas[:3], 0.025), 1e-6)
    grey = light[1, ::2, ::2]
    low = np.log2(np.exp(rng.uniform(np.log(0.07), np.log(0.7))) / np.percentile(grey, rng.uniform(92, 99)))
    high = np.log2(rng.uniform(0.06, 0.25) / np.percentile(grey, rng.uniform(10, 45)))
    # no more than a share of the long exposure may clip, no more than a share of the short one may drown
    high = min(high, -np.log2(np.percentile(grey, 100 * rng.uniform(0.4, 0.85))))
    low = max(low, np.log2(0.005 / np.percentile(grey, rng.uniform(50, 90))))
    stops = np.clip(high - low, rng.uniform(2.0, 4.0), 6.0)
    low, high = (2.0 ** (0.5 * (low + high + change)) for change in (-stops, stops))
    sensor = sensors.Sensor.random(rng, 3000, 40000)
    return sensor.expose(light, low, rng), sensor.expose(light, high, rng), np.moveaxis(low * light, 0, -1)


def make_pair(task: str, seed: int, index: int, size: tuple[int, int] = (256, 256)) -> ScenePair:
    """Pair number ``index`` of the stream ``seed``; ``size`` is (height, width) in pixels.

    The same arguments always give the same pair, whatever else was made before.
    Raises InputError for an unknown task, a negative seed or index, or a picture under 32 pixels a side.
    """
    task = task_name(task)
    try:
        height, width = (int(n) for n in size)
    except (TypeError, ValueError):
        raise InputError(f"size: expected (height, width) in pixels, got {size!r}") from None
    if min(height, width) < 32:
        raise InputError(f"size: expected at least 32 pixels a side, got {height}x{width}; ask for more")
    for what, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise InputError(f"{what}: expected a whole number of 0 or more, got {value!r}")
    key = int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "little")
    maker = {"ivif": _ivif, "mif": _mif, "mfif": _mfif, "meie": _meie}[task]
    made = maker(np.random.default_rng([key, int(seed), int(index)]), (height, width))
    a, b = ((np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8) for picture in made[:2])
    return ScenePair(a, b, np.ascontiguousarray(made[2], np.float32), f"{task}_{index:05d}")
