"""Stacks as people have them: pages of a TIFF, several brackets in a folder, more frames than fit into memory."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuse_command import fuse, images, refused
from scipy.ndimage import gaussian_filter
from scripts import picture

from refusion_jax.fusing.frame_store import FrameStore
from refusion_jax.fusing.stacks import focus_positions, fuse_stack
from refusion_jax.imaging.files import pages_of, read_image, read_picture, write_image
from refusion_jax.imaging.levels import Rule
from refusion_jax.imaging.resizing import resize

SIZE = 40, 60
DEPTHS = 3


@pytest.fixture(scope="module")
def mfif(weights, tmp_path_factory):
    """The weights of `weights` for focus stacks."""
    path = tmp_path_factory.mktemp("weights") / "mfif.safetensors"
    path.write_bytes(weights.read_bytes().replace(b"meie", b"mfif"))
    return path


def focus_stack():
    """Frames (3,H,W) of 12 bits, each sharp in a third of the columns."""
    sharp = np.random.default_rng(0).random(SIZE)
    soft = gaussian_filter(sharp, 3)
    third = np.arange(SIZE[1]) * DEPTHS // SIZE[1]
    return np.stack([np.rint(np.where(third == k, sharp, soft) * 4095) for k in range(DEPTHS)]).astype(np.uint16)


def test_the_pages_of_a_tiff_are_a_stack(tmp_path, mfif, capsys):
    stack = focus_stack()
    tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack")
    (tmp_path / "pages").mkdir()
    for k, page in enumerate(stack):
        tifffile.imwrite(tmp_path / "pages" / f"{k}.tif", page, photometric="minisblack")
    assert pages_of(tmp_path / "z.tif") == DEPTHS and pages_of(tmp_path / "pages" / "0.tif") == 1
    base = ["--ckpt", mfif, "--no-check"]
    for name in ("z.tif", "pages"):
        fuse(*base, "--stack", tmp_path / name, "--out", tmp_path / f"{name}.png", "--source-index", "--depth-map")
    assert "several pages" not in capsys.readouterr().err
    fused = [read_picture(tmp_path / f"{name}.png").pixels for name in ("z.tif", "pages")]
    assert np.array_equal(*fused) and fused[0].max() > 50000  # 0..4095 of 12 bits was black..white
    index = read_image(tmp_path / "z.tif_index.png", Rule("fixed", 0, 255))
    third = np.arange(SIZE[1]) * DEPTHS // SIZE[1]
    for k in range(DEPTHS):
        inside = np.abs(np.arange(SIZE[1]) - np.flatnonzero(third == k).mean()) < 5
        assert (index[:, inside] == k + 1).mean() > 0.95
    depth = read_image(tmp_path / "z.tif_depth.png").mean(0)
    assert depth[:8].max() < 30 and 100 < depth[28:32].mean() < 155 and depth[-8:].min() > 225
    (tmp_path / "two").mkdir()
    tifffile.imwrite(tmp_path / "two" / "z.tif", stack[::-1], photometric="minisblack")
    tifffile.imwrite(tmp_path / "two" / "y.tif", stack, photometric="minisblack")
    fuse(*base, "--stack", tmp_path / "two", "--out", tmp_path / "out")
    assert images(tmp_path / "out") == ["y.png", "z.png"]


def test_a_folder_of_several_brackets(tmp_path, weights, capsys):
    for number in range(6):
        scene = picture(3 + number // 3, (64, 80), color=True, mean=(70, 128, 180)[number % 3])
        write_image(tmp_path / "in" / f"IMG_{number + 8}.png", scene)
    base = ["--ckpt", weights, "--stack", tmp_path / "in"]
    fuse(*base, "--group", 3, "--out", tmp_path / "out")
    assert images(tmp_path / "out") == ["IMG_11.png", "IMG_8.png"]
    assert "not show one scene" not in capsys.readouterr().err
    assert "6 frames" in refused(capsys, *base, "--group", 4, "--out", tmp_path / "x")
    assert "EXIF" in refused(capsys, *base, "--group", "exif", "--out", tmp_path / "x")
    assert "add --stack" in refused(capsys, "--ckpt", weights, "--pair", "a", "b", "--group", 3)


def test_frames_of_two_scenes_are_a_warning(tmp_path, weights, capsys):
    rng = np.random.default_rng(1)
    scenes = [gaussian_filter(rng.random((96, 128)), 2) for _ in range(2)]
    for number in range(6):
        one = scenes[number // 3]
        one = (one - one.min()) / np.ptp(one)
        write_image(tmp_path / f"{number}.png", np.uint8(255 * np.clip(one * (0.5 + 0.4 * (number % 3)), 0, 1)))
    fuse("--ckpt", weights, "--stack", tmp_path, "--out", tmp_path / "out.png")
    said = capsys.readouterr().err
    assert said.count("warning") >= 1 and "one scene" in said and ".png" in said
    fuse("--ckpt", weights, "--stack", *sorted(tmp_path.glob("[0-2].png")), "--out", tmp_path / "out.png")
    assert "one scene" not in capsys.readouterr().err


def test_frames_on_disk_give_the_same_picture(model):
    frames = [picture(3, (40, 50), color=True, mean=mean) for mean in (60, 110, 160, 200)]
    with FrameStore(room=frames[0].nbytes) as store:
        kept = [store.keep(frame) for frame in frames]
        assert [frame.held_bytes for frame in kept] == [frames[0].nbytes, 0, 0, 0]
        assert np.array_equal(fuse_stack(model, kept), fuse_stack(model, frames))
        assert all(np.array_equal(np.asarray(one), frame) for one, frame in zip(kept, frames, strict=True))
        folder = Path(store._folder.name)
    assert not folder.exists()


def test_positions_of_the_focus():
    index, depth = focus_positions(list(focus_stack()))
    assert index.dtype == np.uint16 and set(np.unique(index)) == {1, 2, 3} and 0 <= depth.min() <= depth.max() <= 1


def test_frames_of_two_sizes(tmp_path, mfif, capsys):
    """At the size of the first or of the last, as if they had been resized before."""
    frames = [picture(5, (64 + 8 * k, 80 + 10 * k), color=True) for k in range(3)]
    for kept in ("a", "b"):
        size = frames[0 if kept == "a" else -1].shape[:2]
        for k, frame in enumerate(frames):
            write_image(tmp_path / "in" / f"{k}.png", frame)
            write_image(tmp_path / f"same_{kept}" / f"{k}.png", resize(frame, size))
        base = ["--ckpt", mfif, "--no-check", "--max-memory", "1M"]
        fuse(*base, "--stack", tmp_path / "in", "--resize", kept, "--out", tmp_path / f"{kept}.png")
        fuse(*base, "--stack", tmp_path / f"same_{kept}", "--out", tmp_path / f"same_{kept}.png")
        fused = [read_image(tmp_path / f"{name}.png") for name in (kept, f"same_{kept}")]
        assert fused[0].shape[:2] == size and np.array_equal(*fused)
    assert "--resize" in refused(capsys, *base, "--stack", tmp_path / "in", "--out", tmp_path / "x.png")


def test_the_index_counts_the_stack_s_own_frames(tmp_path, mfif):
    stack = focus_stack()
    for k, page in enumerate((stack[0], stack[0], stack[1], stack[2])):  # the second repeats the first
        tifffile.imwrite(tmp_path / f"{k}.tif", page, photometric="minisblack")
    fuse(
        "--ckpt",
        mfif,
        "--no-check",
        "--stack",
        *sorted(tmp_path.glob("*.tif")),
        "--out",
        tmp_path / "z.png",
        "--source-index",
    )
    assert set(np.unique(read_picture(tmp_path / "z_index.png", Rule("whole")).pixels)) == {1, 3, 4}
