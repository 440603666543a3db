"""Flat things that face the camera, drawn from distance fields in metres; people."""

import numpy as np

from refusion_jax.scenes.render import NEAR
from refusion_jax.scenes.textures import hue, noise


def _part(value, area):
    """The part of a board-sized array (or one row or column) within ``area``; numbers pass."""
    if not isinstance(value, np.ndarray) or value.ndim < 2:
        return value
    rows = area[0] if value.shape[0] > 1 else slice(None)
    return value[rows, area[1] if value.shape[1] > 1 else slice(None)]


class Sprite:
    """A drawing board through ``base`` that faces the camera: ``x`` metres right, ``y`` up.

    Shapes are signed distances in metres, negative inside. Paint from back to front, then ``place``. The
    buffer holds, weighted by coverage: 0-2 albedo, 3-5 emission, 6 warmth, 7 emissivity, 8-9 normal
    (right, up).
    """

    def __init__(self, world, base, width, height, below=0.05):
        self.world, self.base = world, np.asarray(base, float)
        view = world.view
        column, row, z = (float(v) for v in view.locate(self.base))
        self.z, self.seen = z, False
        if z < 4 * NEAR:
            return
        self.pixel = float(z / view.focal)
        left = int(max(0, np.floor(column - 0.5 * width / self.pixel)))
        right = int(min(view.shape[1], np.ceil(column + 0.5 * width / self.pixel) + 1))
        top = int(max(0, np.floor(row - height / self.pixel)))
        bottom = int(min(view.shape[0], np.ceil(row + below / self.pixel) + 1))
        if right - left < 1 or bottom - top < 1 or height / self.pixel < 2.0:
            return
        self.seen = True
        self.rows, self.cols = slice(top, bottom), slice(left, right)
        self.x = ((np.arange(left, right) + 0.5 - column) * self.pixel).astype(np.float32)[None, :]
        self.y = ((row - np.arange(top, bottom) - 0.5) * self.pixel).astype(np.float32)[:, None]
        self.shape = (bottom - top, right - left)
        self.alpha = np.zeros(self.shape, np.float32)
        self.buffer = np.zeros((10, *self.shape), np.float32)

    def cover(self, distance):
        """Coverage of a shape from its distance field."""
        return np.clip(0.5 - distance / self.pixel, 0.0, 1.0)

    def paint(self, cover, albedo, warmth=0.0, emission=(0.0, 0.0, 0.0), emissivity=0.95, nx=0.0, ny=0.0, area=None):
        """Lay a material over what is there; every property a number or an array.

        With ``area`` (rows, columns) the arrays cover just that part of the board.
        """
        values = (*albedo, *emission, warmth, emissivity, nx, ny)
        if area is None:
            rows, cols = np.nonzero(cover.max(axis=1) > 0)[0], np.nonzero(cover.max(axis=0) > 0)[0]
            if not len(rows) or not len(cols):
                return
            area = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
            cover = cover[area]
            values = [_part(value, area) for value in values]
        rest = 1.0 - cover
        self.alpha[area] *= rest
        self.alpha[area] += cover
        buffer = self.buffer[(slice(None), *area)]
        buffer *= rest
        for target, value in zip(buffer, values, strict=True):
            value = value if isinstance(value, np.ndarray) and value.ndim else float(value)
            if isinstance(value, np.ndarray) or value != 0.0:
                target += cover * value

    def area(self, left, right, low, high):
        """(rows, columns) of a rectangle given in metres, and its x and y; None if it is empty."""
        first = int(max(0, (left - self.x[0, 0]) / self.pixel - 1))
        last = int(min(self.shape[1], (right - self.x[0, 0]) / self.pixel + 2))
        top = int(max(0, (self.y[0, 0] - high) / self.pixel - 1))
        bottom = int(min(self.shape[0], (self.y[0, 0] - low) / self.pixel + 2))
        if first >= last or top >= bottom:
            return None
        area = slice(top, bottom), slice(first, last)
        return area, self.x[:, area[1]], self.y[area[0]]

    def stroke(self, x0, y0, r0, x1, y1, r1, albedo, warmth=0.0, rounding=0.8, ny=0.0, comb=0.0):
        """Paint a tapered stroke within its own bounds, shaded as a rod; thinner than a pixel it fades.

        ``albedo`` is three numbers or three arrays of the board's shape. ``comb`` cuts gaps (cycles per
        metre).
        """
        x0, y0, r0, x1, y1, r1 = (float(v) for v in (x0, y0, r0, x1, y1, r1))
        margin = max(r0, r1, self.pixel)
        found = self.area(min(x0, x1) - margin, max(x0, x1) + margin, min(y0, y1) - margin, max(y0, y1) + margin)
        if found is None:
            return
        area, x, y = found
        dx, dy = x1 - x0, y1 - y0
        scale = 1.0 / (dx * dx + dy * dy + 1e-9)
        along = np.clip((x - x0) * (dx * scale) + (y - y0) * (dy * scale), 0.0, 1.0)
        wide = np.maximum(r0 + (r1 - r0) * along, 0.5 * self.pixel)
        ex, ey = x - x0 - along * dx, y - y0 - along * dy
        cover = np.clip(0.5 - (np.sqrt(ex * ex + ey * ey) - wide) / self.pixel, 0.0, 1.0)
        cover *= min(1.0, 2.0 * max(r0, r1) / self.pixel)
        if comb:  # leaflets with gaps between them, where the picture can show them
            gaps = np.sign(np.sin((1.3 * x + y) * comb)) * min(1.0, 1.5 / (comb * self.pixel))
            cover = cover * (0.75 + 0.25 * gaps)
        across = np.clip(ex / wide, -0.95, 0.95) * rounding
        albedo = [_part(value, area) for value in albedo]
        self.paint(cover, albedo, _part(warmth, area), nx=across, ny=ny, area=area)

    def place(self, shadow=None, occlusion=1.0):
        """Shade what was painted and lay it on the world's canvas."""
        world = self.world
        if shadow is None:
            shadow = world.sunlit_at(self.base + np.array([0.0, 1.0, 0.0]))
        self.buffer *= 1.0 / np.maximum(self.alpha, 1e-4)
        nx, ny = self.buffer[8], self.buffer[9]
        nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
        right, below, ahead = world.view.axes.astype(np.float32)
        normal = tuple(nx * right[i] - ny * below[i] - nz * ahead[i] for i in range(3))
        point = tuple(np.float32(p) for p in self.base + np.array([0.0, 1.0, 0.0])) if world.lamps else None
        channels = world.radiance(
            normal, self.buffer[0:3], self.z, point, shadow, self.buffer[3:6], self.buffer[6], self.buffer[7], occlusion
        )
        world.paint(self.rows, self.cols, self.alpha, channels)

    def ellipse(self, cx, cy, rx, ry):
        """Distance to an ellipse (about right near its outline)."""
        cx, cy, rx, ry = (float(v) for v in (cx, cy, rx, ry))
        return (np.sqrt(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2) - 1.0) * min(rx, ry)

    def box(self, cx, cy, hx, hy, rounding=0.0):
        """Distance to a box with half sizes hx, hy and rounded corners."""
        cx, cy, hx, hy = (float(v) for v in (cx, cy, hx, hy))
        dx, dy = np.abs(self.x - cx) - (hx - rounding), np.abs(self.y - cy) - (hy - rounding)
        return np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2) + np.minimum(np.maximum(dx, dy), 0) - rounding

    def convex(self, *corners):
        """Convex polygon, corners given clockwise as seen."""
        out = None
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            x0, y0, x1, y1 = (float(v) for v in (x0, y0, x1, y1))
            scale = 1.0 / (float(np.hypot(x1 - x0, y1 - y0)) + 1e-9)
            edge = (self.x - x0) * ((y0 - y1) * scale) + (self.y - y0) * ((x1 - x0) * scale)
            out = edge if out is None else np.maximum(out, edge)
        return out

    def limb(self, x0, y0, r0, x1, y1, r1):
        """Tapered stroke; also the position across it, -1..1 (for rounding its shade)."""
        x0, y0, r0, x1, y1, r1 = (float(v) for v in (x0, y0, r0, x1, y1, r1))
        dx, dy = x1 - x0, y1 - y0
        length = dx * dx + dy * dy + 1e-9
        along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / length, 0.0, 1.0)
        ex, ey = self.x - x0 - along * dx, self.y - y0 - along * dy
        radius = r0 + (r1 - r0) * along
        return np.sqrt(ex * ex + ey * ey) - radius, np.clip(ex / radius, -0.95, 0.95)


def person(world, base, rng, height=None, walking=None):
    """Someone standing or walking, 1.5 to 1.9 m tall. Skin is warm, clothes less so."""
    height = height or rng.uniform(1.55, 1.88)
    skin = np.array([0.55, 0.36, 0.26], np.float32) * rng.uniform(0.35, 1.1)
    coat, legs = hue(rng, (0.0, 0.7), (0.03, 0.6)), hue(rng, (0.0, 0.5), (0.03, 0.3))
    hair = np.array([0.06, 0.045, 0.035], np.float32) * rng.uniform(0.3, 4.0)
    board = Sprite(world, base, 1.3, height + 0.1)
    stride = rng.uniform(0.05, 0.3) if walking is None else walking
    swing, lean, back = rng.uniform(-0.2, 0.2), rng.normal(0, 0.02), rng.random() < 0.5
    body_heat, cloth_heat = 31.0 - world.air, (27.0 - world.air) * rng.uniform(0.45, 0.85)
    if not board.seen:
        return
    k = height / 1.75
    crease = 1.0 + 0.18 * noise(rng, board.shape, 1.0)
    heat = crease - 1.0

    def limb(x0, y0, r0, x1, y1, r1, colour, warmth):
        board.stroke(x0 * k, y0 * k, r0 * k, x1 * k, y1 * k, r1 * k, [c * crease for c in colour], warmth + 6.0 * heat)

    for side in (-1, 1):  # legs, then shoes
        foot, knee = side * (0.1 + 0.5 * stride), side * (0.1 + 0.3 * stride) + 0.03
        limb(side * 0.09, 0.9, 0.095, knee, 0.5, 0.075, legs, cloth_heat)
        limb(knee, 0.5, 0.075, foot, 0.1, 0.055, legs, 0.85 * cloth_heat)
        limb(foot, 0.05, 0.05, foot + 0.08, 0.04, 0.045, (0.05, 0.05, 0.05), 0.4 * cloth_heat)
    sleeves = rng.random() < 0.6

    def arm(side):
        elbow, hand = side * (0.25 + 0.2 * abs(swing)), side * 0.25 + 0.7 * swing
        limb(side * 0.2, 1.38, 0.06, elbow, 1.12, 0.052, coat, cloth_heat)
        lower = (coat, cloth_heat) if sleeves else (skin, body_heat)
        limb(elbow, 1.12, 0.05, hand, 0.88, 0.038, *lower)
        limb(hand, 0.88, 0.042, hand, 0.82, 0.035, skin, 0.9 * body_heat)

    arm(-1)
    torso, across = board.limb(lean, 1.33 * k, 0.2 * k, 0.0, 0.92 * k, 0.14 * k)
    torso = np.maximum(torso, board.y - 1.46 * k)
    cloth = [c * crease for c in coat]
    board.paint(board.cover(torso), cloth, 1.05 * cloth_heat + 6.0 * heat, nx=0.8 * across, emissivity=0.97)
    arm(1)
    limb(lean / k, 1.5, 0.055, lean / k, 1.42, 0.06, skin, body_heat)
    middle = 1.5 * lean
    face = board.ellipse(middle, 1.62 * k, 0.088 * k, 0.125 * k)
    across = np.clip((board.x - middle) / (0.09 * k), -0.95, 0.95)
    board.paint(board.cover(face), [c * crease for c in skin], 1.05 * body_heat, nx=0.8 * across, emissivity=0.97)
    cap = board.ellipse(middle, 1.66 * k, 0.098 * k, 0.105 * k)
    cap = cap if back else np.maximum(cap, 1.64 * k - board.y)
    board.paint(board.cover(cap), hair, 0.7 * body_heat)
    board.place()
