"""Indoors and close to: a room with windows onto the open air, and layered still lifes for a lens to focus on."""

from copy import copy
from dataclasses import replace

import numpy as np

from refusion_jax.scenes.places import LEAVES, open_air
from refusion_jax.scenes.surfaces import WALLS, WOODS, cells, hue, plain, printed, rgb, shade_of
from refusion_jax.scenes.world import Camera, Light, World

RIGHT, UP, AHEAD = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def board(rng, floor=False):
    """A surface of walls, furniture or floors: boards, tiles, bricks, paint, books."""
    kind, paint, wood = rng.random() * (0.6 if floor else 1.0), shade_of(rng, WALLS, 0.3), shade_of(rng, WOODS)
    if kind < 0.3:
        return cells(rng, [wood], (0.14, 2.0), 0.05, 0.37, rough=0.2)
    if kind < 0.6:
        size = rng.uniform(0.25, 0.6, 2) if floor else (0.24, 0.08)
        return cells(rng, [paint, paint * rng.uniform(0.3, 1.0)], size, 0.05, 0.0 if floor else 0.5)
    books = [hue(rng, (0.1, 0.6), (0.05, 0.5)) for _ in range(9)]
    return plain(rng, paint, 0.04) if kind < 0.8 else cells(rng, books, (0.08, 0.38), 0.12, 0.3, plain(rng, 0.4 * wood))


def thing(world, rng, base, tall):
    """A carton, something turned such as a bottle or a can, or a potted plant, ``tall`` metres, on ``base`` (3,)."""
    base, kind, skin = np.asarray(base, float), rng.random(), plain(rng, hue(rng, (0.2, 0.7), (0.15, 0.7)), 0.04, 1.0)
    label, w, h = printed(rng, tall), tall * rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.8)
    if kind < 0.35:
        faces, yaw = [skin, label, skin, skin, skin], rng.uniform(-0.5, 0.5)
        world.box(base[[0, 2]], (w, 1.2 * h * tall, 0.3 * tall), faces, yaw, base[1])
        return
    parts = [(0, 0.12, w / 2, 1, skin), (0.12, h - 0.1, w / 2, 1, label), (h - 0.1, h, w / 2, 0.8, skin)]  # low .. high
    parts += [(h, h + 0.08, 0.4 * w, 0.4, skin), (h + 0.08, 1, 0.16 * w, 0.9, skin)] if rng.random() < 0.5 else []
    parts = parts if kind < 0.65 else [(0, 0.32, 0.13 * tall, 1.35, plain(rng, (0.5, 0.22, 0.12)))]
    for low, high, radius, taper, surface in parts:
        world.rod(base + [0, low * tall, 0], base + [0, high * tall, 0], radius, surface, taper, True)
    stalk, leaves = plain(rng, (0.1, 0.18, 0.05)), plain(rng, 1.3 * shade_of(rng, LEAVES), 0.1)
    blossom = plain(rng, hue(rng, (0.5, 0.9), (0.5, 0.9)), 0.1) if rng.random() < 0.6 else leaves
    for _ in range(rng.integers(6, 12) if kind > 0.65 else 0):
        top = base + [rng.normal(0, 0.14) * tall, rng.uniform(0.45, 0.9) * tall, rng.normal(0, 0.02)]
        world.rod(base + [0, 0.3 * tall, 0], top, 0.012 * tall, stalk)
        for middle, radius, surface in ((top, 0.09, leaves), (top + 0.04 * tall, 0.05, blossom)):
            world.rod(middle, middle, radius * tall, surface, leafy=0.05 * tall)


def room(rng, size, time):
    """World of a room: the open air seen through one to three windows lights it, and a lamp when it is dark."""
    outside = open_air(rng, size, time, eye=rng.uniform(1.5, 5.0), busy=0.3)
    view = copy(outside.view)
    view.position = np.array([0.0, rng.uniform(1.2, 1.6), 0.0])
    wide, tall, deep = rng.uniform(1.8, 3.5), rng.uniform(2.5, 3.2), rng.uniform(3.2, 5.5)
    count, sill, top = int(rng.integers(1, 4)), float(rng.choice([0.1, 0.8, 1.0])), rng.uniform(2.0, tall - 0.15)
    space, share, lit = 2 * wide / count, rng.uniform(0.22, 0.37), outside.light.night > 0.3 or rng.random() < 0.25
    columns = [-wide, *(space * (k + 0.5 + s) - wide for k in range(count) for s in (-share, share)), wide]
    windows = list(zip(columns[1::2], columns[2::2], strict=False))
    sky = (outside.light.sky + 0.25 * outside.light.sun) * 2 * share * space * (top - sill) * rng.uniform(0.3, 1.0) ** 2
    bulb = np.array([rng.uniform(-0.6, 0.6) * wide, tall - rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.85) * deep])
    glow = rgb((1.0, 0.75, 0.45)) * rng.uniform(0.1, 0.4) * lit
    lamps = [((0, (sill + top) / 2, deep - 0.8), 0.5 * count * sky, False)] + [(bulb, glow, False)] * lit
    ambient = (count * sky + 3.0 * glow) * rng.uniform(0.02, 0.06)
    light = replace(outside.light, sky=ambient, bounce=ambient, lamps=lamps, haze=0.0)
    light.casters = [((0, tall + 0.5, deep - 5), (9, 0.5, 5), False), ((0, 0, -2), (9, 9, 0.1), False)]
    light.casters += [((side * (wide + 0.5), 0, 0), (0.5, 9, 9), False) for side in (-1, 1)]
    world, wall, trim = World(view, light, outside.canvas), board(rng), plain(rng, shade_of(rng, [WALLS[0], WOODS[0]]))
    pieces = [(a, b, 0, tall) for a, b in zip(columns[::2], columns[1::2], strict=True)]
    for a, b, low, high in pieces + [(a, b, *part) for a, b in windows for part in ((0, sill), (top, tall))]:
        world.flat((0, 0, deep), RIGHT, UP, [(a, low), (b, low), (b, high), (a, high)], wall)
        half = (b - a) / 2, (high - low) / 2, 0.06
        light.casters.append(((a + half[0], low + half[1], deep + 0.06), half, False))
    for a, b in windows:
        bars = [(x, sill, 0.06, top - sill) for x in np.linspace(a, b, 3)]
        bars += [((a + b) / 2, y - 0.03, b - a + 0.1, 0.06) for y in np.linspace(sill, top, 2 + lit)]
        for x, low, w, h in bars:
            world.box((x, deep - 0.03), (w, h, 0.06), trim, lift=low)
    furniture = []  # (x, z), (width, height, depth)
    for side in (-1, 1):
        world.flat((side * wide, 0, 0), AHEAD, UP, [(-1, 0), (deep, 0), (deep, tall), (-1, tall)], board(rng))
        places = (side * (wide - 0.25), rng.uniform(0.6, 0.85) * deep), (rng.uniform(-0.7, 0.7) * wide, 0.7 * deep)
        furniture.append((places[0], (0.5, rng.uniform(0.6, 2.1), rng.uniform(0.8, 1.6))))
        furniture.append((places[1], (rng.uniform(0.5, 1.4), rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.7))))
    light.casters += [((x, h / 2, z), (w / 2, h / 2, d / 2), False) for (x, z), (w, h, d) in furniture]
    for height, surface in ((tall, plain(rng, (0.7, 0.69, 0.66), 0.02)), (0.0, board(rng, floor=True))):
        world.flat((0, height, 0), RIGHT, AHEAD, [(-wide, -1), (wide, -1), (wide, deep), (-wide, deep)], surface)
    for (x, z), (w, h, d) in sorted(furniture, key=lambda item: -item[0][1]):
        surface, slab = board(rng) if h > 0.8 else plain(rng, shade_of(rng, WOODS), 0.15, 1.0), 0.05 if w > 0.8 else h
        for dx, dz in ((-0.46, 0.4), (0.46, 0.4), (-0.46, -0.4), (0.46, -0.4)) if slab < h else ():
            world.rod((x + w * dx, 0, z + d * dz), (x + w * dx, h, z + d * dz), 0.03, surface)
        world.box((x, z), (w, slab, d), surface, lift=h - slab)
        for k in range(int(rng.integers(0, 3)) if h < 1.2 else 0):
            thing(world, rng, (x + (k - 0.5) * 0.5 * w, h, z), rng.uniform(0.2, 0.5))
    if lit:
        shade = plain(rng, (0.6, 0.6, 0.6), 0.0, warmth=9.0, glow=12.0 * glow)
        world.rod(bulb - [0, 0.12, 0], bulb + [0, 0.12, 0], 0.2, shade, 0.5, True)
    return world


def still_life(rng, size):
    """Layers (inverse depth: a number or (H,), World) from far to near, and the metres to focus on, near and far."""
    table, near, eye = rng.random() < 0.65, rng.uniform(1.9, 2.6), rng.uniform(0.8, 1.3)
    far = rng.uniform(4.5, 7.5) if table else rng.uniform(20.0, 50.0)
    if table:  # with things near and far, before a wall; what is near stands low in the picture
        sun, sky = (rgb((1.0, 0.96, 0.92)) * rng.uniform(*level) for level in ((0.45, 1.0), (0.12, 0.3)))
        towards = np.array([rng.uniform(-0.7, 0.7), 0.7, -0.7])
        pitch = 0.75 * np.arctan(np.tan(0.33) * size[0] / min(size)) - np.arctan(eye / near)
        light = Light(towards / np.linalg.norm(towards), sun, sky, 0.4 * sky)
        world = World(Camera(size, (0, eye, 0), rng.normal(0, 0.05), pitch, 38), light)
    else:  # the open air with something close to the camera
        world = open_air(rng, size, str(rng.choice(["day", "overcast", "evening"])))
        world.light.sky, world.light.bounce = 1.3 * world.light.sky + 0.12 * world.light.sun, 0.2 * world.light.sun
    view, light, things = world.view, world.light, []  # (x, z, height)
    ahead, half = view.axes[2, 0] / view.axes[2, 2], 0.5 * size[1] / view.focal
    for z, count in ((far, rng.integers(2, 5) * table), (near, rng.integers(1, 3))):
        for lane in np.arange(count) - 0.5 * (count - 1) + rng.normal(0, 0.15 if count > 1 else 0.4, count):
            d, tall = z * rng.uniform(0.97, 1.06), rng.uniform(0.5, 0.8) * (1.3 if z == far else 1.0)
            things.append((view.position[0] + (ahead + 1.6 * lane * half / max(count, 2)) * d, d, tall))
    light.casters, world.sunlit = [((x, 0.25, z), (0.15, 0.25, 0.12), True) for x, z, _ in things if table], None
    if table:
        world.flat((0, -1, 1.1 * far), RIGHT, UP, [(-9, 0), (9, 0), (9, 9), (-9, 9)], board(rng))
        world.flat((0, 0, 0), RIGHT, AHEAD, [(-9, 0), (9, 0), (9, 1.1 * far), (-9, 1.1 * far)], board(rng, floor=True))
    down = (np.arange(size[0]) + 0.5 - size[0] / 2) / view.focal * view.axes[1, 1] + view.axes[2, 1]  # each row's ray
    layers = [(np.clip(-down / view.position[1], 0.9 / far if table else 0.01, 1.3 / near if table else 0.3), world)]
    low = 0.0 if table else view.position[1] + near * down[-1]
    for x, z, tall in things:
        layers.append((1.0 / z, World(view, light, sunlit=1.0)))
        thing(layers[-1][1], rng, (x, low, z), tall)
    return layers, near, far
