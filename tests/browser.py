"""A real headless Chromium for the tests of the pages; they skip where Chromium or its driver is not installed."""

import io
import json
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)


def find_chromium() -> tuple[str, str]:
    """(browser, driver) as installed; skips the test where one is missing."""
    names = os.environ.get("CHROMIUM", "chromium"), os.environ.get("CHROMEDRIVER", "chromedriver")
    found = [shutil.which(name) for name in names]
    if None in found:
        pytest.skip("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    return tuple(found)


@contextmanager
def chromium(profile, size=(1280, 900), flags=()):
    """A Selenium driver on a fresh profile; nothing is downloaded. flags: more of Chromium's own."""
    binary, driver = find_chromium()
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser, width: int, height: int, dark: bool = False) -> None:
    """The size of the page itself, as a phone or a screen of that many pixels has it, and the system's colours."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def screenshot(browser) -> np.ndarray:
    """What is seen, (H,W,3) uint8, one pixel of the page each."""
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def requests(browser) -> list[str]:
    """The addresses asked for since the last call, but for data in the page itself."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "chrome:"))]  # chrome: is the empty first tab's own


def complaints(browser) -> list[str]:
    """What the page wrote to the console or threw since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]
