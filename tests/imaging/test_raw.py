"""Camera raw, HEIC, AVIF and JPEG 2000: read in full, or refused in one line; never a thumbnail."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from picture_files import refused
from PIL import Image, features

from refusion_jax.data.search import find_pairs
from refusion_jax.imaging.files import image_size, read_image, read_picture, write_image
from refusion_jax.imaging.raw import without_raw_doubles

SIZE = 64, 96
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
WHITE = 4095


def dng(path, level=1.0):
    """A DNG as cameras write it: a thumbnail first, the sensor's values in a directory below."""
    scene = np.rint(WHITE * level * (0.1 + 0.8 * X / SIZE[1]) * (0.5 + 0.5 * Y / SIZE[0])).astype(np.uint16)
    below = [
        (33421, "H", 2, (2, 2), True),  # the filter's pattern: red green, green blue
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50714, "H", 1, 0, True),
        (50717, "H", 1, WHITE, True),
    ]
    main = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "test", True),
        (50721, "2i", 9, tuple(v for x in np.eye(3).ravel() for v in (int(x), 1)), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
    ]
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((8, 12, 3), np.uint8), photometric="rgb", subfiletype=1, subifds=1, extratags=main)
        file.write(scene, photometric="cfa", subfiletype=0, extratags=below)
    return path


@pytest.mark.parametrize("name", ["a.dng", "a.tif"])
def test_a_raw_file_is_developed_with_its_own_brightness(tmp_path, name):
    pytest.importorskip("rawpy")
    path = dng(tmp_path / name)
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16 and picture.pixels.shape == (*SIZE, 3)
    assert image_size(path) == SIZE and "raw" in picture.notes[0] and not picture.levels.note
    dark = read_picture(dng(tmp_path / f"dark {name}", 0.25))
    inner = np.s_[8:-8, 8:-8]
    ratio = dark.pixels[inner].mean() / picture.pixels[inner].mean()
    assert ratio == pytest.approx(0.25, abs=0.01)  # linear, and neither made brighter
    assert read_image(path).std() > 20


def test_without_the_library_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("a.dng", "a.tif"):
        refused(read_picture, dng(tmp_path / name), "rawpy")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    refused(read_picture, tmp_path / "a.heic", "pillow-heif")
    (tmp_path / "a.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(40))
    refused(read_picture, tmp_path / "a.cr3", "rawpy")


def test_damaged_raw_files(tmp_path):
    pytest.importorskip("rawpy")
    whole = dng(tmp_path / "a.dng").read_bytes()
    for part in (whole[:100], whole[:-4000], b"no raw file at all, but some words of this length"):
        (tmp_path / "a.nef").write_bytes(part)
        refused(read_picture, tmp_path / "a.nef")
    (tmp_path / "a.nef").write_bytes(whole[:2000])  # opens, and fails when it is developed
    assert image_size(tmp_path / "a.nef") == SIZE
    refused(read_picture, tmp_path / "a.nef", "LibRaw cannot read: Input/output error")


def test_jpeg_2000_of_more_bits_in_colour(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    if not (features.check("jpg_2000") and codecs.JPEG2K.available):
        pytest.skip("without JPEG 2000")
    deep = np.dstack([X * 200, Y * 300, X + Y]).astype(np.uint16)
    for suffix, code, bits in (("jp2", "jp2", 16), ("j2k", "j2k", 12)):
        (tmp_path / f"a.{suffix}").write_bytes(codecs.jpeg2k_encode(deep // 16, codecformat=code, bitspersample=bits))
        read = read_picture(tmp_path / f"a.{suffix}")
        assert read.pixels.dtype == np.uint8 and any(f"{bits} bits read as 8: JPEG 2000" in n for n in read.notes)
    (tmp_path / "b.jp2").write_bytes(codecs.jpeg2k_encode((deep // 256).astype(np.uint8), codecformat="jp2"))
    assert not read_picture(tmp_path / "b.jp2").notes


def test_heic_of_more_bits_and_its_exif(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x8769] = {0x9003: "2026:01:01 10:00:00", 0x829A: 0.01}
    deep = np.full((64, 64, 3), 30000, np.uint16).tobytes()
    file = heif.from_bytes("RGB;16", (64, 64), deep)
    file.info["exif"] = exif.tobytes()
    file.save(str(tmp_path / "a.heic"))
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")  # some phones and messengers do; content decides
    # In a process of its own, in which no picture was read before.
    code = "import sys; from pathlib import Path; from refusion_jax.data.captures import read_capture as r; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(r(Path(sys.argv[1])).seconds)", tmp_path / "a.jpg"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "0.01", done.stderr
    assert any("bits read as 8: HEIC" in note for note in read_picture(tmp_path / "a.jpg").notes)


@pytest.mark.parametrize(("suffix", "needs"), [("avif", "avif"), ("jp2", "jpg_2000"), ("heic", "")])
def test_other_formats_in_folders_too(tmp_path, suffix, needs):
    if needs and not features.check(needs):
        pytest.skip(f"Pillow without {needs}")
    if not needs:
        pytest.importorskip("pillow_heif").register_heif_opener()
    picture = np.dstack([X * 2, Y * 3, X + Y]).astype(np.uint8)
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
        Image.fromarray(picture).save(tmp_path / side / f"1.{suffix}", quality=95)
    (pair,) = find_pairs(tmp_path)
    assert np.abs(read_image(pair.a).astype(int) - picture).mean() < 4


def test_a_raw_file_beside_its_picture_is_passed_over(tmp_path):
    assert without_raw_doubles(["a.NEF", "A.jpg", "b.nef"]) == ["A.jpg", "b.nef"]
    for side in ("under", "over"):
        write_image(tmp_path / side / "1.png", np.zeros((8, 8), np.uint8))
        (tmp_path / side / "1.NEF").write_bytes(b"x")
    assert len(find_pairs(tmp_path)) == 1
