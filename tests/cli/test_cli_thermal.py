"""fuse.py on FLIR radiometric JPEGs: one file, a folder of them, what is no such file."""

import shutil
from pathlib import Path

import pytest
from fuse_command import fuse, refused
from scripts import picture
from test_cli_fuse_photos import Seen

from refusion_jax.cli import fuse as cli
from refusion_jax.imaging.files import read_image, write_image

REAL = Path(__file__).parent.parent / "files" / "flir_ax8.jpg"


@pytest.fixture
def seen(monkeypatch):
    pytest.importorskip("flyr")
    model = Seen()
    monkeypatch.setattr(cli, "load_model", lambda *_: model)
    return model


def test_both_pictures_of_one_file_are_fused(tmp_path, seen, capsys):
    fuse("--task", "ivif", "--pair", REAL, "--out", tmp_path / "o.png", "--levels", "a=20,30")
    thermal, visible = seen.given[-1]
    assert thermal.shape == (412, 550) and visible.shape == (412, 550, 3)
    assert 0.4 < thermal.mean() / 65535 < 0.6  # about 25 degrees
    assert "(80x60)" in capsys.readouterr().err and read_image(tmp_path / "o.png").shape == (412, 550)
    (tmp_path / "in").mkdir()
    for name in ("one.jpg", "two.jpg"):
        shutil.copy(REAL, tmp_path / "in" / name)
    fuse("--task", "ivif", "--pair", tmp_path / "in", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]


def test_what_is_not_two_pictures_in_one(tmp_path, seen, capsys):
    plain = write_image(tmp_path / "plain.jpg", picture(1))
    base = ["--task", "ivif", "--out", tmp_path / "o.png", "--pair"]
    assert "plain.jpg: expected a second picture" in refused(capsys, *base, plain)
    assert "got 3" in refused(capsys, *base, plain, REAL, plain)
    fuse(*base, REAL, plain, "--resize", "b")
    assert "radiometric JPEG (FLIR)" in capsys.readouterr().err
