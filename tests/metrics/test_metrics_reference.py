"""Every metric against a slow, independent reading of its definition: plain loops on small images."""

import math
from collections import Counter

import numpy as np
import pytest

from refusion_jax import metrics
from refusion_jax.metrics import filters


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sources and a fused image, uint8, with the cases that definitions branch on: source a and the fused
    image flat somewhere, contrast of the fused image reversed somewhere, and saturated levels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shape = 110 + 60 * np.sin(x / 4 + seed) * np.cos(y / 5) + 15 * rng.standard_normal((height, width))
    a = np.clip(0.7 * shape + 0.3 * x, 0, 255)
    b = np.clip(shape + 90, 0, 255)
    f = np.clip(0.5 * (a + b) + 6 * rng.standard_normal((height, width)), 0, 255)
    a[: height // 2, : width // 2] = 31
    f[height // 2 :, : width // 2] = 200
    f[: height // 3, width // 2 :] = 255 - f[: height // 3, width // 2 :]
    return tuple(np.rint(image).astype(np.uint8) for image in (a, b, f))


SCENES = [scene(45, 48), scene(44, 41, seed=3)]


def entropy(counts: Counter, base: float) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total, base) for n in counts.values())


def mutual(x: np.ndarray, y: np.ndarray, base: float) -> float:
    xs, ys = x.ravel().tolist(), y.ravel().tolist()
    return entropy(Counter(xs), base) + entropy(Counter(ys), base) - entropy(Counter(zip(xs, ys, strict=True)), base)


def slow_stretch(x: np.ndarray) -> np.ndarray:
    low, high = x.min() / 255, x.max() / 255
    out = [[math.floor((v / 255 - low) / (high - low) * 255 + 0.5) for v in row] for row in x.tolist()]
    return np.array(out, float)


def slow_pearson(x: list, y: list) -> float:
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    cov = math.fsum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    return cov / math.sqrt(math.fsum((p - mx) ** 2 for p in x) * math.fsum((q - my) ** 2 for q in y))


def slow_statistics(a, b, f) -> dict[str, float]:
    height, width = f.shape
    v = f.astype(int).tolist()
    flat = [float(x) for row in v for x in row]
    mean = math.fsum(flat) / len(flat)
    dx = [(v[i][j + 1] - v[i][j]) ** 2 for i in range(height) for j in range(width - 1)]
    dy = [(v[i + 1][j] - v[i][j]) ** 2 for i in range(height - 1) for j in range(width)]

    def slope(values, i):
        before, after = max(i - 1, 0), min(i + 1, len(values) - 1)
        return (values[after] - values[before]) / (after - before)

    strength = [
        math.sqrt((slope(v[i], j) ** 2 + slope([row[j] for row in v], i) ** 2) / 2)
        for i in range(height)
        for j in range(width)
    ]
    return {
        "EN": entropy(Counter(flat), 2),
        "SD": math.sqrt(math.fsum((x - mean) ** 2 for x in flat) / len(flat)),
        "SF": math.sqrt(sum(dx) / len(dx) + sum(dy) / len(dy)),
        "SF mefb": math.sqrt((sum(dx) + sum(dy)) / (height * width)),
        "AG": math.fsum(strength) / (height * width),
        "AG mefb": math.fsum(strength) / ((height - 1) * (width - 1)),
    }


def slow_agreement(a, b, f) -> dict[str, float]:
    la, lb, lf = (x.astype(float).ravel().tolist() for x in (a, b, f))
    error = [math.fsum((p - q) ** 2 for p, q in zip(x, lf, strict=True)) / len(lf) for x in (la, lb)]
    stretched = [slow_stretch(x) for x in (a, b, f)]
    matrix = [[1 if i == j else mutual(stretched[i], stretched[j], 256) for j in range(3)] for i in range(3)]
    eigenvalues = np.roots(np.poly(np.array(matrix))).real
    return {
        "MI": mutual(a, f, 2) + mutual(b, f, 2),
        "MI nats": mutual(a, f, math.e) + mutual(b, f, math.e),
        "QNCIE": 1 + sum(r / 3 * math.log(r / 3, 256) for r in eigenvalues),
        "CC": (slow_pearson(la, lf) + slow_pearson(lb, lf)) / 2,
        "SCD": slow_pearson(la, [p - q for p, q in zip(lf, lb, strict=True)])
        + slow_pearson(lb, [p - q for p, q in zip(lf, la, strict=True)]),
        "MSE": sum(error) / 2,
        "PSNR": 20 * math.log10(255 / math.sqrt(sum(error) / 2)),
    }


def slow_ssim(x, f) -> float:
    c1, c2 = 6.5025, 58.5225
    values = []
    for i in range(f.shape[0] - 6):
        for j in range(f.shape[1] - 6):
            p, q = (z[i : i + 7, j : j + 7].astype(float).ravel() for z in (x, f))
            (vp, cov), (_, vq) = np.cov(p, q, ddof=1)
            mp, mq = p.mean(), q.mean()
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp * mp + mq * mq + c1) * (vp + vq + c2)))
    return math.fsum(values) / len(values)


def slow_edges(x):
    padded = np.pad(x.astype(int), 1)
    edges = []
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            p = padded[i : i + 3, j : j + 3].tolist()
            gx = p[0][2] + 2 * p[1][2] + p[2][2] - p[0][0] - 2 * p[1][0] - p[2][0]
            gy = p[0][0] + 2 * p[0][1] + p[0][2] - p[2][0] - 2 * p[2][1] - p[2][2]
            edges.append((math.hypot(gx, gy), math.atan(gy / gx) if gx else math.pi / 2))
    return edges


def slow_qabf(a, b, f) -> float:
    kept = total = 0.0
    for source in (a, b):
        for (g, angle), (gf, angle_f) in zip(slow_edges(source), slow_edges(f), strict=True):
            if g == gf:
                ratio = gf
            else:
                ratio = gf / g if g > gf else g / gf
            closeness = 1 - abs(angle - angle_f) / (math.pi / 2)
            q = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
            q *= 0.9879 / (1 + math.exp(-22 * (closeness - 0.8)))
            kept, total = kept + q * g, total + g
    return kept / total


def gaussian2d(size: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    return np.exp(-(x * x + y * y) / (2 * sigma * sigma))


def windows(x: np.ndarray, size: int):
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            yield i, j, x[i : i + size, j : j + size]


def slow_channel(source, f, weights, noise):
    """(gain, information kept, information held) per window; moments about the mean, branches spelt out."""
    size = len(weights)
    for (_, _, p), (_, _, q) in zip(windows(source, size), windows(f, size), strict=True):
        mp, mq = (weights * p).sum(), (weights * q).sum()
        vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
        cov = (weights * (p - mp) * (q - mq)).sum()
        g = cov / (vp + 1e-10)
        sv = vq - g * cov
        if vp < 1e-10:
            g, sv, vp = 0.0, vq, 0.0
        if vq < 1e-10:
            g, sv = 0.0, 0.0
        if g < 0:
            g, sv = 0.0, vq
        sv = max(sv, 1e-10)
        yield g, math.log10(1 + g * g * vp / (sv + noise)), math.log10(1 + vp / noise)


def slow_scales(*images):
    images = [x.astype(float) for x in images]
    for scale in (1, 2, 3, 4):
        size = 2 ** (5 - scale) + 1
        weights = gaussian2d(size, size / 5)
        weights /= weights.sum()
        if scale > 1:
            reduced = []
            for x in images:
                shape = (x.shape[0] - size + 1, x.shape[1] - size + 1)
                full = np.array([(weights * w).sum() for _, _, w in windows(x, size)]).reshape(shape)
                reduced.append(full[::2, ::2])
            images = reduced
        yield scale, weights, images


def slow_vif(a, b, f) -> float:
    total = 0.0
    for scale, weights, (x, y, z) in slow_scales(a, b, f):
        kept = held = 0.0
        noise = 0.005 * 255 * 255
        both = zip(slow_channel(x, z, weights, noise), slow_channel(y, z, weights, noise), strict=True)
        for (ga, ka, ha), (gb, kb, hb) in both:
            kept += (ka if ga < gb else kb) + 1e-7
            held += (ha if ga < gb else hb) + 1e-7
        total += {1: 1, 2: 0, 3: 0.15, 4: 1}[scale] / 2.15 * kept / held
    return total


def slow_vifp(source, f) -> float:
    kept = held = 0.0
    for _, weights, (x, z) in slow_scales(source, f):
        for _, k, h in slow_channel(x, z, weights, 2):
            kept, held = kept + k, held + h
    return kept / held


def slow_contrast(x: np.ndarray) -> np.ndarray:
    height, width = x.shape

    def fourier(n, sign):
        return np.exp(sign * 2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    spectrum = np.fft.fftshift(fourier(height, -1) @ slow_stretch(x) @ fourier(width, -1))
    for i in range(height):
        for j in range(width):
            v, u = (i - height // 2) * 2 / height * height / 30, (j - width // 2) * 2 / width * width / 30
            r = math.hypot(u, v)
            spectrum[i, j] *= math.exp(-((r / 15.3870) ** 2)) - 0.7622 * math.exp(-((r / 1.3456) ** 2))
    seen = fourier(height, 1) @ np.fft.ifftshift(spectrum) @ fourier(width, 1) / (height * width)
    padded = np.pad(seen.real, 15)
    blurred = []
    for sigma in (2, 4):
        kernel = gaussian2d(31, sigma) / (2 * math.pi * sigma * sigma)
        values = [(kernel * w).sum() for _, _, w in windows(padded, 31)]
        blurred.append(np.array(values).reshape(x.shape))
    contrast = abs(blurred[0] / blurred[1] - 1)
    return contrast**3 / (contrast**2 + 1e-4)


def slow_qcb(a, b, f) -> float:
    maps = [slow_contrast(x).ravel().tolist() for x in (a, b, f)]
    values = []
    for p, q, r in zip(*maps, strict=True):
        share = p * p / (p * p + q * q)
        values.append(share * min(p, r) / max(p, r) + (1 - share) * min(q, r) / max(q, r))
    return math.fsum(values) / len(values)


def slow_mef_scale(sources, f) -> float:
    eps, weights = np.finfo(float).eps, gaussian2d(11, 1.5).ravel()
    weights /= weights.sum()
    values = []
    for i, j, q in windows(f, 11):
        patches = [x[i : i + 11, j : j + 11].ravel() for x in sources]
        patches = [p - p.mean() for p in patches]
        norms = [np.linalg.norm(p) for p in patches]
        consistency = min((np.linalg.norm(sum(patches)) + eps) / (sum(norms) + eps), 1)
        power = min(math.tan(math.pi / 2 * consistency), 10)
        shares = [((n + 0.001) / 11) ** power + eps for n in norms]
        r = sum(s / sum(shares) * p / (n + 0.001) for s, p, n in zip(shares, patches, norms, strict=True))
        if np.linalg.norm(r) > 0:
            r = r / np.linalg.norm(r) * (max(norms) + 0.001)
        r, q = r - weights @ r, q.ravel() - weights @ q.ravel()
        c = (0.03 * 255) ** 2
        values.append((2 * (weights @ (r * q)) + c) / (weights @ (r * r) + weights @ (q * q) + c))
    return math.fsum(values) / len(values)


def slow_mef_ssim(sources, f) -> float:
    images, product = [x.astype(float) for x in (*sources, f)], 1.0
    for weight in (0.0448, 0.2856, 0.3001):
        product *= slow_mef_scale(images[:-1], images[-1]) ** (weight / 0.6305)
        # A last odd row or column is repeated.
        images = [np.pad(x, 1, mode="edge")[1:, 1:] for x in images]
        images = [
            np.array([w.mean() for i, j, w in windows(x, 2) if not i % 2 and not j % 2]).reshape(
                (x.shape[0] // 2, x.shape[1] // 2)
            )
            for x in images
        ]
    return product


def agrees(value: float, reference: float, rel: float = 1e-10) -> None:
    assert value == pytest.approx(reference, rel=rel, abs=0)


@pytest.mark.parametrize("images", SCENES)
def test_statistics(images):
    f, slow = images[2], slow_statistics(*images)
    agrees(metrics.entropy(f), slow["EN"])
    agrees(metrics.standard_deviation(f), slow["SD"])
    agrees(metrics.spatial_frequency(f), slow["SF"])
    agrees(metrics.spatial_frequency_mefb(f), slow["SF mefb"])
    agrees(metrics.average_gradient(f), slow["AG"])
    agrees(metrics.average_gradient_mefb(f), slow["AG mefb"])


@pytest.mark.parametrize("images", SCENES)
def test_agreement(images):
    slow = slow_agreement(*images)
    agrees(metrics.mutual_information(*images), slow["MI"])
    agrees(metrics.mutual_information(*images, unit="nats"), slow["MI nats"])
    # The characteristic polynomial loses a few digits; the stretched histograms none.
    agrees(metrics.qncie(*images), slow["QNCIE"], rel=1e-9)
    agrees(metrics.correlation_coefficient(*images), slow["CC"])
    agrees(metrics.scd(*images), slow["SCD"])
    agrees(metrics.mse(*images), slow["MSE"])
    agrees(metrics.psnr(*images), slow["PSNR"])


@pytest.mark.parametrize("images", SCENES)
def test_structure(images):
    a, b, f = images
    one, other = slow_ssim(a, f), slow_ssim(b, f)
    agrees(metrics.ssim(a, b, f), (one + other) / 2)
    agrees(metrics.ssim(a, b, f, combine="sum"), one + other)
    agrees(metrics.qabf(a, b, f), slow_qabf(a, b, f))


@pytest.mark.parametrize("images", SCENES)
def test_visual_information(images):
    a, b, f = images
    # Flat windows aside, moments about the mean and moments of the squares agree to eleven digits.
    agrees(metrics.vif(a, b, f), slow_vif(a, b, f), rel=1e-9)
    agrees(metrics.vifp_sum(a, b, f), slow_vifp(a, f) + slow_vifp(b, f), rel=1e-9)


@pytest.mark.parametrize("images", [scene(33, 36), scene(20, 37, seed=3)])
def test_contrast(images):
    agrees(metrics.qcb(*images), slow_qcb(*images), rel=1e-8)


@pytest.mark.parametrize("images", [scene(45, 48), scene(51, 44, seed=3)])
def test_exposures(images):
    a, b, f = images
    agrees(metrics.mef_ssim([a, b], f), slow_mef_ssim([a, b], f))
    agrees(metrics.mef_ssim([a, b, f], b), slow_mef_ssim([a, b, f], b))


def test_scenes_reach_every_branch_of_the_visual_information():
    seen = Counter()
    for a, _, f in SCENES:
        weights = gaussian2d(17, 3.4)
        weights /= weights.sum()
        for (_, _, p), (_, _, q) in zip(windows(a, 17), windows(f, 17), strict=True):
            seen["flat source"] += np.ptp(p) == 0
            seen["flat fused"] += np.ptp(q) == 0
            mp, mq = (weights * p).sum(), (weights * q).sum()
            seen["opposed"] += (weights * (p - mp) * (q - mq)).sum() < -1
    assert all(seen[case] > 10 for case in ("flat source", "flat fused", "opposed"))


@pytest.mark.parametrize("shape", [(40, 33), (97, 64), (200, 31)])
@pytest.mark.parametrize("taps", [1, 3, 7, 31])
def test_filter_is_the_direct_sum(shape, taps):
    rng = np.random.default_rng(taps)
    x, window = rng.standard_normal(shape), rng.standard_normal(taps)
    direct = [(np.outer(window, window) * w).sum() for _, _, w in windows(x, taps)]
    out = filters.filter_valid(x, filters.banded(window))
    assert out.shape == (shape[0] - taps + 1, shape[1] - taps + 1)
    np.testing.assert_allclose(out.ravel(), direct, rtol=0, atol=1e-12 * taps * taps)


@pytest.mark.parametrize("taps", [3, 11, 31])
def test_products_are_small_enough_for_one_core(monkeypatch, taps):
    """OpenBLAS hands larger ones to threads, which cost more than the product on a busy machine."""
    sizes, matmul = [], np.matmul

    def spy(left, right, out):
        sizes.append(left.shape[0] * left.shape[1] * right.shape[1])
        return matmul(left, right, out=out)

    monkeypatch.setattr(np, "matmul", spy)
    filters.filter_valid(np.zeros((900, 1100)), filters.banded(np.ones(taps)))
    assert max(sizes) <= 2**18


def test_strips_cover_every_row_once():
    for height, width in ((1, 1), (64, 10**7), (65, 10**7), (480, 640), (5000, 7)):
        rows = [row for start, stop in filters.strips(height, width) for row in range(start, stop)]
        assert rows == list(range(height))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_strips_do_not_change_the_result(monkeypatch, rows):
    images = scene(61, 57, seed=5)
    names = ["SSIM", "VIF", "QCB", "QABF", "MEF-SSIM"]
    whole = metrics.score(*images, metrics=names)
    whole["VIFp"] = metrics.vifp_sum(*images)
    monkeypatch.setattr(filters, "_STRIP_PIXELS", 1)
    monkeypatch.setattr(filters, "_STRIP_ROWS", rows)
    strips = metrics.score(*images, metrics=names)
    strips["VIFp"] = metrics.vifp_sum(*images)
    assert strips == pytest.approx(whole, rel=1e-12, abs=0)
