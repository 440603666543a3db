"""A room's extent and openings, and how light falls in: sky through windows, sun patches, lamps."""

from typing import NamedTuple

import numpy as np

from refusion_jax.scenes.textures import bar, pulse


class Window(NamedTuple):
    """An opening in a wall: lower left corner and size in metres, panes, arch or square top."""

    wall: str
    left: float
    sill: float
    width: float
    height: float
    across: int
    up: int
    arch: bool
    blinds: float


class Room(NamedTuple):
    """Extent (x0, x1, y0, y1, depth) in metres, openings, and the light outside as radiance of the view."""

    x0: float
    x1: float
    y0: float
    y1: float
    depth: float
    windows: tuple
    outside: np.ndarray
    gloss: float


WALLS = {  # origin, along, normal, length from the room's extent; coordinates start at a lower corner
    "far": lambda r: ((r.x0, r.y0, r.depth), (1, 0, 0), (0, 0, -1), r.x1 - r.x0),
    "left": lambda r: ((r.x0, r.y0, -3.0), (0, 0, 1), (1, 0, 0), r.depth + 3.0),
    "right": lambda r: ((r.x1, r.y0, -3.0), (0, 0, 1), (-1, 0, 0), r.depth + 3.0),
}


def opening(window, s, t, ds, dt, grown=0.0):
    """Share of a pixel of the wall inside an opening, optionally grown by metres on all sides."""
    left, low, w, h = (window.left - grown, window.sill - grown, window.width + 2 * grown, window.height + 2 * grown)
    if not window.arch:
        return bar(s, left, left + w, ds) * bar(t, low, low + h, dt)
    spring = low + h - w / 2
    round_top = np.hypot(s - left - w / 2, np.maximum(t - spring, 0.0)) - w / 2
    return np.clip(0.5 - round_top / np.maximum(np.maximum(ds, dt), 1e-4), 0.0, 1.0) * bar(t, low, low + h, dt)


def bars(window, s, t, ds, dt):
    """Share of an opening's pixel covered by glazing bars and blinds."""
    x, y = (s - window.left) / window.width * window.across, (t - window.sill) / window.height * window.up
    fx, fy = ds / window.width * window.across, dt / window.height * window.up
    wide, tall = 0.06 / window.width * window.across, 0.06 / window.height * window.up
    solid = np.maximum(pulse(x + wide / 2, wide, fx), pulse(y + tall / 2, tall, fy))
    if window.blinds:
        drawn = t > window.sill + window.height * (1.0 - window.blinds)
        solid = np.maximum(solid, drawn * pulse(t / 0.06, 0.62, dt / 0.06))
    return solid


def _centre(here, window):
    origin, along, normal, _ = WALLS[window.wall](here)
    up = window.sill + window.height / 2
    return [origin[i] + along[i] * (window.left + window.width / 2) + (up if i == 1 else 0.0) for i in range(3)], normal


def room_light(inner, here, patch, normal):
    """Light on a surface, three arrays: sky through the windows, sun patches, lamps, what walls return."""
    point = patch.point
    nx, ny, nz = (float(n) for n in normal)
    area_all = sum(w.width * w.height for w in here.windows)
    box = 2 * ((here.x1 - here.x0) * (here.depth + here.y1 - here.y0) + here.depth * (here.y1 - here.y0))
    near = [
        np.minimum(point[0] - here.x0, here.x1 - point[0]),
        np.minimum(point[1] - here.y0, here.y1 - point[1]),
        here.depth - point[2],
    ]
    corner = 1.0
    for distance in near:  # corners see less of the room
        corner = corner * (1.0 - 0.35 * np.exp(-np.maximum(distance, 0.0) * 2.2))
    returned = (0.55 * area_all / box) * corner / 0.65
    direct = np.float32(0.0)
    sun = np.float32(0.0)
    d = [float(v) for v in inner.sun_direction]
    facing = nx * d[0] + ny * d[1] + nz * d[2]
    for window in here.windows:
        centre, out_normal = _centre(here, window)
        away = [float(centre[i]) - point[i] for i in range(3)]
        square = away[0] * away[0] + away[1] * away[1] + away[2] * away[2] + 0.02
        area = window.width * window.height
        here_cos = np.maximum(away[0] * nx + away[1] * ny + away[2] * nz, 0.0)
        there_cos = np.maximum(-(away[0] * out_normal[0] + away[1] * out_normal[1] + away[2] * out_normal[2]), 0.0)
        direct = direct + area * here_cos * there_cos / (square * (3.14159 * square + area))
        axis = 2 if window.wall == "far" else 0
        toward = -(d[0] * out_normal[0] + d[1] * out_normal[1] + d[2] * out_normal[2])
        if facing > 0.0 and toward > 0.05 and d[1] > 0.0 and inner.sun.max() > 0:
            origin, along, _, _ = WALLS[window.wall](here)
            reach = (origin[axis] - point[axis]) * (1.0 / d[axis])
            s = sum((point[i] + reach * d[i] - origin[i]) * along[i] for i in range(3))
            t = point[1] + reach * d[1] - origin[1]
            blurred = np.maximum(0.012 * np.abs(reach), 0.01)
            lets = opening(window, s, t, blurred, blurred) * (1.0 - bars(window, s, t, blurred, blurred))
            sun = np.maximum(sun, lets * (reach > 0.0))
    if inner.boxes and np.any(sun):
        sun = sun * inner.sunlit([p + 0.03 * n for p, n in zip(point, (nx, ny, nz), strict=True)], 0.1)
    lit = [
        direct * float(here.outside[c]) + returned * float(here.outside[c]) + sun * float(facing * inner.sun[c])
        for c in range(3)
    ]
    if any(w.wall for w in here.windows) and d[1] > 0:  # sun that came in lights the rest a little
        lit = [light + float(0.012 * inner.sun[c]) * corner for c, light in enumerate(lit)]
    if inner.lamps:
        extra = inner.light((nx, ny, nz), point)
        glow = sum(float(lamp.colour.mean()) for lamp in inner.lamps)
        lit = [
            lit[c] + extra[c] + 0.008 * glow * corner * float(inner.lamps[0].colour[c] / inner.lamps[0].colour.mean())
            for c in range(3)
        ]
    return lit


def paint_surface(inner, here, patch, normal, albedo, emission=None, alpha=1.0, occlusion=1.0):
    lit = room_light(inner, here, patch, normal)
    inner.paint(
        patch.rows,
        patch.cols,
        patch.alpha * alpha,
        [lit[c] * occlusion * albedo[c] + (0.0 if emission is None else emission[c]) for c in range(3)],
    )
