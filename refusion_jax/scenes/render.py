"""A small renderer: pinhole camera, anti-aliased plane patches, sun, sky, lamps, haze, heat.

World axes: x right, y up, z away from the camera, in metres. A canvas holds scene-linear radiance, three
colour channels and, for thermal scenes, a fourth: apparent temperature in degrees Celsius. A white matt
surface that faces an unobscured midday sun has radiance about 1.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

NEAR = 0.15  # metres: nearer parts of a patch are cut away


class Camera(NamedTuple):
    """Pinhole camera; rows of ``axes``: right, down, forward in world axes; ``focal`` in pixels."""

    shape: tuple[int, int]
    focal: float
    centre: tuple[float, float]
    position: np.ndarray
    axes: np.ndarray

    def rays(self):
        """Unit directions through all pixels, three (H,W) arrays (x, y, z in world axes)."""
        height, width = self.shape
        across = ((np.arange(width) + 0.5 - self.centre[0]) / self.focal)[None, :]
        down = ((np.arange(height) + 0.5 - self.centre[1]) / self.focal)[:, None]
        length = 1.0 / np.sqrt(1.0 + across**2 + down**2)
        right, below, ahead = self.axes
        return tuple(((right[i] * across + below[i] * down + ahead[i]) * length).astype(np.float32) for i in range(3))

    def locate(self, point):
        """Column, row and depth (metres) of a world point; only where the depth is positive."""
        x, y, z = self.axes @ (np.asarray(point, float) - self.position)
        return self.centre[0] + self.focal * x / z, self.centre[1] + self.focal * y / z, z


def camera(shape, position, yaw=0.0, pitch=0.0, roll=0.0, view=55.0):
    """Camera at ``position``; angles in radians; ``view`` in degrees over the shorter side."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    ahead = np.array([sy * cp, sp, cy * cp])
    right = np.array([cy, 0.0, -sy])
    below = np.cross(ahead, right) * -1.0
    below = below if below[1] < 0 else -below
    cr, sr = np.cos(roll), np.sin(roll)
    axes = np.stack([cr * right + sr * below, cr * below - sr * right, ahead])
    focal = 0.5 * min(shape) / np.tan(np.radians(view) / 2)
    return Camera(tuple(shape), float(focal), (shape[1] / 2, shape[0] / 2), np.asarray(position, float), axes)


class Lamp(NamedTuple):
    """A point light: colour is the radiance a white matt surface facing it has at one metre."""

    position: np.ndarray
    colour: np.ndarray
    aim: np.ndarray | None = None  # a spot shines mostly along this direction
    spread: float = 4.0  # power of the cosine to ``aim``


class Patch(NamedTuple):
    """Pixels of a flat polygon: coverage, plane coordinates (metres), depth, metres per pixel."""

    rows: slice
    cols: slice
    alpha: np.ndarray
    s: np.ndarray
    t: np.ndarray
    z: np.ndarray
    ds: np.ndarray
    dt: np.ndarray
    origin: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @property
    def point(self):
        """World position of every pixel, three arrays."""
        return tuple(self.origin[i] + self.s * self.u[i] + self.t * self.v[i] for i in range(3))


def plane_patch(view, origin, u, v, corners, grown=0.3):
    """Patch of the convex polygon ``corners`` (N,2) along unit vectors u, v; None if unseen.

    It is ``grown`` pixels larger on all sides, so that neighbours leave no seam.
    """
    origin, u, v = (np.asarray(a, float) for a in (origin, u, v))
    matrix = view.axes @ np.stack([u, v, origin - view.position], axis=1)
    polygon = np.c_[np.asarray(corners, float), np.ones(len(corners))] @ matrix.T
    polygon = _clip_near(polygon)
    if len(polygon) < 3:
        return None
    height, width = view.shape
    px = view.centre[0] + view.focal * polygon[:, 0] / polygon[:, 2]
    py = view.centre[1] + view.focal * polygon[:, 1] / polygon[:, 2]
    left, right = int(max(0, np.floor(px.min() - grown))), int(min(width, np.ceil(px.max() + grown) + 1))
    top, bottom = int(max(0, np.floor(py.min() - grown))), int(min(height, np.ceil(py.max() + grown) + 1))
    if left >= right or top >= bottom:
        return None
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5))[None, :]
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5))[:, None]
    alpha = _inside(px, py, x, y, grown)
    if alpha is None:
        return None
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    rx, ry = (x - float(view.centre[0])) / view.focal, (y - float(view.centre[1])) / view.focal
    (a, b, c), (d, e, f), (g, h, i) = inverse.astype(np.float32)
    low = a * rx + (b * ry + c)
    depth = g * rx + (h * ry + i)
    depth = np.where(np.abs(depth) < 1e-6, np.float32(1e-6), depth)
    z = np.clip(1.0 / depth, NEAR, 1e5).astype(np.float32)
    # outside the polygon the coordinates run away; nothing there is seen, so hold them near it
    least, most = np.min(corners, axis=0) - 2.0, np.max(corners, axis=0) + 2.0
    s = np.clip(low * z, np.float32(least[0]), np.float32(most[0]))
    t = np.clip((d * rx + (e * ry + f)) * z, np.float32(least[1]), np.float32(most[1]))
    scale = z / np.float32(view.focal)
    ds = np.maximum(np.abs(a - s * g), np.abs(b - s * h)) * scale
    dt = np.maximum(np.abs(d - t * g), np.abs(e - t * h)) * scale
    return Patch(
        slice(top, bottom), slice(left, right), alpha, s, t, z, ds, dt, *(a.astype(np.float32) for a in (origin, u, v))
    )


def _clip_near(polygon):
    kept = []
    for here, following in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (following[2] >= NEAR):
            kept.append(here + (following - here) * ((NEAR - here[2]) / (following[2] - here[2])))
    return np.array(kept)


def _inside(px, py, x, y, grown):
    """Coverage of a convex polygon (either winding), None if it has no area."""
    px, py = px.tolist(), py.tolist()
    edges = list(zip(px, py, px[1:] + px[:1], py[1:] + py[:1], strict=True))
    area = sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in edges)
    if abs(area) < 0.2:
        return None
    sign = 1.0 if area > 0 else -1.0
    alpha = None
    for x0, y0, x1, y1 in edges:
        length = np.hypot(x1 - x0, y1 - y0)
        if length < 1e-6:
            continue
        nx, ny = np.float32(-sign * (y1 - y0) / length), np.float32(sign * (x1 - x0) / length)
        distance = nx * x + (ny * y + np.float32(0.5 + grown - nx * x0 - ny * y0))
        alpha = distance if alpha is None else np.minimum(alpha, distance)
    return np.clip(alpha, 0.0, 1.0)


@dataclass
class World:
    """What a scene is painted with: camera, canvas, light, things that cast shadows, and the air."""

    view: Camera
    rng: np.random.Generator
    thermal: bool = False
    sun_direction: np.ndarray = field(default_factory=lambda: np.array([0.3, 0.8, -0.5]))  # towards the sun
    sun: np.ndarray = field(default_factory=lambda: np.ones(3))
    sky: np.ndarray = field(default_factory=lambda: np.full(3, 0.15))  # light from above on a level white surface
    bounce: np.ndarray = field(default_factory=lambda: np.full(3, 0.04))  # light from below
    lamps: list = field(default_factory=list)
    boxes: list = field(default_factory=list)  # shadow casters: (centre, half sizes), axis-aligned
    balls: list = field(default_factory=list)  # shadow casters: (centre, radius, density)
    haze: float = 0.0  # share of radiance lost per metre
    haze_colour: np.ndarray = field(default_factory=lambda: np.full(3, 0.3))
    air: float = 15.0  # degrees Celsius
    heating: float = 0.0  # degrees that full sun adds to a black surface
    sky_temperature: float = -30.0
    night: float = 0.0  # 0 day .. 1 night: what lights of windows, cars and streets are worth
    canvas: np.ndarray = None

    def __post_init__(self):
        self.canvas = np.zeros((4 if self.thermal else 3, *self.view.shape), np.float32)
        if self.thermal:
            self.canvas[3] = self.sky_temperature
        self.sun_direction = np.asarray(self.sun_direction, float) / np.linalg.norm(self.sun_direction)

    def sunlit(self, point, soft=0.35, boxes=None, balls=None):
        """Share of the sun at ``point`` (three arrays), 0..1; casters are the world's unless given."""
        open_sky = np.float32(1.0)
        d = [float(v) for v in self.sun_direction]
        if d[1] <= 0.0 or self.sun.max() <= 0.0:
            return open_sky
        for centre, half in self.boxes if boxes is None else boxes:
            enter, leave = 0.02, 1e4
            for axis in range(3):
                inverse = 1.0 / (d[axis] if abs(d[axis]) > 1e-4 else 1e-4)
                middle = (float(centre[axis]) - point[axis]) * inverse
                reach = abs(float(half[axis]) * inverse)
                enter, leave = np.maximum(enter, middle - reach), np.minimum(leave, middle + reach)
            open_sky = open_sky * (1.0 - np.clip((leave - enter) * (1.0 / soft), 0.0, 1.0))
        for centre, radius, density in self.balls if balls is None else balls:
            away = [float(centre[i]) - point[i] for i in range(3)]
            along = away[0] * d[0] + away[1] * d[1] + away[2] * d[2]
            miss = away[0] * away[0] + away[1] * away[1] + away[2] * away[2] - along * along
            square = float(radius) ** 2
            shade = np.clip((square - miss) * (2.0 / square), 0.0, 1.0) * (along > 0.0)
            open_sky = open_sky * (1.0 - float(density) * shade)
        return open_sky

    def sunlit_at(self, place):
        """The same for one object at ``place`` (3,), which does not shade itself."""
        place = np.asarray(place, float)
        boxes = [(c, h) for c, h in self.boxes if np.any(np.abs(place - c) > h + 0.4)]
        balls = [(c, r, k) for c, r, k in self.balls if np.hypot(place[0] - c[0], place[2] - c[2]) > r]
        return float(self.sunlit([np.full(1, p, np.float32) for p in place], 1.5, boxes, balls).ravel()[0])

    def light(self, normal, point=None, shadow=1.0, occlusion=1.0):
        """Three arrays: light on a surface (as radiance of white) and, fourth, the share that is sun."""
        nx, ny, nz = (n if isinstance(n, np.ndarray) else float(n) for n in normal)
        d = [float(v) for v in self.sun_direction]
        facing = _plain(np.maximum(nx * d[0] + ny * d[1] + nz * d[2], 0.0)) * shadow
        up = (0.5 + 0.5 * ny) * occlusion
        down = (0.5 - 0.5 * ny) * occlusion
        out = [facing * float(self.sun[c]) + up * float(self.sky[c]) + down * float(self.bounce[c]) for c in range(3)]
        if point is not None:
            for lamp in self.lamps:
                away = [float(lamp.position[i]) - point[i] for i in range(3)]
                square = away[0] * away[0] + away[1] * away[1] + away[2] * away[2] + 0.05
                inverse = 1.0 / np.sqrt(square)
                cosine = (away[0] * nx + away[1] * ny + away[2] * nz) * inverse
                gain = np.clip(0.15 + 0.85 * cosine, 0.0, 1.0) / square
                if lamp.aim is not None:
                    aim = [-float(v) for v in lamp.aim]
                    along = (away[0] * aim[0] + away[1] * aim[1] + away[2] * aim[2]) * inverse
                    gain = gain * np.maximum(along, 0.0) ** lamp.spread
                out = [out[c] + gain * float(lamp.colour[c]) for c in range(3)]
        return (*out, facing)

    def radiance(
        self, normal, albedo, z, point=None, shadow=1.0, emission=None, warmth=0.0, emissivity=0.95, occlusion=1.0
    ):
        """Channels of a surface: reflected light (``albedo``, 3) and ``emission`` through haze; heat.

        Apparent temperature: the surface's own, times its emissivity, the rest mirrored from the
        surroundings: the linearised e*T**4 of a long-wave camera. ``warmth`` is degrees above the air; sun
        adds its own.
        """
        lit = self.light(normal, point, shadow, occlusion)
        out = [lit[c] * _plain(albedo[c]) + (0.0 if emission is None else _plain(emission[c])) for c in range(3)]
        if self.haze > 0.0:
            clear = _plain(np.exp(-self.haze * z))
            out = [clear * out[c] + (1.0 - clear) * float(self.haze_colour[c]) for c in range(3)]
        if self.thermal:
            grey = (albedo[0] + albedo[1] + albedo[2]) * (1.0 / 3.0)
            heat = self.air + _plain(warmth) + self.heating * lit[3] * (1.0 - grey)
            mirrored = mix_height(self.sky_temperature, self.air, _plain(normal[1]))
            heat = emissivity * heat + (1.0 - emissivity) * mirrored
            if self.haze > 0.0:
                thin = _plain(np.exp(-0.3 * self.haze * z))
                heat = thin * heat + (1.0 - thin) * self.air
            out.append(heat)
        return out

    def paint(self, rows, cols, alpha, channels):
        """Lay channels (arrays or numbers) over the canvas with coverage ``alpha``."""
        for target, value in zip(self.canvas, channels, strict=True):
            value = _plain(value)
            area = target[rows, cols]
            area += alpha * (value - area)

    def add_glow(self, point, colour, radius, heat=0.0):
        """A light seen directly: an additive disc of ``radius`` metres with a soft edge."""
        column, row, z = self.view.locate(point)
        if z < NEAR:
            return
        size = max(radius * self.view.focal / z, 0.35)
        reach = int(np.ceil(3.0 * size)) + 1
        top, bottom = max(0, int(row) - reach), min(self.view.shape[0], int(row) + reach + 1)
        left, right = max(0, int(column) - reach), min(self.view.shape[1], int(column) + reach + 1)
        if top >= bottom or left >= right:
            return
        y = (np.arange(top, bottom) + 0.5 - row)[:, None]
        x = (np.arange(left, right) + 0.5 - column)[None, :]
        # a lamp smaller than a pixel still sends all its light: the disc keeps its sum
        share = min(1.0, (radius * self.view.focal / z / size) ** 2)
        shape = np.clip(size - np.hypot(x, y) + 0.5, 0.0, 1.0).astype(np.float32)
        for channel in range(3):
            self.canvas[channel, top:bottom, left:right] += shape * np.float32(colour[channel] * share)
        if self.thermal and heat:
            self.canvas[3, top:bottom, left:right] += shape * np.float32(heat * share)


def _plain(value):
    """Numbers as Python floats, so that they do not turn single-precision arrays into double."""
    return value if isinstance(value, np.ndarray) and value.ndim else float(value)


def mix_height(above, level, normal_y):
    """Temperature a tilted mirror shows: ``above`` if it faces up, ``level`` if it faces down."""
    up = _plain(np.clip(0.5 + 0.5 * normal_y, 0.0, 1.0))
    return level + (above - level) * up
