"""The head's tissues with their physical numbers, and shapes: shells, folds, lesions."""

import numpy as np

from refusion_jax.scenes.textures import blur, mix, noise, smoothstep

# T1 (ms), T2 (ms), proton density, Hounsfield units, uptake of FDG (PET), of a perfusion tracer (SPECT)
TISSUES = {
    "scalp": (300.0, 70.0, 0.9, -60.0, 0.1, 0.18),  # mostly fat
    "muscle": (900.0, 45.0, 0.8, 55.0, 0.14, 0.2),
    "skull": (400.0, 8.0, 0.12, 1300.0, 0.03, 0.04),
    "marrow": (330.0, 60.0, 0.55, 350.0, 0.08, 0.08),
    "csf": (4000.0, 1800.0, 1.0, 6.0, 0.04, 0.06),
    "grey": (1250.0, 95.0, 0.86, 39.0, 1.0, 1.0),
    "white": (780.0, 76.0, 0.72, 29.0, 0.3, 0.3),
    "nuclei": (1080.0, 84.0, 0.82, 38.0, 1.08, 1.02),
    "lesion": (1700.0, 190.0, 0.92, 20.0, 0.25, 0.22),  # oedema, infarct
    "core": (1100.0, 110.0, 0.85, 62.0, 1.2, 0.9),  # tumour, bleeding
    "vitreous": (3500.0, 1200.0, 1.0, 8.0, 0.02, 0.03),
}


class Section:
    """Shares of tissue (dict of (H,W) arrays) painted in order, later over earlier, on a grid in head units.

    ``x`` runs right and ``y`` up from the head's centre; 1 is about half the head's height in the picture.
    """

    def __init__(self, rng, size):
        height, width = size
        unit = 0.5 * min(size) * rng.uniform(0.82, 0.95)
        turn, shift = rng.normal(0.0, 0.03), rng.normal(0.0, 0.02, 2)
        y = (height / 2 - np.arange(height, dtype=np.float32) - 0.5)[:, None] / np.float32(unit) - np.float32(shift[1])
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None, :] / np.float32(unit) - np.float32(shift[0])
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        self.x, self.y = c * x + s * y, c * y - s * x
        self.pixel, self.unit, self.size, self.rng = 1.0 / unit, unit, size, rng
        # nobody is symmetric: the whole anatomy is bent a little
        bend = rng.uniform(0.006, 0.013)
        self.x = self.x + bend * self.noise(2.0, low=0.3, high=0.8)
        self.y = self.y + bend * self.noise(2.0, low=0.3, high=0.8)
        self.share = {}
        self.brain = np.zeros(size, np.float32)

    def cover(self, distance):
        return np.clip(0.5 - distance / np.float32(self.pixel), 0.0, 1.0)

    def lay(self, tissue, cover):
        """Paint a tissue over what is there."""
        for name in self.share:
            self.share[name] = self.share[name] * (1.0 - cover)
        self.share[tissue] = self.share.get(tissue, 0.0) + cover

    def total(self, column):
        """Sum of a property over tissues, (H,W)."""
        out = np.zeros(self.size, np.float32)
        for name, share in self.share.items():
            out += np.float32(TISSUES[name][column]) * share
        return out

    def noise(self, beta, low=0.0, high=1.0):
        """Noise with cut-offs in cycles per head unit."""
        return noise(self.rng, self.size, beta, low * self.pixel, min(1.0, high * self.pixel))

    def ellipse(self, cx, cy, rx, ry, turn=0.0):
        c, s = float(np.cos(turn)), float(np.sin(turn))
        dx, dy = self.x - float(cx), self.y - float(cy)
        a, b = (c * dx + s * dy) * float(1.0 / rx), (c * dy - s * dx) * float(1.0 / ry)
        return (np.sqrt(a * a + b * b) - 1.0) * float(min(rx, ry))

    def stroke(self, points, radii):
        """Distance to a chain of tapered strokes."""
        out = None
        for (x0, y0), (x1, y1), r0, r1 in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
            x0, y0, x1, y1, r0, r1 = (float(v) for v in (x0, y0, x1, y1, r0, r1))
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) * (1.0 / (dx * dx + dy * dy)), 0.0, 1.0)
            ex, ey = self.x - x0 - along * dx, self.y - y0 - along * dy
            distance = np.sqrt(ex * ex + ey * ey) - (r0 + (r1 - r0) * along)
            out = distance if out is None else np.minimum(out, distance)
        return out


def cortex(section, depth, cx, cy, folds, reach, thick, open_width, flat=None):
    """Fold the brain's rim: furrows of fluid run inward, grey matter lines them and the surface.

    ``depth`` is the distance below the brain's surface (head units), ``folds`` the number of furrows round
    the centre (cx, cy), ``reach`` how deep they go, ``thick`` the grey matter's thickness, ``open_width``
    the furrows' half width; where ``flat`` (bool) the furrows follow each other along y, not round the
    centre.
    """
    rng = section.rng
    bend = section.noise(1.6, low=0.6, high=6.0)
    angle = np.arctan2(section.y - np.float32(cy), section.x - np.float32(cx))
    # noise long in depth and short around the brain: its zero lines are furrows that start at the surface
    bins, levels = 360, 24
    table = noise(rng, (4 * levels, bins), 0.0, low=0.25 * folds / bins, high=1.05 * folds / bins)
    table = blur(table, (1.5, 0.0))
    row = np.clip(depth / np.float32(reach) * levels, 0, 2 * levels - 1.001)
    place = angle / np.float32(2 * np.pi) + 0.5
    if flat is not None:
        place = np.where(
            flat, section.y * np.float32(0.2) + np.where(section.x > 0, np.float32(0.3), np.float32(0.7)), place
        )
    column = (place * bins + bend * np.float32(3.2 * 30.0 / folds)) % bins
    r0, c0 = row.astype(np.int32), column.astype(np.int32) % bins
    fr, fc = row - r0, column - np.floor(column)
    c1 = (c0 + 1) % bins
    wave = mix(mix(table[r0, c0], table[r0, c1], fc), mix(table[r0 + 1, c0], table[r0 + 1, c1], fc), fr)
    wave = wave / np.float32(table.std()) + 0.45 * section.noise(0.6, low=1.5, high=9.0) * smoothstep(0.0, 0.15, depth)
    gy, gx = np.gradient(wave)
    steep = np.maximum(np.sqrt(gx * gx + gy * gy) / np.float32(section.pixel), 2.0)
    away = np.abs(wave) / steep  # distance to the nearest furrow, first order
    limit = reach * (1.0 + 0.45 * section.noise(1.0, low=0.7, high=4.0))
    ends = smoothstep(0.0, 0.12, depth - limit)
    away = away + np.float32(0.3) * ends
    wide = np.float32(open_width) * np.clip(1.25 - depth / (1.1 * reach), 0.1, 1.0)
    wide = wide * np.clip(
        0.95 + 0.5 * section.noise(1.0, low=0.5, high=3.0), 0.0, 2.2
    )  # some stand open, some are shut
    furrow = section.cover(away - wide) * np.clip(wide * np.float32(2.2 / section.pixel), 0.0, 1.0)
    lining = section.cover(
        np.minimum(away, depth) - thick * np.clip(1.0 + 0.16 * section.noise(1.2, high=6.0), 0.5, 1.6)
    )
    return furrow, lining


def outline(section, rx, ry, bumps, taper):
    """Distance-like field of the head's outline: an ellipse narrower in front, with slow bumps."""
    angle = np.arctan2(section.y, section.x)
    scale = 1.0 + np.float32(taper) * section.y / np.float32(ry)
    radius = np.sqrt((section.x / (np.float32(rx) * scale)) ** 2 + (section.y / np.float32(ry)) ** 2)
    for k, (amount, phase) in enumerate(bumps, start=2):
        radius = radius * (1.0 + np.float32(amount) * np.cos(k * angle + np.float32(phase)))
    return (radius - 1.0) * np.float32(min(rx, ry))


def shells(section, head, scalp, bone):
    """Scalp, skull with marrow between its tables, fluid; returns the distance field of the brain's space."""
    rng = section.rng
    uneven = 1.0 + 0.18 * section.noise(1.8, high=3.0)
    section.lay("scalp", section.cover(head))
    muscle = section.cover(head + 0.5 * scalp) * (section.noise(1.0, high=6.0) > 0.6) * 0.7
    section.lay("muscle", muscle)
    outer = head + scalp * uneven
    section.lay("skull", section.cover(outer))
    mid = np.abs(outer + 0.5 * bone) - 0.2 * bone
    section.lay(
        "marrow", section.cover(mid) * rng.uniform(0.3, 1.0) * np.clip(0.6 + 0.5 * section.noise(1.0, high=8.0), 0, 1)
    )
    inner = outer + bone * (1.0 + 0.2 * section.noise(1.8, high=3.0))
    section.lay("csf", section.cover(inner))
    section.x = section.x + 0.011 * section.noise(
        1.5, low=1.0, high=5.0
    )  # what lies within wanders more than the skull
    section.y = section.y + 0.011 * section.noise(1.5, low=1.0, high=5.0)
    return inner


def fissure_gap(section, brain, half, low=-9.0, high=9.0):
    wander = 0.008 * section.noise(2.0, high=3.0)[:, :1]
    gap = np.abs(section.x + wander) - half
    gap = np.maximum(gap, np.maximum(low - section.y, section.y - high))
    return gap


def lesion(section):
    """A tumour, bleeding, infarct or plaques somewhere in the brain."""
    rng = section.rng
    rough = section.noise(1.5, low=0.5, high=8.0)
    if rng.random() < 0.25:  # plaques
        for _ in range(rng.integers(4, 14)):
            r = rng.uniform(0.012, 0.04)
            spot = section.ellipse(rng.normal(0, 0.22), rng.normal(0, 0.28), r, r * rng.uniform(0.6, 1.6))
            section.lay("lesion", 0.9 * section.cover(spot + 0.008 * rough) * section.brain)
        return
    x, y, r = rng.uniform(0.12, 0.42) * rng.choice([-1, 1]), rng.uniform(-0.45, 0.45), rng.uniform(0.07, 0.19)
    spot = section.ellipse(x, y, r, r * rng.uniform(0.7, 1.4), rng.uniform(0, 3))
    halo = smoothstep(r * 0.9, 0.0, spot + 0.35 * r * rough) * 0.85
    section.lay("lesion", halo * section.brain)
    if rng.random() < 0.7:
        section.lay("core", section.cover(spot + 0.4 * r + 0.12 * r * rough) * section.brain)
        section.lay("lesion", 0.7 * section.cover(spot + 0.75 * r + 0.15 * r * rough) * section.brain)
