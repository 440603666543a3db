"""Parts of the built-in scenes against slow references: camera, light, lens, sensor, textures, tissues."""

import numpy as np
import pytest
from scipy import ndimage

from refusion_jax.scenes import anatomy, sensors, surfaces
from refusion_jax.scenes.surfaces import rgb
from refusion_jax.scenes.world import Camera, Light, World

WHITE = rgb((1.0, 1.0, 1.0))


def white(s, t, ds, dt):
    """A surface that is white everywhere and as warm as the air."""
    return WHITE, 0.0, 0.0


def world(shape=(60, 80), sun=(0.0, 1.0, 0.0), **more):
    view = Camera(shape, (0.3, 1.5, -1.0), yaw=0.3, pitch=-0.2, view=60)
    direction = np.array(sun) / np.linalg.norm(sun)
    return World(view, Light(direction, 1.0 * WHITE, 0.2 * WHITE, 0.1 * WHITE, **more))


def test_a_polygon_covers_what_a_ray_meets():
    """Every pixel's ray meets the plane where the renderer says, and inside the polygon where it paints."""
    scene, painted = world(), []
    scene.paint = lambda rows, cols, alpha, material, normal, point, depth: painted.append(
        (rows, cols, alpha, point, depth)
    )
    origin, u, v = np.array([-1.0, 0.2, 4.0]), np.array([0.8, 0.0, 0.6]), np.array([0.0, 1.0, 0.0])
    scene.flat(origin, u, v, [(0, 0), (2, 0), (2, 1.5), (0, 1.5)], white)
    ((rows, cols, alpha, point, depth),) = painted
    y, x = np.mgrid[:60, :80] + 0.5
    view = scene.view
    rays = np.stack([(x - 40) / view.focal, (y - 30) / view.focal, np.ones_like(x)], -1) @ view.axes
    normal = np.cross(u, v)
    reach = ((origin - view.position) @ normal) / (rays @ normal)
    hit = view.position + rays * reach[..., None]
    s, t = (hit - origin) @ u, (hit - origin) @ v
    inside = (s > 0) & (s < 2) & (t > 0) & (t < 1.5)
    whole = np.zeros((60, 80))
    whole[rows, cols] = alpha
    assert inside.sum() > 100 and np.all(whole[inside] > 0.99) and np.all(whole[~inside] < 1.0)
    here = inside[rows, cols]
    np.testing.assert_allclose(np.stack(point, -1)[here], hit[rows, cols][here], atol=1e-3)
    np.testing.assert_allclose(depth[here], reach[rows, cols][here], rtol=1e-4)
    # a little more than the area by the shoelace formula of the projected corners: neighbours leave no seam
    corners = np.array([view.locate(origin + a * u + b * v)[:2] for a, b in ((0, 0), (2, 0), (2, 1.5), (0, 1.5))])
    x, y = corners.T
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    edge = np.hypot(x - np.roll(x, -1), y - np.roll(y, -1)).sum()
    assert area < whole.sum() < area + 0.8 * edge


def test_shadows_of_a_box_and_a_ball_by_marching():
    centre, half = np.array([1.0, 1.0, 6.0]), np.array([0.8, 1.0, 0.5])
    light = world(sun=(0.5, 0.7, -0.3)).light
    x, z = np.meshgrid(np.linspace(-3, 3, 60), np.linspace(4, 9, 60))
    steps = np.linspace(0.03, 6, 2000)[:, None, None] * light.towards[:, None, None, None]
    away = (np.stack([x, 0 * x, z])[:, None] + steps - centre[:, None, None, None]) / half[:, None, None, None]
    for ball, blocked in ((False, np.abs(away).max(axis=0) < 1), (True, (away**2).sum(axis=0) < 1)):
        light.casters = [(centre, half, ball)]
        lit, blocked = light.sunlit((x, np.zeros_like(x), z)), blocked.any(axis=0)
        assert 0.02 < blocked.mean() < 0.6
        assert lit[~ndimage.binary_dilation(blocked, iterations=2)].min() == 1.0
        core = ndimage.binary_erosion(blocked, iterations=6)
        assert core.any() and lit[core].max() < 0.2


def test_sun_absorbed_raises_the_temperature_and_a_cold_sky_is_mirrored():
    scene = world(air=20.0, heating=10.0, cold=-40.0)
    material = rgb((0.3, 0.3, 0.3)), 0.0, np.float32(2.0)
    for sunlit, warmth, light in ((0.0, 2.0, 0.2), (1.0, 2.0 + 10.0 * 0.7, 1.2)):
        scene.sunlit = sunlit
        scene.paint(slice(0, 1), slice(0, 1), np.float32(1.0), material, (0.0, 1.0, 0.0), (0.0, 5.0, 5.0), 5.0)
        assert scene.canvas[3, 0, 0] == pytest.approx(0.94 * (20.0 + warmth) + 0.06 * -40.0, abs=1e-4)
        assert scene.canvas[0, 0, 0] == pytest.approx(0.3 * light, abs=1e-6)


def test_response_is_a_monotone_curve_through_the_corners():
    rng, x = np.random.default_rng(0), np.linspace(-0.2, 1.4, 4001)
    for _ in range(20):
        sensor = sensors.Sensor.random(rng, 1e3, 1e4)
        y = sensor.response(x)
        assert np.all(np.diff(y) >= 0) and y[0] == 0.0 and y[-1] == pytest.approx(1.0)
        exposed = sensor.expose(np.broadcast_to(np.float32(x), (3, 1, x.size)), 1.0)
        assert np.abs(exposed[0, :, 1] - y).max() < 0.5 / 255


def test_noise_of_a_flat_patch_is_shot_and_read_noise():
    linear = sensors.Sensor(1.0, 1e9, 0.0, electrons=5000.0, read=10.0)
    picture = 255.0 * linear.expose(np.full((3, 200, 200), 0.25, np.float32), 2.0, np.random.default_rng(1))
    assert picture.mean() == pytest.approx(127.5, abs=0.1)
    assert picture.std() == pytest.approx(255.0 * np.sqrt(0.5 / 5000 + (10 / 5000) ** 2), rel=0.015)


def test_glare_keeps_the_light():
    image = np.zeros((3, 128, 128), np.float32)
    image[:, 60:68, 60:68] = 100.0
    spread = sensors.glare(image, 0.1, vignette=0.0)
    assert spread.sum() == pytest.approx(image.sum(), rel=0.02)
    assert spread[0, 64, 90] > 0.0 and spread[0, 64, 64] < 100.0


@pytest.mark.parametrize("radius", [1.2, 3.4])
def test_defocus_is_the_convolution_with_a_disc(radius):
    image = np.random.default_rng(0).random((2, 30, 41)).astype(np.float32)
    point = np.zeros((1, 31, 31), np.float32)
    point[0, 15, 15] = 1.0
    disc = sensors.defocus(point, radius)[0].astype(float)
    assert disc.sum() == pytest.approx(1.0, abs=1e-5)
    variance = (disc * np.arange(-15, 16) ** 2).sum()  # r^2/4 along an axis; the soft rim adds at most 1/6
    assert radius**2 / 4 - 0.05 <= variance <= radius**2 / 4 + 0.34
    slow = ndimage.convolve(image[1].astype(float), disc, mode="nearest")
    np.testing.assert_allclose(sensors.defocus(image, radius)[1], slow, atol=3e-6)


def test_a_sharp_foreground_hides_and_a_blurred_one_spills():
    back, front = np.zeros((2, 4, 64, 64), np.float32)
    back[3], front[:, :, :32] = 1.0, 1.0
    layers = [(np.full(64, 0.2), back), (0.5, front)]
    near, far = (sensors.through_lens(layers, focus, 10.0)[0, 32] for focus in (0.5, 0.2))
    sharp = sensors.through_lens(layers, None, 10.0)[0, 32]
    assert np.allclose(near, np.arange(64) < 32) and np.allclose(sharp, near)
    # the disc has 3 pixels radius: half the light at the edge, none beyond it
    assert far[33] > 0.15 and far[30] < 0.98 and far[37:].max() < 1e-5
    assert far[31] + far[32] == pytest.approx(1.0, abs=1e-4)


def test_pulse_and_bar_are_box_filters():
    rng = np.random.default_rng(2)
    for _ in range(30):
        x, duty, width = rng.uniform(-3, 3), rng.uniform(0.05, 0.95), rng.uniform(0.01, 2.5)
        fine = x + width * ((np.arange(20000) + 0.5) / 20000 - 0.5)
        expected = ((fine - np.floor(fine)) < duty).mean()
        assert surfaces.pulse(np.float64(x), duty, width) == pytest.approx(expected, abs=2e-4)
        expected = ((fine >= -0.5) & (fine < 0.8)).mean()
        assert surfaces.bar(np.float64(x), -0.5, 0.8, width) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.8])
def test_noise_has_its_spectrum(beta):
    power = 0
    for seed in range(4):
        field = surfaces.noise(np.random.default_rng(seed), (128, 128), beta)
        assert field.mean() == pytest.approx(0.0, abs=1e-4) and field.std() == pytest.approx(1.0, abs=1e-4)
        power = power + np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    band = (radius > 0.03) & (radius < 0.45)
    slope = np.polyfit(np.log(radius[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-2 * beta, abs=0.12)


@pytest.fixture(scope="module")
def sections():
    return [anatomy.Section(np.random.default_rng([9, index]), (160, 160)) for index in range(5)]


def test_tissues_share_every_pixel(sections):
    for section in sections:
        total = sum(section.share.values())
        assert min(share.min() for share in section.share.values()) >= -1e-5 and total.max() <= 1.0 + 1e-4
        assert total[:, :3].max() == 0.0  # outside is air
        assert 0.1 < section.brain.mean() < 0.6


def test_skull_is_bright_in_ct_and_dark_in_mri_which_pet_does_not_show(sections):
    for section in sections:
        bone = section.share["skull"] > 0.95
        brain = ndimage.binary_erosion(section.brain > 0.9, iterations=3)
        ct, mri, pet = anatomy.ct(section)[0], anatomy.mri(section)[0], anatomy.nuclear(section, True)[0].mean(axis=2)
        assert bone.sum() > 100
        assert ct[bone].mean() > ct[brain].mean() + 0.1 and mri[bone].mean() < mri[brain].mean()
        assert pet[bone].mean() < 0.5 * pet[brain].mean()


def test_weighting_has_the_signs_of_textbooks(sections):
    """T1 weighting: white above grey above fluid. T2 weighting: fluid above grey above white. FLAIR: fluid is dark."""
    share, orders = sections[0].share, []
    for _ in range(12):
        clean = anatomy.mri(sections[0])[1]
        levels = {name: clean[share[name] > 0.9].mean() for name in ("fluid", "grey", "white")}
        orders.append(tuple(sorted(levels, key=levels.get)))
    assert set(orders) == {("fluid", "grey", "white"), ("white", "grey", "fluid"), ("fluid", "white", "grey")}
