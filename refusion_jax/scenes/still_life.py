"""Things for close views: bottles, cans, boxes and books, balls, mugs, flowers, pages.

Sizes are in metres times four, so that a table top seen from close by keeps clear of the renderer's near
limit.
"""

import numpy as np

from refusion_jax.scenes import plants
from refusion_jax.scenes.render import World, plane_patch
from refusion_jax.scenes.sprites import Sprite
from refusion_jax.scenes.textures import bar, grain, hue, lookup, mix, poster, pulse, pyramid, smoothstep


class Layer(World):
    """A world that keeps the coverage of each pixel: its canvas is weighted by ``alpha`` (H,W)."""

    def __post_init__(self):
        super().__post_init__()
        self.canvas[:] = 0.0
        self.alpha = np.zeros(self.view.shape, np.float32)

    def paint(self, rows, cols, alpha, channels):
        super().paint(rows, cols, alpha, channels)
        area = self.alpha[rows, cols]
        area += alpha * (1.0 - area)


def layer_like(world):
    """An empty layer with the camera and the light of ``world``."""
    return Layer(world.view, world.rng, False, world.sun_direction, world.sun, world.sky, world.bounce)


def _turned(board, base, rng, radius, label_low, label_high, height):
    """Cylinder coordinates of a board: across -1..1 and what a label wrapped round it shows."""
    across = np.clip(board.x / np.maximum(radius, 1e-3), -0.99, 0.99)
    tile = pyramid(poster(rng, (128, 128)))
    u = np.arcsin(across) * np.float32(1.0 / np.pi) + 0.5
    v = 1.0 - (board.y - label_low) / (label_high - label_low) + 0.0 * across
    footprint = board.pixel / (label_high - label_low) * 1.0
    return across, lookup(tile, u, v, np.float32(footprint))


def bottle(world, base, rng):
    """A bottle or jar with a label, a cap and a gloss along its side."""
    height, wide = rng.uniform(0.8, 1.25), rng.uniform(0.13, 0.2)
    kind, glass, cap = rng.random(), hue(rng, (0.3, 0.95), (0.05, 0.5)), hue(rng, (0.0, 0.9), (0.1, 0.8))
    board = Sprite(world, base, 1.0, height * 1.05, below=0.08)
    if not board.seen:
        return
    if kind < 0.6:
        knots, radii = (0, 0.03, 0.55, 0.68, 0.8, 1.0), (0.9, 1.0, 1.0, 0.8, 0.36, 0.34)
    else:
        knots, radii = (0, 0.04, 0.3, 0.5, 0.75, 0.86, 1.0), (0.85, 1.0, 0.86, 1.0, 0.95, 0.5, 0.48)
    radius = np.interp(board.y, np.array(knots) * height, np.array(radii) * wide).astype(np.float32)
    shape = np.maximum(np.abs(board.x) - radius, np.abs(board.y - height / 2) - height / 2)
    low, high = rng.uniform(0.12, 0.25) * height, rng.uniform(0.45, 0.58) * height
    across, label = _turned(board, base, rng, radius, low, high, height)
    ny = 0.0 * across
    rim = 0.6 + 0.8 * across**2 if rng.random() < 0.5 else 1.0  # light gathers at the rim of clear glass
    board.paint(board.cover(shape), [float(c) * rim * np.ones_like(across) for c in glass], nx=0.9 * across, ny=ny)
    band = board.cover(shape) * board.cover(np.abs(board.y - (low + high) / 2) - (high - low) / 2)
    board.paint(band, [0.85 * c for c in label], nx=0.9 * across)
    lid = board.cover(np.maximum(shape - 0.01, 0.92 * height - board.y))
    board.paint(lid, [float(c) * (0.8 + 0.2 * np.sign(np.sin(np.arcsin(across) * 30))) for c in cap], nx=0.9 * across)
    gloss = 0.5 * np.exp(-(((across + 0.45) / 0.09) ** 2)) + 0.2 * np.exp(-(((across - 0.7) / 0.06) ** 2))
    for c in range(3):
        board.buffer[3 + c] += board.alpha * gloss * float(0.7 * world.sky[c] + 0.25 * world.sun[c])
    board.place()


def can(world, base, rng):
    """A drinks can, a tin or a mug with a handle."""
    height, wide = rng.uniform(0.35, 0.65), rng.uniform(0.16, 0.24)
    mug, paint = rng.random() < 0.4, hue(rng, (0.1, 0.9), (0.15, 0.85))
    board = Sprite(world, base, 1.2, height * 1.2, below=0.1)
    if not board.seen:
        return
    shape = np.maximum(np.abs(board.x) - wide, np.abs(board.y - height / 2) - height / 2)
    shape = np.minimum(shape, board.ellipse(0, 0, wide, 0.045))
    if mug:
        ring = np.abs(board.ellipse(wide * 1.05, height * 0.5, 0.12, height * 0.3)) - 0.028
        board.paint(board.cover(ring), paint, nx=0.3)
    across, label = _turned(board, base, rng, np.float32(wide), 0.05 * height, 0.95 * height, height)
    surface = (
        [float(c) * np.ones_like(label[0]) for c in paint] if mug and rng.random() < 0.6 else [0.85 * c for c in label]
    )
    board.paint(board.cover(shape), surface, nx=0.9 * across)
    top = board.ellipse(0, height, wide, 0.05)
    board.paint(board.cover(top), [0.6, 0.6, 0.58] if not mug else paint, ny=0.9)
    board.paint(board.cover(top + 0.018), [0.3, 0.3, 0.3] if not mug else [0.05, 0.03, 0.02], ny=0.9)
    gloss = 0.5 * np.exp(-(((across + 0.5) / 0.08) ** 2))
    for c in range(3):
        board.buffer[3 + c] += board.alpha * gloss * float(0.5 * world.sky[c] + 0.2 * world.sun[c])
    board.place()


def ball(world, base, rng):
    """A ball or fruit, striped, spotted or plain."""
    r, colour, second = (rng.uniform(0.16, 0.32), hue(rng, (0.3, 0.95), (0.2, 0.9)), hue(rng, (0.2, 0.95), (0.1, 0.95)))
    board = Sprite(world, base, 2.4 * r, 2.3 * r)
    style, turn = rng.random(), rng.random() * 3.1
    if not board.seen:
        return
    nx, ny = np.clip(board.x / r, -1, 1), np.clip((board.y - r) / r, -1, 1)
    over = np.maximum(np.sqrt(nx * nx + ny * ny), 1.0) * 1.01
    nx, ny = nx / over, ny / over
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.0))
    a, b = (nx * float(np.cos(turn)) + ny * float(np.sin(turn)), ny * float(np.cos(turn)) - nx * float(np.sin(turn)))
    if style < 0.35:
        mask = smoothstep(-0.1, 0.1, np.sin(np.arctan2(a, nz) * 6))
    elif style < 0.6:
        mask = smoothstep(-0.1, 0.1, np.sin(np.arctan2(a, nz) * 5) * np.sin(np.arcsin(b) * 5))
    else:
        mask = 0.5 + 0.25 * lookup(grain(0.7), a * 0.3, b * 0.3, np.float32(0.3 * board.pixel / r))[0]
    gloss = 0.8 * np.exp(-((nx + 0.35) ** 2 + (ny - 0.45) ** 2) / 0.012)
    board.paint(
        board.cover(board.ellipse(0, r, r, r)),
        [mix(float(colour[c]), float(second[c]), mask) for c in range(3)],
        emission=[gloss * float(0.5 * world.sun[c] + 0.4 * world.sky[c]) for c in range(3)],
        nx=nx,
        ny=ny,
    )
    board.place()


def carton(world, base, rng, size=None):
    """A box or a standing book, turned about its upright axis, printed on all sides."""
    w, h, d = size or (rng.uniform(0.3, 0.75), rng.uniform(0.4, 1.0), rng.uniform(0.08, 0.4))
    yaw = rng.uniform(-0.7, 0.7)
    along, back = np.array([np.cos(yaw), 0, np.sin(yaw)]), np.array([-np.sin(yaw), 0, np.cos(yaw)])
    up, base = np.array([0.0, 1.0, 0.0]), np.asarray(base, float)
    tiles = [pyramid(poster(rng, (128, 128))) for _ in range(2)]
    colour = hue(rng, (0.1, 0.8), (0.1, 0.8))
    pages = rng.random() < 0.35
    corner = base - along * w / 2
    faces = (
        (corner, along, up, -back, w, h, 0),
        (corner + along * w, back, up, along, d, h, 1),
        (corner + back * d, -back, up, -along, d, h, 1),
        (corner + up * h, along, back, up, w, d, 2),
    )
    for origin, u, v, normal, a, b, index in faces:
        if np.dot(world.view.position - origin, normal) <= 0:
            continue
        patch = plane_patch(world.view, origin, u, v, [(0, 0), (a, 0), (a, b), (0, b)])
        if patch is None:
            continue
        foot = np.maximum(patch.ds / a, patch.dt / b)
        if index == 2 or (index == 1 and pages):
            sheets = 1.0 - 0.25 * pulse((patch.t if index == 2 else patch.s) / 0.02, 0.4, foot * 8)
            albedo = [sheets * (0.78, 0.74, 0.64)[c] if pages else float(colour[c]) for c in range(3)]
        else:
            albedo = lookup(tiles[index], patch.s / a, 1.0 - patch.t / b, foot)
            albedo = [0.9 * c for c in albedo]
        worn = 1.0 - 0.25 * (1.0 - bar(patch.s, 0.012, a - 0.012, patch.ds) * bar(patch.t, 0.012, b - 0.012, patch.dt))
        world.paint(
            patch.rows,
            patch.cols,
            patch.alpha,
            world.radiance(tuple(normal), [c * worn for c in albedo], patch.z, None, 1.0),
        )


def flowers(world, base, rng):
    """A bunch of flowers on stems with leaves, perhaps in a pot."""
    own_leaf, count, spread = plants.leaf_colour(rng) * 1.4, int(rng.integers(3, 12)), rng.uniform(0.2, 0.55)
    height, colour = rng.uniform(0.6, 1.1), hue(rng, (0.4, 0.95), (0.4, 0.95))
    pot, petals = rng.random() < 0.5, int(rng.integers(5, 11))
    board = Sprite(world, base, 3.2 * spread + 0.8, height * 1.4)
    if not board.seen:
        return
    if pot:
        clay = board.convex((-0.17, 0.0), (-0.23, 0.36), (0.23, 0.36), (0.17, 0.0))
        board.paint(board.cover(clay), [0.42, 0.2, 0.12], nx=np.clip(board.x / 0.23, -0.9, 0.9))
        board.paint(
            board.cover(board.box(0, 0.36, 0.25, 0.05, 0.02)), [0.46, 0.23, 0.14], nx=np.clip(board.x / 0.25, -0.9, 0.9)
        )
    foot = 0.34 if pot else 0.0
    heads = []
    for _ in range(count):
        x, y = float(rng.normal(0, spread * 0.6)), height * rng.uniform(0.6, 1.1)
        board.stroke(x * 0.2, foot, 0.014, x, y, 0.01, own_leaf * 0.8)
        heads.append((x, y, rng.uniform(0.09, 0.17)))
    for _ in range(2 * count):
        x, y, turn = rng.normal(0, spread * 0.5), foot + rng.uniform(0.05, 0.5) * height, rng.random() * 3.1
        tip = x + 0.2 * np.cos(turn), y + 0.2 * np.sin(turn)
        board.stroke(x, y, 0.05, *tip, 0.004, own_leaf * rng.uniform(0.6, 1.3), ny=0.4)
    for x, y, r in heads:
        tone, tilt, phase = rng.uniform(0.75, 1.15), rng.uniform(0.55, 1.0), rng.random() * 6.28
        found = board.area(x - r, x + r, y - r, y + r)
        if found is None:
            continue
        area, across, up = found
        dx, dy = across - x, (up - y) / tilt
        angle, far = np.arctan2(dy, dx), np.sqrt(dx * dx + dy * dy)
        lobe = r * (0.72 + 0.28 * np.abs(np.cos(angle * petals / 2 + phase)))
        folds = 0.85 + 0.15 * np.cos(angle * petals + 2 * phase)
        shade = tone * (0.55 + 0.45 * np.clip(far / r, 0, 1)) * folds
        nx, ny = np.clip(dx / r * 0.5, -0.7, 0.7), np.clip(dy / r * 0.4 + 0.2, -0.6, 0.7)
        petal = [float(c) * shade for c in colour]
        board.paint(board.cover((far - lobe) * 0.8), petal, nx=nx, ny=ny, area=area)
        board.paint(board.cover((far - 0.24 * r) * 0.9), [0.55, 0.4, 0.05], ny=0.3, area=area)
    board.place(1.0)


def bough(world, base, rng):
    """A leafy twig or grass that reaches in front of the view."""
    plants.tree(
        world,
        base,
        rng,
        rng.uniform(0.9, 1.6),
        str(rng.choice(["broad", "bush", "palm", "bare"])),
        plants.leaf_colour(rng) * 1.3,
    )


def page(world, centre, rng, width, height, tile=None):
    """A printed sheet that hangs or stands askew at ``centre``, tilted a little in depth."""
    roll, yaw = rng.normal(0, 0.12), rng.normal(0, 0.2)
    u = np.array([np.cos(yaw) * np.cos(roll), np.sin(roll), np.sin(yaw)])
    u /= np.linalg.norm(u)
    normal = np.array([np.sin(yaw), 0.0, -np.cos(yaw)])
    v = np.cross(u, normal)
    v = v if v[1] > 0 else -v
    tile = pyramid(poster(rng, (256, 256))) if tile is None else tile
    origin = np.asarray(centre, float) - u * width / 2 - v * height / 2
    patch = plane_patch(world.view, origin, u, v, [(0, 0), (width, 0), (width, height), (0, height)])
    if patch is None:
        return
    foot = np.maximum(patch.ds / width, patch.dt / height)
    albedo = lookup(tile, patch.s / width, 1.0 - patch.t / height, foot)
    curl = 1.0 + 0.08 * np.sin(patch.s / width * 3.0 + patch.t / height * 2.0)
    world.paint(
        patch.rows,
        patch.cols,
        patch.alpha,
        world.radiance(tuple(normal), [0.88 * c * curl for c in albedo], patch.z, None, 1.0),
    )


THINGS = (bottle, bottle, can, ball, carton, carton, carton, flowers, flowers)
