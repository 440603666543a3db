"""Tables and walls for close views: wood, cloth, stone; brick, books, posters, print, boards, wallpaper."""

import numpy as np

from refusion_jax.scenes.render import plane_patch
from refusion_jax.scenes.textures import (
    bar,
    brick,
    enlarged,
    grain,
    hue,
    letters,
    lookup,
    mix,
    pick,
    poster,
    pulse,
    pyramid,
    smoothstep,
    wall_paint,
)


def table(world, rng, far, contacts):
    """The table plane y = 0 up to depth ``far``, darker where things stand (x, z, radius)."""
    style, shift, colour = rng.random(), float(rng.random()), hue(rng, (0.1, 0.7), (0.15, 0.8))
    second = hue(rng, (0.1, 0.7), (0.15, 0.9))
    patch = plane_patch(
        world.view, (0, 0, 0), (1, 0, 0), (0, 0, 1), [(-40, 0.2), (40, 0.2), (40, far), (-40, far)], 1.0
    )
    if patch is None:
        return
    s, t, ds, dt = patch.s, patch.t, patch.ds, patch.dt
    foot = np.maximum(ds, dt)
    grit = lookup(grain(0.8), s * 0.2 + shift, t * 0.2, foot * 0.2)[0]
    if style < 0.4:
        veins = lookup(grain(0.8, 6), s * 0.15 + shift, t * 1.1, foot * 0.6)[0]
        gap = pulse(t / 0.5, 0.02, dt / 0.5)
        wood = np.array([0.42, 0.27, 0.14]) * rng.uniform(0.4, 1.4)
        albedo = [float(wood[c]) * (1 + 0.3 * veins) * (1.0 - 0.6 * gap) for c in range(3)]
    elif style < 0.65:
        size = rng.uniform(0.12, 0.4)
        check = 0.5 * (pulse(s / size, 0.5, ds / size) + pulse(t / size, 0.5, dt / size))
        weave = lookup(grain(0.3), s * 1.2, t * 1.2, foot * 1.2)[0]
        albedo = [mix(float(colour[c]), float(second[c]), check) * (1 + 0.2 * weave) for c in range(3)]
    else:
        speck = lookup(grain(0.3), s * 0.8 + shift, t * 0.8, foot * 0.8)[0]
        stone = wall_paint(rng)
        albedo = [float(stone[c]) * (1 + 0.25 * speck + 0.14 * grit) for c in range(3)]
    for x, z, r in contacts:
        away = ((s - float(x)) / float(r)) ** 2 + ((t - float(z)) / float(0.7 * r)) ** 2
        lean = ((s - float(x) - 0.5 * float(r)) / float(1.6 * r)) ** 2 + ((t - float(z)) / float(0.6 * r)) ** 2
        press = (1.0 - 0.65 * np.exp(-away)) * (1.0 - 0.45 * np.exp(-lean))
        albedo = [a * press for a in albedo]
    world.paint(patch.rows, patch.cols, patch.alpha, world.radiance((0, 1, 0), albedo, patch.z, None, 1.0))


def wall(world, rng, depth):
    """What stands behind: brick, wallpaper, boards, posters on a wall, a shelf of books, a page of text."""
    patch = plane_patch(world.view, (0, -3, depth), (1, 0, 0), (0, 1, 0), [(-60, -20), (60, -20), (60, 60), (-60, 60)])
    style, shift, colour = rng.random(), float(rng.random()), wall_paint(rng)
    if patch is None:
        return
    size = depth / 8.0  # patterns are as large as the distance asks for
    s, t, ds, dt = patch.s / size + 100.0, patch.t / size + 100.0, patch.ds / size, patch.dt / size
    foot = np.maximum(ds, dt)
    grit = lookup(grain(1.0), s * 0.1 + shift, t * 0.1, foot * 0.1)[0]
    fine = lookup(grain(0.4), s * 0.4 + shift, t * 0.4, foot * 0.4)[0]
    table_ = rng.random((4, 499)).astype(np.float32)
    if style < 0.2:
        share, row, column = brick(s, t, foot, 1.0, 0.32, 0.05)
        vary = 1.0 + 0.5 * pick(table_[0], row, column) - 0.25 + 0.12 * fine
        albedo = [mix(0.4 + 0.04 * fine, float((0.5, 0.24, 0.16)[c]) * (vary + 0.1 * fine), share) for c in range(3)]
    elif style < 0.4:  # books
        row = np.floor(t / 1.3)
        column = np.floor(s / 0.2)
        tall = 0.6 + 0.3 * pick(table_[0], column, row)
        up = (t / 1.3) % 1.0
        book = (up < tall) * (pick(table_[1], column, row + 7) > 0.06) * pulse(s / 0.2, 0.93, ds / 0.2)
        band = 0.7 + 0.3 * (np.abs(up - 0.4) < 0.06) * (pick(table_[2], column, row) > 0.5)
        shade = [(0.06 + 0.7 * pick(table_[c], column + 13, row) ** 2) * band for c in range(3)]
        muted = sum(shade) / 3.0
        board = pulse(t / 1.3 + 0.06, 0.07, dt / 1.3)
        albedo = [
            mix(book * mix(muted, shade[c], 0.5) + 0.02, (0.35, 0.22, 0.12)[c] * (1 + 0.1 * fine), board)
            for c in range(3)
        ]
    elif style < 0.6:  # posters
        tiles = [pyramid(poster(rng, (128, 128))) for _ in range(3)]
        albedo = [float(colour[c]) * (1 + 0.07 * grit + 0.12 * fine) for c in range(3)]
        for index, tile in enumerate(tiles):
            x, y = 100.0 + (index - 1) * 2.9 + rng.normal(0, 0.3), 100.0 + 3.0 / size + rng.uniform(-0.5, 1.2)
            w, h = rng.uniform(1.8, 2.6), rng.uniform(1.8, 3.2)
            inside = bar(s, x - w / 2, x + w / 2, ds) * bar(t, y - h / 2, y + h / 2, dt)
            printed = lookup(tile, (s - x) / w + 0.5, 0.5 - (t - y) / h, np.maximum(ds / w, dt / h))
            albedo = [mix(a, 0.88 * p, inside) for a, p in zip(albedo, printed, strict=True)]
    elif style < 0.75:  # a printed sheet fills the view
        text = enlarged(letters(rng, 28, 42), 1)
        tile = pyramid(text)
        ink = lookup(tile, (s - 96.0) / 8.0, -(t - 100.0 - 3.0 / size) / 8.0 + 0.5, foot / 8.0)[0]
        albedo = [mix(0.8 + 0.02 * grit, float(colour[c]) * 0.2, ink) for c in range(3)]
    elif style < 0.88:  # boards
        groove = pulse(s / 0.7, 0.05, ds / 0.7)
        veins = lookup(grain(0.8, 6), t * 0.08 + shift, s * 0.6, foot * 0.4)[0]
        albedo = [float(colour[c]) * (1 + 0.22 * veins) * (1.0 - 0.7 * groove) for c in range(3)]
    else:  # wallpaper
        motif = np.sin(s * 4.0) * np.sin(t * 4.0) + 0.5 * np.sin(s * 12.0) * np.sin(t * 12.0)
        albedo = [float(colour[c]) * (1 + 0.3 * smoothstep(0.1, 0.3, motif) + 0.05 * grit) for c in range(3)]
    world.paint(patch.rows, patch.cols, patch.alpha, world.radiance((0, 0, -1), albedo, patch.z, None, 0.75))
