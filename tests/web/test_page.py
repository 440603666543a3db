"""The page that fuses in the browser, in a real headless Chromium: fused, saved, compared with fuse.py's picture."""

import contextlib
import threading
import time

import browser
import numpy as np
import pytest
from PIL import Image
from scripts import picture

import refusion_jax as rj
from refusion_jax.cli.fuse import main as fuse
from refusion_jax.export.onnx_file import onnx_file
from refusion_jax.imaging.files import read_image, write_image
from refusion_jax.scenes import make_pair

SIZE = 60, 280  # wider than one of the page's tiles


@pytest.fixture(scope="module")
def site(repo, tmp_path_factory):
    """The address of the built page on a server of this machine."""
    browser.find_chromium()
    pytest.importorskip("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repo / "web")
        import build
        import serve
    if not build.RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not in web/node_modules (npm ci --ignore-scripts --prefix web)")
    folder = tmp_path_factory.mktemp("site")
    build.build(folder, SIZE)
    server = serve.server(str(folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def opened(site, folder, **size):
    with browser.chromium(folder / "profile", **size) as page:
        page.get(site)
        yield page


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    """The page, loaded once."""
    folder = tmp_path_factory.mktemp("page")
    with opened(site, folder) as page:
        (folder / "saved").mkdir()
        page.folder = folder / "saved"
        behaviour = {"behavior": "allow", "downloadPath": str(page.folder)}
        page.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        until(page, "document.body.dataset.ready")
        yield page


def until(page, condition, seconds=120):
    """Waits for a condition of the page."""
    end = time.monotonic() + seconds
    while not (found := page.execute_script(f"return {condition}")):
        assert time.monotonic() < end, (condition, page.execute_script("return document.body.innerText"))
        time.sleep(0.1)
    return found


def choose(page, task):
    page.execute_script("$('task').value = arguments[0]; $('task').dispatchEvent(new Event('change'))", task)


def give(page, a, b):
    """Chooses two files as a user does."""
    page.execute_script("delete document.body.dataset.shown")
    for key, path in (("a", a), ("b", b)):
        page.find_element("css selector", f"#slot-{key} input").send_keys(str(path))


def saved(page):
    """The picture that the button gives."""
    for old in page.folder.iterdir():
        old.unlink()
    until(page, "!$('save').disabled")
    page.find_element("id", "save").click()
    end = time.monotonic() + 60
    while not (found := list(page.folder.glob("fused-*.png"))):
        assert time.monotonic() < end
        time.sleep(0.05)
    with Image.open(found[0]) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def refused(page):
    return until(page, "!$('problem').hidden && $('problem').textContent")


def test_the_built_in_pair_is_what_fuse_gives_without_a_network(page, site, tmp_path):
    browser.requests(page), browser.complaints(page)
    choose(page, "meie")
    page.execute_script("delete document.body.dataset.shown; $('example').click()")
    until(page, "document.body.dataset.shown")
    pair = [tmp_path / f"{side}.png" for side in "ab"]
    for path, array in zip(pair, make_pair("meie", 7, 0, SIZE)[:2], strict=True):
        write_image(path, array)
    assert fuse(["--task", "meie", "--pair", *map(str, pair), "--out", str(tmp_path / "fused.png"), "--no-check"]) == 0
    expected = read_image(tmp_path / "fused.png")
    assert np.abs(saved(page) - expected).max() <= 2
    assert not [url for url in browser.requests(page) if not url.startswith("blob:")]
    assert not [line for line in browser.complaints(page) if "adapters" not in line]  # there is no graphics card here


def test_chosen_files_and_every_range(page, tmp_path):
    shape = 33, 47
    a = write_image(tmp_path / "infrared.png", picture(1, shape))
    b = write_image(tmp_path / "visible.png", picture(2, shape, color=True))
    choose(page, "ivif")
    give(page, a, b)
    until(page, "document.body.dataset.shown")
    model = rj.load("ivif")
    for range_ in ("sources", "minmax", "clip"):
        page.execute_script("document.querySelector(`input[value=${arguments[0]}]`).click()", range_)
        until(page, f"document.body.dataset.shown.endsWith('{range_}')")
        expected = model.fuse(read_image(a), read_image(b), range=range_)
        assert np.abs(saved(page) - expected).max() <= 2, range_


def test_bad_pictures_are_one_sentence_and_the_page_goes_on(page, tmp_path):
    small, large = (write_image(tmp_path / f"{side}.png", picture(side, (side, 20))) for side in (16, 18))
    (tmp_path / "letter.png").write_text("no picture")
    give(page, small, large)
    until(page, "/20 x 16.*20 x 18/.test($('problem').textContent)")
    give(page, small, tmp_path / "letter.png")
    until(page, "$('problem').textContent.includes('letter.png')")
    Image.new("L", (3000, 2500)).save(tmp_path / "huge.png")
    give(page, small, tmp_path / "huge.png")
    until(page, "$('problem').textContent.includes('7.5 million')")
    assert page.execute_script("return $('save').disabled")
    give(page, small, small)
    until(page, "document.body.dataset.shown && $('problem').hidden")
    assert saved(page).shape == (16, 20, 3)


def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_line_moves_by_keys(page):
    browser.resize(page, 390, 844, dark=True)
    page.execute_script("$('example').click()")
    until(page, "!$('frame').hidden")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.screenshot(page)[:40].mean() < 80  # dark
    page.find_element("id", "wipe").send_keys("\ue010")  # End
    assert page.execute_script("return $('wipe').ariaValueNow") == "100"


def test_a_browser_without_simd_is_told_so(site, tmp_path):
    with browser.chromium(tmp_path / "profile") as page:
        source = {"source": "WebAssembly.validate = () => false"}
        page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
        page.get(site)
        assert "SIMD" in refused(page)


def test_the_exported_file_itself_runs_in_the_browser(page):
    """One whole graph, as the command export writes it."""
    model = rj.load("ivif")
    a, b = np.random.default_rng(0).random((2, 9, 14), np.float32)
    page.set_script_timeout(120)
    found = page.execute_async_script(
        """
        const [file, a, b, dims, done] = arguments;
        (async () => {
          const ort = await import("./ort/ort.wasm.bundle.min.mjs");
          const session = await ort.InferenceSession.create(Uint8Array.from(file));
          const tensor = (x) => new ort.Tensor("float32", Float32Array.from(x), dims);
          done([...(await session.run({ a: tensor(a), b: tensor(b) })).fused.data]);
        })().catch((error) => done(String(error)));
        """,
        list(onnx_file(model)),
        a.ravel().tolist(),
        b.ravel().tolist(),
        [1, 1, 9, 14],
    )
    assert np.abs(np.reshape(found, a.shape) - model.network_output(a, b)).max() < 1e-4
