"""ONNX files in ONNX Runtime: F against plain NumPy and the released outputs, fuse.py's picture, refusals."""

import dataclasses
import sys

import numpy as np
import plain
import pytest
from scripts import fails, picture, tiny_info, tiny_trees
from tiny import SIZE

import refusion_jax as rj
from refusion_jax.cli import export as command
from refusion_jax.cli import fuse
from refusion_jax.errors import InputError
from refusion_jax.export.graph import OPSETS
from refusion_jax.export.network import layers_of
from refusion_jax.export.onnx_file import onnx_file
from refusion_jax.export.passes import stream_channels, write_passes
from refusion_jax.fusing.model import from_params
from refusion_jax.models import build as networks
from refusion_jax.models.blocks import Conv3x3
from refusion_jax.models.fusion import FusionNet
from refusion_jax.tasks import TASKS
from refusion_jax.weights.trees import from_names

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def session(data: bytes):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def luma(seed, *shape):
    return np.random.default_rng(seed).random(shape, np.float32)


def run(session, a, b):
    return session.run(None, {"a": a, "b": b})[0]


@pytest.fixture(scope="module")
def tiny_model():
    return from_params(from_names(tiny_trees()), tiny_info(), "tiny")


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_weights_give_the_same_at_any_size_in_one_small_file(task):
    model = rj.load(task)
    data = onnx_file(model)
    assert len(data) < 300_000
    runtime = session(data)
    for shape in ((1, 1), (2, 3), (9, 7), (16, 21)):
        a, b = luma(1, 2, *shape)
        expected = plain.fuse(model.params.f, a, b)
        assert np.abs(run(runtime, a[None, None], b[None, None])[0, 0] - expected).max() < 1e-5


@pytest.mark.parametrize("task", ["IVIF", "MIF", "MFIF", "MEIF"])
def test_released_weights_give_the_released_outputs(reference, task):
    runtime = session(onnx_file(rj.load(reference / "official_weights" / f"ReFusion_{task}.pth")))
    stored = np.load(reference / "official_outputs" / f"random_{task}.npz")
    for i in range(3):  # x0 holds two pairs, x1 has odd sides
        x = stored[f"x{i}"]
        assert np.abs(run(runtime, x[:, :1], x[:, 1:]) - stored[f"y{i}"]).max() < 1e-4


def test_a_flat_pair_and_a_black_one_stay_finite():
    runtime = session(onnx_file(rj.load("ivif")))
    for level in (0, 0.5):
        a = np.full((1, 1, 8, 8), level, np.float32)
        assert np.isfinite(run(runtime, a, a)).all()


def test_every_opset_on_offer_gives_the_same(tiny_model):
    a, b = luma(2, 2, 1, 1, 10, 12)
    first = run(session(onnx_file(tiny_model)), a, b)
    last = onnx_file(tiny_model, opset=OPSETS[1])
    assert onnx.load_from_string(last).opset_import[0].version == OPSETS[1]
    assert np.array_equal(run(session(last), a, b), first)
    for opset in (OPSETS[0] - 1, OPSETS[1] + 1):
        with pytest.raises(InputError, match=f"{OPSETS[0]} to {OPSETS[1]}.*{opset}"):
            onnx_file(tiny_model, opset=opset)


def test_float16_is_smaller_and_near():
    model = rj.load("meie")
    whole, half = onnx_file(model), onnx_file(model, precision="float16")
    assert len(half) < 0.65 * len(whole)
    a, b = luma(3, 2, 1, 1, 40, 33)
    difference = np.abs(run(session(half), a, b) - run(session(whole), a, b)).max()
    assert 0 < difference < 2e-3


def test_metadata_says_what_the_file_is():
    found = {x.key: x.value for x in onnx.load_from_string(onnx_file(rj.load("mif"))).metadata_props}
    assert found["task"] == "mif" and found["source_order"] == "functional or CT, MRI" and "sources" in found["range"]


def test_the_same_weights_give_the_same_bytes(tiny_model):
    assert onnx_file(tiny_model, color=True) == onnx_file(tiny_model, color=True)


FAINT = np.random.default_rng(0).integers(118, 123, (12, 15, 3)).astype(np.uint8)
PAIRS = {
    "colour": (picture(1, color=True, mean=170), picture(2, color=True, mean=70)),
    "swapped": (picture(2, color=True, mean=70), picture(1, color=True, mean=170)),
    "grey": tuple(np.repeat(picture(seed)[..., None], 3, -1) for seed in (3, 4)),
    "faint": (FAINT, FAINT[::-1].copy()),
    "gap between the levels": (FAINT // 8, 255 - FAINT[::-1] // 8),
    "black": (np.zeros((6, 7, 3), np.uint8),) * 2,
    "smaller than F's border": (picture(5, (3, 4), True), picture(6, (3, 4), True)),
}


def test_with_colour_in_float16(tiny_model):
    runtime = session(onnx_file(tiny_model, color=True, precision="float16"))
    for name, (a, b) in PAIRS.items():
        difference = np.abs(run(runtime, a, b).astype(int) - tiny_model.fuse(a, b))
        assert difference.max() <= 3, name


@pytest.mark.parametrize("task", ["meie", "ivif"])
def test_with_colour_the_graph_gives_what_fuse_gives(tiny_model, task):
    model = dataclasses.replace(tiny_model, task=task)
    runtime = session(onnx_file(model, color=True))
    for name, (a, b) in PAIRS.items():
        found, expected = run(runtime, a, b), model.fuse(a, b)
        assert found.dtype == np.uint8 and found.shape == expected.shape, name
        difference = np.abs(found.astype(int) - expected)
        # A level that lies between two is rounded either way.
        assert difference.max() <= 1 and np.mean(difference > 0) < 0.01, name


def in_passes(files, module, params, a, b, own):
    """F's output of lumas a, b (H,W) by the files of write_passes, tile by tile, as the browser's page runs them."""
    layers = layers_of(module, params)
    height, width, margin = *a.shape, layers.reach
    tiles = [(y, x) for y in range(0, height, own[0]) for x in range(0, width, own[1])]
    maps, sums = [a[None], b[None]], []
    padded = [(margin, margin + own[0]), (margin, margin + own[1])]
    inside = np.pad(np.ones(a.shape, np.float32), padded)

    def cut(x, at):
        return x[..., at[0] : at[0] + own[0] + 2 * margin, at[1] : at[1] + own[1] + 2 * margin]

    counted = np.pad(np.ones(own, np.float32), margin)
    for turn, runtime in enumerate(map(session, files)):
        streams = [np.pad(x, [(0, 0), *padded]) for x in maps]
        names = [output.name for output in runtime.get_outputs()]
        wanted = {x.name for x in runtime.get_inputs()}
        channels = [1] if turn == len(files) - 1 else stream_channels(layers)[turn]
        maps = [np.zeros((c, height + own[0], width + own[1]), np.float32) for c in channels]
        total = [0] * len(channels)
        for at in tiles:
            feed = {"inside": cut(inside, at)[None, None]} | {
                f"stream{i}": cut(x, at)[None] for i, x in enumerate(streams)
            }
            feed["counted"] = feed["inside"] * counted
            feed |= {f"sums{i}": x for i, x in enumerate(sums)}
            found = dict(zip(names, runtime.run(None, {k: x for k, x in feed.items() if k in wanted}), strict=True))
            results = [found[k] for k in names if not k.startswith("next_sums")]
            for x, result in zip(maps, results, strict=True):
                x[:, at[0] : at[0] + own[0], at[1] : at[1] + own[1]] = result[0, :, margin:-margin, margin:-margin]
            total = [t + found.get(f"next_sums{i}", 0) for i, t in enumerate(total)]
        maps, sums = [x[:, :height, :width] for x in maps], total
    return maps[0][0]


def test_passes_over_tiles_give_what_the_whole_picture_gives(tiny_model):
    module, params = networks.build(**SIZE)[0], tiny_model.params.f
    own = 10, 12
    files = write_passes(module, params)
    assert len(files) == 4  # encoders, fusion, decoder of one block each, and the head's
    a, b = luma(4, 2, 23, 31)
    whole = run(session(onnx_file(tiny_model)), a[None, None], b[None, None])[0, 0]
    assert np.abs(in_passes(files, module, params, a, b, own) - whole).max() < 1e-5


class OtherStem(FusionNet):
    def layer_list(self):
        stems = (lambda x, grid=None: self.project_in_1(x, grid),) * 2
        return super().layer_list()._replace(stems=stems)


class OtherLayer(FusionNet):
    def layer_list(self):
        layers = super().layer_list()
        return layers._replace(attention=(*layers.attention[:-1], self.project_in_1))


class OtherHead(FusionNet):
    def head(self, streams, grid=None):
        return super().head(streams, grid) ** 2


@pytest.mark.parametrize(("kind", "part"), [(OtherStem, "stem"), (OtherLayer, "project_in_1"), (OtherHead, "head")])
def test_an_f_of_other_parts_is_refused_by_the_part(kind, part):
    with pytest.raises(InputError, match=f"{kind.__name__}.*{part}"):
        layers_of(kind(width=4, heads=2, blocks=1), from_names(tiny_trees()).f)


def test_an_f_without_a_list_is_refused():
    with pytest.raises(InputError, match="Conv3x3.*list of layers"):
        layers_of(Conv3x3(1), {})


def test_the_command_writes_a_file_and_never_over_another(tmp_path, capsys):
    out = tmp_path / "f.onnx"
    assert command.main(["ivif", str(out)]) == 0
    assert "f.onnx" in capsys.readouterr().out
    kept = out.read_bytes()
    assert "exists" in fails(command.main, capsys, "mif", out)
    assert out.read_bytes() == kept
    # Nothing reads it back as weights.
    assert "exported" in fails(
        fuse.main, capsys, "--ckpt", out, "--pair", __file__, __file__, "--out", tmp_path / "x.png"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["f.pt"], ".onnx or .stablehlo"),
        (["f.onnx", "--size", "4x4"], "any size"),
        (["f.onnx", "--opset", "3"], "18 to"),
        (["f.stablehlo"], "--size"),
        (["f.stablehlo", "--size", "4x4", "--with-colour"], "--with-colour"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, capsys, arguments, told):
    out = tmp_path / arguments[0]
    assert told in fails(command.main, capsys, "ivif", out, *arguments[1:])
    assert not out.exists()


def test_without_onnx_one_line_names_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install" in fails(command.main, capsys, "ivif", tmp_path / "f.onnx")
