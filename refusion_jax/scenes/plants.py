"""Trees, palms, bushes: crowns from lit clumps of leaves, branching trunks."""

import numpy as np

from refusion_jax.scenes.sprites import Sprite
from refusion_jax.scenes.textures import noise, smoothstep

KINDS = ("broad", "broad", "broad", "conifer", "palm", "bare")


def casters(base, height, kind):
    """Balls that stand for the tree when it casts shadows: (centre, radius, density)."""
    x, y, z = base
    if kind == "broad":
        return [(np.array([x, y + 0.65 * height, z]), 0.33 * height, 0.8)]
    if kind == "conifer":
        return [(np.array([x, y + k * height, z]), r * height, 0.85) for k, r in ((0.25, 0.2), (0.55, 0.13))]
    if kind == "palm":
        return [(np.array([x, y + 0.95 * height, z]), 0.16 * height, 0.5)]
    return [(np.array([x, y + 0.7 * height, z]), 0.3 * height, 0.25)]


def leaf_colour(rng):
    """Albedo of foliage, (3,): greens, now and then autumn."""
    if rng.random() < 0.15:
        return np.array([0.32, 0.17, 0.04], np.float32) * rng.uniform(0.6, 1.2)
    return np.array(
        [rng.uniform(0.05, 0.11), rng.uniform(0.09, 0.14), rng.uniform(0.028, 0.055)], np.float32
    ) * rng.uniform(0.6, 1.2)


def tree(world, base, rng, height, kind="broad", colour=None):
    """A tree ``height`` metres tall that stands at ``base``."""
    colour = leaf_colour(rng) if colour is None else colour
    width = {"broad": 1.0, "conifer": 0.6, "palm": 0.75, "bare": 1.0, "bush": 2.6}[kind] * height
    board = Sprite(world, base, width, height * 1.06)
    draw = {"broad": _broad, "conifer": _conifer, "palm": _palm, "bare": _bare, "bush": _bush}[kind]
    state = np.random.default_rng(rng.integers(1 << 62))  # the number of draws below depends on the size in pixels
    if board.seen:
        draw(board, state, height, colour)
        board.place()


def _bark(rng):
    return np.array([0.11, 0.085, 0.06], np.float32) * rng.uniform(0.5, 1.6)


def _clumps(board, rng, blobs, colour, ragged=0.35):
    """Union of leafy balls (x, y, r): ragged outline, every clump lit as a ball, gaps."""
    best = np.full(board.shape, -9.0, np.float32)
    nx, ny = np.zeros(board.shape, np.float32), np.zeros(board.shape, np.float32)
    tone = np.zeros(board.shape, np.float32)
    for cx, cy, radius in blobs:
        cx, cy, radius = float(cx), float(cy), float(radius)
        shift = np.float32(rng.normal(0, 0.12))
        reach = 1.6 * radius  # leaves stray no farther than this
        found = board.area(cx - reach, cx + reach, cy - reach, cy + reach)
        if found is None:
            continue
        area, x, y = found
        dx, dy = (x - cx) * (1.0 / radius), (y - cy) * (1.0 / radius)
        rise = 1.0 - dx * dx - dy * dy
        better = rise > best[area]
        for target, value in ((best, rise), (nx, dx), (ny, dy), (tone, shift)):
            np.copyto(target[area], value, where=better)
    size = blobs[0][2]
    leaf = noise(rng, board.shape, 0.7, low=min(0.25, 0.6 * board.pixel / size))
    clump = noise(
        rng, board.shape, 1.2, low=min(0.1, 0.3 * board.pixel / size), high=max(0.05, 2.5 * board.pixel / size)
    )
    edge = best + ragged * (0.55 * leaf + 0.6 * clump)
    cover = smoothstep(-0.1, 0.25, edge) * (1.0 - 0.8 * smoothstep(1.7, 2.4, -clump - 0.3 * leaf))
    depth = np.clip(0.55 + 0.35 * best + 0.22 * clump, 0.12, 1.3)
    shade = np.clip(depth * (1.0 + 0.42 * leaf) + tone, 0.06, 2.0)
    nx, ny = np.clip(0.75 * nx + 0.15 * leaf, -0.9, 0.9), np.clip(0.7 * ny + 0.25 + 0.1 * clump, -0.7, 0.85)
    over = np.maximum(np.sqrt(nx * nx + ny * ny) / 0.97, 1.0)
    yellow = 1.0 + 0.15 * leaf
    board.paint(
        cover,
        (colour[0] * shade * yellow, colour[1] * shade, colour[2] * shade),
        0.8 + 1.2 * (shade - 0.6),
        nx=nx / over,
        ny=ny / over,
        emissivity=0.97,
    )


def _broad(board, rng, height, colour):
    bark, lean = _bark(rng), rng.normal(0, 0.02) * height
    girth = 0.028 * height
    board.stroke(0, 0, girth, lean, 0.55 * height, 0.6 * girth, bark, 1.5)
    for side in (-1, 1):
        end = side * 0.2 * height, 0.68 * height
        board.stroke(lean * 0.6, 0.38 * height, 0.5 * girth, *end, 0.2 * girth, bark, 1.5)
    count = int(rng.integers(9, 18))
    angle, far = rng.random(count) * 6.283, np.sqrt(rng.random(count))
    wide, tall = rng.uniform(0.24, 0.34), rng.uniform(0.18, 0.26)
    blobs = [
        (lean + wide * height * f * np.cos(a), (0.67 + tall * f * np.sin(a)) * height, height * rng.uniform(0.1, 0.18))
        for a, f in zip(angle, far, strict=True)
    ]
    blobs.sort(key=lambda blob: -blob[2])
    _clumps(board, rng, [(lean, 0.66 * height, 0.24 * height), *blobs], colour)


def _bush(board, rng, height, colour):
    blobs = [
        (x * height, (0.35 + 0.25 * rng.random()) * height, rng.uniform(0.3, 0.45) * height)
        for x in np.linspace(-0.85, 0.85, 6) + rng.normal(0, 0.1, 6)
    ]
    _clumps(board, rng, blobs, colour, ragged=0.3)


def _conifer(board, rng, height, colour):
    board.stroke(0, 0, 0.025 * height, 0, 0.9 * height, 0.004 * height, _bark(rng), 1.0)
    up = np.clip((board.y / height - 0.1) / 0.9, 0.0, 1.0)
    tiers = rng.uniform(7, 12)
    saw = (up * tiers) % 1.0
    reach = 0.27 * height * (1.0 - up) ** 0.9 * (1.12 - 0.5 * saw) + 0.004 * height
    leaf = noise(rng, board.shape, 0.6, low=0.03)
    edge = (1.0 - np.abs(board.x) / reach) + 0.3 * leaf
    cover = smoothstep(-0.05, 0.2, edge) * (board.y > 0.09 * height)
    shade = np.clip((0.95 - 0.6 * saw) * (1 + 0.4 * leaf), 0.08, 2.0)
    nx = np.clip(board.x / reach * 0.8, -0.85, 0.85) + np.zeros_like(shade)
    dark = np.asarray(colour, np.float32) * np.array([0.6, 0.7, 0.8], np.float32)
    board.paint(cover, [c * shade for c in dark], 0.6 + 0.8 * (shade - 0.6), nx=nx, ny=0.3, emissivity=0.97)


def _palm(board, rng, height, colour):
    bend, bark = rng.normal(0, 0.05) * height, _bark(rng) * 1.4
    girth, knots = 0.018 * height, np.linspace(0, 1, 6)
    for a, b in zip(knots[:-1], knots[1:], strict=True):
        x0, x1, y0, y1 = bend * a * a, bend * b * b, 0.9 * a * height, 0.9 * b * height
        board.stroke(x0, y0, girth * (1 - 0.35 * a), x1, y1, girth * (1 - 0.35 * b), bark, 2.0)
    top, leaf = (bend, 0.9 * height), np.asarray(colour, np.float32) * 0.9
    for angle in np.sort(rng.uniform(-0.6, 3.74, int(rng.integers(16, 26))))[::-1]:
        length, droop = rng.uniform(0.2, 0.3) * height, rng.uniform(0.1, 0.26) * height
        path = [
            (top[0] + length * k * np.cos(angle), top[1] + length * k * np.sin(angle) * 0.75 - droop * k * k)
            for k in (0.0, 0.35, 0.7, 1.0)
        ]
        tone = rng.uniform(0.5, 1.3)
        for (x0, y0), (x1, y1), wide, narrow in zip(
            path[:-1], path[1:], (0.012, 0.024, 0.017), (0.024, 0.017, 0.002), strict=True
        ):
            board.stroke(x0, y0, wide * height, x1, y1, narrow * height, leaf * tone, 0.5, comb=200.0 / height)


def _bare(board, rng, height, colour):
    bark = _bark(rng) * 0.9
    stack = [(0.0, 0.0, np.pi / 2 + rng.normal(0, 0.04), 0.32 * height, 0.028 * height, 0)]
    while stack:
        x, y, angle, length, radius, level = stack.pop()
        x1, y1 = x + length * np.cos(angle), y + length * np.sin(angle)
        board.stroke(x, y, radius, x1, y1, radius * 0.7, bark, 1.0)
        if level < 5 and radius > 0.12 * board.pixel and length > 1.5 * board.pixel:
            for _ in range(2 + (rng.random() < 0.35)):
                stack.append(
                    (x1, y1, angle + rng.normal(0, 0.5), length * rng.uniform(0.6, 0.85), radius * 0.62, level + 1)
                )
