"""The open air at any time of day: sky, hills, ground, houses, trees, lamps, vehicles, people."""

from dataclasses import replace

import numpy as np

from refusion_jax.scenes import surfaces
from refusion_jax.scenes.surfaces import WALLS, WOODS, bar, cells, grain, hue, mix, noise, plain, pulse, rgb, shade_of
from refusion_jax.scenes.world import Camera, Light, World

# sun, light from the sky, from below, zenith, horizon; night, height of the sun (radians), degrees it adds to black
TIMES = {
    "day": ((1, 0.95, 0.86), (0.16, 0.2, 0.27), (0.08, 0.07, 0.05), (0.07, 0.15, 0.34), (0.36, 0.44, 0.5), 0, 0.75, 13),
    "overcast": ((0, 0, 0), (0.36, 0.38, 0.41), (0.08, 0.08, 0.07), (0.38, 0.4, 0.43), (0.5, 0.51, 0.52), 0, 0.9, 0),
    "evening": ((0.8, 0.6, 0.3), (0.1, 0.14, 0.2), (0.06, 0.05, 0.03), (0.08, 0.14, 0.3), (0.6, 0.4, 0.2), 0, 0.25, 7),
    "sunset": ((0.4, 0.2, 0.1), (0.06, 0.06, 0.08), (0.01,) * 3, (0.03, 0.05, 0.1), (0.7, 0.3, 0.1), 0.4, 0.1, 2),
    "dusk": ((0, 0, 0), (0.014, 0.02, 0.03), (3e-3, 3e-3, 4e-3), (8e-3, 0.014, 0.04), (0.06, 0.04, 0.03), 0.8, -0.1, 0),
    "night": ((0, 0, 0), (2.5e-3, 2.6e-3, 3.3e-3), (1e-3,) * 3, (8e-4, 1e-3, 1.6e-3), (5e-3, 4e-3, 3e-3), 1, -0.4, 0),
}
LAMPS = ((1.0, 0.6, 0.25), (1.0, 0.8, 0.55), (0.85, 0.95, 1.0))
LEAVES = ((0.09, 0.16, 0.04), (0.14, 0.2, 0.05), (0.06, 0.11, 0.05), (0.2, 0.2, 0.06), (0.3, 0.17, 0.05))


def open_air(rng, size, time, eye=1.6, busy=1.0):
    """World of a street, suburb, park or field; ``busy`` scales how many cars and people there are."""
    turn, pitch, view = rng.normal(0, 0.12), rng.normal(0.02, 0.04), rng.uniform(48, 66)
    view = Camera(size, (rng.uniform(-1.5, 1.5), eye, 0.0), turn, pitch, view)
    light, town, things = daylight(rng, time, view), rng.random(), []  # depth, what draws it, arguments, what shadow
    half, walk = (rng.uniform(2.8, 4.5), rng.uniform(1.5, 3.0)) if town > 0.25 else (rng.uniform(0.9, 1.8), 0.0)
    edge, lamp, world = half + walk, shade_of(rng, LAMPS), World(view, light)

    def add(shadow, draw, x, z, *more):
        """Something at (x, z) that throws the shadow of a box or ball: half sizes, height, whether a ball."""
        light.casters.append(((x, shadow[3], z), shadow[:3], shadow[4]))
        things.append((z, draw, (x, z, *more), light.casters[-1]))

    for side in (-1, 1):
        z = rng.uniform(2.0, 10.0)
        while town > 0.45 and z < 70.0:  # houses along the road
            w, d, h = rng.uniform(8, 22), rng.uniform(8, 14), rng.uniform(4, 7) if town < 0.7 else rng.uniform(6, 24)
            x = side * (edge + d / 2 + (rng.uniform(0.3, 1.0) if town > 0.7 else rng.uniform(4, 12)))
            add((d / 2, h / 2, w / 2, h / 2, False), house, x, z + w / 2, d, w, h)
            z += w + (rng.uniform(0, 3) if town > 0.7 else rng.uniform(5, 30))
        for _ in range(rng.poisson(3.0 if town < 0.7 else 1.0)):
            z, h = rng.uniform(7, 16) if rng.random() < 0.3 else rng.uniform(9, 60), rng.uniform(4, 10)
            x = side * (edge + rng.uniform(0.5, 2.0 + (0.4 * z if town < 0.6 else 0.0)))
            add((0.25 * h, 0.25 * h, 0.25 * h, 0.68 * h, True), tree, x, z, h)
        tall, spacing, x = rng.uniform(4, 7), rng.uniform(14, 24), side * (edge - 0.9)
        for z in np.arange(rng.uniform(7, 16), 60, spacing) if town > 0.2 else ():
            add((0.1, tall / 2, 0.1, tall / 2, True), lantern, x, z, tall, lamp)
            light.lamps += [((x, tall - 0.25, z), 1.6 * lamp * light.night, True)] if light.night > 0.3 else []
        for z in np.cumsum(7.0 + rng.exponential(14.0 / busy, 2)) if town > 0.3 else ():
            add((0.85, 0.7, 2.0, 0.7, False), car, side * half * 0.55, z, side > 0)
    for _ in range(1 + rng.poisson(2.2 * busy)):
        x, z = rng.uniform(-1, 1) * (edge + 1.5), 5.5 + 22.0 * rng.random() ** 1.4
        add((0.25, 0.9, 0.2, 0.9, True), figure, x, z)
    sky(world, rng, time)
    ground(world, rng, half, walk, town)
    for _, draw, (x, z, *more), own in sorted(things, key=lambda thing: -thing[0]):
        others = replace(light, casters=[caster for caster in light.casters if caster is not own])
        world.sunlit = None if draw is house else others.sunlit((x, 1.5, z))
        draw(world, rng, x, z, *more)
    return world


def daylight(rng, time, view):
    """Light of a time of day; now and then the sun is in the picture."""
    *colours, night, lift, heating = TIMES[time]
    sun, above, below = (rgb(colour) * rng.uniform(0.85, 1.15) for colour in colours[:3])
    turn, lift, air = np.arctan2(view.axes[2][0], view.axes[2][2]), lift * rng.uniform(0.6, 1.4), rng.uniform(4.0, 24.0)
    turn += rng.uniform(-0.4, 0.4) if rng.random() < 0.3 else rng.choice([-1, 1]) * rng.uniform(0.5, 2.7)
    towards = np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
    cold, haze = air - rng.uniform(15, 45), 3e-4 * np.exp(4.0 * rng.random() ** 3)
    return Light(towards, sun, above, below, night, air, heating * rng.uniform(0.6, 1.4), cold, haze)


def sky(world, rng, time):
    """The sky over the whole canvas, with the sun, clouds that it lights, and hills or woods at the horizon."""
    light, view, distance = world.light, world.view, rng.uniform(150, 900)
    _, foot, z = view.locate(np.array([view.axes[2, 0], 0.0, view.axes[2, 2]]) * distance)  # of the hills
    rows = slice(0, int(np.clip(foot + 3, 1, view.shape[0])))
    y, x = ((np.arange(n, dtype=np.float32) + np.float32(0.5 - n / 2)) / np.float32(view.focal) for n in view.shape)
    length = 1.0 / np.sqrt(1.0 + x * x + (y := y[rows, None]) * y)
    dx, dy, dz = ((x * r + y * b + a) * length for r, b, a in view.axes.T.astype(np.float32))
    up, sun = np.maximum(dy, 0.0), light.towards.astype(np.float32)
    level = rng.uniform(-0.6, 1.5) - 3 * (time == "overcast")
    angle = np.arccos(np.clip(dx * sun[0] + dy * sun[1] + dz * sun[2], -1.0, 1.0))
    wide, field, far = np.exp(-angle / 0.3), noise(rng, (256, 256), 1.3), rng.uniform(0.03, 0.08) / (up + 0.09)
    density, ahead = (surfaces.lookup(field, (dx + q * sun[0]) * far, (dz + q * sun[2]) * far) for q in (0.0, 0.1))
    cover = 0.92 * np.clip((density - level) / rng.uniform(0.7, 1.6), 0.0, 1.0)
    relief = np.clip(0.75 + 0.4 * (density - ahead) - 0.12 * np.maximum(density - level, 0.0), 0.3, 1.4)
    clear = rng.uniform(0.75, 1.2) * mix(rgb(TIMES[time][3]), rgb(TIMES[time][4]), np.exp(-up * rng.uniform(3.0, 6.0)))
    disc, cloud = np.clip(2.6 - angle / 0.007, 0.0, 1.0), relief * (0.9 * light.sun * (1.0 + wide) + 1.1 * light.sky)
    clear = clear + light.sun * (0.9 * np.exp(-angle / 0.07) + 0.3 * wide + 600.0 * disc)
    world.canvas[:3, rows] = mix(clear, cloud, cover)
    heat = mix(light.cold, light.air - 4.0, 0.8 * np.exp(-5.0 * up))
    world.canvas[3:, rows] = np.stack([mix(heat, light.air - 8.0, 0.4 * cover), np.ones_like(heat)])
    rough = noise(rng, (8, 4 * x.size), rng.uniform(0.8, 1.8))[0, : x.size]
    top = foot - distance * rng.uniform(0.01, 0.08) * (1.0 + 0.4 * rough) * view.focal / z
    alpha = np.clip(np.arange(y.size, dtype=np.float32)[:, None] + 1.0 - top, 0.0, 1.0)
    material = shade_of(rng, LEAVES[:3]) * np.exp(0.3 * noise(rng, alpha.shape, 0.8)), 0.0, 0.6
    world.paint(rows, slice(None), alpha, material, (0.0, 0.5, -0.85), (0.0, 9e3, distance), z)


def ground(world, rng, half, walk, town):
    """Grass, earth or slabs, and along z a road or path (``half`` wide to each side), pavements, lines, worn tracks."""
    shift, slab, dash, warm = float(rng.random()), rng.uniform(0.5, 1.5), rng.uniform(5, 9), rng.uniform(-1.0, 3.0)
    green, slabs, lines = town < 0.75 and rng.random() < 0.7, town > 0.75, 0.8 * (walk > 0) * (rng.random() < 0.8)
    field, dry = 1.4 * shade_of(rng, LEAVES[:4]) if green else rgb((0.3, 0.22, 0.13)), rgb((0.3, 0.25, 0.11))
    road = rgb((0.1, 0.098, 0.095) if walk else (0.26, 0.21, 0.15)) * rng.uniform(0.7, 1.3)

    def surface(s, t, ds, dt):
        foot, away, scales = np.maximum(ds, dt), np.abs(s), ((0.5, 0.35), (0.9, 0.11), (1.3, 0.03))
        fine, middle, coarse = (grain(s * k + shift, t * k, foot * k, b) for b, k in scales)
        rough = 0.14 * fine + 0.12 * middle + 0.12 * coarse
        tone = np.clip(1.0 + rough * (1.0 + green), 0.15, 2.2)
        paved = np.maximum(bar(away, half, half + walk, ds), slabs) if walk else np.float32(slabs)
        joint = np.maximum(pulse(s / slab, 0.03, ds / slab), pulse(t / slab, 0.03, dt / slab))
        kerb, on = bar(away, half, half + 0.2, ds), bar(s, -half, half, ds)
        wheel = np.exp(-((np.abs(away - 0.5 * half) - 0.8) ** 2) / 0.1) * (walk > 0)
        albedo = mix(field, dry, np.clip(0.3 + 0.3 * coarse, 0.0, 1.0)) * tone
        albedo = mix(albedo, rgb((0.3, 0.29, 0.275)) * (tone * (1.0 - 0.35 * joint) + 0.4 * kerb), paved)
        albedo = mix(albedo, road * np.clip(1.0 + rough - 0.1 * wheel, 0.3, 2.0), on)
        warmth = mix(mix(0.8 - 2.3 * green, 0.4 * warm - 0.6 * joint, paved), warm + wheel, on)
        line = bar(s, -0.08, 0.08, ds) * pulse(t / dash, 0.45, dt / dash) + bar(away, half - 0.45, half - 0.32, ds)
        warmth = warmth + 0.35 * fine + 0.3 * middle + 0.6 * coarse - lines * line
        return mix(albedo, 0.62, lines * line * np.clip(1.0 + 2.0 * rough, 0.2, 1.0)), 0.0, warmth

    world.flat((0, 0, 0), (1, 0, 0), (0, 0, 1), [(-3000, -3), (3000, -3), (3000, 6000), (-3000, 6000)], surface)


def house(world, rng, x, z, deep, wide, tall):
    """A block with rows of windows, some of them lit at night, and a flat or pitched roof."""
    colour, window = shade_of(rng, WALLS, 0.3), (rng.uniform(1.6, 2.8), 3.0)
    wall = cells(rng, [colour, 0.85 * colour], (0.3, 0.1), 0.12) if rng.random() < 0.4 else plain(rng, colour)
    lit = (rng.random(251) < rng.uniform(0.05, 0.35)) * rng.uniform(0.1, 0.8, 251) * world.light.night
    glass, joint, glow = [rgb((0.05, 0.06, 0.08))], rng.uniform(0.4, 0.6), np.outer([1.0, 0.72, 0.4], lit)
    front = cells(rng, glass, window, joint, 0.0, wall, 0.1, glow)
    roof, top = plain(rng, shade_of(rng, ((0.3, 0.12, 0.07), (0.12, 0.12, 0.13)))), 0.2 * wide if tall < 8 else 0.01
    profile = [(-wide / 2, 0), (-wide / 2, tall), (0, tall + top), (wide / 2, tall), (wide / 2, 0)]
    world.prism((x, z), profile, deep, 0.0, [front, front, roof, roof, front, front])


def tree(world, rng, x, z, tall):
    """A trunk that forks and is bare or has a crown, or a conifer."""
    kind, base, bark = rng.random(), np.array([x, 0.0, z]), plain(rng, shade_of(rng, WOODS[:3]) * 0.6, 0.3, 1.5)
    leaves = plain(rng, shade_of(rng, LEAVES), 0.1, 0.5, rng.uniform(-2.0, 0.5))

    def branch(start, along, radius, forks):
        world.rod(start, start + along, radius, bark, 0.6)
        for _ in range(rng.integers(2, 4) if forks else 0):
            way = 0.7 * along + rng.normal(0, 0.4, 3) * [1.0, 0.4, 1.0] * np.linalg.norm(along)
            branch(start + 0.9 * along, way, 0.6 * radius, forks - 1)

    trunk, forks = (0.6, 0) if kind < 0.2 else (0.4, 4) if kind > 0.8 else (0.5, 1)
    branch(base, np.array([0.0, trunk * tall, 0.0]), 0.026 * tall, forks)
    crown = [(rng.normal(0, 0.13), rng.uniform(0.5, 0.86), rng.uniform(0.08, 0.16)) for _ in range(8)]
    if kind < 0.2:
        rows = (0.95, 0.8, 0.65, 0.5, 0.35, 0.2)
        crown = [(o * (1 - r), r, 0.16 - 0.12 * r) for r in rows for o in (-0.17, 0.17, 0)]
    for dx, height, radius in crown if kind < 0.8 else ():
        world.rod(*[base + [dx * tall, height * tall, 0]] * 2, radius * tall, leaves, leafy=0.035 * tall)


def lantern(world, rng, x, z, tall, colour):
    """A post with a lamp, lit when it is dark."""
    world.rod((x, 0, z), (x, tall, z), 0.07, plain(rng, (0.12, 0.13, 0.13), warmth=0.5))
    bulb = plain(rng, (0.5, 0.5, 0.5), 0.0, warmth=6.0 * world.light.night, glow=40.0 * world.light.night * colour)
    world.rod((x - 0.1, tall, z), (x + 0.1, tall, z), 0.13, bulb)


def car(world, rng, x, z, away):
    """A body, a glazed cabin, wheels and lamps; where it drives, bonnet, grille and tyres are warm."""
    colour, night, warm = hue(rng, (0.0, 0.6), (0.03, 0.6)), world.light.night, 6.0 * (rng.random() < 0.75)
    paint, bonnet = (plain(rng, colour, 0.04, warmth=w) for w in (-1.0, 0.0 if away else 0.7 * warm))
    glass, black = plain(rng, (0.03, 0.035, 0.04), 0.05, warmth=-2.0), plain(rng, (0.04, 0.04, 0.04), warmth=1.0 + warm)
    for dx, dz in ((-0.68, 1.25), (0.68, 1.25), (-0.68, -1.25), (0.68, -1.25)):
        world.rod((x + dx - 0.08, 0.32, z + dz), (x + dx + 0.08, 0.32, z + dz), 0.32, black)
    body = [(-2.05, 0.28), (-2.1, 0.75), (-1.9, 0.92), (1.9, 0.92), (2.1, 0.75), (2.05, 0.28)]
    world.prism((x, z), body, 1.7, 0.0, [paint, paint if away else black, bonnet, bonnet, bonnet, paint, black])
    cabin = [(y + 0.7 * away, up) for y, up in ((-1.7, 0.9), (-1.2, 1.45), (0.25, 1.45), (0.85, 0.9))]
    world.prism((x, z), cabin, 1.55, 0.0, [glass, glass, paint, glass, glass])
    tint, gain = (rgb((0.3, 0.04, 0.03)), 10.0) if away else (rgb((0.5, 0.5, 0.5)), 35.0)
    lamp = plain(rng, tint, 0.0, warmth=2 * night, glow=tint * (0.2 + gain * night * (warm > 0)))
    for dx in (-0.58, 0.58):
        world.rod((x + dx - 0.06, 0.7, z - 2.12), (x + dx + 0.06, 0.7, z - 2.12), 0.09, lamp)


def figure(world, rng, x, z):
    """A person walking: bare skin is warm, clothes less."""
    tall, turn, step = rng.uniform(1.55, 1.9), rng.choice([-1, 1]), rng.uniform(0.02, 0.11)
    legs, top = (plain(rng, hue(rng, (0, 0.6), (0.03, 0.4)), 0.12, 1.5, rng.uniform(5.0, 10.0)) for _ in range(2))
    skin, hair = plain(rng, (0.45, 0.3, 0.22), 0.05, warmth=15.0), plain(rng, (0.05, 0.035, 0.025), 0.2, warmth=8.0)
    parts = [(0.04 * k, 0.5, 0.04 * k + step * k, 0.03, 0.05, 0.5, legs) for k in (-1, 1)]  # x, y, x, y, radius, taper
    parts += [(0, 0.53, 0, 0.75, 0.08, 1.12, top), (0, 0.8, 0, 0.88, 0.033, 1, skin)]
    parts += [(0.1 * k, 0.78, 0.12 * k - 0.7 * step * k, 0.48, 0.034, 0.65, top) for k in (-1, 1)]
    parts += [(0, 0.9, 0.01, 0.94, 0.05, 0.95, skin), (-0.005, 0.95, -0.01, 0.955, 0.05, 1, hair)]
    for x0, y0, x1, y1, radius, taper, surface in parts:
        start, end = ((x + turn * a * tall, b * tall, z) for a, b in ((x0, y0), (x1, y1)))
        world.rod(start, end, radius * tall, surface, taper)
