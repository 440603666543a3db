"""Multi-focus pairs: layers at several depths through a wide aperture, focused near and far.

A point at depth d is spread over a disc whose radius grows with |1/d - 1/d_focus| (thin lens). Layers are
blurred with their coverage and laid over each other from back to front, so a blurred foreground spills
over what is behind it and a sharp one covers a blurred background that goes on behind it.
"""

import numpy as np
import scipy.fft

from refusion_jax.scenes import backdrops, sensor, still_life
from refusion_jax.scenes.fittings import fence
from refusion_jax.scenes.places import PLACES_BY_NAME, outdoors
from refusion_jax.scenes.render import World, camera
from refusion_jax.scenes.textures import hue, noise


def disc(radius):
    """Kernel of a uniform disc with a soft rim, (n,n), sum 1; ``radius`` in pixels."""
    reach = int(np.ceil(radius + 0.5))
    grid = np.arange(-reach, reach + 1, dtype=np.float32)
    kernel = np.clip(radius + 0.5 - np.hypot(grid[:, None], grid[None, :]), 0.0, 1.0)
    return (kernel / kernel.sum()).astype(np.float32)


class Spectrum:
    """A padded image (C,H,W) in Fourier space, to be blurred by discs of several radii."""

    def __init__(self, image, reach, mode):
        self.shape = image.shape[-2:]
        self.reach = reach
        padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode=mode)
        self.size = tuple(scipy.fft.next_fast_len(n, real=True) for n in padded.shape[-2:])
        self.image = image
        self.values = scipy.fft.rfft2(padded, s=self.size)

    def blurred(self, radius):
        if radius < 0.3:
            return self.image
        kernel = disc(min(radius, self.reach - 1.0))
        half = kernel.shape[0] // 2
        field = np.zeros(self.size, np.float32)
        field[: kernel.shape[0], : kernel.shape[1]] = kernel
        spread = scipy.fft.irfft2(self.values * scipy.fft.rfft2(field), s=self.size)
        low = self.reach + half
        return spread[:, low : low + self.shape[0], low : low + self.shape[1]]


def _backdrop(spectrum, radii, steps=5):
    """Blur by a radius per image row (H,): between the few radii that are computed, interpolate."""
    top = float(radii.max())
    if top < 0.3:
        return spectrum.image
    levels = np.linspace(0.0, top, steps) if radii.min() < 0.9 * top else np.array([radii.min(), top])
    position = np.clip(np.interp(radii, levels, np.arange(len(levels))), 0, len(levels) - 1)
    out = np.zeros_like(spectrum.image)
    for index, level in enumerate(levels):
        weight = np.clip(1.0 - np.abs(position - index), 0.0, 1.0).astype(np.float32)
        if weight.max() > 0.0:
            out += weight[:, None] * spectrum.blurred(float(level))
    return out


class Scene:
    """Backdrop radiance (3,H,W), its inverse depth per row (H,), layers (depth, canvas, alpha)."""

    def __init__(self, backdrop, inverse, layers, near, far):
        self.backdrop, self.inverse = backdrop, inverse.astype(np.float32)
        self.layers = sorted(layers, key=lambda item: -item[0])
        self.near, self.far = near, far


def _lit(view, rng):
    world = World(view, rng)
    world.sun_direction = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.5, 1.0), -rng.uniform(0.4, 1.0)])
    world.sun_direction /= np.linalg.norm(world.sun_direction)
    warm = rng.uniform(-0.12, 0.12)
    world.sun = np.array([0.75 + warm, 0.72, 0.68 - warm]) * rng.uniform(0.6, 1.5)
    world.sky, world.bounce = (
        np.array([0.3, 0.32, 0.34]) * rng.uniform(0.25, 0.9),
        np.full(3, rng.uniform(0.05, 0.15)),
    )
    return world


def _row_inverse(view, level, farthest):
    """1/depth per row of the plane ``level`` metres below the camera; never below 1/``farthest``."""
    rows = (np.arange(view.shape[0]) + 0.5 - view.centre[1]) / view.focal
    # a ray with slope r below the axis and the camera pitched by the angle of its forward axis
    ahead, below = view.axes[2], view.axes[1]
    drop = -(ahead[1] + rows * below[1])
    return np.maximum(drop / level, 1.0 / farthest)


def _on_layer(world, draw, *args):
    layer = still_life.layer_like(world)
    draw(layer, *args)
    return layer


def table_top(rng, size):
    """Things on a table: some near, some far, a wall behind."""
    eye = rng.uniform(0.7, 1.6)
    view = camera(
        size, (0.0, eye, 0.0), rng.normal(0, 0.05), -rng.uniform(0.1, 0.28), rng.normal(0, 0.015), rng.uniform(32, 46)
    )
    near, far = rng.uniform(1.9, 2.7), rng.uniform(4.5, 8.0)
    back = far * rng.uniform(1.05, 1.5)
    world = _lit(view, rng)
    spots, contacts = [], []
    half = 0.5 * size[1] / view.focal
    for depth, count in ((near, int(rng.integers(1, 4))), (far, int(rng.integers(2, 6)))):
        lanes = (np.arange(count) + 0.5) / count * 2.0 - 1.0 + rng.normal(0, 0.12, count)
        if depth == near and count == 1:
            lanes = np.array([rng.choice([-1, 1]) * rng.uniform(0.1, 0.65)])
        for lane in lanes:
            z = depth * rng.uniform(0.97, 1.08)
            spots.append((lane * half * z * 0.85, z, still_life.THINGS[rng.integers(len(still_life.THINGS))]))
            contacts.append((spots[-1][0], z + 0.1, 0.28))
    scene = still_life.layer_like(world)
    backdrops.wall(scene, rng, back)
    backdrops.table(scene, rng, back, contacts)
    layers = []
    for x, z, draw in spots:
        layer = _on_layer(world, draw, np.array([x, 0.0, z]), rng)
        layers.append((z, layer.canvas, layer.alpha))
    return Scene(scene.canvas, np.minimum(_row_inverse(view, eye, back), 1.3 / near), layers, near, far)


def out_of_doors(rng, size):
    """A street, park or landscape with something close to the camera."""
    place, time = str(rng.choice(PLACES_BY_NAME)), str(rng.choice(["day", "day", "overcast", "golden"]))
    world = outdoors(size, rng, time, place, eye=rng.uniform(1.3, 1.7))
    view, near, far = world.view, rng.uniform(1.8, 3.0), rng.uniform(9.0, 25.0)
    world.boxes, world.balls = [], []
    if rng.random() < 0.7:  # what stands close is lit whichever way the sun is
        world.sky, world.bounce = world.sky * 1.3 + 0.1 * world.sun, world.bounce + 0.15 * world.sun
    layers, half = [], 0.5 * size[1] / view.focal
    for _ in range(rng.integers(1, 4)):
        z = near * rng.uniform(0.95, 1.1)
        side = rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 0.75)
        x = view.position[0] + (np.tan(np.arctan2(view.axes[2][0], view.axes[2][2])) + side * half) * z
        kind, layer = rng.random(), still_life.layer_like(world)
        # it rises from below the picture's edge
        edge = np.tan(np.arctan(0.5 * size[0] / view.focal) - np.arcsin(view.axes[2][1]))
        floor = float(view.position[1]) - edge * z * rng.uniform(0.92, 1.1)
        base = np.array([x, floor, z])
        if kind < 0.4:
            still_life.flowers(layer, base, rng)
        elif kind < 0.6:
            still_life.bough(layer, base, rng)
        elif kind < 0.75:
            choice = str(rng.choice(["rails", "mesh", "palings"]))
            colour = hue(rng, (0.0, 0.5), (0.05, 0.7))
            low = np.array([view.position[0] - 3.0, z]), np.array([view.position[0] + 3.0, z])
            fence(layer, low[0], low[1], float(view.position[1]) + rng.uniform(-0.3, 0.5), colour, choice)
        else:
            still_life.THINGS[rng.integers(len(still_life.THINGS))](layer, base, rng)
        layers.append((z, layer.canvas, layer.alpha))
    inverse = _row_inverse(view, float(view.position[1]), 60.0)
    inverse = np.minimum(inverse, 1.0 / 3.2)
    return Scene(world.canvas, inverse, layers, near, far)


def papers(rng, size):
    """Printed pages one before the other, like a calendar behind a note."""
    view = camera(
        size, (0.0, 0.0, 0.0), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.uniform(30, 40)
    )
    near, far = rng.uniform(1.8, 2.4), rng.uniform(3.6, 6.0)
    world, half = _lit(view, rng), 0.5 / view.focal
    back = still_life.layer_like(world)
    backdrops.wall(back, rng, far * 1.08)
    wide, tall = half * size[1] * far, half * size[0] * far
    if rng.random() < 0.7:
        still_life.page(back, (rng.normal(0, 0.2 * wide), rng.normal(0, 0.15 * tall), far), rng, 2.0 * wide, 1.9 * tall)
    layers = []
    for _ in range(rng.integers(1, 3)):
        layer = still_life.layer_like(world)
        wide, tall = half * size[1] * near, half * size[0] * near
        side = rng.choice([-1.0, 1.0])
        if rng.random() < 0.65:
            still_life.page(
                layer,
                (side * rng.uniform(0.5, 0.9) * wide, -rng.uniform(-0.3, 0.6) * tall, near),
                rng,
                rng.uniform(0.8, 1.5) * wide,
                rng.uniform(1.0, 1.9) * tall,
            )
        else:
            still_life.carton(
                layer,
                np.array([side * rng.uniform(0.3, 0.7) * wide, -tall * 1.05, near]),
                rng,
                (wide * rng.uniform(0.6, 1.1), tall * rng.uniform(0.8, 1.7), 0.2),
            )
        layers.append((near, layer.canvas, layer.alpha))
    return Scene(back.canvas, np.full(size[0], 1.0 / far), layers, near, far)


def meadow(rng, size):
    """Flowers and leaves in front of more flowers and leaves."""
    view = camera(size, (0.0, 1.0, 0.0), 0.0, -rng.uniform(0.0, 0.15), 0.0, rng.uniform(32, 46))
    world, near, far = _lit(view, rng), rng.uniform(1.9, 2.5), rng.uniform(4.5, 7.0)
    scene, half = still_life.layer_like(world), 0.5 * size[1] / view.focal
    backdrops.wall(scene, rng, far * 1.5)
    backdrops.table(scene, rng, far * 1.5, [])
    for z in (far * 1.3, far * 1.12):
        for x in np.linspace(-1, 1, 5):
            still_life.bough(scene, np.array([x * half * z, 0.0, z]), rng)
    layers = []
    for depth, count in ((far, 4), (near, int(rng.integers(1, 4)))):
        layer = still_life.layer_like(world)
        for lane in (np.arange(count) + 0.5) / count * 2 - 1 + rng.normal(0, 0.15, count):
            x = lane if count > 1 else rng.uniform(-0.7, 0.7)
            still_life.flowers(
                layer, np.array([x * half * depth, 0.0 if depth == far else rng.uniform(0.0, 0.4), depth]), rng
            )
        layers.append((depth, layer.canvas, layer.alpha))
    return Scene(scene.canvas, np.minimum(_row_inverse(view, 1.0, far * 1.5), 1.3 / near), layers, near, far)


BUILDERS = (table_top, out_of_doors, papers, meadow)


def spectra(scene, reach):
    """Backdrop and layers in Fourier space, for both pictures; ``reach`` holds the largest disc."""
    out = [Spectrum(scene.backdrop, reach, "edge")]
    for _, canvas, alpha in scene.layers:
        rows, cols = np.nonzero(alpha.max(axis=1))[0], np.nonzero(alpha.max(axis=0))[0]
        if not len(rows):
            out.append(None)
            continue
        down = slice(max(0, rows[0] - reach), rows[-1] + 1 + reach)
        across = slice(max(0, cols[0] - reach), cols[-1] + 1 + reach)
        stack = np.concatenate([canvas[:, down, across], alpha[None, down, across]])
        out.append((down, across, Spectrum(stack, reach, "edge")))
    return out


def compose(scene, focus, aperture, prepared=None):
    """Radiance (3,H,W) of the scene focused at depth ``focus``.

    ``aperture`` (pixels times metres) times |1/d - 1/focus| is the radius of the disc of a point at depth d.
    """
    prepared = spectra(scene, disc_reach(scene, aperture)) if prepared is None else prepared
    out = _backdrop(prepared[0], aperture * np.abs(scene.inverse - 1.0 / focus)).copy()
    for (depth, _, _), entry in zip(scene.layers, prepared[1:], strict=True):
        if entry is None:
            continue
        down, across, spectrum = entry
        spread = spectrum.blurred(aperture * abs(1.0 / depth - 1.0 / focus))
        part = out[:, down, across]
        part *= 1.0 - np.clip(spread[3], 0.0, 1.0)
        part += spread[:3]
    return np.maximum(out, 0.0)


def disc_reach(scene, aperture):
    """Padding in pixels that holds the largest disc of the scene."""
    deepest = max(float(scene.inverse.max()), 1.0 / scene.near)
    least = min(float(scene.inverse.min()), 1.0 / scene.far)
    return int(np.ceil(aperture * (deepest - least))) + 3


def pair(rng, size):
    """Near-focused and far-focused uint8 (H,W,3) of one scene."""
    build = BUILDERS[int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))]
    scene = build(rng, size)
    # the disc of the one plane when the lens is focused on the other, in pixels
    radius = rng.uniform(1.8, 6.0) * min(size) / 256.0
    aperture = max(radius, 1.5) / abs(1.0 / scene.near - 1.0 / scene.far)
    prepared = spectra(scene, disc_reach(scene, aperture))
    pictures = [compose(scene, focus, aperture, prepared) for focus in (scene.near, scene.far)]
    pool = 1.0 + rng.uniform(0.1, 0.45) * np.clip(
        noise(rng, size, 2.5, high=2.5 / min(size)), -1.6, 1.6
    )  # uneven light
    pictures = [picture * pool for picture in pictures]
    grey = sensor.luma(pictures[1][:, ::2, ::2])
    gain = rng.uniform(0.45, 1.3) / float(np.percentile(grey, 98))
    gain = min(gain, 0.3 / max(float(np.exp(np.mean(np.log(grey + 1e-3)))), 1e-3))
    curve = sensor.Response(rng.uniform(1.5, 2.0), rng.uniform(1.0, 4.0), rng.uniform(0.5, 1.0))
    electrons, white = np.exp(rng.uniform(np.log(5000), np.log(40000))), 1.0 + rng.normal(0, 0.03, 3)
    out = [sensor.expose(rng, picture, gain, curve, electrons, rng.uniform(2, 5), white) for picture in pictures]
    if rng.random() < 0.12:  # some sets are black and white
        out = [
            np.repeat(np.rint(np.tensordot(p, sensor.LUMA, axes=1)).astype(np.uint8)[..., None], 3, axis=2) for p in out
        ]
    return out[0], out[1]
