"""What rooms are furnished with: tables, shelves, cupboards, seats, plants, lamps, columns."""

import numpy as np

from refusion_jax.scenes.interior import paint_surface
from refusion_jax.scenes.plants import tree
from refusion_jax.scenes.render import Lamp, World, plane_patch
from refusion_jax.scenes.sprites import Sprite
from refusion_jax.scenes.textures import bar, grain, hue, lookup, mix, pick, pulse


def furnish(inner, rng, here, kind):
    """Plan furniture: (distance, draw) pairs; registers lamps and shadow casters."""
    items, wood = [], np.array([0.3, 0.18, 0.09], np.float32) * rng.uniform(0.25, 1.6)
    if kind == "arch":
        return items
    if kind == "hall" and rng.random() < 0.6:
        for z in np.arange(rng.uniform(2.5, 4), here.depth - 0.5, rng.uniform(2.2, 3.5)):
            for x in (here.x0 + 0.7, here.x1 - 0.7):
                items.append((z, lambda x=x, z=z: _column(inner, here, x, z)))
    fits = here.x1 - here.x0
    for _ in range(rng.integers(2, 6)):
        what = str(rng.choice(["table", "table", "shelf", "cupboard", "sofa", "plant", "stool"]))
        side, z = rng.random(), rng.uniform(2.0, here.depth - 0.5)
        x = here.x0 + fits * (
            rng.uniform(0.1, 0.3) if side < 0.4 else rng.uniform(0.7, 0.9) if side < 0.8 else rng.uniform(0.3, 0.7)
        )
        own = np.random.default_rng(rng.integers(1 << 62))
        _PIECES[what](inner, own, here, items, x, z, wood)
    need = inner.night > 0.5 or rng.random() < 0.3
    if need:
        hanging = rng.random() < 0.5
        x = rng.uniform(here.x0 + 0.2 * fits, here.x1 - 0.2 * fits)
        z = rng.uniform(1.8, max(2.0, here.depth * 0.8))
        y = here.y1 - rng.uniform(0.4, 0.8) if hanging else here.y0 + rng.uniform(0.9, 1.5)
        warm = np.array([1.0, rng.uniform(0.6, 0.85), rng.uniform(0.3, 0.6)])
        power = rng.uniform(0.15, 0.6) * (1.0 if inner.night > 0.5 else 0.5)
        inner.lamps.append(Lamp(np.array([x, y, z]), warm * power))
        items.append((z, lambda: _lamp(inner, here, x, y, z, warm, power, hanging)))
    return items


def _lamp(inner, here, x, y, z, warm, power, hanging):
    foot = here.y1 if hanging else here.y0
    base = np.array([x, min(foot, y) - 0.3, z])
    board = Sprite(inner, base, 0.8, abs(foot - y) + 0.7)
    if board.seen:
        level, other = y - base[1], foot - base[1]
        board.paint(board.cover(board.limb(0, min(level, other), 0.012, 0, max(level, other), 0.012)[0]), [0.05] * 3)
        shade = board.convex((-0.22, level - 0.12), (-0.13, level + 0.13), (0.13, level + 0.13), (0.22, level - 0.12))
        glow = np.exp(-((board.x / 0.14) ** 2) - ((board.y - level) / 0.12) ** 2)
        board.paint(board.cover(shade), [0.5] * 3, emission=[float(w * power) * (2.0 + 14.0 * glow) for w in warm])
        board.paint(
            board.cover(board.ellipse(0, level - 0.1, 0.05, 0.05)),
            [0.5] * 3,
            emission=[float(w * power * 90.0) for w in warm],
        )
        board.place(0.0)


def _column(inner, here, x, z):
    tall = here.y1 - here.y0
    board = Sprite(inner, np.array([x, here.y0, z]), 1.0, tall)
    if not board.seen:
        return
    for half, low, high in ((0.3, 0.0, tall), (0.38, 0.0, 0.35), (0.38, tall - 0.4, tall)):
        across = np.clip(board.x / half, -0.98, 0.98)
        # lit mostly from the windows at the far end and the sides: bright rims, dark middle
        rim = 0.25 + 0.75 * np.abs(across) ** 2
        light = [float(0.25 * here.outside[c]) * rim for c in range(3)]
        board.paint(
            board.cover(board.box(0, 0.5 * (low + high), half, 0.5 * (high - low))),
            [0.02] * 3,
            emission=[v * t for v, t in zip(light, (0.7, 0.66, 0.6), strict=True)],
        )
    board.place(0.0)


def _slab(inner, here, low, high, albedo, textured=None):
    """An axis-aligned box from corner ``low`` to ``high``: its faces towards the camera."""
    low, high = [float(v) for v in low], [float(v) for v in high]
    eye = inner.view.position
    size = [h - lo for lo, h in zip(low, high, strict=True)]
    faces = (
        ((low[0], low[1], low[2]), (1, 0, 0), (0, 1, 0), (0, 0, -1), size[0], size[1], eye[2] < low[2]),
        ((low[0], low[1], low[2]), (0, 0, 1), (0, 1, 0), (-1, 0, 0), size[2], size[1], eye[0] < low[0]),
        ((high[0], low[1], low[2]), (0, 0, 1), (0, 1, 0), (1, 0, 0), size[2], size[1], eye[0] > high[0]),
        ((low[0], high[1], low[2]), (1, 0, 0), (0, 0, 1), (0, 1, 0), size[0], size[2], eye[1] > high[1]),
    )
    for origin, u, v, normal, w, h, seen in faces:
        patch = plane_patch(inner.view, origin, u, v, [(0, 0), (w, 0), (w, h), (0, h)]) if seen else None
        if patch is None:
            continue
        foot = np.maximum(patch.ds, patch.dt)
        veins = lookup(grain(0.8, 6), patch.s * 0.5 + origin[0], patch.t * 2.0 + origin[2], foot)[0]
        tone = 1.0 + 0.1 * veins
        colours = [a * tone for a in albedo]
        if textured is not None:
            colours = textured(patch, normal, colours, w, h)
        occlusion = 1.0 if normal[1] > 0 else 0.55 + 0.45 * np.clip((patch.point[1] - here.y0) / 0.8, 0, 1)
        paint_surface(inner, here, patch, normal, colours, occlusion=occlusion)


def _caster(inner, low, high):
    low, high = np.asarray(low, float), np.asarray(high, float)
    if len(inner.boxes) < 6:
        inner.boxes.append(((low + high) / 2, (high - low) / 2))


def _table(inner, rng, here, items, x, z, wood):
    w, d, h = rng.uniform(0.5, 0.9), rng.uniform(0.35, 0.6), rng.uniform(0.62, 0.8)
    top = ((x - w, here.y0 + h - 0.04, z - d), (x + w, here.y0 + h, z + d))
    _caster(inner, *top)

    def draw():
        for px, pz in ((-w, d), (w, d), (-w, -d), (w, -d)):
            qx, qz = x + 0.92 * px, z + 0.92 * pz
            _slab(inner, here, (qx - 0.03, here.y0, qz - 0.03), (qx + 0.03, here.y0 + h - 0.04, qz + 0.03), wood)
        _slab(inner, here, *top, wood)
        for _ in range(rng.integers(1, 5)):  # things on it
            ox, oz, s = (x + rng.uniform(-0.8, 0.8) * w, z + rng.uniform(-0.6, 0.6) * d, rng.uniform(0.04, 0.12))
            _slab(
                inner,
                here,
                (ox - s, here.y0 + h, oz - s),
                (ox + s, here.y0 + h + rng.uniform(0.03, 0.3), oz + s),
                hue(rng, (0.1, 0.9), (0.1, 0.8)),
            )

    items.append((z - d, draw))


def _stool(inner, rng, here, items, x, z, wood):
    s, h, colour = rng.uniform(0.17, 0.24), rng.uniform(0.4, 0.5), hue(rng, (0.2, 0.8), (0.1, 0.6))
    _caster(inner, (x - s, here.y0 + h - 0.05, z - s), (x + s, here.y0 + h, z + s))

    def draw():
        for px, pz in ((-s, s), (s, s), (-s, -s), (s, -s)):
            _slab(
                inner,
                here,
                (x + 0.9 * px - 0.018, here.y0, z + 0.9 * pz - 0.018),
                (x + 0.9 * px + 0.018, here.y0 + h, z + 0.9 * pz + 0.018),
                wood,
            )
        _slab(inner, here, (x - s, here.y0 + h - 0.05, z - s), (x + s, here.y0 + h, z + s), colour)
        _slab(inner, here, (x - s, here.y0 + h, z + s - 0.04), (x + s, here.y0 + 2 * h, z + s), colour)

    items.append((z - s, draw))


def _shelf(inner, rng, here, items, x, z, wood):
    w, d, h = rng.uniform(0.4, 0.8), 0.16, rng.uniform(1.2, 2.1)
    x = here.x0 + w + 0.05 if x < (here.x0 + here.x1) / 2 else here.x1 - w - 0.05
    rise, table = rng.uniform(0.26, 0.36), rng.random((3, 499)).astype(np.float32)
    _caster(inner, (x - w, here.y0, z - d), (x + w, here.y0 + h, z + d))

    def books(patch, normal, colours, width, height):
        if normal[2] == 0:
            return colours
        s, t = patch.s, patch.t
        board = np.maximum(pulse(t / rise, 0.08, patch.dt / rise), 1.0 - bar(s, 0.03, width - 0.03, patch.ds))
        row, wide = np.floor(t / rise), 0.045
        column = np.floor(s / wide)
        tall = 0.62 + 0.3 * pick(table[0], column, row)
        gap = pulse(s / wide, 0.1, patch.ds / wide)
        book = (((t / rise) % 1.0) < tall) * (pick(table[1], column, row + 7) > 0.12)
        shade = [0.05 + 0.6 * pick(table[c], column, row + 3) ** 2 for c in range(3)]
        muted = sum(shade) / 3.0
        shade = [mix(muted, shade[c], 0.45) * (1.1, 1.0, 0.85)[c] for c in range(3)]
        return [mix(mix(np.float32(0.03), shade[c] * (1.0 - 0.6 * gap), book), colours[c], board) for c in range(3)]

    items.append((z - d, lambda: _slab(inner, here, (x - w, here.y0, z - d), (x + w, here.y0 + h, z + d), wood, books)))


def _cupboard(inner, rng, here, items, x, z, wood):
    w, d, h = rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.35), rng.uniform(0.7, 2.0)
    x = here.x0 + w + 0.05 if x < (here.x0 + here.x1) / 2 else here.x1 - w - 0.05
    doors = int(rng.integers(1, 4))
    _caster(inner, (x - w, here.y0, z - d), (x + w, here.y0 + h, z + d))

    def fronts(patch, normal, colours, width, height):
        if normal[1] > 0:
            return colours
        u, fu = patch.s / width * doors, patch.ds / width * doors
        line = np.maximum(pulse(u + 0.01, 0.02, fu), pulse(patch.t / height * 2 + 0.02, 0.03, patch.dt / height * 2))
        knob = np.clip(1.5 - np.hypot((u % 1.0 - 0.85) * width / doors, patch.t - 0.5 * height) / 0.025, 0, 1)
        return [mix(c * (1.0 - 0.65 * line), np.float32(0.5), knob) for c in colours]

    items.append(
        (z - d, lambda: _slab(inner, here, (x - w, here.y0, z - d), (x + w, here.y0 + h, z + d), wood, fronts))
    )


def _sofa(inner, rng, here, items, x, z, wood):
    w, colour = rng.uniform(0.6, 1.1), hue(rng, (0.1, 0.7), (0.08, 0.6))
    y = here.y0
    _caster(inner, (x - w, y, z - 0.4), (x + w, y + 0.6, z + 0.4))
    parts = (
        ((x - w, y + 0.1, z + 0.2), (x + w, y + 0.85, z + 0.4)),
        ((x - w, y + 0.1, z - 0.4), (x + w, y + 0.42, z + 0.2)),
        ((x - w - 0.15, y + 0.1, z - 0.4), (x - w, y + 0.6, z + 0.4)),
        ((x + w, y + 0.1, z - 0.4), (x + w + 0.15, y + 0.6, z + 0.4)),
    )

    def draw():
        for low, high in parts:
            _slab(inner, here, low, high, colour)

    items.append((z - 0.4, draw))


def _plant(inner, rng, here, items, x, z, wood):
    height, colour = rng.uniform(0.7, 1.5), hue(rng, (0.1, 0.7), (0.15, 0.6))

    def draw():
        s = 0.13
        _slab(inner, here, (x - s, here.y0, z - s), (x + s, here.y0 + 0.28, z + s), colour)
        leaves = World(
            inner.view, rng, False, inner.sun_direction, np.zeros(3), here.outside * 0.25, here.outside * 0.05
        )
        leaves.canvas, leaves.lamps = inner.canvas, inner.lamps
        tree(leaves, np.array([x, here.y0 + 0.15, z]), rng, height, str(rng.choice(["broad", "palm", "palm"])))

    items.append((z - 0.1, draw))


_PIECES = {"table": _table, "stool": _stool, "shelf": _shelf, "cupboard": _cupboard, "sofa": _sofa, "plant": _plant}
