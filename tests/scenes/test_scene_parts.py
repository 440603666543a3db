"""Parts of the built-in scenes against slow references: camera, lens, light, textures, tissue."""

import numpy as np
import pytest
from scipy import ndimage

from refusion_jax.scenes import focus, medical, outdoors, places, render, sensor, textures, tissue


def test_response_is_a_monotone_curve_through_the_corners():
    rng = np.random.default_rng(0)
    x = np.linspace(-0.2, 1.4, 4001)
    for _ in range(20):
        curve = sensor.response(rng)
        y = curve(x)
        assert curve(0.0) == 0.0 and curve(1.0) == pytest.approx(1.0, abs=1e-12)
        assert np.all(np.diff(y) >= 0) and y[0] == 0.0 and y[-1] == pytest.approx(1.0, abs=1e-12)
        exact = np.rint(255 * y)
        assert np.abs(curve.levels(x.astype(np.float32)).astype(int) - exact).max() <= 1


def test_noise_of_a_flat_patch_is_shot_and_read_noise():
    linear = sensor.Response(1.0, 1e9, 0.0)  # no bend: the signal itself
    flat = np.full((3, 200, 200), 0.25, np.float32)
    electrons, read = 5000.0, 10.0
    picture = sensor.expose(np.random.default_rng(1), flat, 2.0, linear, electrons, read)
    expected = 255.0 * np.sqrt(0.5 / electrons + (read / electrons) ** 2)
    assert picture.mean() == pytest.approx(127.5, abs=0.1)
    # 120000 samples: the deviation is known to 0.3 %; rounding to levels adds 1/12 to the variance
    assert picture.std() == pytest.approx(np.sqrt(expected**2 + 1 / 12), rel=0.015)


def test_glare_keeps_the_light():
    image = np.zeros((3, 128, 128), np.float32)
    image[:, 60:68, 60:68] = 100.0
    spread = sensor.glare(image, 0.1)
    assert spread.sum() == pytest.approx(image.sum(), rel=0.02)
    assert spread[0, 64, 100] > 0.0 and spread[0, 64, 64] < 100.0


@pytest.mark.parametrize("radius", [0.7, 2.0, 4.3])
def test_disc_has_the_moments_of_a_disc(radius):
    kernel = focus.disc(radius)
    reach = kernel.shape[0] // 2
    grid = np.arange(-reach, reach + 1)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    variance = (kernel * grid[None, :] ** 2).sum()
    # a disc's variance along an axis is r^2/4; the soft rim of one pixel adds at most 1/6
    assert radius**2 / 4 - 0.05 <= variance <= radius**2 / 4 + 0.34


def test_spectrum_blur_is_the_convolution():
    rng = np.random.default_rng(0)
    image = rng.random((2, 30, 41)).astype(np.float32)
    blurred = focus.Spectrum(image, 6, "edge").blurred(3.2)
    for channel in range(2):
        slow = ndimage.convolve(image[channel].astype(np.float64), focus.disc(3.2), mode="nearest")
        np.testing.assert_allclose(blurred[channel], slow, atol=3e-6)


def test_sharp_foreground_hides_and_blurred_foreground_spills():
    backdrop = np.zeros((3, 64, 64), np.float32)
    alpha = np.zeros((64, 64), np.float32)
    alpha[:, :32] = 1.0
    scene = focus.Scene(backdrop, np.full(64, 0.2), [(2.0, np.repeat(alpha[None], 3, 0), alpha)], 2.0, 5.0)
    near, far = (focus.compose(scene, depth, 10.0)[0, 32] for depth in (2.0, 5.0))
    assert np.array_equal(near > 0.5, alpha[32] > 0.5) and near[33:].max() == 0.0
    # the disc has 3 pixels radius: half the light at the edge, none beyond it
    assert far[33] > 0.15 and far[30] < 0.98 and far[37:].max() < 1e-5
    assert far[31] + far[32] == pytest.approx(1.0, abs=1e-4)


def test_emissivity_and_sun_set_the_apparent_temperature():
    """T_apparent = e*T + (1-e)*T_mirrored, T raised by absorbed sunlight."""
    view = render.camera((32, 32), (0, 1, 0))
    world = render.World(view, np.random.default_rng(0), thermal=True, sun_direction=np.array([0.0, 1.0, 0.0]))
    world.air, world.sky_temperature, world.heating = 20.0, -40.0, 10.0
    level = (0.0, 1.0, 0.0)
    shade = world.radiance(level, [0.3] * 3, 5.0, shadow=0.0, warmth=2.0, emissivity=0.9)
    sunny = world.radiance(level, [0.3] * 3, 5.0, shadow=1.0, warmth=2.0, emissivity=0.9)
    assert shade[3] == pytest.approx(0.9 * 22.0 + 0.1 * -40.0)
    assert sunny[3] == pytest.approx(0.9 * (22.0 + 10.0 * 0.7) + 0.1 * -40.0)
    assert sunny[0] == pytest.approx(0.3 * (1.0 + world.sky[0]))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_tissues_share_every_pixel(level):
    section = tissue.Section(np.random.default_rng(3), (128, 128))
    medical.axial(section, level)
    total = sum(section.share.values())
    assert total.min() >= -1e-5 and total.max() <= 1.0 + 1e-4
    assert all(share.min() >= -1e-5 for share in section.share.values())
    assert total[:, :3].max() == 0.0  # outside is air
    assert 0.15 < section.brain.mean() < 0.6


def test_spin_echo_contrast_has_the_signs_of_textbooks():
    """T1 weighting: white above grey above fluid. T2 weighting: fluid above grey above white."""
    tissues = {name: tissue.TISSUES[name][:3] for name in ("csf", "grey", "white")}

    def signal(repeat, echo):
        return {n: d * (1 - np.exp(-repeat / t1)) * np.exp(-echo / t2) for n, (t1, t2, d) in tissues.items()}

    t1, t2 = signal(550, 14), signal(3800, 95)
    assert t1["white"] > t1["grey"] > t1["csf"] and t2["csf"] > t2["grey"] > t2["white"]


def test_pulse_and_bar_are_box_filters():
    rng = np.random.default_rng(2)
    for _ in range(30):
        x, duty, width = rng.uniform(-3, 3), rng.uniform(0.05, 0.95), rng.uniform(0.01, 2.5)
        fine = x + width * ((np.arange(20000) + 0.5) / 20000 - 0.5)
        expected = ((fine - np.floor(fine)) < duty).mean()
        assert textures.pulse(np.float64(x), duty, width) == pytest.approx(expected, abs=2e-4)
        expected = ((fine >= -0.5) & (fine < 0.8)).mean()
        assert textures.bar(np.float64(x), -0.5, 0.8, width) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.8])
def test_noise_has_its_spectrum(beta):
    power = 0
    for seed in range(6):
        field = textures.noise(np.random.default_rng(seed), (256, 256), beta)
        assert field.mean() == pytest.approx(0.0, abs=1e-4) and field.std() == pytest.approx(1.0, abs=1e-4)
        power = power + np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (radius > 0.02) & (radius < 0.45)
    slope = np.polyfit(np.log(radius[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-2 * beta, abs=0.06)


def test_lookup_reads_the_texel_and_averages_when_far():
    rng = np.random.default_rng(0)
    image = rng.random((16, 32)).astype(np.float32)
    tile = textures.pyramid(image)
    u, v = (np.arange(32) + 0.5) / 32, (np.arange(16) + 0.5) / 16
    u, v = np.meshgrid(u, v)
    np.testing.assert_allclose(textures.lookup(tile, u, v, np.float32(1e-3))[0], image, atol=1e-5)
    np.testing.assert_allclose(textures.lookup(tile, u + 3, v - 2, np.float32(1e-3))[0], image, atol=1e-4)
    far = textures.lookup(tile, u, v, np.float32(8.0))[0]
    assert np.ptp(far) < np.ptp(image) * 0.5 and far.mean() == pytest.approx(image.mean(), abs=0.05)


def test_plane_patch_is_the_projection_of_the_plane():
    """Every covered pixel's ray meets the plane where the patch says, inside the polygon."""
    view = render.camera((60, 80), (0.3, 1.5, -1.0), yaw=0.3, pitch=-0.2, roll=0.05, view=60)
    origin, u, v = np.array([-1.0, 0.2, 4.0]), np.array([0.8, 0.0, 0.6]), np.array([0.0, 1.0, 0.0])
    patch = render.plane_patch(view, origin, u, v, [(0, 0), (2, 0), (2, 1.5), (0, 1.5)], grown=0.0)
    normal = np.cross(u, v)
    rays = np.stack(view.rays(), -1)[patch.rows, patch.cols].astype(float)
    distance = ((origin - view.position) @ normal) / (rays @ normal)
    hit = view.position + rays * distance[..., None] - origin
    s, t = hit @ u, hit @ v
    inside = (s > 0) & (s < 2) & (t > 0) & (t < 1.5)
    assert np.array_equal(inside, patch.alpha > 0.5)
    np.testing.assert_allclose(patch.s[inside], s[inside], atol=2e-4)
    np.testing.assert_allclose(patch.t[inside], t[inside], atol=2e-4)
    depth = (rays @ view.axes[2]) * distance
    np.testing.assert_allclose(patch.z[inside], depth[inside], rtol=1e-4)
    whole = np.zeros(view.shape)
    whole[patch.rows, patch.cols] = patch.alpha
    column, row, _ = view.locate(origin + u + 0.75 * v)
    assert whole[int(row), int(column)] == 1.0
    # area against the shoelace formula of the projected corners
    corners = [view.locate(origin + a * u + b * v)[:2] for a, b in ((0, 0), (2, 0), (2, 1.5), (0, 1.5))]
    x, y = np.array(corners).T
    assert whole.sum() == pytest.approx(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2, rel=0.02)


def test_shadow_of_a_box_by_marching():
    sun = np.array([0.5, 0.7, -0.3])
    world = render.World(render.camera((32, 32), (0, 1, 0)), np.random.default_rng(0), sun_direction=sun)
    centre, half = np.array([1.0, 1.0, 6.0]), np.array([0.8, 1.0, 0.5])
    world.boxes = [(centre, half)]
    x, z = np.meshgrid(np.linspace(-3, 3, 40), np.linspace(4, 9, 40))
    lit = world.sunlit((x, np.zeros_like(x), z), soft=1e-3)
    steps = np.linspace(0.03, 6, 2000)[:, None, None] * world.sun_direction[:, None, None, None]
    points = np.stack([x, 0 * x, z])[:, None] + steps
    blocked = np.all(np.abs(points - centre[:, None, None, None]) < half[:, None, None, None], axis=0).any(axis=0)
    disagree = (lit > 0.5) == blocked
    assert disagree.mean() < 0.01  # the marching steps miss a sliver at the edges
    assert 0.02 < blocked.mean() < 0.6


def test_times_and_places_all_paint():
    for index, time in enumerate(outdoors.TIMES):
        place = places.PLACES_BY_NAME[index]
        world = places.outdoors((48, 64), np.random.default_rng(index), time, place, thermal=True)
        assert np.isfinite(world.canvas).all() and world.canvas[:3].min() >= 0.0
