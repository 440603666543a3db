"""The page that fuses in the browser, in a real headless Chromium: fused, saved, compared with fuse.py's picture."""

import base64
import contextlib
import shutil
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
    # Beside the page two others: one whose network finds no memory, one that takes the emulated graphics card.
    for name, old, new in (
        ("short", "const passes = await open(task)", "new Float32Array(2 ** 50); const passes = await open(task)"),
        ("card", " && !adapter.info?.isFallbackAdapter", ""),
    ):
        shutil.copytree(folder, folder / name, ignore=shutil.ignore_patterns("short"))
        worker = folder / name / "worker.js"
        assert worker.read_text().count(old) == 1
        worker.write_text(worker.read_text().replace(old, new))
    server = serve.server(str(folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def opened(site, folder, *flags):
    """The page, loaded, in a browser of its own; what it saves goes to `page.folder`."""
    with browser.chromium(folder / "profile", flags=flags) as page:
        page.folder = folder / "saved"
        page.folder.mkdir()
        behaviour = {"behavior": "allow", "downloadPath": str(page.folder)}
        page.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        page.get(f"{site}index.html")
        until(page, "document.body.dataset.ready")
        yield page


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    """The page, loaded once."""
    with opened(site, tmp_path_factory.mktemp("page")) as page:
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


def drop(page, key, *paths):
    """Drops files on a place for one."""
    files = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths]
    page.execute_script(
        """
        const [place, files] = arguments, dataTransfer = new DataTransfer();
        for (const [name, text] of files) {
          dataTransfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
        }
        delete document.body.dataset.shown;
        for (const kind of ["dragover", "drop"]) {
          $(place).dispatchEvent(new DragEvent(kind, { dataTransfer, cancelable: true }));
        }
        """,
        f"slot-{key}",
        files,
    )


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


def test_dropped_files_one_by_one_and_both_at_once(page, tmp_path):
    names = ["dark é.png", "bright.png"]
    paths = [write_image(tmp_path / name, picture(i, (24, 31), mean=70 + 90 * i)) for i, name in enumerate(names)]
    expected = rj.load("meie").fuse(*map(read_image, paths))
    choose(page, "meie")
    page.execute_script("document.querySelector('input[value=sources]').click()")
    drop(page, "b", *paths)  # two on any of the places: the first is A
    until(page, "document.body.dataset.shown")
    assert [page.find_element("css selector", f"#slot-{key} .file").text for key in "ab"] == names
    assert np.abs(saved(page) - expected[..., None]).max() <= 2
    for key, path in zip("ab", paths[::-1], strict=True):
        drop(page, key, path)
        until(page, "document.body.dataset.shown")
    assert [page.find_element("css selector", f"#slot-{key} .file").text for key in "ab"] == names[::-1]
    assert np.abs(saved(page) - expected[..., None]).max() <= 2


def test_no_memory_is_one_sentence_and_nothing_freezes(site, tmp_path):
    with opened(f"{site}short/", tmp_path) as page:
        page.execute_script("$('example').click()")
        assert "not enough memory for pictures of this size" in refused(page)
        assert page.execute_script("return $('progress').hidden && $('save').disabled && !$('task').disabled")


def test_on_a_graphics_card_the_picture_is_the_same(site, tmp_path):
    """WebGPU, on a card that Chromium emulates on the processor."""
    with opened(f"{site}card/", tmp_path, "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader") as page:
        if "WebGPU" not in page.find_element("id", "runtime").text:
            pytest.skip("this Chromium emulates no graphics card")
        a, b = (write_image(tmp_path / f"{side}.png", picture(i, (33, 47))) for i, side in enumerate("ab"))
        choose(page, "ivif")
        give(page, a, b)
        until(page, "document.body.dataset.shown")
        expected = rj.load("ivif").fuse(read_image(a), read_image(b))
        assert np.abs(saved(page) - expected[..., None]).max() <= 2


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
    page.execute_script("delete document.body.dataset.shown; $('example').click()")
    until(page, "document.body.dataset.shown")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.screenshot(page)[:40].mean() < 80  # dark
    page.find_element("id", "wipe").send_keys("\ue010")  # End
    assert page.execute_script("return $('wipe').ariaValueNow") == "100"


def test_a_browser_without_simd_is_told_so(site, tmp_path):
    with browser.chromium(tmp_path / "profile") as page:
        source = {"source": "WebAssembly.validate = () => false"}
        page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
        page.get(f"{site}index.html")
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
