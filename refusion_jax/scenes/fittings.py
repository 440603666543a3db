"""What stands about outdoors: street lamps, traffic lights, signs, fences, wires, benches, bins."""

import numpy as np

from refusion_jax.scenes.render import NEAR, plane_patch
from refusion_jax.scenes.sprites import Sprite
from refusion_jax.scenes.textures import bar, hue, pulse


def lamp_post(world, base, rng, height, arm, lit):
    """A street lamp with an arm ``arm`` metres to the right (left if negative); it glows when lit."""
    board = Sprite(world, base, 2 * abs(arm) + 1.0, height + 0.4)
    if board.seen:
        grey = [rng.uniform(0.06, 0.3)] * 3
        board.stroke(0, 0, 0.1, 0, height - 0.4, 0.05, grey, 0.5)
        board.stroke(0, height - 0.4, 0.05, arm, height, 0.04, grey, 0.5)
        board.paint(board.cover(board.box(arm, height, 0.32, 0.09, 0.05)), grey, 9.0 * lit)
        board.place()
    if lit:
        head = np.asarray(base, float) + world.view.axes[0] * arm + np.array([0.0, height - 0.1, 0.0])
        world.add_glow(head, lit * np.array([60.0, 48.0, 30.0]) * (0.4 + 0.6 * world.night), 0.2, 6.0)


def traffic_light(world, base, rng, height=4.5):
    """Three lights on a pole, one of them on."""
    board = Sprite(world, base, 1.2, height + 0.3)
    on = int(rng.integers(0, 3))
    if not board.seen:
        return
    board.stroke(0, 0, 0.08, 0, height, 0.06, [0.1, 0.1, 0.1])
    board.paint(board.cover(board.box(0, height - 0.5, 0.2, 0.55, 0.05)), [0.03] * 3, 2.0)
    colours = ((1.0, 0.05, 0.02), (1.0, 0.5, 0.03), (0.05, 1.0, 0.45))
    for index, colour in enumerate(colours):
        glow = np.array(colour) * (6.0 if index == on else 0.0)
        board.paint(
            board.cover(board.ellipse(0, height - 0.16 - 0.34 * index, 0.13, 0.13)),
            np.array(colour) * 0.1 + 0.02,
            7.0 * (index == on),
            glow,
        )
    board.place()
    world.add_glow(
        np.asarray(base, float) + np.array([0, height - 0.16 - 0.34 * on, 0]), np.array(colours[on]) * 6, 0.12, 2.0
    )


def sign(world, base, rng, height=2.6):
    """A road sign: disc, diamond or board on a thin pole; painted metal mirrors the sky in infrared."""
    board = Sprite(world, base, 1.6, height + 0.6)
    kind, colour = int(rng.integers(0, 3)), hue(rng, (0.6, 0.95), (0.3, 0.8))
    if not board.seen:
        return
    board.stroke(0, 0, 0.04, 0, height, 0.035, [0.3] * 3)
    if kind == 0:
        face, inner = board.ellipse(0, height, 0.38, 0.38), board.box(0, height, 0.25, 0.06)
    elif kind == 1:
        face = (np.abs(board.x) + np.abs(board.y - height) - 0.5) * 0.7
        inner = board.ellipse(0, height, 0.14, 0.14)
    else:
        face, inner = board.box(0, height, 0.6, 0.35, 0.04), board.box(0, height, 0.45, 0.05)
    board.paint(board.cover(face), [0.7] * 3, -2.0, emissivity=0.7)
    board.paint(board.cover(face + 0.05), colour, -2.0, emissivity=0.7)
    board.paint(board.cover(inner), [0.8] * 3, -1.5, emissivity=0.8)
    board.place()


def fence(world, low, high, height, colour, kind):
    """A fence on the ground from ``low`` to ``high`` (x, z): palings, rails or mesh, or a low wall."""
    start, end = np.array([low[0], 0.0, low[1]]), np.array([high[0], 0.0, high[1]])
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    patch = plane_patch(world.view, start, along, (0, 1, 0), [(0, 0), (length, 0), (length, height), (0, height)])
    if patch is None:
        return
    s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
    rails = np.maximum(pulse(t / height * 2.2 - 0.9, 0.12, dt / height * 2.2), pulse(s / 2.0, 0.05, ds / 2.0))
    cover = {
        "palings": np.maximum(rails, pulse(s / 0.14, 0.62, ds / 0.14)),
        "rails": np.maximum(rails, pulse(s / 0.12, 0.16, ds / 0.12)),
        "mesh": np.maximum(
            rails * (t > 0),
            0.3
            * np.maximum(pulse((s + t) / 0.12, 0.2, (ds + dt) / 0.12), pulse((s - t) / 0.12, 0.2, (ds + dt) / 0.12)),
        ),
        "wall": np.ones_like(s),
    }[kind]
    normal = np.array([along[2], 0.0, -along[0]])
    normal = normal if np.dot(world.view.position - start, normal) > 0 else -normal
    tone = 0.85 + 0.15 * bar(t, height - 0.12, height, dt) - 0.1 * np.exp(-np.maximum(t, 0.0) / 0.2)
    shadow = world.sunlit([p + 0.1 * float(n) for p, n in zip(patch.point, normal, strict=True)])
    world.paint(
        patch.rows,
        patch.cols,
        patch.alpha * cover,
        world.radiance(
            tuple(normal),
            [float(c) * tone for c in colour],
            patch.z,
            patch.point if world.lamps else None,
            shadow,
            None,
            0.3,
            0.9,
        ),
    )


def wires(world, start, end, count, sag):
    """Overhead lines that hang between two points (x, y, z)."""
    view = world.view
    start, end = np.asarray(start, float), np.asarray(end, float)
    share = np.linspace(0.0, 1.0, 7)
    for wire in range(count):
        points = start + (end - start) * share[:, None]
        points[:, 1] -= 4.0 * sag * share * (1.0 - share) + 0.3 * wire
        seen = [view.locate(p) for p in points]
        for (c0, r0, z0), (c1, r1, z1) in zip(seen[:-1], seen[1:], strict=True):
            if min(z0, z1) > 10 * NEAR:
                _line(world, c0, r0, c1, r1, 0.012 * view.focal / min(z0, z1))


def _line(world, c0, r0, c1, r1, half):
    height, width = world.view.shape
    left, right = int(max(0, min(c0, c1) - 2)), int(min(width, max(c0, c1) + 3))
    top, bottom = int(max(0, min(r0, r1) - 2)), int(min(height, max(r0, r1) + 3))
    if left >= right or top >= bottom:
        return
    x, y = np.arange(left, right)[None, :] + 0.5 - c0, np.arange(top, bottom)[:, None] + 0.5 - r0
    dx, dy = c1 - c0, r1 - r0
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + 1e-9), 0.0, 1.0)
    away = np.hypot(x - along * dx, y - along * dy)
    cover = (np.clip(max(half, 0.5) + 0.5 - away, 0.0, 1.0) * min(1.0, 2.0 * half)).astype(np.float32)
    dark = [float(0.06 * world.sky[c]) for c in range(3)] + ([world.air - 1.0] if world.thermal else [])
    world.paint(slice(top, bottom), slice(left, right), cover, dark)


def bench(world, base, rng):
    """A slatted bench seen from the front."""
    board, wood = (Sprite(world, base, 2.0, 0.95), np.array([0.28, 0.17, 0.09], np.float32) * rng.uniform(0.4, 1.3))
    if not board.seen:
        return
    for y in (0.43, 0.58, 0.68, 0.78):
        board.paint(board.cover(board.box(0, y, 0.8, 0.035)), wood, 1.0, ny=0.3)
    for x in (-0.65, 0.65):
        board.paint(board.cover(board.box(x, 0.4, 0.03, 0.42)), [0.05] * 3, 0.5)
    board.place()


def litter_bin(world, base, rng):
    """A bin, a bollard or a box of the kind that stands on pavements."""
    wide, tall, colour = rng.uniform(0.12, 0.4), rng.uniform(0.7, 1.3), hue(rng, (0.0, 0.8), (0.05, 0.5))
    board = Sprite(world, base, 1.0, tall + 0.1)
    if not board.seen:
        return
    across = np.clip(board.x / wide, -0.95, 0.95) * np.ones_like(board.y)
    board.paint(
        board.cover(board.box(0, tall / 2, wide, tall / 2, 0.05)), colour, 0.5, nx=0.9 * across, emissivity=0.88
    )
    board.paint(board.cover(board.box(0, tall * 0.85, wide * 1.04, 0.05)), colour * 0.5, 0.5, nx=0.9 * across)
    board.place()
