"""Georeference and no-data values: they stay where the result has the size and the frame of a source."""

import numpy as np
import pytest
import tifffile
from fuse_command import fuse
from scripts import picture

from refusion_jax.imaging.files import read_picture, write_image

SIZE = 24, 32
GEO = [
    (33550, "d", 3, (0.05, 0.05, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4100000.0, 0.0), True),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
    (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
]


def tags_of(path):
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


@pytest.fixture
def sources(tmp_path):
    """A thermal map in 16 bits without place, an orthophoto with place where 255 is no data."""
    photo = picture(1, SIZE, color=True)
    photo[:, :4] = 255
    tifffile.imwrite(tmp_path / "photo.tif", photo, photometric="rgb", extratags=[*GEO, (42113, "s", 0, "255", True)])
    write_image(tmp_path / "thermal.tif", picture(2, SIZE).astype(np.uint16) * 200)
    return tmp_path / "thermal.tif", tmp_path / "photo.tif"


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("side", ["a", "b"])
def test_the_place_stays(tmp_path, weights, sources, depth, side, capsys):
    out = tmp_path / "out.tif"
    options = ["--no-check", "--depth", depth, "--metadata-from", side]
    fuse("--ckpt", weights, "--pair", *sources, "--out", out, *options)
    tags = tags_of(out)
    for number, _, _, value, _ in GEO:
        assert tags[number] == value
    assert tags[42113] == "0" and "georeference" not in capsys.readouterr().err
    fused = tifffile.imread(out)
    empty = ~fused.any(-1)
    assert empty[:, :4].all() and not empty[:, 4:].any()
    again = read_picture(out)  # and is read as it was written
    assert np.array_equal(again.no_data, empty) and again.metadata.geo == read_picture(sources[1]).metadata.geo


@pytest.mark.parametrize("options", [["--resize", "b"], ["--out", "x.png"], ["--metadata-from", "none"]])
def test_what_is_dropped_is_said(tmp_path, weights, sources, options, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wide = tmp_path / "wide.tif"
    tifffile.imwrite(wide, picture(3, (30, 40)), photometric="minisblack", extratags=GEO)
    pair = (wide, sources[0]) if "--resize" in options else sources
    fuse("--ckpt", weights, "--pair", *pair, "--no-check", "--out", "x.tif", *options)
    assert capsys.readouterr().err.count("georeference") == (0 if "none" in options else 1)
    if "--resize" in options or "none" in options:
        assert not {33550, 42113} & set(tags_of("x.tif"))


def test_pixels_without_data_that_become_ordinary_ones_are_said(tmp_path, weights, sources, capsys):
    thermal, photo = tmp_path / "holes.tif", sources[1]
    holes = picture(2, SIZE).astype(np.float32)
    holes[:, 2:9] = -9999
    tifffile.imwrite(thermal, holes, photometric="minisblack", extratags=[*GEO, (42113, "s", 0, "-9999", True)])
    command = "--ckpt", weights, "--pair", thermal, photo, "--no-check", "--out", tmp_path / "out.tif"
    fuse(*command)
    assert capsys.readouterr().err.count("no-data value dropped") == 1
    fuse(*command, "--metadata-from", "a")  # the photo lacks columns 0 and 1, which the thermal picture has
    error = capsys.readouterr().err
    assert error.count("no-data value dropped") == 1 and str(photo) in error
    holes[:, :4] = -9999
    tifffile.imwrite(thermal, holes, photometric="minisblack", extratags=[*GEO, (42113, "s", 0, "-9999", True)])
    fuse(*command, "--metadata-from", "a")
    assert "no-data value" not in capsys.readouterr().err


def test_other_tags_that_are_dropped_are_said(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(1), photometric="minisblack", extratags=[(700, "B", 4, b"<x/>", True)])
    assert read_picture(path).notes == ("XMP dropped",)


def test_an_aligned_bracket_has_the_place_of_its_reference(tmp_path, weights):
    pytest.importorskip("cv2")
    scene = np.pad(picture(5, (90, 120)), 3, "edge")
    for name, factor in (("a_bright", 1.0), ("b_dark", 0.3), ("c_middle", 0.6)):
        own = [(*GEO[0][:3], (factor, factor, 0.0), True), *GEO[1:]]
        pixels = np.uint8(np.rint(scene * factor))
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="minisblack", extratags=own)
    options = ["--align", "translation", "--align-frame", "full", "--no-check", "--out", tmp_path / "out" / "x.tif"]
    fuse("--ckpt", weights, "--stack", *sorted(tmp_path.glob("*.tif")), *options)
    assert tags_of(tmp_path / "out" / "x.tif")[33550][0] == 0.6  # by brightness the middle one, by name the dark one
