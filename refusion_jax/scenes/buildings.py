"""Houses and blocks: facades of brick, plaster, concrete, glass or boards, windows, shops, roofs."""

from typing import NamedTuple

import numpy as np

from refusion_jax.scenes.render import plane_patch
from refusion_jax.scenes.textures import bar, brick, grain, hue, lookup, mix, pick, pulse, wall_paint


class Style(NamedTuple):
    """How a building's walls look; lengths in metres."""

    wall: str
    colour: np.ndarray
    trim: np.ndarray
    bay: float
    floor: float
    wide: float  # window's share of the bay
    tall: float  # window's share of the floor
    shops: bool
    ledges: bool
    balconies: bool
    warm: float  # degrees above the air
    lit: float  # share of windows lit after dark
    table: np.ndarray  # (997,) random numbers behind windows
    shift: float  # where the noise is read
    sign: np.ndarray


def style(rng, wall=None):
    """A random style."""
    wall = wall or str(rng.choice(["brick", "plaster", "plaster", "concrete", "glass", "boards"]))
    colour = {
        "brick": lambda: np.array([0.3, 0.13, 0.08]) * rng.uniform(0.6, 1.3) + rng.uniform(0, 0.06),
        "plaster": lambda: wall_paint(rng),
        "concrete": lambda: np.full(3, rng.uniform(0.22, 0.5)) * np.array([1.02, 1.0, 0.95]),
        "glass": lambda: np.full(3, rng.uniform(0.05, 0.3)),
        "boards": lambda: wall_paint(rng),
    }[wall]()
    glassy = wall == "glass"
    return Style(
        wall,
        colour.astype(np.float32),
        hue(rng, (0.0, 0.3), (0.1, 0.85)),
        rng.uniform(1.3, 2.0) if glassy else rng.uniform(2.2, 4.2),
        rng.uniform(2.8, 3.7),
        rng.uniform(0.85, 0.93) if glassy else rng.uniform(0.35, 0.62),
        rng.uniform(0.7, 0.9) if glassy else rng.uniform(0.45, 0.65),
        rng.random() < 0.5,
        rng.random() < 0.5,
        (not glassy) and rng.random() < 0.25,
        rng.normal(1.0, 2.0),
        rng.uniform(0.1, 0.6),
        rng.random(997).astype(np.float32),
        float(rng.random()),
        hue(rng, (0.5, 0.95), (0.3, 0.8)),
    )


def facade(world, patch, normal, look, height, shops=False, occlusion=1.0, shadow=None):
    """Paint one wall; plane coordinates s along it and t above the ground."""
    s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
    # with many occluders the shadow on a wall is worth its cost only while the sun is on that side
    facing = float(np.dot(normal, world.sun_direction)) > 0.0 and world.sun.max() > 0.0
    if shadow is None:
        shadow = (
            world.sunlit([p + 0.05 * float(n) for p, n in zip(patch.point, normal, strict=True)]) if facing else 0.0
        )
    footprint = np.maximum(ds, dt)
    usual = float(footprint.mean())  # good enough for what varies slowly
    coarse = lookup(grain(1.2), s * 0.06 + look.shift, t * 0.06, usual * 0.06)[0]
    fine = lookup(grain(0.6), s * 0.5 + look.shift, t * 0.5, footprint * 0.5)[0]
    # streaks that run down
    stain = lookup(grain(1.0, 6), t * 0.02, s * 0.12 + look.shift, usual * 0.1)[0]
    tone = 1.0 + 0.07 * coarse + 0.08 * fine + 0.05 * stain
    albedo = [look.colour[c] * tone for c in range(3)]
    if look.wall == "brick":
        share, row, column = brick(s, t, footprint)
        near = np.clip(1.5 - footprint / 0.1, 0.0, 1.0)
        vary = 1.0 + (0.5 * pick(look.table, row, column) - 0.25) * near
        albedo = [mix(0.33 * tone, a * vary, share) for a in albedo]
    elif look.wall == "boards":
        groove = pulse(t / 0.16, 0.1, dt / 0.16)
        albedo = [a * (1.0 - 0.5 * groove) for a in albedo]
    elif look.wall == "concrete":
        joint = np.maximum(pulse(s / look.bay, 0.015, ds / look.bay), pulse(t / look.floor, 0.015, dt / look.floor))
        albedo = [a * (1.0 - 0.5 * joint) for a in albedo]
    soil = 1.0 - 0.3 * np.exp(-np.maximum(t, 0.0) / 0.8)
    albedo = [a * soil for a in albedo]
    warmth = float(look.warm) + 0.5 * coarse + 0.35 * fine + 0.5 * stain
    emissivity = np.float32(0.94)
    emission = [np.float32(0.0)] * 3

    x, y = s / look.bay - 0.5 * (1.0 - look.wide), t / look.floor - 0.5 * (1.0 - look.tall) - 0.05
    fx, fy = ds / look.bay, dt / look.floor
    body = bar(t, look.floor if shops else 0.0, height - 0.7, dt)
    opening = pulse(x, look.wide, fx) * pulse(y, look.tall, fy) * body
    column, row = np.floor(x), np.floor(y)
    frame = 0.07
    inner = pulse(x - frame / look.bay, look.wide - 2 * frame / look.bay, fx) * body
    inner = inner * pulse(y - frame / look.floor, look.tall - 2 * frame / look.floor, fy)
    cross = pulse(x - 0.5 * look.wide + 0.5 * frame / look.bay, frame / look.bay, fx)
    pane = inner * (1.0 - cross) if look.wide * look.bay > 1.0 else inner
    hidden = pick(look.table, column, row)
    inside = np.clip((y - row) / look.tall, 0.0, 1.0)
    rim = [look.trim[c] * tone for c in range(3)]
    albedo = [mix(a, r, opening) for a, r in zip(albedo, rim, strict=True)]
    if look.ledges:
        ledge = pulse(t / look.floor, 0.09, fy)
        albedo = [mix(a, 1.25 * r, 0.8 * ledge * (1.0 - opening)) for a, r in zip(albedo, rim, strict=True)]
        warmth = warmth + 0.8 * ledge
    under = pulse(y - look.tall, 0.06, fy) * pulse(x, look.wide, fx) * body  # the lintel's shade
    tone = 1.0 - 0.35 * under
    glass = pane
    curtain = (hidden > 0.72) * pane * (inside > (hidden - 0.72) * 3.0)
    second = pick(look.table, row + 31, column)
    room = (0.004 + 0.03 * second) * float(world.sky.mean() + 0.3 * world.sun.mean())
    burning = (hidden < look.lit * world.night) * (0.15 + 1.2 * second) * world.night
    mirror = (0.06 + 0.3 * second**2) * (0.45 + 0.55 * inside) * (1.0 - 0.5 * world.night)
    # a few panes throw the sun back
    third = pick(look.table, row + 77, column + 5)
    glint = (
        (third > 0.985) * 25.0 * np.exp(-(((inside - third * 60.0 % 1.0) / 0.12) ** 2)) * float(world.sun.max() > 0.2)
    )
    lamp = (1.0, 0.72, 0.36)
    for c in range(3):
        shine = mirror * np.float32(0.8 * world.sky[c] + 0.1 * world.sun[c]) + room
        shine = shine + glint * float(world.sun[c])
        shine = shine + burning * np.float32(lamp[c] * 0.8) * (0.5 + 0.7 * inside)
        emission[c] = glass * shine
        albedo[c] = mix(albedo[c], np.float32(0.02), glass)
        albedo[c] = mix(albedo[c], np.float32(0.45), 0.8 * curtain) * tone
    warmth = warmth + glass * (3.0 * world.night * (second - 0.3) - 1.0)
    emissivity = mix(emissivity, np.float32(0.8), glass)
    if look.balconies:
        band = bar((y - row) * look.floor, -0.5, 0.75, dt) * (column % 2 == 0) * body
        rail = band * (0.35 + 0.65 * pulse(s / 0.14, 0.3, ds / 0.14))
        albedo = [mix(a, 0.8 * r, rail) for a, r in zip(albedo, rim, strict=True)]
        emission = [e * (1.0 - rail) for e in emission]
    if shops:
        albedo, emission, warmth = _shop_front(world, patch, look, albedo, emission, warmth)
    top = bar(t, height - 0.45, height + 1.0, dt)  # cornice
    albedo = [mix(a, 1.2 * r, 0.85 * top) for a, r in zip(albedo, rim, strict=True)]
    world.paint(
        patch.rows,
        patch.cols,
        patch.alpha,
        world.radiance(
            normal,
            albedo,
            patch.z,
            patch.point if world.lamps else None,
            shadow,
            emission,
            warmth,
            emissivity,
            occlusion,
        ),
    )


def _shop_front(world, patch, look, albedo, emission, warmth):
    s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
    level = look.floor - 0.9
    glass = bar(t, 0.4, level, dt) * pulse(s / 3.2, 0.86, ds / 3.2)
    awning = bar(t, level, look.floor - 0.15, dt)
    cell = np.floor(s / 9.6)
    tint = pick(look.table, cell)
    goods = 0.5 + 0.5 * lookup(grain(0.8), s * 0.25, t * 0.25, np.maximum(ds, dt) * 0.25)[0]
    strength = (0.02 + 0.05 * tint) * float(world.sky.mean() + 0.2) + world.night * (0.25 + 0.9 * tint)
    light = np.clip(goods, 0.05, 2.0) * strength * (0.4 + 0.6 * t / level)
    lettering = awning * (np.clip(goods, 0, 1) > 0.62) * pulse(s / 9.6 - 0.15, 0.7, ds / 9.6)
    swap = tint > 0.5
    for c in range(3):
        board = np.where(swap, look.sign[c], look.sign[(c + 1) % 3])
        albedo[c] = mix(mix(albedo[c], np.float32(0.03), glass), board, awning)
        albedo[c] = mix(albedo[c], np.float32(0.85), 0.8 * lettering)
        colour = np.float32((1.0, 0.8, 0.55)[c])
        emission[c] = mix(emission[c], light * colour, glass) + awning * board * np.float32(0.35 * world.night)
    return albedo, emission, warmth + 2.5 * glass + awning * (tint - 0.5) * 3.0


_SIDES = (((1, 0, 0), (0, 0, 1), 0), ((-1, 0, 0), (0, 0, 1), 0), ((0, 0, -1), (1, 0, 0), 2), ((0, 0, 1), (1, 0, 0), 2))


def block(world, centre, half, height, look):
    """A flat-roofed building: ``centre`` and ``half`` are (x, z) on the ground."""
    eye = world.view.position
    for normal, along, axis in _SIDES:
        normal = np.array(normal, float)
        distance = half[0] if axis == 0 else half[1]
        middle = np.array([centre[0], 0.0, centre[1]])
        if np.dot(eye - middle, normal) <= distance:
            continue
        length = half[1] if axis == 0 else half[0]
        origin = middle + normal * distance - np.array(along, float) * length
        patch = plane_patch(
            world.view, origin, along, (0, 1, 0), [(0, 0), (2 * length, 0), (2 * length, height), (0, height)]
        )
        if patch is not None:
            facade(world, patch, tuple(normal), look, height, shops=look.shops and axis == 0)
    if eye[1] > height:
        corners = [(-half[0], -half[1]), (half[0], -half[1]), (half[0], half[1]), (-half[0], half[1])]
        patch = plane_patch(world.view, (centre[0], height, centre[1]), (1, 0, 0), (0, 0, 1), corners)
        if patch is not None:
            grit = lookup(grain(1.0), patch.s * 0.1 + look.shift, patch.t * 0.1, np.maximum(patch.ds, patch.dt) * 0.1)[
                0
            ]
            tone = 0.2 * (1.0 + 0.15 * grit)
            world.paint(
                patch.rows,
                patch.cols,
                patch.alpha,
                world.radiance((0, 1, 0), [tone] * 3, patch.z, None, world.sunlit(patch.point), None, 2.0 + grit),
            )


def house(world, centre, half, height, look, rise, tiles):
    """A house with a gabled roof, ridge along x. ``rise`` is the roof's height, ``tiles`` its colour."""
    eye = world.view.position
    cx, cz = centre
    hx, hz = half
    pentagon = [(0, 0), (2 * hz, 0), (2 * hz, height), (hz, height + rise), (0, height)]
    for normal, along, axis in _SIDES:
        normal = np.array(normal, float)
        distance = hx if axis == 0 else hz
        middle = np.array([cx, 0.0, cz])
        if np.dot(eye - middle, normal) <= distance:
            continue
        length = hz if axis == 0 else hx
        origin = middle + normal * distance - np.array(along, float) * length
        corners = pentagon if axis == 0 else [(0, 0), (2 * hx, 0), (2 * hx, height), (0, height)]
        patch = plane_patch(world.view, origin, along, (0, 1, 0), corners)
        if patch is not None:
            facade(world, patch, tuple(normal), look, height + (rise if axis == 0 else 0.5))
    slope, eaves = np.hypot(hz, rise), 0.45
    for side in (-1.0, 1.0):
        v = np.array([0.0, rise, -side * hz]) / slope
        normal = np.array([0.0, hz, side * rise]) / slope
        origin = np.array([cx, height, cz + side * hz]) - v * eaves
        if np.dot(eye - origin, normal) <= 0:
            continue
        reach = hx + eaves
        patch = plane_patch(
            world.view, origin, (1, 0, 0), v, [(-reach, 0), (reach, 0), (reach, slope + eaves), (-reach, slope + eaves)]
        )
        if patch is None:
            continue
        rows = pulse(patch.t / 0.33, 0.16, patch.dt / 0.33)
        grit = lookup(grain(0.8), patch.s * 0.3 + look.shift, patch.t * 0.3, np.maximum(patch.ds, patch.dt) * 0.3)[0]
        tone = (1.0 - 0.45 * rows) * (1.0 + 0.16 * grit)
        world.paint(
            patch.rows,
            patch.cols,
            patch.alpha,
            world.radiance(
                tuple(normal),
                [float(c) * tone for c in tiles],
                patch.z,
                patch.point if world.lamps else None,
                world.sunlit([p + 0.2 * float(n) for p, n in zip(patch.point, normal, strict=True)]),
                None,
                look.warm - 1.5 + 0.6 * grit - rows,
            ),
        )
