"""Open air: light by time of day, sky and clouds, hills, ground and roads, water."""

import numpy as np

from refusion_jax.scenes import plants
from refusion_jax.scenes.render import plane_patch
from refusion_jax.scenes.textures import bar, grain, lookup, mix, noise, pulse, pyramid, smoothstep

TIMES = ("day", "overcast", "golden", "sunset", "dusk", "night")


def light_up(world, rng, time, ahead=False):
    """Set sun, sky, haze, temperatures and ``night``; ``ahead`` puts a low sun into the picture."""
    yaw = np.arctan2(world.view.axes[2][0], world.view.axes[2][2])
    around = yaw + (rng.uniform(-0.4, 0.4) if ahead else rng.choice([-1, 1]) * rng.uniform(0.5, 2.7))
    lift = {
        "day": rng.uniform(0.45, 1.05),
        "overcast": 0.9,
        "golden": rng.uniform(0.12, 0.35),
        "sunset": rng.uniform(0.02, 0.14),
        "dusk": -0.05,
        "night": -0.4,
    }[time]
    if ahead and time == "day":
        lift = rng.uniform(0.2, 0.4)
    world.sun_direction = np.array([np.sin(around) * np.cos(lift), np.sin(lift), np.cos(around) * np.cos(lift)])
    sun, sky, bounce, night = {
        "day": ((1.0, 0.95, 0.86), (0.13, 0.17, 0.24), (0.07, 0.065, 0.05), 0.0),
        "overcast": ((0.0, 0.0, 0.0), (0.36, 0.38, 0.41), (0.07, 0.07, 0.065), 0.0),
        "golden": ((0.85, 0.6, 0.34), (0.12, 0.14, 0.2), (0.06, 0.045, 0.03), 0.1),
        "sunset": ((0.35, 0.17, 0.06), (0.06, 0.06, 0.085), (0.015, 0.012, 0.01), 0.35),
        "dusk": ((0.0, 0.0, 0.0), (0.014, 0.019, 0.034), (0.003, 0.003, 0.004), 0.8),
        "night": ((0.0, 0.0, 0.0), (0.0022, 0.0023, 0.003), (0.0012, 0.001, 0.0008), 1.0),
    }[time]
    strength = rng.uniform(0.75, 1.15)
    fill = rng.uniform(0.4, 1.1) if not world.thermal and sun[0] > 0 else 1.0  # clear air: deep shadows
    world.sun, world.sky = np.array(sun) * strength, np.array(sky) * strength * fill
    world.bounce = np.array(bounce) * strength * fill
    world.night = night
    world.air = rng.uniform(4.0, 24.0)
    world.heating = {"day": rng.uniform(8, 18), "golden": rng.uniform(4, 10), "sunset": 2.0}.get(time, 0.0)
    world.sky_temperature = world.air - rng.uniform(25, 45) * (0.35 if time == "overcast" else 1.0)
    foggy = rng.random() < (0.12 if world.thermal else 0.02)
    world.haze = rng.uniform(0.012, 0.03) if foggy else rng.uniform(0.0002, 0.002)
    world.haze_colour = world.sky * 1.1 + world.sun * 0.12


def paint_sky(world, rng, time):
    """The sky over the whole canvas: gradient, glow about the sun, its disc, clouds lit by it."""
    dx, dy, dz = world.view.rays()
    rows = np.nonzero(dy.max(axis=1) > -0.02)[0]
    if not len(rows):
        return
    rows = slice(0, rows[-1] + 1)
    dx, dy, dz = dx[rows], dy[rows], dz[rows]
    up = np.maximum(dy, 0.0)
    falloff = np.exp(-up * rng.uniform(3.0, 6.0))
    zenith, horizon = {
        "day": ((0.07, 0.15, 0.34), (0.36, 0.44, 0.52)),
        "overcast": ((0.42, 0.44, 0.47), (0.5, 0.51, 0.52)),
        "golden": ((0.08, 0.14, 0.28), (0.62, 0.42, 0.24)),
        "sunset": ((0.035, 0.055, 0.12), (0.75, 0.3, 0.1)),
        "dusk": ((0.008, 0.014, 0.04), (0.06, 0.035, 0.03)),
        "night": ((0.0008, 0.0009, 0.0014), (0.005, 0.0036, 0.0026)),
    }[time]
    gain = rng.uniform(0.7, 1.25)
    d = [float(v) for v in world.sun_direction]
    cosine = np.clip(dx * d[0] + dy * d[1] + dz * d[2], -1.0, 1.0)
    angle = np.arccos(cosine)
    bright = world.sun.max() > 0
    aureole = 0.9 * np.exp(-angle / 0.07) + 0.3 * np.exp(-angle / 0.3) if bright else 0.0
    disc = smoothstep(0.016, 0.010, angle) * (d[1] > -0.01) if bright else 0.0
    side = 0.6 + 0.4 * cosine if time in ("golden", "sunset", "dusk") else 1.0

    field = pyramid(noise(rng, (256, 256), rng.uniform(1.3, 1.8)) + 0.5 * noise(rng, (256, 256), 1.0))
    k = rng.uniform(0.02, 0.06)
    reach = 1.0 / (up + 0.09)
    small = k * reach * reach * 0.5 / world.view.focal * 3.0
    density = lookup(field, dx * reach * k * 2.0, dz * reach * k * 2.0, small)[0]
    if bright:  # thickness towards the sun decides which side of a cloud is lit
        toward = lookup(field, (dx + 0.06 * d[0]) * reach * k * 2.0, (dz + 0.06 * d[2]) * reach * k * 2.0, small)[0]
    else:
        toward = density
    amount = rng.uniform(-0.6, 1.6)
    cover = smoothstep(amount, amount + rng.uniform(0.4, 1.2), density)
    if time == "overcast":
        cover = 0.55 * smoothstep(-1.5, 1.5, density)
    relief = np.clip(0.75 + 0.28 * (density - toward) - 0.14 * np.maximum(density - amount, 0.0), 0.12, 1.4)
    cloud_light = [0.8 * world.sun[c] * (1.2 if time != "sunset" else 2.2) + 0.8 * world.sky[c] for c in range(3)]
    if time == "overcast":
        cloud_light, relief = [0.33, 0.35, 0.38], np.clip(0.9 - 0.3 * toward, 0.3, 1.5)
    for c in range(3):
        clear = gain * side * mix(np.float32(zenith[c]), np.float32(horizon[c]), falloff) + aureole * np.float32(
            world.sun[c]
        )
        cloud = relief * np.float32(cloud_light[c]) * (1.0 + 1.5 * (np.exp(-angle / 0.25) if bright else 0.0))
        world.canvas[c, rows] = mix(clear, cloud, 0.92 * cover) + disc * np.float32(900.0 * world.sun[c]) * (
            1.0 - 0.7 * cover
        )
    if time == "night" and rng.random() < 0.3:
        moon = np.arccos(np.clip(dx * 0.2 + dy * 0.35 + dz * 0.91, -1, 1))
        world.canvas[:3, rows] += smoothstep(0.018, 0.014, moon) * np.array([2.2, 2.1, 1.9], np.float32)[:, None, None]
    if world.thermal:
        cold = world.sky_temperature
        low = np.exp(-up * 5.0)
        world.canvas[3, rows] = mix(cold, world.air - 4.0, 0.8 * low) + 0.5 * (world.air - 8.0 - cold) * cover * (
            1.0 - 0.6 * low
        )


def ridge(world, rng, distance, height, rough, colour, beta=1.5):
    """A skyline of hills or tree tops at ``distance`` metres, about ``height`` metres tall, hazy."""
    view = world.view
    cols = np.arange(view.shape[1])
    profile = noise(rng, (8, 4 * view.shape[1]), beta)[0, : view.shape[1]] * rough
    _, foot, z = view.locate(
        view.position + view.axes[2] * distance * np.array([1, 0, 1]) - np.array([0, view.position[1], 0])
    )
    if z <= 1.0:
        return
    top = foot - (height * (1.0 + profile)) * view.focal / z
    first = int(np.clip(top.min() - 2, 0, view.shape[0]))
    last = int(np.clip(foot + 0.1 * view.shape[0] + 2, 0, view.shape[0]))
    if last <= first:
        return
    rows = np.arange(first, last)[:, None] + 0.5
    alpha = np.clip(rows - top[None, :] + 0.5, 0.0, 1.0).astype(np.float32)
    leafy = noise(rng, (last - first, len(cols)), 0.9)
    tone = np.clip(1.0 + 0.35 * leafy, 0.15, 2.0)
    shade = 0.6 if world.sun.max() > 0 else 0.0
    world.paint(
        slice(first, last),
        slice(0, len(cols)),
        alpha,
        world.radiance(
            (0.0, 0.5, -0.85), [float(c) * tone for c in colour], np.float32(z), None, shade, None, 0.3 * leafy
        ),
    )


def ground(world, rng, plan):
    """The ground plane: what it is made of at (x, z) follows ``plan`` (a dict from the place functions)."""
    view = world.view
    z0 = view.position[2]
    patch = plane_patch(
        view,
        (0, plan.get("level", 0.0), 0),
        (1, 0, 0),
        (0, 0, 1),
        [(-4000, z0 - 3), (4000, z0 - 3), (4000, 6000), (-4000, 6000)],
    )
    if patch is None:
        return
    x, z, dx, dz = patch.s, patch.t, patch.ds, patch.dt
    foot = np.maximum(dx, dz)
    shift = rng.random(4).astype(np.float32)
    fine = lookup(grain(0.5), x * 0.35 + shift[0], z * 0.35, foot * 0.35)[0]
    coarse = lookup(grain(1.3), x * 0.03 + shift[1], z * 0.03 + shift[2], foot * 0.03)[0]
    middle = lookup(grain(0.9), z * 0.12 + shift[2], x * 0.12 + shift[3], foot * 0.12)[0]
    kind = plan["field"]
    if kind == "grass":
        tone = np.clip(1.0 + 0.3 * fine + 0.22 * middle + 0.18 * coarse, 0.1, 2.2)
        dry = np.clip(0.3 + 0.3 * coarse, 0.0, 1.0)
        base = plants.leaf_colour(rng) if plan.get("green") is None else plan["green"]
        straw = np.array([0.22, 0.18, 0.08], np.float32)
        albedo = [mix(base[c], straw[c], dry) * tone for c in range(3)]
        warmth = -1.5 + 0.9 * fine + 1.0 * coarse + 0.5 * middle
        if plan.get("rows"):  # crops or mown stripes
            period, turn = plan["rows"]
            band = pulse((x * float(np.cos(turn)) + z * float(np.sin(turn))) / period, 0.5, foot / period)
            albedo = [a * (0.6 + 0.7 * band) for a in albedo]
            warmth = warmth + band
    elif kind == "paving":
        size = plan.get("slab", 0.6)
        joint = np.maximum(pulse(x / size, 0.05, dx / size), pulse(z / size, 0.05, dz / size))
        slab = lookup(grain(0.3), np.floor(x / size) * 0.137, np.floor(z / size) * 0.137, 0.004 + 0.1 * foot / size)[0]
        tone = (1.0 - 0.45 * joint) * np.clip(
            1.0 + 0.1 * fine + 0.1 * slab * np.clip(1.5 - foot / size, 0, 1) + 0.12 * middle, 0.2, 2
        )
        albedo = [float(plan["stone"][c]) * tone for c in range(3)]
        warmth = 2.0 + 0.5 * middle + 0.4 * coarse + 0.3 * fine - 0.5 * joint
    else:  # bare earth, sand
        tone = np.clip(1.0 + 0.2 * fine + 0.2 * middle + 0.15 * coarse, 0.15, 2.0)
        albedo = [float(plan["stone"][c]) * tone for c in range(3)]
        warmth = 1.0 + fine + coarse
    if plan.get("road"):
        albedo, warmth = _road(plan["road"], x, z, dx, dz, fine, middle, coarse, albedo, warmth)
    for px, pz, rx, rz in plan.get("contacts", ()):  # where things stand, less of the sky is seen
        px, pz, rx, rz = (float(v) for v in (px, pz, rx, rz))
        press = 1.0 - 0.75 * np.exp(-(((x - px) / rx) ** 2 + ((z - pz) / rz) ** 2))
        albedo = [a * press for a in albedo]
    shadow = world.sunlit(patch.point, soft=0.5)
    if world.balls and world.sun.max() > 0 and not np.isscalar(shadow):  # light through leaves comes in flecks
        fleck = lookup(grain(0.9), x * 0.1 + shift[0], z * 0.1, foot * 0.1)[0]
        shadow = np.clip(shadow + 0.35 * (1.0 - shadow) * smoothstep(0.4, 1.2, fleck), 0.0, 1.0)
    world.paint(
        patch.rows,
        patch.cols,
        patch.alpha,
        world.radiance((0.0, 1.0, 0.0), albedo, patch.z, patch.point if world.lamps else None, shadow, None, warmth),
    )


def _road(road, x, z, dx, dz, fine, middle, coarse, albedo, warmth):
    half, walk, centre = road["half"], road["walk"], road.get("x", 0.0)
    across = x - centre - road.get("bend", 0.0) * (np.maximum(z, 0.0) / 40.0) ** 2
    tar = bar(across, -half, half, dx)
    wheel = np.exp(-((np.abs(np.abs(across) - 0.5 * half) - 0.8) ** 2) / 0.12)  # tracks worn by tyres
    tone = np.clip(1.0 + 0.14 * fine + 0.1 * middle + 0.12 * coarse - 0.08 * wheel, 0.2, 2.0)
    for c in range(3):
        albedo[c] = mix(albedo[c], float(road["colour"][c]) * tone, tar)
    warmth = mix(warmth, 3.5 + 0.5 * fine + 0.5 * middle + 0.6 * coarse + 1.3 * wheel, tar)
    if walk > 0:
        pave = bar(np.abs(across), half + 0.18, half + walk, dx)
        kerb = bar(np.abs(across), half, half + 0.18, dx)
        joint = np.maximum(pulse(z / 1.2, 0.025, dz / 1.2), pulse(across / 1.2, 0.025, dx / 1.2))
        stone = np.clip(0.3 * (1.0 + 0.12 * fine + 0.1 * middle), 0.05, 0.6) * (1.0 - 0.4 * joint)
        for c, tint in enumerate((1.0, 0.97, 0.9)):
            albedo[c] = mix(mix(albedo[c], stone * tint, pave), np.float32(0.42 * tint), kerb)
        warmth = mix(mix(warmth, 1.8 + 0.4 * middle + 0.3 * fine - 0.5 * joint, pave), 0.5, kerb)
    if road["marks"]:
        worn = np.clip(0.85 + 0.12 * fine + 0.1 * middle, 0.3, 1.0)
        dash = bar(across, -0.08, 0.08, dx) * pulse(z / 9.0, 0.45, dz / 9.0)
        if road["marks"] == "double":
            dash = bar(np.abs(across), 0.06, 0.2, dx)
        edge = bar(np.abs(across), half - 0.45, half - 0.32, dx)
        paint = np.clip(dash + edge, 0.0, 1.0)
        if road.get("zebra"):
            paint = np.maximum(
                paint, bar(z, road["zebra"], road["zebra"] + 3.2, dz) * pulse(across / 1.1, 0.5, dx / 1.1) * tar
            )
        tint = (0.7, 0.52, 0.12) if road["marks"] == "double" else (0.68, 0.68, 0.66)
        for c in range(3):
            albedo[c] = mix(albedo[c], np.float32(tint[c]), paint * worn)
        warmth = warmth - 1.2 * paint
    return albedo, warmth


def reflect(world, rng, level_z, tint, rough):
    """Water from depth ``level_z`` towards the camera: mirrors what the canvas holds above it."""
    view = world.view
    patch = plane_patch(
        view,
        (0, 0, 0),
        (1, 0, 0),
        (0, 0, 1),
        [(-3000, view.position[2] - 3), (3000, view.position[2] - 3), (3000, level_z), (-3000, level_z)],
    )
    if patch is None:
        return
    foot = np.maximum(patch.ds, patch.dt)
    wave = lookup(grain(0.9, 6), patch.s * 0.06, patch.t * 0.18, foot * 0.12)[0]
    wave2 = lookup(grain(1.4, 6), patch.s * 0.01, patch.t * 0.03, foot * 0.02)[0]
    shore = float(view.locate((view.position[0], 0.0, level_z))[1])
    row = np.arange(patch.rows.start, patch.rows.stop)[:, None]
    source = 2 * shore - row + (wave + 0.5 * wave2) * rough * (2 + 0.25 * (row - shore))
    source = np.clip(source, 0, view.shape[0] - 1).astype(np.int64)
    col = np.clip(np.arange(patch.cols.start, patch.cols.stop)[None, :] + wave * rough, 0, view.shape[1] - 1).astype(
        np.int64
    )
    steep = np.clip(float(view.position[1]) / patch.z, 0.0, 1.0)
    fresnel = 0.04 + 0.92 * (1.0 - steep) ** 4
    out = []
    for c in range(3):
        mirrored = np.minimum(world.canvas[c][source, col], 30.0)
        deep = np.float32(tint[c]) * np.float32(world.sky[c] + 0.3 * world.sun[c])
        out.append(mix(deep * (1.0 + 0.1 * wave2), mirrored, fresnel))
    if world.thermal:
        out.append(mix(world.air - 1.0 + 0.3 * wave, world.canvas[3][source, col], 0.25 * fresnel))
    world.paint(patch.rows, patch.cols, patch.alpha, out)
