"""--range run: the frames of a sequence with one range and one attention, so that what is still stays as it is."""

import errno

import numpy as np
import pytest
from fuse_command import fuse, refused
from picture_files import tiff
from scipy.ndimage import binary_dilation
from scripts import picture

from refusion_jax.cli import fuse as cli
from refusion_jax.cli import fusing
from refusion_jax.imaging.files import read_image, write_image

SIZE = 64, 80


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """(folder, where a warm person passes): eight frames of infrared and visible, still but for the person."""
    folder = tmp_path_factory.mktemp("sequence")
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ground, wall = picture(1, SIZE, mean=60) // 3 + 20, picture(2, SIZE, color=True)
    passed = np.zeros(SIZE, bool)
    (folder / "counts").mkdir()
    for number in range(8):
        infrared, visible = ground.copy(), wall.copy()
        if number >= 3:
            person = (abs(x - 8 - 9 * (number - 3)) < 3) & (abs(y - 40) < 9)
            infrared[person], visible[person] = 250, 60
            passed |= person
        write_image(folder / "ir" / f"{number}.png", infrared)
        write_image(folder / "vi" / f"{number}.png", visible)
        (folder / "counts" / f"{number}.tif").write_bytes(tiff(7000 + 2 * infrared.astype(np.uint16)))
    return folder, binary_dilation(passed, np.ones((3, 3)), iterations=12)  # F's layers reach around the person too


def background(folder, passed):
    """(frames, pixels): levels where nobody ever was."""
    stack = np.stack([read_image(folder / f"{number}.png").astype(int) for number in range(8)])
    return stack[:, ~passed]


def test_a_person_enters_and_the_background_stays(sequence, tmp_path):
    folder, passed = sequence
    pairs = ["--task", "ivif", "--pair", folder / "ir", folder / "vi", "--gray", "--no-check"]
    for rule in ("run", "sources"):
        fuse(*pairs, "--range", rule, "--out", tmp_path / rule)
    still = background(tmp_path / "run", passed)
    assert np.abs(still - still[0]).max() <= 1 and np.ptp(still[0]) > 50
    moved = background(tmp_path / "sources", passed)
    assert np.abs(moved.mean(1) - moved.mean(1)[0]).max() > 2  # what the rule is for


def test_the_levels_of_the_sources_are_held_as_well(sequence, weights, tmp_path, capsys):
    folder, passed = sequence
    run = ["--ckpt", weights, "--pair", folder / "counts", folder / "vi", "--gray", "--no-check", "--depth", 8]
    fuse(*run, "--range", "run", "--out", tmp_path / "out")
    assert capsys.readouterr().err == ""
    still = background(tmp_path / "out", passed)
    assert np.abs(still - still[0]).max() <= 1
    assert "--skip-existing" in refused(capsys, *run, "--range", "run", "--skip-existing", "--out", tmp_path / "out")


def test_a_full_disk_is_said_of_each_pair(sequence, weights, tmp_path, capsys, monkeypatch):
    def save(path, array):
        path.write_bytes(b"\x93NUMPY")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fusing.np, "save", save)
    folder, _ = sequence
    run = ["--ckpt", weights, "--pair", folder / "ir", folder / "vi", "--no-check", "--range", "run"]
    assert cli.main([*map(str, run), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("No space left on device; set TMPDIR") == 8


def test_levels_that_do_not_apply_are_said(sequence, weights, tmp_path, capsys):
    folder, _ = sequence
    run = ["--ckpt", weights, "--pair", folder / "counts", folder / "vi", "--no-check", "--out", tmp_path / "out"]
    fuse(*run, "--levels", "7000,7600")
    assert capsys.readouterr().err.count(f"{folder / 'vi' / '0.png'}: 8 bits") == 1
    fuse(*run, "--levels", "a=7000,7600")
    assert "8 bits" not in capsys.readouterr().err
