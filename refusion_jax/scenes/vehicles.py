"""Cars and vans as flat sprites: from behind, from the front, from the side; lights and warm parts."""

import numpy as np

from refusion_jax.scenes.sprites import Sprite
from refusion_jax.scenes.textures import hue


def vehicle(world, base, rng, facing="rear", running=True, scale=1.0):
    """A car or van from behind, the front or the side; engine and tyres warm when ``running``."""
    if facing == "side":
        return _vehicle_side(world, base, rng, running)
    tall = rng.uniform(1.4, 2.1) if rng.random() < 0.5 else rng.uniform(1.38, 1.55)
    wide, body = 0.9 * rng.uniform(0.95, 1.06) * scale, _body_colour(rng)
    board = Sprite(world, base, 2.5 * scale, tall + 0.2, below=0.3)
    front = facing == "front"
    lamps_on = running and (world.night > 0.3 or rng.random() < 0.3)
    braking, plate, tint = rng.random() < 0.5, rng.random() < 0.9, rng.uniform(0.01, 0.05)
    if not board.seen:
        return None
    warm = running * 1.0
    board.paint(
        0.85 * np.clip(1.0 - board.ellipse(0, 0.0, 1.15 * wide, 0.12) / 0.1, 0, 1) * (board.y < 0.14),
        [0.012] * 3,
        2.0 + 3.0 * warm,
    )
    for side in (-1, 1):
        tyre = board.box(side * (wide - 0.19), 0.3, 0.13, 0.33, 0.06)
        board.paint(board.cover(tyre), [0.02] * 3, 14.0 * warm)
    waist = 0.56 * tall + 0.12
    board.paint(board.cover(board.box(0, 0.36, wide * 0.75, 0.12)), [0.01] * 3, 16.0 * warm)  # underside, exhaust heat
    middle, half = 0.5 * (waist + 0.3), 0.5 * (waist - 0.3)
    ny = np.clip((board.y - middle) / half, -1, 1) * 0.6
    tone = [c * (0.9 + 0.1 * ny) for c in body]
    engine = (9.0 if front else 1.0) * warm
    board.paint(
        board.cover(board.box(0, middle, wide, half, 0.16)),
        tone,
        engine,
        emissivity=0.82,
        nx=board.x / wide * 0.7,
        ny=ny,
    )
    roof, narrow = tall, wide * 0.68
    cabin = board.convex((-wide * 0.9, waist - 0.06), (-narrow, roof), (narrow, roof), (wide * 0.9, waist - 0.06))
    board.paint(
        board.cover(cabin - 0.04),
        body,
        0.5,
        emissivity=0.82,
        nx=board.x / wide * 0.6,
        ny=np.clip((board.y - waist) / (roof - waist), 0, 1) ** 3 * 0.95,
    )
    glass = board.convex(
        (-wide * 0.8, waist), (-narrow * 0.92, roof - 0.1), (narrow * 0.92, roof - 0.1), (wide * 0.8, waist)
    )
    up = np.clip((board.y - waist) / (roof - waist), 0.0, 1.0)
    mirror = [float(0.25 * world.sky[c] + 0.06 * world.sun[c]) * (0.25 + up) for c in range(3)]
    board.paint(board.cover(glass), [tint] * 3, 2.0 * warm, mirror, 0.75, ny=0.7)
    heads = (board.ellipse(-0.3 * wide, waist + 0.17, 0.13, 0.17), board.ellipse(0.36 * wide, waist + 0.15, 0.12, 0.16))
    for head in heads:
        board.paint(board.cover(np.maximum(head, glass)) * 0.5, [0.015] * 3, 5.0 * warm, emissivity=0.8)
    lines = board.cover(np.abs(board.y - middle * 0.9) - 0.015) * board.cover(board.box(0, middle, wide * 0.9, half))
    board.paint(0.6 * lines, [0.02] * 3, 4.0 * warm)
    spark = np.exp(-(((board.x - 0.35 * wide) / 0.1) ** 2) - ((board.y - roof + 0.03) / 0.035) ** 2)
    spark = spark * board.cover(cabin - 0.04) * min(1.0, 0.05 / board.pixel)  # the sun in the paint
    for c in range(3):
        board.buffer[3 + c] += 12.0 * spark * float(world.sun[c])
    if front:
        grill = board.box(0, 0.5 * waist + 0.1, wide * 0.5, 0.1, 0.03)
        board.paint(board.cover(grill), [0.02] * 3, 24.0 * warm)
    else:
        board.paint(board.cover(board.ellipse(-0.5 * wide, 0.27, 0.09, 0.06)), [0.03] * 3, 38.0 * warm)
    if plate:
        board.paint(board.cover(board.box(0, 0.52 if front else 0.68, 0.24, 0.065)), [0.6, 0.6, 0.52], 1.0)
    for side in (-1, 1):
        light = board.box(side * wide * 0.78, waist - 0.14, wide * 0.17, 0.08, 0.04)
        if front:
            glow = np.array([1.0, 0.95, 0.85]) * (30.0 if lamps_on and world.night > 0.3 else 3.0 * lamps_on)
            board.paint(board.cover(light), [0.5] * 3, 8.0 * warm, glow)
        else:
            glow = np.array([1.0, 0.06, 0.03]) * (1.2 + 3.0 * braking) * lamps_on * (0.4 + world.night)
            board.paint(board.cover(light), [0.35, 0.02, 0.02], 3.0 * warm, glow)
    board.place()
    if lamps_on and world.night > 0.3:  # what the glare of the lens will spread
        for side in (-1, 1):
            spot = np.asarray(base, float) + world.view.axes[0] * side * wide * 0.78 + np.array([0, waist - 0.14, 0])
            colour = np.array([1.0, 0.95, 0.8]) * 25.0 if front else np.array([1.0, 0.1, 0.05]) * 4.0
            world.add_glow(spot, colour, 0.09, 5.0 if front else 0.0)
    return None


def _body_colour(rng):
    if rng.random() < 0.7:
        return np.full(3, rng.choice([0.03, 0.06, 0.2, 0.35, 0.6, 0.75]), np.float32) * rng.uniform(0.85, 1.15)
    return hue(rng, (0.5, 0.9), (0.1, 0.5))


def _vehicle_side(world, base, rng, running):
    long, tall, body = rng.uniform(4.0, 4.8), rng.uniform(1.4, 1.75), _body_colour(rng)
    flip, tint = float(rng.choice([-1.0, 1.0])), rng.uniform(0.01, 0.05)
    board = Sprite(world, base, long + 0.6, tall + 0.15, below=0.25)
    if not board.seen:
        return
    board.x = board.x * flip
    half, waist, warm = long / 2, 0.58 * tall + 0.05, running * 1.0
    board.paint(
        0.85 * np.clip(1.0 - board.ellipse(0, 0.0, half, 0.1) / 0.1, 0, 1) * (board.y < 0.12),
        [0.012] * 3,
        2.0 + 2.0 * warm,
    )
    ny = np.clip((board.y - 0.6) / 0.4, -0.7, 0.8)
    hood = np.clip((board.x - 0.22 * half) / (0.5 * half), 0, 1)
    board.paint(
        board.cover(board.box(0, 0.5 * (waist + 0.25), half, 0.5 * (waist - 0.25), 0.2)),
        body,
        1.0 + 12.0 * warm * hood,
        emissivity=0.82,
        ny=ny,
    )
    cabin = ((-0.86 * half, waist - 0.05), (-0.62 * half, tall), (0.2 * half, tall), (0.5 * half, waist - 0.05))
    board.paint(
        board.cover(board.convex(*cabin) - 0.05), body, 1.0, emissivity=0.82, ny=0.2 + 0.7 * (board.y > tall - 0.1)
    )
    mirror = [float(0.2 * world.sky[c]) for c in range(3)]
    pane = board.convex(
        (-0.78 * half, waist), (-0.58 * half, tall - 0.1), (0.17 * half, tall - 0.1), (0.42 * half, waist)
    )
    pane = np.maximum(pane, 0.04 - np.abs(board.x + 0.2 * half))
    board.paint(board.cover(pane), [tint] * 3, 1.0 + warm, mirror, 0.8, ny=0.3)
    for door in (-0.62, -0.2, 0.22):
        board.paint(
            0.6 * board.cover(np.maximum(np.abs(board.x - door * half) - 0.012, board.box(0, 0.62, half, 0.3))),
            [0.02] * 3,
            1.0,
        )
    for cx in (-0.62 * half, 0.62 * half):
        board.paint(board.cover(board.ellipse(cx, 0.33, 0.38, 0.38)), [0.01] * 3, 5.0 * warm)
        board.paint(board.cover(board.ellipse(cx, 0.32, 0.32, 0.32)), [0.025] * 3, 13.0 * warm)
        board.paint(board.cover(board.ellipse(cx, 0.32, 0.19, 0.19)), [0.4] * 3, 18.0 * warm, emissivity=0.85)
    board.paint(board.cover(board.box(0.96 * half, waist - 0.15, 0.1, 0.07, 0.03)), [0.5] * 3)
    board.paint(board.cover(board.box(-0.97 * half, waist - 0.13, 0.08, 0.08, 0.03)), [0.35, 0.02, 0.02])
    board.place()
