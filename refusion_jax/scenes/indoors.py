"""Rooms, halls and arches painted over an open-air scene: walls, floors, ceilings, pictures, curtains."""

import numpy as np

from refusion_jax.scenes.furniture import furnish
from refusion_jax.scenes.interior import WALLS, Room, Window, bars, opening, paint_surface
from refusion_jax.scenes.render import World, plane_patch
from refusion_jax.scenes.textures import bar, brick, grain, hue, lookup, mix, pick, poster, pulse, pyramid, wall_paint


def room(world, rng, kind="room", dark=1.0):
    """Paint a room, hall or arch (``kind``) over what ``world`` shows; ``dark`` scales its light."""
    view = world.view
    y0 = float(view.position[1]) - rng.uniform(1.2, 1.7)
    width, depth, tall = {
        "room": (rng.uniform(3.6, 6.5), rng.uniform(3.6, 6.5), rng.uniform(2.5, 3.1)),
        "hall": (rng.uniform(3.0, 9.0), rng.uniform(9, 20), rng.uniform(3.0, 6.5)),
        "arch": (rng.uniform(4.5, 8.0), rng.uniform(3.0, 6.0), rng.uniform(3.4, 6.0)),
    }[kind]
    x0 = float(view.position[0]) - width * rng.uniform(0.3, 0.7)
    windows = _windows(rng, kind, width, depth, tall)
    outside = np.maximum(world.sky * 1.4 + 0.12 * world.sun, 1e-4)
    here = Room(
        x0, x0 + width, y0, y0 + tall, depth, windows, outside * dark, float(rng.choice([0.0, 0.05, 0.12, 0.25]))
    )
    # the street's lamps and shadows stay outside; the sun comes in through the windows alone
    inner = World(view, rng, False, world.sun_direction, world.sun, np.zeros(3), np.zeros(3))
    inner.canvas, inner.night = world.canvas, world.night
    items = furnish(inner, rng, here, kind)
    lamp_lit = bool(inner.lamps)
    wall_colour = wall_paint(rng) if rng.random() < 0.85 else hue(rng, (0.1, 0.5), (0.2, 0.7))
    wood = np.array([0.33, 0.2, 0.1], np.float32) * rng.uniform(0.3, 1.3)
    for name in ("far", "left", "right"):
        _wall(inner, rng, here, name, wall_colour, wood, kind)
    _level(inner, rng, here, kind, wood)
    if kind != "arch":
        _pictures(inner, rng, here)
        _curtains(inner, rng, here)
    items.sort(key=lambda item: -item[0])
    for _, draw in items:
        draw()
    return lamp_lit


def _windows(rng, kind, width, depth, tall):
    out = []
    if kind == "arch":
        w, h = width * rng.uniform(0.35, 0.75), tall * rng.uniform(0.65, 0.9)
        return (Window("far", (width - w) * rng.uniform(0.3, 0.7), 0.0, w, h, 1, 1, rng.random() < 0.6, 0.0),)
    arch, style = rng.random() < (0.5 if kind == "hall" else 0.1), rng.random()
    across, up = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    blinds = rng.uniform(0.3, 0.8) if rng.random() < 0.15 else 0.0
    if style < 0.92:
        count = int(rng.integers(1, 4)) if width > 4.5 else 1
        space = width / count
        sill = rng.choice([0.05, 0.8, 1.0]) if kind == "room" else rng.choice([0.0, 0.5, 1.2])
        w, h = space * rng.uniform(0.45, 0.85), (tall - sill) * rng.uniform(0.55, 0.88)
        out += [Window("far", space * (k + 0.5) - w / 2, sill, w, h, across, up, arch, blinds) for k in range(count)]
    if style > 0.6 or kind == "hall":
        wall = str(rng.choice(["left", "right"]))
        step = rng.uniform(2.0, 3.5)
        w, h, sill = (step * rng.uniform(0.4, 0.75), tall * rng.uniform(0.4, 0.6), tall * rng.uniform(0.2, 0.35))
        for k in range(min(5, int((depth + 1.0) / step))):
            out.append(Window(wall, depth + 3.0 - (k + 0.75) * step - w / 2, sill, w, h, across, up, arch, blinds))
    return tuple(out)


def _wall(inner, rng, here, name, colour, wood, kind):
    origin, along, normal, length = WALLS[name](here)
    tall = here.y1 - here.y0
    patch = plane_patch(inner.view, origin, along, (0, 1, 0), [(0, 0), (length, 0), (length, tall), (0, tall)], 1.5)
    style, shift = rng.random(), float(rng.random())
    if patch is None:
        return
    s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
    foot = np.maximum(ds, dt)
    grit = lookup(grain(1.0), s * 0.15 + shift, t * 0.15, foot * 0.15)[0]
    fine = lookup(grain(0.4), s * 0.7 + shift, t * 0.7, foot * 0.7)[0]
    tone = 1.0 + 0.05 * grit + 0.03 * fine
    if kind == "arch" or (kind == "hall" and style < 0.4):
        size = 0.075 if style < 0.5 else 0.32
        share, row, column = brick(s, t, foot, 3.2 * size, size, 0.15 * size)
        table = np.random.default_rng(int(shift * 1e9)).random(499).astype(np.float32)
        near = np.clip(2.0 - foot / size, 0.0, 1.0)
        vary = 1.0 + (0.6 * pick(table, row, column) - 0.3) * near + 0.15 * grit + 0.1 * fine
        albedo = [mix(np.float32(0.16), colour[c] * (0.7, 0.55, 0.45)[c] * vary, share) for c in range(3)]
    elif style < 0.25:  # wallpaper
        stripe = pulse(s / 0.3, 0.5, ds / 0.3)
        albedo = [colour[c] * tone * (0.85 + 0.25 * stripe) for c in range(3)]
    elif style < 0.45:  # panelling below
        line = pulse(s / 0.5, 0.05, ds / 0.5)
        panel = bar(t, 0.0, 1.0, dt)
        albedo = [mix(colour[c] * tone, wood[c] * (1.0 - 0.5 * line) * (1 + 0.15 * fine), panel) for c in range(3)]
    else:
        albedo = [colour[c] * tone for c in range(3)]
    skirting = bar(t, 0.0, 0.1, dt)
    albedo = [mix(a, np.float32(0.6), 0.8 * skirting) for a in albedo]
    hole, rim = np.float32(0.0), np.float32(0.0)
    for window in here.windows:
        if window.wall == name:
            inside = opening(window, s, t, ds, dt)
            solid = bars(window, s, t, ds, dt) * inside if kind != "arch" else 0.0
            hole = np.maximum(hole, inside - solid)
            rim = np.maximum(rim, opening(window, s, t, ds, dt, 0.09))
    trim = wood if style > 0.5 else np.full(3, 0.7, np.float32)
    albedo = [mix(a, trim[c] * tone, rim) for c, a in enumerate(albedo)]
    paint_surface(inner, here, patch, normal, albedo, alpha=1.0 - hole)


def _level(inner, rng, here, kind, wood):
    """Floor and ceiling."""
    w, d, z0 = here.x1 - here.x0, here.depth, -3.0
    shift, style = float(rng.random()), rng.random()
    table = rng.random(499).astype(np.float32)
    patch = plane_patch(
        inner.view, (here.x0, here.y0, z0), (1, 0, 0), (0, 0, 1), [(0, 0), (w, 0), (w, d - z0), (0, d - z0)], 1.0
    )
    if patch is not None:
        s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
        foot = np.maximum(ds, dt)
        grit = lookup(grain(1.0), s * 0.2 + shift, t * 0.2, foot * 0.2)[0]
        fine = lookup(grain(0.5, 6), t * 0.4, s * 1.5 + shift, foot * 0.8)[0]
        if style < 0.45 and kind != "arch":  # planks
            column = np.floor(s / 0.13)
            joint = np.maximum(pulse(s / 0.13, 0.05, ds / 0.13), pulse(t / 1.6 + pick(table, column), 0.006, dt / 1.6))
            near = np.clip(2.0 - foot / 0.13, 0.0, 1.0)
            tone = 1 + 0.12 * fine + (0.4 * pick(table, column, np.floor(t / 1.6 + pick(table, column))) - 0.2) * near
            albedo = [wood[c] * tone * (1.0 - 0.6 * joint) for c in range(3)]
        elif style < 0.8 or kind == "arch":  # tiles, plain or chequered
            size = rng.uniform(0.25, 0.8)
            joint = np.maximum(pulse(s / size, 0.03, ds / size), pulse(t / size, 0.03, dt / size))
            stone = 0.8 * wall_paint(rng)
            check = ((np.floor(s / size) + np.floor(t / size)) % 2) * (0.5 if rng.random() < 0.4 else 0.05)
            albedo = [stone[c] * (1.0 - check) * (1 + 0.06 * grit) * (1.0 - 0.5 * joint) for c in range(3)]
        else:  # carpet
            stone = hue(rng, (0.1, 0.6), (0.1, 0.5))
            nap = lookup(grain(0.3), s * 1.1 + shift, t * 1.1, foot * 1.1)[0]
            albedo = [stone[c] * (1 + 0.12 * grit + 0.12 * nap) for c in range(3)]
        emission = None
        if here.gloss and kind != "arch":
            emission = _mirror(inner, here, patch, 1.0 + 0.15 * grit)
        paint_surface(inner, here, patch, (0, 1, 0), albedo, emission)
    patch = plane_patch(
        inner.view, (here.x0, here.y1, z0), (1, 0, 0), (0, 0, 1), [(0, 0), (w, 0), (w, d - z0), (0, d - z0)], 1.0
    )
    if patch is not None:
        tone = 0.72 * (1.0 + 0.02 * lookup(grain(1.0), patch.s * 0.2, patch.t * 0.2, patch.ds * 0.3)[0])
        if style > 0.5 and kind != "room":  # beams
            tone = tone * (1.0 - 0.7 * pulse(patch.t / 1.5, 0.18, patch.dt / 1.5))
        paint_surface(inner, here, patch, (0, -1, 0), [tone, 0.98 * tone, 0.94 * tone])


def _mirror(inner, here, patch, rough):
    """What a polished floor mirrors of the windows in the far wall."""
    eye, point = [float(v) for v in inner.view.position], patch.point
    ahead = np.maximum(point[2] - eye[2], 0.05)
    reach = (here.depth - point[2]) / ahead
    x = point[0] + (point[0] - eye[0]) * reach - here.x0
    y = (eye[1] - here.y0) * reach
    soft = 0.05 + 0.12 * reach * patch.z * 0.3
    shine = np.float32(0.0)
    for window in here.windows:
        if window.wall == "far":
            shine = np.maximum(shine, opening(window, x, y, soft, soft))
    grazing = here.gloss * (1.0 + 3.0 * np.exp(-5.0 * (eye[1] - here.y0) / np.maximum(patch.z, 0.1)))
    return [shine * grazing * rough * float(here.outside[c]) for c in range(3)]


def _pictures(inner, rng, here):
    for name in ("far", "left", "right"):
        for _ in range(rng.integers(0, 3)):
            origin, along, normal, length = WALLS[name](here)
            w = rng.uniform(0.4, 1.1)
            h, low = w * rng.uniform(0.7, 1.4), rng.uniform(1.0, 1.5)
            start = (
                rng.uniform(0.2, max(0.3, length - w - 0.2)) if name == "far" else length - rng.uniform(1.0, 3.0) - w
            )
            tile, frame = pyramid(poster(rng, (64, 64))), hue(rng, (0.0, 0.4), (0.03, 0.6))
            if low + h > here.y1 - here.y0 - 0.1 or any(
                o.wall == name and o.left - w < start < o.left + o.width and o.sill < low + h for o in here.windows
            ):
                continue
            corner = [origin[i] + along[i] * start + normal[i] * 0.02 + (low if i == 1 else 0.0) for i in range(3)]
            patch = plane_patch(inner.view, corner, along, (0, 1, 0), [(0, 0), (w, 0), (w, h), (0, h)])
            if patch is None:
                continue
            u = patch.s / w if name != "right" else 1.0 - patch.s / w
            picture = lookup(tile, u, 1.0 - patch.t / h, np.maximum(patch.ds / w, patch.dt / h))
            inside = bar(patch.s, 0.04, w - 0.04, patch.ds) * bar(patch.t, 0.04, h - 0.04, patch.dt)
            paint_surface(inner, here, patch, normal, [mix(frame[c], 0.85 * picture[c], inside) for c in range(3)])


def _curtains(inner, rng, here):
    colour, drawn = hue(rng, (0.1, 0.6), (0.3, 0.9)), rng.random() < 0.4
    for window in here.windows:
        if window.wall != "far" or not drawn or window.arch:
            continue
        for side in (0, 1):
            w = window.width * rng.uniform(0.15, 0.3)
            left = here.x0 + window.left + (-0.15 if side == 0 else window.width - w + 0.15)
            low, high = max(0.02, window.sill - 0.3), window.sill + window.height + 0.15
            patch = plane_patch(
                inner.view,
                (left, here.y0 + low, here.depth - 0.12),
                (1, 0, 0),
                (0, 1, 0),
                [(0, 0), (w, 0), (w, high - low), (0, high - low)],
            )
            if patch is None:
                continue
            fold = 0.5 + 0.5 * np.sin(patch.s * (6.2832 / 0.13) + 0.8 * np.sin(patch.t * 2.0))
            through = opening(window, patch.s + left - here.x0, patch.t + low, patch.ds, patch.dt)
            glow = [through * float(0.16 * here.outside[c]) * colour[c] * (0.6 + 0.5 * fold) for c in range(3)]
            paint_surface(inner, here, patch, (0, 0, -1), [colour[c] * (0.5 + 0.5 * fold) for c in range(3)], glow)
