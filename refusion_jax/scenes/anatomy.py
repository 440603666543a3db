"""A section through a head: tissues with their physical numbers, and what MRI, CT, PET and SPECT show of them."""

import numpy as np

from refusion_jax.scenes.surfaces import blur, lookup, noise

# T1 (ms), T2 (ms), proton density, Hounsfield units, uptake of FDG (PET), of a perfusion tracer (SPECT)
TISSUES = {
    "scalp": (300.0, 70.0, 0.9, -60.0, 0.1, 0.18),  # mostly fat
    "skull": (400.0, 8.0, 0.12, 1300.0, 0.03, 0.04),
    "fluid": (4000.0, 1800.0, 1.0, 6.0, 0.04, 0.06),
    "grey": (1250.0, 95.0, 0.86, 39.0, 1.0, 1.0),
    "white": (780.0, 76.0, 0.72, 29.0, 0.3, 0.3),
    "nuclei": (1080.0, 84.0, 0.82, 38.0, 1.08, 1.02),
    "lesion": (1700.0, 190.0, 0.92, 20.0, 0.25, 0.22),  # oedema, infarct
    "core": (1100.0, 110.0, 0.85, 62.0, 1.2, 0.9),  # tumour, bleeding
}
# Right of the midline, (x, y, half width, half height, turn); the ventricles' horns lie at the level of the nuclei
NUCLEI = ((0.12, -0.1, 0.09, 0.15, 0.35), (0.25, 0.06, 0.055, 0.15, -0.3), (0.13, 0.22, 0.05, 0.09, -0.3))
HORNS = ((0.07, 0.23, 0.025, 0.1, -0.4), (0.19, -0.37, 0.035, 0.14, 0.5), (0.0, -0.08, 0.01, 0.1, 0.0))
VENTRICLE = ((0.09, -0.02, 0.035, 0.26, 0.12),)
RAINBOW = ((0, 0, 0), (0, 0, 90), (0, 60, 200), (20, 170, 230), (140, 220, 120), (250, 240, 30), (255, 120, 10))
DUSK = ((0, 0, 0), (38, 58, 66), (44, 22, 110), (110, 20, 140), (205, 70, 80), (250, 115, 35), (255, 165, 90))


class Section:
    """Shares of the tissues (H,W) in a horizontal section of a random head at a random level.

    ``x`` runs right and ``y`` up from the head's centre; 1 is about half the head's length.
    """

    def __init__(self, rng, size):
        self.rng, self.size, self.unit, self.share = rng, size, 0.5 * min(size) * rng.uniform(0.85, 0.97), {}
        y, x = ((np.arange(n, dtype=np.float32) - n / 2) / np.float32(self.unit) - rng.normal(0, 0.02) for n in size)
        turn, bend = rng.normal(0.0, 0.03), rng.uniform(0.006, 0.013)  # nobody is symmetric
        self.x = (x - turn * y[:, None] + bend * self.noise(2.0, 0.3, 0.8)).astype(np.float32)
        self.y = (-y[:, None] - turn * x + bend * self.noise(2.0, 0.3, 0.8)).astype(np.float32)
        self._build(rng.uniform(0.3, 1.0), rng.uniform(0.0, 1.0) ** 2)

    def noise(self, beta, low=0.0, high=1e3):
        """Noise between two frequencies in cycles per head unit."""
        return noise(self.rng, self.size, beta, low / self.unit, min(1.0, high / self.unit))

    def cover(self, distance):
        """Coverage of what lies at a negative distance (head units)."""
        return np.clip(0.5 - distance * np.float32(self.unit), 0.0, 1.0)

    def lay(self, tissue, cover):
        """Paint a tissue over what is there."""
        self.share = {name: share * (1.0 - cover) for name, share in self.share.items()}
        self.share[tissue] = self.share.get(tissue, 0.0) + cover

    def total(self, value):
        """Sum over the tissues of a function of their numbers, (H,W)."""
        return sum(np.float32(value(*TISSUES[name])) * share for name, share in self.share.items())

    def ellipse(self, cx, cy, rx, ry, turn=0.0):
        """Distance to an ellipse, about."""
        c, s, dx, dy = float(np.cos(turn)), float(np.sin(turn)), self.x - float(cx), self.y - float(cy)
        return (np.hypot((c * dx + s * dy) / float(rx), (c * dy - s * dx) / float(ry)) - 1.0) * float(min(rx, ry))

    def _build(self, level, atrophy):
        """``level`` 0.3 lies at the basal nuclei, 1 at the top; ``atrophy`` 0..1 widens what holds fluid."""
        rng, shrink = self.rng, 1.0 - 0.4 * max(0.0, (level - 0.72) / 0.28) ** 2
        head = self.ellipse(0, 0, rng.uniform(0.68, 0.78) * shrink, rng.uniform(0.88, 0.95) * shrink)
        head = head + rng.uniform(0.01, 0.02) * self.noise(2.5, 0.4, 1.2)
        outer = head + rng.uniform(0.028, 0.055) * (1.0 + 0.18 * self.noise(1.8, high=3.0))
        inner = outer + rng.uniform(0.035, 0.075) * (1.0 + 0.2 * self.noise(1.8, high=3.0))
        self.lay("scalp", self.cover(head))
        self.lay("skull", self.cover(outer))
        self.lay("fluid", self.cover(inner))
        brain = inner + np.float32(0.012 + 0.03 * atrophy)
        self.brain = self.cover(brain)
        self.x, self.y = (v + 0.011 * self.noise(1.5, 1.0, 5.0) for v in (self.x, self.y))
        gap = np.abs(self.x + 0.008 * self.noise(2.0, high=3.0)[:, :1]) - np.float32(0.006 + 0.012 * atrophy)
        if level < 0.68:  # deeper down the hemispheres join in the middle
            gap = np.maximum(gap, 0.38 - np.abs(self.y - 0.02))
        inside = self.cover(np.maximum(brain, 0.004 - gap))
        self.lay("white", inside)
        furrow, lining = self._cortex(np.maximum(np.minimum(-brain, gap), 0.0), gap < -brain, 0.008 + 0.014 * atrophy)
        self.lay("grey", lining * inside)
        self.lay("fluid", furrow * inside)
        rough = self.noise(1.0, 1.5, 8.0)
        for side in (-1, 1):
            for x, y, a, b, turn in NUCLEI if level < 0.62 else ():
                self.lay("nuclei", self.cover(self.ellipse(side * x, y, a, b, side * turn)))
            swell = rng.uniform(0.8, 1.2) * (0.7 + 1.2 * atrophy)
            for x, y, a, b, turn in HORNS if level < 0.62 else VENTRICLE if level < 0.8 else ():
                self.lay("fluid", self.cover(self.ellipse(side * x, y, swell * a, b, side * turn) + 0.005 * rough))
        if rng.random() < 0.45:  # a tumour, bleeding or infarct with its halo
            x, y, r = rng.uniform(0.12, 0.42) * rng.choice([-1, 1]), rng.uniform(-0.4, 0.4), rng.uniform(0.05, 0.17)
            spot = self.ellipse(x, y, r, r * rng.uniform(0.7, 1.4), rng.uniform(0, 3)) + 0.2 * r * rough
            self.lay("lesion", 0.85 * np.clip(0.9 - spot / r, 0.0, 1.0) * self.brain)
            self.lay("core", self.cover(spot + 0.4 * r) * self.brain * (rng.random() < 0.7))

    def _cortex(self, depth, beside, width):
        """Coverage of the furrows that run inward from the surface, or along the midline, and of the grey matter."""
        rng, folds, reach = self.rng, self.rng.uniform(24, 36), self.rng.uniform(0.15, 0.26)
        # noise long in depth and short along the surface: its zero lines are the furrows
        table = blur(noise(rng, (64, 512), 0.0, 0.25 * folds / 512, 1.05 * folds / 512), 0.8)
        place = np.arctan2(self.y, self.x) / np.float32(2 * np.pi) + 0.5
        place = np.where(beside, 0.2 * self.y + np.where(self.x > 0, np.float32(0.3), np.float32(0.7)), place)
        place = place + self.noise(1.6, 0.6, 6.0) * np.float32(0.27 / folds)
        wave = lookup(table, place, depth / np.float32(2.6 * reach))
        wave = wave + 0.45 * self.noise(0.6, 1.5, 9.0) * np.clip(depth / 0.15, 0.0, 1.0)
        away = np.abs(wave) / np.maximum(np.hypot(*np.gradient(wave)) * np.float32(self.unit), 2.0)  # first order
        away = away + np.clip(2.5 * (depth - reach * (1.0 + 0.45 * self.noise(1.0, 0.7, 4.0))), 0.0, 0.3)
        open_ = np.clip(0.95 + 0.5 * self.noise(1.0, 0.5, 3.0), 0.0, 2.2)  # some stand open, some are shut
        wide = np.float32(width) * np.clip(1.25 - depth / (1.1 * reach), 0.1, 1.0) * open_
        furrow = self.cover(away - wide) * np.clip(wide * np.float32(2.2 * self.unit), 0.0, 1.0)
        thick = rng.uniform(0.038, 0.05) * (1.0 + 0.16 * self.noise(1.2, high=6.0))
        return furrow, self.cover(np.minimum(away, depth) - thick)


def mri(section):
    """Pictures (H,W) in [0,1], noisy and clean: T1, T2 or FLAIR contrast by turn, wait and echo (ms); Rician noise."""
    rng, kind = section.rng, section.rng.choice(3, p=[0.4, 0.42, 0.18])
    turn, wait, echo, aim = ((1.5, 1200.0, 4.0, 0.55), (1.0, 3800.0, 95.0, 0.38), (2.0, 2500.0, 100.0, 0.45))[kind]
    signal = section.total(lambda t1, t2, n, *_: n * abs(1.0 - turn * np.exp(-wait / t1)) * np.exp(-echo / t2))
    signal = signal * (1.0 + 0.05 * section.noise(0.5, high=60.0) + 0.05 * section.noise(1.5, high=12.0))
    signal = signal * np.float32(aim * rng.uniform(0.8, 1.25) / np.percentile(signal[section.brain > 0.5], 70))
    grain = rng.uniform(0.006, 0.03) * rng.standard_normal((2, *section.size), dtype=np.float32)
    return np.hypot(blur(signal, section.unit / 250.0) + grain[0], grain[1]) - np.float32(0.02), signal


def ct(section):
    """Pictures (H,W) in [0,1], noisy and clean: Hounsfield units through a brain (or wider) window."""
    rng = section.rng
    units = section.total(lambda *numbers: numbers[3] + 1000.0) - 1000.0
    seen = blur(units, rng.uniform(0.8, 1.4) * section.unit / 115.0)
    seen = seen + 0.012 * blur(np.clip(seen, 0.0, 1500.0), section.unit / 13.0)  # scatter from dense bone
    seen = seen + np.float32(rng.uniform(1.5, 5.0)) * section.noise(-0.3, 2.0, 40.0) * (seen > -900.0)
    middle, width = (180.0, rng.uniform(300, 1500)) if rng.random() < 0.25 else (37.0, rng.uniform(75, 130))
    return tuple(np.clip((u - middle) / width + 0.5, 0.0, 1.0).astype(np.float32) for u in (seen, units))


def nuclear(section, pet):
    """Pictures (H,W,3) in [0,1], noisy and clean, of PET or SPECT: uptake, wide point spread (in both), colour map."""
    rng = section.rng
    uptake = np.maximum(section.total(lambda *n: n[4 if pet else 5]) * (1.0 + 0.1 * section.noise(1.6, 0.3, 5.0)), 0.0)
    # full width at half maximum 5 to 8 mm (PET), 9 to 14 mm (SPECT); half the head's length is about 95 mm
    sigma = rng.uniform(5.0, 8.0) * (1.0 if pet else 1.75) / 2.355 / 95.0 * section.unit
    clean = blur(uptake, sigma) / np.float32(np.percentile(uptake[section.brain > 0.5], 90) * rng.uniform(0.85, 1.05))
    grain = blur(rng.standard_normal(section.size, dtype=np.float32), 0.8 * sigma)
    noisy = clean + np.float32(rng.uniform(0.03, 0.09) / (grain.std() + 1e-9)) * np.sqrt(clean) * grain
    table = np.array(RAINBOW if pet == (rng.random() < 0.8) else DUSK, np.float32) / 255.0
    steps = np.linspace(0.04, 1.0, 7)
    return tuple(np.stack([np.interp(x, steps, c) for c in table.T], axis=-1) for x in (noisy, clean))
