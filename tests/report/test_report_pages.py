"""Report pages in a real Chromium, used by mouse, wheel, touch and keyboard; judged by what the browser then shows."""

import time

import numpy as np
import pytest
from browser import chromium, complaints, requests, resize, screenshot
from scripts import picture
from test_report import HOSTILE, make_run

from refusion_jax.report import FusionReport, write_run_report

WIDTH, HEIGHT = 320, 240
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)
NAMES = ["first scene", *HOSTILE[:3], "last scene"]
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts += shift.value;
}).observe({type: "layout-shift", buffered: true});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SHIFTS})
        yield driver


@pytest.fixture(scope="module")
def fusion_page(tmp_path_factory):
    """Five pairs: A red, B green, fused blue, so that a pixel tells which picture it is of; the last is upright."""
    path = tmp_path_factory.mktemp("pages") / "fusion é #1.html"
    with FusionReport(path, "Five <pairs>", sources=("infrared", "visible"), facts={"checkpoint": "x"}) as report:
        for i, name in enumerate(NAMES):
            shape = (WIDTH, HEIGHT) if i == 4 else (HEIGHT, WIDTH)
            flat = [np.full((*shape, 3), color, np.uint8) for color in (RED, GREEN, BLUE)]
            maps = [np.full(shape, x, np.float32) for x in (1, 0)] if i == 0 else [None, None]
            report.add(name, *flat, *maps, {"source A": f"ir/{name}.png"})
    return path


@pytest.fixture(scope="module")
def run_page(tmp_path_factory):
    return write_run_report(make_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture
def fusion(browser, fusion_page):
    """The page of pairs, freshly opened on a screen; afterwards it must have neither complained nor asked for more."""
    yield from opened(browser, fusion_page, "return document.getElementById('frame').dataset.pair")


@pytest.fixture
def run(browser, run_page):
    yield from opened(browser, run_page, "return document.querySelectorAll('.chart .line').length")


def opened(browser, path, ready):
    resize(browser, 1280, 900)
    complaints(browser), requests(browser)
    browser.get(path.as_uri())
    browser.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")
    wait(lambda: browser.execute_script(ready))
    yield browser
    assert complaints(browser) == []
    assert {url.partition("#")[0] for url in requests(browser)} <= {path.as_uri()}


def wait(condition):
    """The condition's first true value; fails after ten seconds of asking."""
    for _ in range(200):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("the page did not get there")


def element(browser, selector):
    return browser.find_element("css selector", selector)


def text(browser, selector):
    return element(browser, selector).text


def box(browser, selector):
    """(left, top, width, height) on the screen."""
    rectangle = "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
    return np.array(browser.execute_script(f"{rectangle} return [r.x, r.y, r.width, r.height]", selector), float)


def keys(browser, *names):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*names).perform()


def drag(browser, start, by):
    """The mouse pressed at a point of the screen, moved, released."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    builder = ActionBuilder(browser, duration=20)
    mouse = builder.pointer_action
    mouse.move_to_location(*map(int, start)).pointer_down()
    mouse.move_to_location(*(int(s + d / 2) for s, d in zip(start, by, strict=True)))
    mouse.move_to_location(*(int(s + d) for s, d in zip(start, by, strict=True))).pointer_up()
    builder.perform()


def wheel(browser, at, by):
    event = {"type": "mouseWheel", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": by}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def touch(browser, kind, *points):
    event = {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]}
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)


def clip(browser):
    """The share of the frame, in percent, that shows the left picture: from the computed clip-path."""
    path = browser.execute_script("return getComputedStyle(document.getElementById('left')).clipPath")
    assert path.startswith("inset(0px ") and path.endswith(" 0px 0px)"), path
    right = path.removeprefix("inset(0px ").removesuffix(" 0px 0px)")
    if right.startswith("calc("):  # "calc(100% - 30%)"
        whole, part = (float(x.strip("%")) for x in right[5:-1].split(" - "))
        return part if whole == 100 else None
    return 100 - float(right.strip("%"))


def colors(browser):
    """The colours seen a quarter of the frame from its left and from its right edge, near its top."""
    left, top, width, height = box(browser, "#frame")
    seen = screenshot(browser)
    return [seen[int(top + height / 8), int(left + width * x)] for x in (0.25, 0.75)]


def assert_colors(browser, *expected):
    wait(lambda: np.abs(np.array(colors(browser), int) - expected).max() < 6)


# Fused pairs


def test_the_line_moves_by_mouse_and_keyboard(fusion):
    frame = box(fusion, "#frame")
    assert frame[2] / frame[3] == pytest.approx(WIDTH / HEIGHT, rel=0.01) and frame[3] > 400
    assert clip(fusion) == 50
    assert_colors(fusion, RED, BLUE)
    handle = box(fusion, "#wipe")
    middle = handle[:2] + handle[2:] / 2
    drag(fusion, middle, (0.4 * frame[2], 0))
    assert clip(fusion) == pytest.approx(90, abs=0.5)
    assert_colors(fusion, RED, RED)
    line = element(fusion, "#wipe")
    assert line.get_attribute("aria-valuenow") == "90"
    assert line.get_attribute("aria-valuetext") == "90 % infrared, 10 % fused"
    drag(fusion, (frame[0] + 0.7 * frame[2], frame[1] + 40), (-0.6 * frame[2], 0))  # anywhere on the picture
    assert clip(fusion) == pytest.approx(10, abs=0.5)
    assert_colors(fusion, BLUE, BLUE)
    from selenium.webdriver.common.keys import Keys

    presses = (Keys.HOME, 0), (Keys.ARROW_RIGHT, 1), (Keys.PAGE_UP, 11), (Keys.END, 100), (Keys.ARROW_LEFT, 99)
    for key, share in presses:
        keys(fusion, key)  # the line has the focus since it was moved
        assert clip(fusion) == pytest.approx(share)
    assert text(fusion, "#place") == "1 / 5"  # the arrows were the line's, not the page's


def test_zoom_by_wheel_buttons_and_keys_moves_both_pictures_alike(fusion):
    frame = box(fusion, "#frame")
    at = frame[:2] + frame[2:] * (0.25, 0.5)
    wheel(fusion, at, -400)
    wait(lambda: box(fusion, "#left img")[2] > 1.5 * frame[2])
    zoomed = box(fusion, "#left img")
    assert np.array_equal(zoomed, box(fusion, "#right img"))
    assert (at - zoomed[:2]) / zoomed[2:] == pytest.approx((0.25, 0.5), abs=0.01)  # it stays under the pointer
    percent = round(100 * zoomed[2] / WIDTH)
    assert text(fusion, "#scale") == f"{percent} %"
    assert clip(fusion) == 50 and np.array_equal(box(fusion, "#frame"), frame)
    drag(fusion, at + (0, 60), (-70, -50))
    moved = box(fusion, "#left img")
    assert moved[:2] - zoomed[:2] == pytest.approx((-70, -50), abs=2) and clip(fusion) == 50
    assert np.array_equal(moved, box(fusion, "#right img"))
    drag(fusion, at, (0.7 * frame[2], 0))  # not beyond the picture's edge
    assert box(fusion, "#left img")[0] == pytest.approx(frame[0], abs=0.5)
    element(fusion, "#fit").click()
    assert box(fusion, "#left img") == pytest.approx(frame, abs=0.5)
    assert not element(fusion, "#fit").is_enabled()
    element(fusion, "#in").click()
    assert box(fusion, "#right img")[2] == pytest.approx(1.5 * frame[2], rel=0.01)
    keys(fusion, "+", "-", "-")
    assert box(fusion, "#right img")[2] == pytest.approx(frame[2], rel=0.01)


def test_touch_wipes_and_pinches(fusion):
    left, top, width, height = box(fusion, "#frame")
    y = top + height / 2
    touch(fusion, "touchStart", (left + width * 0.5, y))
    touch(fusion, "touchMove", (left + width * 0.3, y))
    touch(fusion, "touchEnd")
    wait(lambda: clip(fusion) == pytest.approx(30, abs=1))
    points = [(left + width * x, y) for x in (0.45, 0.55)]
    apart = [(left + width * x, y) for x in (0.35, 0.65)]
    touch(fusion, "touchStart", *points)
    touch(fusion, "touchMove", *apart)
    touch(fusion, "touchEnd")
    wait(lambda: box(fusion, "#left img")[2] > 2 * width)
    pinched = box(fusion, "#left img")
    assert pinched[2] / width == pytest.approx(3, rel=0.05)
    assert (left + width / 2 - pinched[0]) / pinched[2] == pytest.approx(0.5, abs=0.02)


def test_what_is_compared_can_be_chosen(fusion):
    offered = {e.get_attribute("value"): e for e in fusion.find_elements("css selector", "#compare input")}
    assert [*offered] == ["a-fused", "b-fused", "a-b", "w-fused", "v-fused"]
    for choice, seen in (
        ("b-fused", (GREEN, BLUE)),
        ("a-b", (RED, GREEN)),
        ("w-fused", ((142, 14, 37), BLUE)),
        ("v-fused", ((27, 67, 143), BLUE)),
    ):
        offered[choice].click()
        assert_colors(fusion, *seen)
    assert [e.text for e in fusion.find_elements("css selector", ".tag")] == ["fused", "map v"]
    keys(fusion, "c")
    assert_colors(fusion, RED, BLUE)
    assert element(fusion, "#legend").is_displayed()
    fusion.execute_script("document.getElementById('next').click()")
    wait(lambda: len(fusion.find_elements("css selector", "#compare input")) == 3)  # no maps there
    assert not element(fusion, "#legend").is_displayed()


def test_the_way_from_pair_to_pair(fusion):
    assert text(fusion, "#name") == NAMES[0] and not element(fusion, "#previous").is_enabled()
    stage = box(fusion, "#stage")
    keys(fusion, "n")
    wait(lambda: element(fusion, "#frame").get_attribute("data-pair") == "1")
    assert text(fusion, "#name") == NAMES[1] and f"ir/{NAMES[1]}.png" in text(fusion, "#facts")
    from selenium.webdriver.common.keys import Keys

    keys(fusion, Keys.ARROW_RIGHT, "p", Keys.ARROW_LEFT)
    wait(lambda: element(fusion, "#frame").get_attribute("data-pair") == "0")
    keys(fusion, "/", "SCENE la")
    assert text(fusion, "#found") == "1 of 5 pairs"
    rows = fusion.find_elements("css selector", "#list button")
    assert [row.text for row in rows if row.is_displayed()] == ["last scene"]
    keys(fusion, Keys.ENTER)
    wait(lambda: element(fusion, "#frame").get_attribute("data-pair") == "4")
    upright = box(fusion, "#frame")
    assert upright[2] / upright[3] == pytest.approx(HEIGHT / WIDTH, rel=0.01)
    assert np.array_equal(box(fusion, "#stage"), stage)  # nothing moved
    assert_colors(fusion, RED, BLUE)
    keys(fusion, Keys.ESCAPE)
    assert text(fusion, "#found") == "5 pairs" and fusion.current_url.endswith("#5")
    assert len(fusion.find_elements("css selector", "main img")) == 2 + 3 + 1  # this pair's and the legend's, no more
    assert fusion.execute_script("return window.shifts") < 0.02


def test_light_dark_and_a_phone(fusion):
    def background():
        return fusion.execute_script("return getComputedStyle(document.body).backgroundColor")

    def after_reload(prepare, expected):
        """To be asked for until it is so: a busy browser may end a page before what it stored is written down."""
        prepare()
        time.sleep(0.1)
        fusion.refresh()
        return background() == expected

    def switch_to_dark():
        if background() != dark:
            element(fusion, "#theme").click()

    light = background()
    element(fusion, "#theme").click()
    dark = background()
    assert dark != light and element(fusion, "#theme").get_attribute("aria-pressed") == "true"
    assert screenshot(fusion)[-5, 5].max() < 60  # below the list
    wait(lambda: after_reload(switch_to_dark, dark))  # remembered
    element(fusion, "#theme").click()
    assert background() == light
    resize(fusion, 390, 844, dark=True)
    wait(lambda: after_reload(lambda: fusion.execute_script("localStorage.clear()"), dark))
    wait(lambda: fusion.execute_script("return document.getElementById('frame').dataset.pair"))
    assert fusion.execute_script("return document.documentElement.scrollWidth") == 390
    frame = box(fusion, "#frame")
    assert frame[0] == 0 and frame[2] == 390 and frame[1] + frame[3] < 844
    assert not element(fusion, "#list").is_displayed()
    element(fusion, "#browse").click()
    fusion.find_elements("css selector", "#list button")[2].click()
    wait(lambda: element(fusion, "#frame").get_attribute("data-pair") == "2")
    assert not element(fusion, "#list").is_displayed() and fusion.execute_script("return window.shifts") < 0.02


# Training runs


def smooth(browser, amount):
    """The smoothing's slider at a value."""
    slide = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(slide, element(browser, "#smoothing"), amount)


def test_a_chart_reads_out_the_step_pointed_at(run):
    assert text(run, "#at") == "newest: step 20, epoch 2"
    chart = element(run, "#charts .chart")
    assert chart.find_element("css selector", "h3").text == "Loss of F"
    smooth(run, 0)
    left, top, width, height = box(run, "#charts svg")
    inner = width - 54 - 14
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    for step, epoch, value in ((7, 1, 0.1429), (16, 2, 0.0625)):
        builder = ActionBuilder(run, duration=0)
        builder.pointer_action.move_to_location(int(left + 54 + inner * step / 20), int(top + height / 2))
        builder.perform()
        assert text(run, "#at") == f"step {step}, epoch {epoch}"
        assert chart.find_element("css selector", "output").text == f"{value}"
        crosses = [float(e.get_attribute("x1")) for e in run.find_elements("css selector", "#charts .cross")]
        assert len(crosses) == len(run.find_elements("css selector", "#charts .chart"))  # one through all charts
        assert crosses[0] == pytest.approx(54 + inner * step / 20, abs=1)
        # The dot lies where the value belongs between the grid's lines.
        grid = [float(e.get_attribute("y1")) for e in chart.find_elements("css selector", ".grid")]
        labels = [float(e.text) for e in chart.find_elements("css selector", "text")[: len(grid)]]
        y = float(chart.find_elements("css selector", ".dot")[-1].get_attribute("cy"))
        slope, offset = np.polyfit(labels, grid, 1)
        assert y == pytest.approx(slope * value + offset, abs=0.5) and slope < 0
    from selenium.webdriver.common.keys import Keys

    run.execute_script("document.querySelector('#charts svg').focus()")
    keys(run, Keys.HOME, Keys.ARROW_RIGHT)
    assert text(run, "#at") == "step 6, epoch 1"
    keys(run, Keys.ESCAPE)
    assert text(run, "#at").startswith("newest")


def test_smoothing_scale_and_lines_can_be_switched(run):
    def path():
        return run.execute_script("return document.querySelector('#charts .line')?.getAttribute('d')")

    def values():
        return [e.text for e in run.find_elements("css selector", "#charts .chart:first-child text")]

    first, linear = path(), values()
    smooth(run, 0.9)
    assert text(run, "#amount") == "0.90" and path() != first
    element(run, "#log").click()
    assert values() != linear and "0.1" in values()
    (norms,) = (e.text for e in run.find_elements("css selector", ".chart") if e.text.startswith("Gradient norms"))
    assert "\n1e-6\n1e-4\n0.01\n" in norms  # F near 0.1, P near 1e-5: readable together on such a scale alone
    button = element(run, "#charts .keys button")
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and "step" in values()
    assert not run.find_elements("css selector", "#charts .chart:first-child .line")


def test_scores_and_previews(run):
    best = run.find_elements("css selector", "#scores circle.best")
    assert len(best) == 2  # VIF and EN; the words stand where it was chosen
    assert [e.text for e in run.find_elements("css selector", "#scores text.best") if e.text] == ["best"]
    assert run.find_elements("css selector", "tr.best")[0].text.startswith("1 best 10")
    shown = "const p = document.querySelector('#preview'); return p.complete && [p.naturalWidth, p.alt]"
    assert wait(lambda: run.execute_script(shown)) == [90, "Preview of epoch 2"]
    from selenium.webdriver.common.keys import Keys

    element(run, "#epoch").send_keys(Keys.ARROW_LEFT)
    assert text(run, "#which") == "epoch 1"
    run.execute_script("document.getElementById('preview').scrollIntoView()")
    left, top, width, height = box(run, "#preview")
    assert width / height == pytest.approx(90 / 40, rel=0.01)
    seen = screenshot(run)[int(top + height / 2), int(left + width / 2)].astype(int)
    expected = picture(1, (40, 90), color=True)[18:22, 43:47].astype(int)
    assert np.all(seen >= expected.min((0, 1)) - 3) and np.all(seen <= expected.max((0, 1)) + 3)
    assert run.execute_script("return window.shifts") < 0.02
    resize(run, 390, 844)
    assert run.execute_script("return document.documentElement.scrollWidth") == 390
