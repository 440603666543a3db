"""fuse.py --calibrate: a rig's transform from a folder, a picture to check it by, and pairs fused with it."""

import json

import numpy as np
import pytest
from fuse_command import fuse, refused
from test_cli_fuse_photos import Seen, textured

from refusion_jax.cli import fuse as cli
from refusion_jax.imaging.files import read_image, write_image

cv2 = pytest.importorskip("cv2")
MATRIX = np.array([[1.5, -0.1, 30], [0.1, 1.5, 8], [0, 0, 1]])  # thermal to visible pixels


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """ir/ and vi/ of three scenes as two cameras show them."""
    folder = tmp_path_factory.mktemp("rig")
    for seed in range(3):
        visible = cv2.resize(textured((90, 120), seed), (240, 180), interpolation=cv2.INTER_AREA)
        thermal = cv2.warpPerspective(255 - visible, MATRIX, (120, 96), flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
        write_image(folder / "ir" / f"{seed}.png", thermal)
        write_image(folder / "vi" / f"{seed}.png", visible)
    return folder


def test_a_rig_is_calibrated_and_its_pairs_fused(rig, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "rig.json"
    fuse("--task", "ivif", "--calibrate", rig, "--save-transform", out)
    said = capsys.readouterr().out
    assert "3 of 3 pairs" in said and "confidence" in said and str(out.with_suffix(".jpg")) in said
    content = json.loads(out.read_text())
    assert np.abs(np.array(content["matrix"]) - MATRIX).max() < 0.5 and content["confidence"] > 0.25
    assert (content["size_a"], content["size_b"]) == ([96, 120], [180, 240])
    assert read_image(out.with_suffix(".jpg")).shape[2] == 3

    model = Seen()
    monkeypatch.setattr(cli, "load_model", lambda *_: model)
    base = ["--ckpt", "x", "--pair", rig / "ir" / "0.png", rig / "vi" / "0.png", "--out", tmp_path / "o.png"]
    fuse(*base, "--transform", out)
    assert "--resize b" in capsys.readouterr().err
    one, other = model.given[-1]
    assert one.shape == other.shape == (96, 120) and np.abs(255 - other.astype(int) - one).mean() < 4
    fuse(*base, "--transform", out, "--resize", "b")
    one, other = model.given[-1]
    assert one.shape == other.shape == (180, 240) and np.abs(255 - other.astype(int) - one)[4:-4, 4:-4].mean() < 12
    small = write_image(tmp_path / "small.png", textured((50, 60)))
    assert "120x96 and 240x180 pixels, got 120x96 and 60x50" in refused(
        capsys, *base[:2], "--pair", rig / "ir" / "0.png", small, "--transform", out, "--out", tmp_path / "p.png"
    )
    out.write_text(out.read_text().replace("transform 1", "transform 9"))
    assert "rig.json: expected a transform" in refused(capsys, *base, "--transform", out)


def test_a_source_is_not_overwritten(rig, capsys):
    visible = write_image(rig / "ir" / "0.jpg", read_image(rig / "ir" / "0.png"))
    (rig / "ir" / "0.png").rename(rig / "kept.png")
    before = visible.read_bytes()
    said = refused(capsys, "--task", "ivif", "--calibrate", rig, "--save-transform", rig / "ir" / "0.json")
    (rig / "kept.png").rename(rig / "ir" / "0.png")
    assert "would overwrite a source" in said and visible.read_bytes() == before
    visible.unlink()


@pytest.mark.parametrize(
    "options,word",
    [
        (["--calibrate", "x"], "--save-transform rig.json"),
        (["--calibrate", "x", "--save-transform", "t.json", "--pair", "a", "b"], "fuses nothing"),
        (["--calibrate", "x", "--save-transform", "t.json", "--align", "euclidean"], "got --align euclidean"),
        (["--calibrate", "x", "--save-transform", "t.json", "--resize", "b"], "leave out --resize"),
        (["--calibrate", "x", "--save-transform", "t.jpg"], "ends in .json"),
    ],
)
def test_options_that_do_not_go_with_calibrate(options, word, capsys):
    assert word in refused(capsys, *options)
