"""Sections through a head: horizontal at any level, ear to ear, and along the midline."""

import numpy as np

from refusion_jax.scenes.textures import smoothstep
from refusion_jax.scenes.tissue import cortex, fissure_gap, outline, shells


def axial(section, level):
    """Horizontal section; ``level`` 0 is at the eyes and cerebellum, 0.5 at the ventricles, 1 at the top."""
    rng = section.rng
    shrink = 1.0 - 0.42 * max(0.0, (level - 0.72) / 0.28) ** 2
    rx, ry = rng.uniform(0.68, 0.78) * shrink, rng.uniform(0.88, 0.96) * shrink
    bumps = [(rng.normal(0, 0.008), rng.random() * 6.28) for _ in range(4)]
    head = outline(section, rx, ry, bumps, rng.uniform(-0.09, -0.02))
    inner = shells(section, head, rng.uniform(0.028, 0.055), rng.uniform(0.035, 0.075))
    atrophy = rng.uniform(0.0, 1.0) ** 2
    brain = inner + 0.012 + 0.03 * atrophy
    if level < 0.3:
        _low_axial(section, brain, rx, ry, atrophy)
    else:
        _high_axial(section, brain, rx, ry, level, atrophy)


def _high_axial(section, brain, rx, ry, level, atrophy):
    rng = section.rng
    fissure = fissure_gap(section, brain, 0.006 + 0.012 * atrophy)
    open_mid = level < 0.68  # below the level where the hemispheres part completely, they join in the middle
    joined = np.maximum(np.abs(section.y - 0.02) - 0.42 * ry, -1.0) if open_mid else np.float32(-1.0)
    fissure = np.maximum(fissure, -joined) if open_mid else fissure
    surface = np.maximum(brain, -(fissure - 0.004))
    depth = -surface
    section.brain = section.cover(brain)
    section.lay("white", section.cover(surface))
    width = 0.008 + 0.014 * atrophy
    side_depth = np.maximum(-brain, 0.0)
    mid_depth = np.maximum(fissure, 0.0)
    furrow, lining = cortex(
        section,
        np.minimum(side_depth, mid_depth),
        0.0,
        0.0,
        rng.uniform(24, 36),
        rng.uniform(0.15, 0.26),
        rng.uniform(0.038, 0.05),
        width,
        mid_depth < side_depth,
    )
    inside = section.cover(surface)
    section.lay("grey", lining * inside)
    section.lay("csf", furrow * inside * smoothstep(-0.01, 0.02, depth))
    if level < 0.72:
        for side in (-1, 1):  # the Sylvian fissure and the insula behind it
            x, y = side * rx * 0.72, ry * rng.uniform(0.0, 0.16)
            line = section.stroke(
                [(x * 1.1, y + 0.02), (x * 0.72, y - 0.02), (x * 0.62, y - 0.2)],
                [0.012 + 0.014 * atrophy, 0.007 + 0.014 * atrophy, 0.003 + 0.01 * atrophy],
            )
            line = line + 0.008 * section.noise(1.0, low=1.5, high=8.0)
            section.lay("grey", section.cover(line - 0.04) * inside)
            section.lay("csf", section.cover(line) * inside)
    if level < 0.62:
        for side in (-1, 1):  # thalamus, lentiform nucleus, head of the caudate
            section.lay("nuclei", section.cover(section.ellipse(side * 0.12, -0.1, 0.09, 0.15, side * 0.35)))
            section.lay("nuclei", section.cover(section.ellipse(side * 0.25, 0.06, 0.055, 0.15, side * -0.3)))
            section.lay("nuclei", section.cover(section.ellipse(side * 0.13, 0.22, 0.05, 0.09, side * -0.3)))
        third = section.stroke([(0, 0.02), (0, -0.18)], [0.01 + 0.02 * atrophy] * 2)
        section.lay("csf", section.cover(third))
    if level < 0.8:
        swell = (0.55 + 1.1 * atrophy) * (1.0 - 0.7 * max(0.0, (level - 0.62) / 0.18))
        for side in (-1, 1):
            skew = 1.0 + side * rng.normal(0, 0.08)
            if level < 0.62:
                front = section.stroke([(side * 0.035, 0.14), (side * 0.1 * skew, 0.3)], [0.024 * swell, 0.045 * swell])
                back = section.stroke(
                    [(side * 0.08, -0.24), (side * 0.2 * skew, -0.36), (side * 0.22 * skew, -0.52)],
                    [0.02 * swell, 0.055 * swell, 0.02 * swell],
                )
                horn = np.minimum(front, back)
                if rng.random() < 0.5:
                    section.lay("core", 0.6 * section.cover(section.ellipse(side * 0.19, -0.35, 0.02, 0.035)))
            else:
                horn = section.stroke(
                    [(side * 0.07, 0.22), (side * 0.075, 0.0), (side * 0.13 * skew, -0.26)],
                    [0.04 * swell, 0.035 * swell, 0.05 * swell],
                )
            section.lay("csf", section.cover(horn + 0.006 * section.noise(1.5, high=8.0)))


def _low_axial(section, brain, rx, ry, atrophy):
    rng = section.rng
    # front third: face, eyes, air; sides: temporal lobes; back: cerebellum, brain stem
    split = 0.28 * ry + 0.05 * section.noise(1.8, high=3.0)
    face = section.cover(-(section.y - split)) * section.cover(brain - 0.08)
    bones = np.clip(0.5 + 0.7 * section.noise(1.2, low=1.0, high=9.0), 0.0, 1.0)
    section.lay("muscle", face)
    section.lay("scalp", face * smoothstep(0.3, 1.0, section.noise(1.0, low=0.8, high=7.0)))
    section.lay("skull", face * smoothstep(0.75, 0.95, bones))
    for side in (-1, 1):
        eye = section.ellipse(side * 0.3, 0.62 * ry, 0.125, 0.14)
        section.lay("scalp", section.cover(section.ellipse(side * 0.27, 0.5 * ry, 0.17, 0.3, side * -0.3)))
        section.lay(
            "muscle",
            section.cover(section.stroke([(side * 0.29, 0.58 * ry), (side * 0.14, 0.33 * ry)], [0.022, 0.015])),
        )
        section.lay("muscle", section.cover(eye - 0.015))
        section.lay("vitreous", section.cover(eye))
        section.lay("muscle", section.cover(section.ellipse(side * 0.3, 0.62 * ry + 0.1, 0.05, 0.025)))
        for y in (0.36, 0.5, 0.62):
            hole = section.ellipse(side * 0.07, y * ry, 0.045, 0.06)
            for name in section.share:
                section.share[name] = section.share[name] * (
                    1.0 - section.cover(hole + 0.02 * section.noise(1.0, high=9.0))
                )
    back = np.maximum(brain, section.y - split + 0.03)
    hollow = section.ellipse(0, -0.02, 0.2, 0.14)  # cistern round the brain stem
    for side in (-1, 1):
        petrous = section.stroke([(side * rx * 0.85, -0.12), (side * 0.22, 0.06)], [0.07, 0.03])
        lobe = np.maximum(np.maximum(back, -0.05 - section.y), -(side * section.x - 0.14))
        section.lay("white", section.cover(lobe))
        furrow, lining = cortex(
            section, np.maximum(-lobe, 0.0), side * 0.3, 0.1, rng.uniform(13, 20), 0.13, 0.04, 0.008 + 0.012 * atrophy
        )
        section.lay("grey", lining * section.cover(lobe))
        section.lay("csf", furrow * section.cover(lobe))
        section.lay("skull", section.cover(petrous))
        section.lay("marrow", 0.6 * section.cover(petrous + 0.03))
    cerebellum = np.maximum(section.ellipse(0, -0.45 * ry, 0.52 * rx / 0.7, 0.36 * ry), brain)
    section.lay("white", section.cover(cerebellum))
    leaves = np.sin(
        (np.hypot(section.x * 0.8, section.y + 0.12) + 0.012 * section.noise(1.5, low=1.0, high=6.0))
        * float(rng.uniform(75, 105))
    )
    rim = smoothstep(0.16, 0.02, -cerebellum)
    section.lay("grey", section.cover(cerebellum) * np.clip(smoothstep(-0.5, 0.4, leaves) * (0.55 + 0.5 * rim), 0, 1))
    section.lay("csf", section.cover(cerebellum) * smoothstep(0.85, 1.0, leaves) * rim * 0.8)
    section.lay(
        "grey", 0.8 * section.cover(np.maximum(np.abs(section.x) - 0.05, cerebellum + 0.05)) * (section.y < -0.2)
    )
    section.lay("csf", section.cover(hollow))
    section.lay("white", section.cover(section.ellipse(0, -0.06, 0.16, 0.13)))
    section.lay("nuclei", 0.5 * section.cover(section.ellipse(0, -0.04, 0.09, 0.06)))
    section.lay("csf", section.cover(section.ellipse(0, -0.21, 0.05 + 0.02 * atrophy, 0.035)))
    section.brain = np.maximum(section.cover(back), section.cover(cerebellum))


def coronal(section):
    """Vertical section from ear to ear."""
    rng = section.rng
    rx, ry = rng.uniform(0.76, 0.84), rng.uniform(0.8, 0.9)
    head = outline(
        section, rx, ry, [(rng.normal(0, 0.01), rng.random() * 6.28) for _ in range(3)], rng.uniform(0.0, 0.06)
    )
    neck = np.maximum(np.abs(section.x) - 0.42 - 0.12 * (section.y + 0.7) ** 2, section.y + 0.3)
    whole = np.minimum(head, neck)
    inner = shells(section, whole, rng.uniform(0.04, 0.07), rng.uniform(0.05, 0.08))
    atrophy = rng.uniform(0, 1) ** 2
    floor = -0.42 + 0.1 * np.cos(section.x * 6.0) + 0.02 * section.noise(1.8, high=4.0)
    below = section.cover(section.y - floor) * section.cover(whole + 0.08)
    section.lay("muscle", below)
    section.lay("scalp", below * smoothstep(0.2, 0.9, section.noise(1.0, low=0.8, high=7.0)))
    section.lay("skull", below * smoothstep(0.9, 1.3, section.noise(1.0, low=1.0, high=8.0)))
    section.lay("skull", section.cover(np.abs(section.y - floor) - 0.025) * section.cover(inner))
    brain = np.maximum(inner + 0.012 + 0.03 * atrophy, floor + 0.03 - section.y)
    fissure = fissure_gap(section, brain, 0.006 + 0.012 * atrophy, low=0.3)
    surface = np.maximum(brain, -(fissure - 0.004))
    section.brain = section.cover(brain)
    inside = section.cover(surface)
    section.lay("white", inside)
    furrow, lining = cortex(
        section,
        np.maximum(np.minimum(-brain, fissure), 0.0),
        0.0,
        0.0,
        rng.uniform(20, 30),
        rng.uniform(0.15, 0.24),
        rng.uniform(0.04, 0.052),
        0.008 + 0.014 * atrophy,
    )
    section.lay("grey", lining * inside)
    section.lay("csf", furrow * inside)
    for side in (-1, 1):
        line = section.stroke(
            [(side * rx * 0.85, -0.05), (side * 0.44, -0.02), (side * 0.4, 0.12)],
            [0.012 + 0.012 * atrophy, 0.008 + 0.012 * atrophy, 0.004 + 0.01 * atrophy],
        )
        line = line + 0.008 * section.noise(1.0, low=1.5, high=8.0)
        section.lay("grey", section.cover(line - 0.042) * inside)
        section.lay("csf", section.cover(line) * inside)
        section.lay("nuclei", section.cover(section.ellipse(side * 0.11, -0.02, 0.09, 0.1)))
        section.lay("nuclei", section.cover(section.ellipse(side * 0.26, 0.0, 0.07, 0.12, side * 0.3)))
        section.lay("nuclei", section.cover(section.ellipse(side * 0.35, -0.3, 0.09, 0.06, side * 0.4)) * inside)
        horn = section.stroke(
            [(side * 0.025, 0.18), (side * (0.13 + 0.04 * atrophy), 0.22)], [0.02, 0.03 + 0.04 * atrophy]
        )
        section.lay("csf", section.cover(horn))
    section.lay("csf", section.cover(section.stroke([(0, 0.06), (0, -0.14)], [0.012 + 0.018 * atrophy] * 2)))
    section.lay(
        "white", section.cover(np.maximum(np.abs(section.x) - 0.09, section.y + 0.2)) * (section.y > floor - 0.2)
    )


def sagittal(section):
    """Vertical section along the midline, the face to the left."""
    rng = section.rng
    head = outline(
        section, rng.uniform(0.88, 0.95), rng.uniform(0.78, 0.86), [(rng.normal(0, 0.01), rng.random() * 6.28)], 0.02
    )
    head = np.minimum(
        head,
        np.maximum(np.maximum(-section.x - 0.8 - 0.05 * np.sin(section.y * 14.0), section.x - 0.45), section.y - 0.0),
    )
    inner = shells(section, head, rng.uniform(0.045, 0.075), rng.uniform(0.05, 0.08))
    atrophy = rng.uniform(0, 1) ** 2
    floor = -0.12 - 0.42 * smoothstep(-0.15, 0.25, section.x) + 0.015 * section.noise(1.8, high=4.0)
    below = section.cover(section.y - floor) * section.cover(head + 0.06)
    section.lay("muscle", below)
    section.lay("scalp", below * smoothstep(0.0, 0.8, section.noise(1.2, low=0.8, high=6.0)))
    section.lay("skull", below * smoothstep(0.8, 1.3, section.noise(1.0, low=1.0, high=8.0)))
    airway = section.stroke([(-0.55, -0.45), (-0.1, -0.42), (0.02, -0.6), (0.04, -1.2)], [0.08, 0.07, 0.05, 0.05])
    sinus = section.ellipse(-0.78, 0.05, 0.05, 0.09)
    for name in section.share:
        section.share[name] = section.share[name] * (
            1.0 - section.cover(np.minimum(airway, sinus) + 0.02 * section.noise(1.0, high=8.0))
        )
    brain = np.maximum(inner + 0.012 + 0.03 * atrophy, floor + 0.02 - section.y)
    section.brain = section.cover(brain)
    body = np.maximum(brain, -(section.ellipse(0.32, -0.42, 0.34, 0.22) - 0.02))
    inside = section.cover(body)
    section.lay("white", inside)
    furrow, lining = cortex(
        section,
        np.maximum(-body, 0.0),
        0.0,
        -0.05,
        rng.uniform(22, 32),
        rng.uniform(0.24, 0.34),
        rng.uniform(0.045, 0.06),
        0.008 + 0.014 * atrophy,
    )
    section.lay("grey", lining * inside)
    section.lay("csf", furrow * inside)
    arch = [(-0.36, 0.02), (-0.34, 0.15), (-0.16, 0.25), (0.1, 0.24), (0.27, 0.12)]
    section.lay("csf", section.cover(section.stroke(arch, [0.07, 0.07, 0.06, 0.06, 0.07])) * 0.5)
    section.lay("white", section.cover(section.stroke(arch, [0.035, 0.045, 0.032, 0.034, 0.055])))
    section.lay(
        "csf",
        section.cover(section.stroke([(-0.22, 0.1), (0.05, 0.14)], [0.05 + 0.03 * atrophy, 0.05 + 0.02 * atrophy])),
    )
    section.lay("nuclei", section.cover(section.ellipse(0.0, 0.02, 0.15, 0.1)))
    stem = section.stroke([(0.06, -0.08), (0.03, -0.3), (0.12, -0.52), (0.16, -1.2)], [0.07, 0.12, 0.075, 0.05])
    section.lay("csf", section.cover(stem - 0.05))
    section.lay("white", section.cover(stem))
    cerebellum = section.ellipse(0.36, -0.36, 0.26, 0.19, -0.3)
    section.lay("grey", section.cover(cerebellum))
    spokes = np.sin(
        np.arctan2(section.y + 0.36, section.x - 0.2) * float(rng.uniform(20, 28))
        + 2.0 * section.noise(1.5, low=1.0, high=6.0)
    )
    section.lay("white", section.cover(cerebellum + 0.03) * smoothstep(0.3, 0.8, spokes))
    section.lay("csf", section.cover(cerebellum) * smoothstep(0.9, 1.0, -spokes) * smoothstep(0.09, 0.0, -cerebellum))
    section.lay("csf", section.cover(section.ellipse(0.15, -0.3, 0.03, 0.05, 0.4)))
