"""Report pages as files: what is embedded, hostile names, memory, runs in any state. In a browser: test_report_pages"""

import base64
import io
import json
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scripts import TINY, fails, picture, script

from refusion_jax import config
from refusion_jax.cli.report import main
from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.report import FusionReport
from refusion_jax.report.curves import MAX_POINTS, curves, usable
from refusion_jax.training.run_settings import read_settings

HOSTILE = [
    "</script ><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "夜景 é & co/01",
    "{{title}} <!--<script ",
    "b\udcffd",
]


class Elements(HTMLParser):
    """The elements of a page, and the text of its scripts by identifier."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.data, self._open = [], {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open = dict(attributes).get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.data[self._open] = self.data.get(self._open, "") + data

    def json(self, identifier):
        return json.loads(self.data[identifier])


def elements(path):
    return Elements(path.read_text(encoding="utf-8"))


def decoded(uri):
    head, _, body = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == f"data:image/{image.format.lower()};base64"
    return np.asarray(image)


def one_pair(tmp_path, *arrays, facts=None, **options):
    """(the pair's pictures, what the index says of it) on a page of its own."""
    with FusionReport(tmp_path / "page.html", "A page", **options) as report:
        report.add("one", *arrays, facts=facts)
    page = elements(tmp_path / "page.html")
    return page.json("pair-0"), page.json("index")["pairs"][0]


# Fused pairs


def test_small_pictures_are_embedded_without_loss_and_16_bits_are_rounded(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    color = picture(1, (16, 16), color=True)
    wide = ramp.astype(np.uint16) * 257 + np.where(ramp < 255, 100, 0).astype(np.uint16)
    layers, about = one_pair(tmp_path, ramp, color, wide, facts={"source A": "ir/é.png"})
    assert [*layers] == ["a", "b", "fused"]
    for key, expected in (("a", ramp), ("b", color), ("fused", ramp)):
        assert np.array_equal(decoded(layers[key]), expected)
    facts = dict(about["facts"])
    assert facts["source A"] == "ir/é.png" and facts["size"].startswith("16 × 16 pixels") and "shown at" not in facts
    assert "A grey, 8 bits" in facts["size"] and "B colour" in facts["size"] and "fused grey, 16 bits" in facts["size"]
    assert (about["name"], about["width"], about["height"], about["layers"]) == ("one", 16, 16, [*layers])


def test_maps_have_the_colours_of_the_weight_of_a(tmp_path):
    grey = picture(0, (8, 10))
    w = np.linspace(0, 1, 80, dtype=np.float32).reshape(8, 10)
    layers, _ = one_pair(tmp_path, grey, grey, grey, w, np.ones((8, 10)))
    assert np.array_equal(decoded(layers["w"]), apply_colormap(w))
    red = decoded(layers["v"])[0, 0].astype(int)
    assert red[0] > red[2] + 80  # red: the loss follows A


def test_a_large_picture_is_scaled_down_and_that_is_said(tmp_path):
    large = np.repeat(np.linspace(0, 255, 900).astype(np.uint8)[None], 300, 0)
    layers, about = one_pair(tmp_path, large, large, large, large / 255, longest_side=600)
    shown = decoded(layers["fused"])
    assert shown.shape == (200, 600) and about["width"] == 600
    assert np.abs(shown[100].astype(float) - np.linspace(0, 255, 600)).max() < 4
    assert decoded(layers["w"]).shape == (200, 600, 3)
    facts = dict(about["facts"])
    assert facts["shown at"] == "600 × 200 pixels" and facts["size"].startswith("900 × 300")
    assert "over 600 pixels is scaled down" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_names_cannot_become_markup(tmp_path):
    grey = picture(0, (8, 8))
    title, facts = "<script>alert(2)</script>", {"<b>": HOSTILE[1]}
    with FusionReport(tmp_path / "page.html", title, sources=(HOSTILE[0], HOSTILE[1]), facts=facts) as report:
        for name in HOSTILE:
            report.add(name, grey, grey, grey, facts={name: name})
        assert len(report) == len(HOSTILE)
    page = elements(tmp_path / "page.html")
    index = page.json("index")
    assert [p["name"] for p in index["pairs"]] == HOSTILE and index["sources"] == HOSTILE[:2]
    assert [p["facts"][0] for p in index["pairs"]] == [[name, name] for name in HOSTILE]
    harmless = tmp_path / "plain.html"
    with FusionReport(harmless, "t", sources=("a", "b"), facts={"c": "d"}) as report:
        for _ in HOSTILE:
            report.add("x", grey, grey, grey)
    assert page.tags == elements(harmless).tags
    # Browsers also end a script at "</script " and begin a comment in it, which Python's parser does not.
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<script") == page.tags.count("script")


def test_pairs_are_not_held_in_memory(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)  # 170 kB as PNG, three a pair
    tracemalloc.start()
    with FusionReport(tmp_path / "page.html", "Many") as report:
        for i in range(30):
            report.add(f"{i}", noise, noise, noise)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "page.html").stat().st_size > 15e6 > 2 * peak


def test_a_page_appears_whole_or_not_at_all(tmp_path):
    grey = picture(0, (8, 8))
    path = tmp_path / "new" / "page.html"
    report = FusionReport(path, "t")
    report.add("one", grey, grey, grey)
    assert list(path.parent.iterdir()) == []
    assert report.close() == path and report.close() == path
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), FusionReport(path, "other") as report:
        report.add("one", grey, grey, grey)
        raise ZeroDivisionError
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match="is closed"):
        report.add("two", grey, grey, grey)


def test_bad_pictures_and_paths_are_refused(tmp_path):
    grey, small = picture(0, (8, 8)), picture(0, (8, 6))
    with FusionReport(tmp_path / "page.html", "t") as report:
        for arrays, said in (
            ((grey, small, grey), "expected 8x8 pixels"),
            ((grey, grey, grey / 255), "expected uint8 or uint16"),
            ((grey, grey, np.zeros((8, 8, 4), np.uint8)), r"got shape \(8, 8, 4\)"),
            ((grey, grey, grey, np.zeros((8, 8, 2))), "expected numbers"),
        ):
            with pytest.raises(InputError, match=f"^one, .*{said}"):
                report.add("one", *arrays)
    assert len(report) == 0 and elements(tmp_path / "page.html").json("index")["pairs"] == []
    (tmp_path / "folder.html").mkdir()
    for name, said in (("page.pdf", "ending in .html"), ("folder.html", "not a file")):
        with pytest.raises(InputError, match=said):
            FusionReport(tmp_path / name, "t")


def test_a_page_needs_no_jax(repo):
    code = "import sys, refusion_jax.report, refusion_jax.cli.report; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo).returncode == 0


# Training runs


def record(step, phase, **values):
    return {"step": step, "epoch": 1 + (step - 1) // 10, "phase": phase, "averaged": 1, **values}


def make_run(folder, steps=20, previews=2, best=10, pairs=True):
    """A run directory: 2 epochs of 4 meta and 6 fusion steps, 20 in all, scores after each epoch."""
    folder.mkdir(parents=True)
    lengths = ["train.warmup_steps=0", "train.epochs=2", "train.meta_steps=4", "train.fusion_steps=6"]
    settings = config.resolve("meie", "quick", [*TINY, *lengths])
    (folder / "config.toml").write_text(config.to_toml(settings))
    if pairs:
        (folder / "pairs.json").write_text(json.dumps({"train": ["a", "b"], "validation": ["<i>é</i>"], "sha256": ""}))
    lines = []
    for step in range(1, steps + 1):
        health = {"w_imbalance": 0.1, "w_spread": 0.02, "w_brighter": 0.45}
        if (step - 1) % 10 < 4:
            health |= {"grad_norm_p": 1e-6 * step, "grad_norm_f": 0.5}
            lines.append(record(step, "meta", inner_fusion=1 / step, **health))
        else:
            lines.append(record(step, "fusion", fusion=1 / step, grad_norm_f=0.1, novelty=float(step), **health))
        if step % 10 == 0:
            lines.append(record(step, "validation", VIF=0.9 - step / 100, EN=7 + step / 100))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in (10, 20)[: steps // 10]:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    if best:
        (folder / "best" / str(best)).mkdir(parents=True)
    for epoch in range(1, previews + 1):
        (folder / "previews").mkdir(exist_ok=True)
        Image.fromarray(picture(epoch, (40, 90), color=True)).save(folder / "previews" / f"epoch_{epoch:04d}.png")
    return folder


def report_of(run, capsys, *options):
    assert main([str(run), *map(str, options)]) == 0
    said = capsys.readouterr().out
    path = options[1] if options else run / "report.html"
    assert said.startswith(f"wrote {path} (") and said.count("\n") == 1
    text = path.read_text(encoding="utf-8")
    return Elements(text), text


def test_a_finished_run(tmp_path, capsys):
    page, text = report_of(make_run(tmp_path / "my <run>"), capsys)
    data = page.json("data")
    assert [chart["title"] for chart in data["charts"]] == [
        "Loss of F",
        "Losses of the inner step",
        "Gradient norms",
        "P: imbalance of its maps",
        "P: spread of its maps",
        "P: what it favours",
        "novelty",
    ]
    fusion = data["phases"]["fusion"]
    assert fusion["step"] == [*range(5, 11), *range(15, 21)] and fusion["mean"]["novelty"] == fusion["step"]
    assert fusion["mean"]["fusion"][0] == 0.2 and fusion["low"] == {}
    assert data["phases"]["training"]["step"] == [*range(1, 21)] and data["last"] == 20
    assert data["scores"]["best"] == {"name": "VIF", "step": 10, "value": 0.8, "kept": True}
    assert data["scores"]["higher"] == {"VIF": True, "EN": True}
    assert [p["epoch"] for p in data["previews"]] == [1, 2]
    expected = np.asarray(Image.open(tmp_path / "my <run>" / "previews" / "epoch_0002.png"))
    assert np.array_equal(decoded(page.json("preview-1")), expected)
    assert "<strong>Finished</strong> after 20 steps." in text and "Checkpoints: step 10, 20." in text
    assert "kept in best/10" in text and "2 trained on, 1 held out" in text
    assert "&lt;i&gt;é&lt;/i&gt;" in text and "Training my &lt;run&gt;" in text
    row = "<tr><th scope=row>{}</th><td class=number>{}</td><td class=number>{}</td><td>{}</td></tr>"
    for cells in (
        ("train.lr_f", 0.001, 0.0001, "quick.toml"),
        ("loss.sobel_scale", 0.125, 1.0, "meie.toml"),
        ("model.width", 4, 16, "command line"),
    ):
        assert row.format(*cells) in text
    assert "train.lr_decay</th>" not in text  # as by default


@pytest.mark.parametrize(("task", "preset"), [("meie", "paper"), ("meie", "tuned"), ("mfif", "quick")])
def test_where_a_setting_was_made(tmp_path, task, preset):
    """Of every value that no option changed the last file that has it is named, or the defaults."""
    run, changed = tmp_path / "run", {"loss.alpha2": 2.5, "data.batch": 7}
    run.mkdir()
    given = [f"{key}={value}" for key, value in changed.items()]
    (run / "config.toml").write_text(config.to_toml(config.resolve(task, preset, given)))
    files = [f"{name}.toml" for name in (task, preset, f"{preset}-{task}")]
    expected = {}
    for name in files:
        if (path := config.config_folder() / name).exists():
            expected |= {key: name for key in config.read_toml(path)}
    expected |= dict.fromkeys(changed, "command line")
    settings = read_settings(run)
    found = {key: origin for key, origin in settings.origins.items() if key not in ("task", "preset")}
    assert found == {key: expected.get(key, "defaults") for key in found} and len(found) > 40
    assert {"defaults", "command line"} < set(found.values())
    assert {key for key, *_ in settings.changed()} <= set(expected) and len(settings.changed()) > len(changed)
    if preset == "tuned":
        assert settings.origins["loss.w_floor"] == "tuned-meie.toml"


def test_a_run_that_was_killed(tmp_path, capsys):
    """A torn last line, values that are no numbers, no preview, a damaged one, no list of pairs, no best folder."""
    run = make_run(tmp_path / "run", steps=13, previews=0, best=None, pairs=False)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'[1]\n{"step": "x"}\n{"step": 14, "phase": "meta", "inner_fusion": NaN, "note": "text"}\n')
        file.write(b'\xff{"step": 15, "pha')
    (run / "previews").mkdir()
    (run / "previews" / "epoch_0001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page, text = report_of(run, capsys, "--out", tmp_path / "elsewhere" / "page.html")
    data = page.json("data")
    assert data["last"] == 14 and data["phases"]["meta"]["mean"]["inner_fusion"][-1] is None and data["previews"] == []
    assert data["scores"]["best"] == {"name": "VIF", "step": 10, "value": 0.8, "kept": False}
    assert "14 of 20 steps (70.0 %)" in text and "not known" in text and "epoch_0001.png is left out" in text
    assert not (run / "report.html").exists()


def test_a_run_that_has_just_begun(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('task = "meie"\n[future]\nkey = "<u>"\n')
    page, text = report_of(run, capsys)
    assert page.json("data")["charts"] == [] and "Nothing was recorded yet" in text and "There is no checkpoint" in text
    assert "future.key" in text and "unknown to this version" in text and "<u>" not in text


def test_long_curves_are_thinned_with_their_range():
    records = [record(i, "fusion", fusion=float(i % 4)) for i in range(1, 10 * MAX_POINTS + 1)]
    series = curves(usable(records))["phases"]["fusion"]
    assert series["each"] == 10 and len(series["step"]) == MAX_POINTS and series["step"][-1] == 10 * MAX_POINTS
    assert series["mean"]["fusion"][0] == pytest.approx(np.mean([i % 4 for i in range(1, 11)]))
    assert set(series["low"]["fusion"]) == {0} and set(series["high"]["fusion"]) == {3}


@pytest.mark.parametrize("what", ["missing", "a file", "empty", "no TOML", "out"])
def test_what_is_no_run_is_one_line(tmp_path, capsys, what):
    run, options = tmp_path / "run", []
    if what == "a file":
        run.write_text("")
    elif what != "missing":
        run.mkdir()
    if what == "no TOML":
        (run / "config.toml").write_text("= 3")
    if what == "out":
        make_run(tmp_path / "real")
        run, options = tmp_path / "real", ["--out", tmp_path / "real" / "config.toml"]
    said = {
        "missing": "does not exist",
        "a file": "is a file",
        "empty": "not a run directory",
        "no TOML": "cannot read",
        "out": "ending in .html",
    }
    assert said[what] in fails(main, capsys, run, *options)
    if what == "out":
        assert (run / "config.toml").read_text().startswith("task")


def test_as_a_command(repo, tmp_path):
    done = script(repo, "-m", "refusion_jax", "report", make_run(tmp_path / "run"))
    assert done.returncode == 0 and done.stderr == "" and (tmp_path / "run" / "report.html").exists()
