"""Medical pairs: a section through a head as MRI shows it (sharp anatomy) and as CT, PET or SPECT does.

A section is a set of tissue shares per pixel; every modality is computed from the tissues' physical
numbers: spin-echo signal from T1, T2 and proton density, attenuation in Hounsfield units, uptake of the
tracer.
"""

import numpy as np

from refusion_jax.scenes.anatomy import axial, coronal, sagittal
from refusion_jax.scenes.textures import blur
from refusion_jax.scenes.tissue import TISSUES, Section, lesion


def mri(section):
    """Grey uint8 (H,W): T1, T2, proton-density or FLAIR contrast, coil sensitivity, Rician noise."""
    rng = section.rng
    kind = str(rng.choice(["t1", "t2", "pd", "flair"], p=[0.33, 0.42, 0.1, 0.15]))
    repeat, echo = {
        "t1": (rng.uniform(450, 650), 14.0),
        "t2": (rng.uniform(3000, 4500), rng.uniform(80, 110)),
        "pd": (rng.uniform(2200, 3000), 20.0),
        "flair": (9000.0, rng.uniform(90, 120)),
    }[kind]
    inverted = rng.uniform(1250, 1650) if kind == "t1" and rng.random() < 0.65 else 0.0
    repeat, echo = (6000.0, 4.0) if inverted else (repeat, echo)
    signal = np.zeros(section.size, np.float32)
    for name, share in section.share.items():
        t1, t2, density = TISSUES[name][:3]
        recovered = 1.0 - np.exp(-repeat / t1)
        if inverted:  # phase-sensitive: what has not recovered yet stays black
            recovered = max(1.0 - 2.0 * np.exp(-inverted / t1) + np.exp(-repeat / t1), 0.02)
        elif kind == "flair":
            recovered = abs(1.0 - 2.0 * np.exp(-2500.0 / t1) + np.exp(-repeat / t1))
        vary = 1.0 + rng.normal(0, 0.04)
        signal += share * float(density * recovered * np.exp(-echo / t2) * vary)
    texture = 1.0 + 0.05 * section.noise(0.5, high=60.0) + 0.04 * section.noise(1.5, high=12.0)
    coil = 1.0 + rng.uniform(0.0, 0.12) * section.noise(3.0, high=1.5)
    signal = blur(signal * texture * coil, 0.45 * section.unit / 115.0)
    aim = {
        "t1": rng.uniform(0.55, 0.85),
        "t2": rng.uniform(0.3, 0.5),
        "pd": rng.uniform(0.5, 0.8),
        "flair": rng.uniform(0.35, 0.6),
    }
    scale = np.percentile(signal[section.brain > 0.5], 70) / aim[kind]
    sigma = np.float32(scale * rng.uniform(0.006, 0.03))
    real = signal + sigma * rng.standard_normal(section.size, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(section.size, dtype=np.float32)
    picture = np.sqrt(real * real + imaginary * imaginary) / np.float32(scale)
    floor = rng.choice([0.0, 0.02, 0.04])  # scanners subtract what lies in the air
    picture = np.clip((picture - floor) / (1.0 - floor), 0.0, 1.0) ** np.float32(rng.uniform(0.8, 1.1))
    return (picture * 255.0 + 0.5).astype(np.uint8)


def ct(section):
    """Grey uint8 (H,W): Hounsfield units through a brain (or wider) window, blur, correlated noise."""
    rng = section.rng
    units = np.full(section.size, -1000.0, np.float32)
    for name, share in section.share.items():
        units += share * np.float32(TISSUES[name][3] + 1000.0)
    if rng.random() < 0.35:  # the head rest
        rest = np.abs(np.hypot(section.x, section.y - 0.3) - 1.42) - 0.012
        units = np.maximum(
            units, -1000.0 + 1500.0 * section.cover(rest) * (section.y < -0.55) * (np.abs(section.x) < 0.95)
        )
    units = blur(units, rng.uniform(0.8, 1.5) * section.unit / 115.0)
    # dense bone leaves the brain next to it brighter (scatter, beam hardening)
    units = units + 0.012 * blur(np.clip(units, 0.0, 1500.0), 9.0 * section.unit / 115.0)
    grain = section.noise(-0.3, low=2.0, high=40.0)
    units = units + rng.uniform(1.5, 5.0) * grain * (units > -900.0)
    middle, width = (
        (rng.uniform(32, 45), rng.uniform(75, 140))
        if rng.random() < 0.75
        else (rng.uniform(60, 300), rng.uniform(300, 1800))
    )
    picture = np.clip((units - middle) / width + 0.5, 0.0, 1.0)
    return (picture * 255.0 + 0.5).astype(np.uint8)


_RAINBOW = np.array(
    [
        [0, 0, 0],
        [0, 0, 90],
        [0, 60, 200],
        [20, 170, 230],
        [140, 220, 120],
        [250, 240, 30],
        [255, 150, 10],
        [245, 30, 20],
        [255, 0, 190],
    ]
)
_HOT = np.array([[0, 0, 0], [90, 10, 0], [190, 50, 0], [245, 140, 20], [255, 220, 110], [255, 255, 245]])
_DUSK = np.array(
    [[0, 0, 0], [38, 58, 66], [44, 22, 110], [110, 20, 140], [205, 70, 80], [250, 115, 35], [255, 165, 90]]
)


def nuclear(section, kind):
    """Colour uint8 (H,W,3) of PET or SPECT: uptake, wide point spread, counting noise, colour map."""
    rng = section.rng
    uptake = section.total(4 if kind == "pet" else 5)
    patches = 1.0 + 0.09 * section.noise(1.6, low=0.3, high=5.0) + 0.06 * section.noise(1.5, high=1.5)
    uptake = np.maximum(uptake * patches, 0.0)
    if rng.random() < 0.25:  # a region that works less
        x, y, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.15, 0.3)
        uptake = uptake * (1.0 - rng.uniform(0.2, 0.6) * np.exp(-((section.x - x) ** 2 + (section.y - y) ** 2) / r**2))
    # full width at half maximum 5 to 8 mm (PET), 9 to 14 mm (SPECT); the head's half height is about 95 mm
    width = rng.uniform(5.0, 8.0) if kind == "pet" else rng.uniform(9.0, 14.0)
    sigma = width / 2.355 / 95.0 * section.unit
    smooth = blur(uptake, sigma)
    top = np.percentile(smooth[section.brain > 0.5], 97)
    counts = rng.uniform(0.03, 0.09)
    smooth = smooth + counts * np.sqrt(np.maximum(smooth * top, 0.0)) * _correlated(rng, section.size, 0.8 * sigma)
    level = np.clip(smooth / (top * rng.uniform(0.95, 1.25)), 0.0, 1.0)
    if kind == "pet":
        table = _RAINBOW if rng.random() < 0.75 else _HOT
        level = np.clip((level - 0.04) / 0.96, 0.0, 1.0)
    else:
        table = _DUSK if rng.random() < 0.75 else _RAINBOW
        level = np.clip((level - 0.06) / 0.94, 0.0, 1.0)
    return colour(level, table)


def _correlated(rng, size, sigma):
    field = blur(rng.standard_normal(size, dtype=np.float32), sigma)
    return field / (field.std() + 1e-9)


def colour(level, table):
    """Colours uint8 (H,W,3) of ``level`` (H,W) in [0,1]; ``table`` (N,3) 0..255 is evenly spaced."""
    fine = np.stack(
        [np.interp(np.linspace(0, 1, 512), np.linspace(0, 1, len(table)), table[:, c]) for c in range(3)], axis=1
    )
    return np.rint(fine).astype(np.uint8)[(level * 511.0 + 0.5).astype(np.int32)]


def pair(rng, size):
    """CT (H,W), PET or SPECT (H,W,3) and MRI (H,W), uint8, of one section of one head."""
    section = Section(rng, size)
    plane = rng.random()
    if plane < 0.78:
        axial(section, rng.uniform(0.3, 0.98) if rng.random() < 0.8 else rng.uniform(0.0, 0.3))
    elif plane < 0.88:
        coronal(section)
    else:
        sagittal(section)
    if rng.random() < 0.4:
        lesion(section)
    modality = str(rng.choice(["ct", "pet", "spect"], p=[0.34, 0.33, 0.33]))
    return (ct(section) if modality == "ct" else nuclear(section, modality)), mri(section)
