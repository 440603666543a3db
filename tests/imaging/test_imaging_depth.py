"""Tests of 16 bits: every level survives in PNG and TIFF, grey and RGB; layouts of TIFF; refusals; OpenCV missing."""

import io
import logging
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from picture_files import ORIENTED, RAMP, RAMP_RGB, png, png_chunk, refused, tiff
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging import pixels
from refusion_jax.imaging.files import image_size, read_image, read_picture, supports_16_bits, to_depth, write_image

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 65536, (21, 37, 4), dtype=np.uint16)
RGB, GREY, GREY_ALPHA = RGBA[..., :3], RGBA[..., 0], RGBA[..., [0, 3]]


def saved(path, data):
    path.write_bytes(data)
    return path


def test_to_depth_is_exact_both_ways():
    eight = np.arange(256, dtype=np.uint8)
    sixteen = to_depth(eight, 16)
    assert sixteen.dtype == np.uint16 and sixteen[255] == 65535 and sixteen[1] == 257
    np.testing.assert_array_equal(to_depth(sixteen, 8), eight)
    rounded = to_depth(RAMP, 8)
    assert rounded.dtype == np.uint8 and rounded.shape == RAMP.shape
    np.testing.assert_array_equal(rounded, np.floor(RAMP / 257 + 0.5))
    assert to_depth(eight, 8) is eight and to_depth(RAMP, 16) is RAMP
    for array, bits in ((eight, 12), (eight.astype(np.float32), 8), (eight.astype(np.int64), 16)):
        with pytest.raises(InputError, match="8 or 16"):
            to_depth(array, bits)


def test_which_names_take_16_bits(tmp_path):
    assert all(supports_16_bits(name) for name in ("a.png", "a.TIF", "b/a.tiff", "a"))
    for name in ("a.jpg", "a.webp", "a.bmp"):
        assert not supports_16_bits(name)
        refused(lambda path: write_image(path, RAMP), tmp_path / name, "16", ".png or .tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF", "a"])
@pytest.mark.parametrize("array", [RAMP, RAMP_RGB], ids=["grey", "rgb"])
def test_every_level_survives(tmp_path, name, array):
    path = write_image(tmp_path / name, array)
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16 and picture.notes == ()
    np.testing.assert_array_equal(picture.pixels, array)
    assert image_size(path) == array.shape[:2]
    assert np.abs(read_image(path).astype(int) - to_depth(array, 8)).max() <= (array.ndim == 3)
    # A reader that shares no code with the writer of TIFF.
    other = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(other if array.ndim == 2 else other[..., ::-1], array)


@pytest.mark.parametrize("array", [RAMP_RGB[::-1, ::2], RAMP_RGB[..., ::-1], RAMP.T])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_arrays_of_any_stride(tmp_path, name, array):
    np.testing.assert_array_equal(read_picture(write_image(tmp_path / name, array)).pixels, array)


def test_8_bits_stay_8_bits(tmp_path):
    for name in ("a.png", "a.tif", "a.bmp"):
        for array in (to_depth(RGB, 8), to_depth(GREY, 8)):
            picture = read_picture(write_image(tmp_path / name, array))
            assert picture.pixels.dtype == np.uint8
            np.testing.assert_array_equal(picture.pixels, array)


LAYOUTS = {
    "plain": {},
    "strips": {"rows": 5},
    "deflate": {"deflate": True},
    "predictor": {"deflate": True, "predictor": True, "rows": 8},
    "tiles": {"tile": (16, 16), "deflate": True, "predictor": True},
    "raw tiles": {"tile": (16, 32)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", "<>")
def test_layouts_of_tiff(tmp_path, layout, order):
    options = LAYOUTS[layout] | {"order": order}
    path = tmp_path / "a.tif"
    for planar in (False, True):
        for array, extra, expected, notes in (
            (RGB, (), RGB, ()),
            (RGBA, (2,), RGB, ("alpha dropped",)),
            (RGBA, (0,), RGB, ("channels beside the colours dropped",)),
            (GREY_ALPHA, (2,), GREY, ("alpha dropped",)),
        ):
            saved(path, tiff(array, extra=extra, planar=planar, **options))
            picture = read_picture(path)
            np.testing.assert_array_equal(picture.pixels, expected, err_msg=f"{planar} {extra}")
            assert picture.notes == notes
            assert image_size(path) == expected.shape[:2]
            assert np.abs(read_image(path).astype(int) - (expected >> 8)).max() <= 1
    for photometric, expected in ((1, GREY), (0, 65535 - GREY)):
        saved(path, tiff(GREY, photometric=photometric, **options))
        np.testing.assert_array_equal(read_picture(path).pixels, expected)
        np.testing.assert_array_equal(read_image(path), to_depth(expected, 8))


@pytest.mark.parametrize("planar", [False, True])
def test_premultiplied_alpha_is_divided_out(tmp_path, planar):
    alpha = np.full_like(GREY, 32768)
    alpha[0] = 0
    stored = np.dstack([RGB // 2, alpha])
    path = saved(tmp_path / "a.tif", tiff(stored, extra=(1,), planar=planar))
    expected = np.where(alpha[..., None] > 0, np.rint(stored[..., :3] * (65535 / 32768)), 0)
    np.testing.assert_array_equal(read_picture(path).pixels, expected)


def test_lzw_by_another_writer(tmp_path):
    done, data = cv2.imencode(".tif", RGB[..., ::-1])  # LZW with differences
    assert done
    path = saved(tmp_path / "a.tif", data.tobytes())
    with Image.open(path) as image:
        assert image.info["compression"] == "tiff_lzw"
    np.testing.assert_array_equal(read_picture(path).pixels, RGB)


def test_large_pictures_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "BAND", 100)
    for array, extra in ((RGB, ()), (RGBA, (1,)), (GREY, ())):
        data = tiff(array, extra=extra, deflate=True, predictor=True, tags={274: ("H", [6])})
        path = saved(tmp_path / "a.tif", data)
        banded = read_picture(path).pixels
        with monkeypatch.context() as context:
            context.setattr(pixels, "BAND", 10**6)
            np.testing.assert_array_equal(read_picture(path).pixels, banded)
        if not extra:
            np.testing.assert_array_equal(banded, ORIENTED[6](array))
    eight = to_depth(RGB, 8)
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "a.png", eight)), eight)


@pytest.mark.parametrize("orientation", ORIENTED)
def test_orientation_is_applied_once(tmp_path, orientation):
    turn = ORIENTED[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    for name, array in (("rgb", RGB), ("grey", GREY), ("grey alpha", GREY_ALPHA)):
        expected = turn(GREY if array is GREY_ALPHA else array)
        for data in (
            png(array, chunk),
            tiff(array, extra=(2,) if array is GREY_ALPHA else (), tags={274: ("H", [orientation])}),
        ):
            path = saved(tmp_path / "a.tif", data)
            picture = read_picture(path)
            np.testing.assert_array_equal(picture.pixels, expected, err_msg=name)
            assert image_size(path) == read_image(path).shape[:2] == expected.shape[:2]
            again = read_picture(write_image(tmp_path / "again.png", picture.pixels, metadata=picture.metadata))
            np.testing.assert_array_equal(again.pixels, expected)


def test_png_with_alpha(tmp_path):
    for array, expected in ((RGBA, RGB), (GREY_ALPHA, GREY)):
        path = saved(tmp_path / "a.png", png(array))
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, expected)
        assert picture.notes == ("alpha dropped",)
        assert np.abs(read_image(path).astype(int) - to_depth(expected, 8)).max() <= 1
    for array in (RGB, GREY):  # one colour is declared transparent
        key = struct.pack(">3H", *RGB[0, 0]) if array is RGB else struct.pack(">H", GREY[0, 0])
        picture = read_picture(saved(tmp_path / "a.png", png(array, png_chunk(b"tRNS", key))))
        np.testing.assert_array_equal(picture.pixels, array)
        assert picture.notes == ("alpha dropped",)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">", "tile": (16, 16)}, {"rowsperstrip": 5}])
def test_tiff_as_other_programs_write_it(tmp_path, compression, options):
    make = [(271, "s", 0, "Maker", True)]
    for array in (RGB, GREY, to_depth(RGB, 8), to_depth(GREY, 8)):
        kind = "rgb" if array.ndim == 3 else "minisblack"
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, array, photometric=kind, compression=compression, extratags=make, **options)
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, array)
        assert picture.notes == () and picture.pixels.dtype == array.dtype and image_size(path) == array.shape[:2]
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert exif[271] == "Maker" and exif[274] == 1


def test_12_bits_of_grey_fill_the_range(tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    high, low = values.reshape(-1, 2).T.astype(np.uint32)
    packed = (high << 12 | low).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    fields = {258: ("H", [12]), 279: ("I", [len(packed)]), 339: ("H", [1])}
    data = tiff(np.frombuffer(packed, np.uint8).reshape(64, 96), tags=fields | {256: ("H", [64])})
    picture = read_picture(saved(tmp_path / "a.tif", data))
    np.testing.assert_array_equal(picture.pixels, np.floor(values / 4095 * 65535 + 0.5))


MORE = (0, 0, 0, 0)  # four channels of no declared meaning


@pytest.mark.parametrize(
    "array, words, options",
    [
        ((GREY >> 9).astype(np.int8), "8 signed bits per channel, grey", {}),
        (RGB.astype(np.uint64), "64 unsigned bits per channel, RGB", {}),
        (np.dstack([RGBA, GREY]), "16 unsigned bits per channel, grey and 4 more", {"photometric": 1, "extra": MORE}),
    ],
)
def test_layouts_that_are_refused(tmp_path, array, words, options):
    path = saved(tmp_path / "a.tif", tiff(array, **options))
    for function in (read_picture, read_image, image_size):
        refused(function, path, "8 or 16 bits or of floats", words, "save it")


def test_integers_of_other_types_that_16_bits_hold(tmp_path):
    for array in ((GREY >> 1).astype(np.int16), GREY.astype(np.int32), RGB.astype(np.uint32)):
        picture = read_picture(saved(tmp_path / "a.tif", tiff(array)))
        np.testing.assert_array_equal(picture.pixels, array)
        assert picture.pixels.dtype == np.uint16 and picture.notes == () and picture.levels.note == ""


def test_16_bits_that_cannot_be_kept_are_said(tmp_path):
    path = saved(tmp_path / "a.tif", tiff(RGBA, photometric=5))
    assert read_picture(path).notes == ("CMYK converted to RGB and to 8 bits, without colour management",)
    path = saved(tmp_path / "a.ppm", b"P6 37 21 65535\n" + RGB.astype(">u2").tobytes())
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint8 and "PPM" in picture.notes[0]


# Damaged and hostile files.


WHOLE = [
    png(RGB),
    tiff(RGB),
    tiff(RGB, deflate=True, planar=True),
    tiff(RGBA, extra=(1,), deflate=True, predictor=True, tile=(16, 16)),
    tiff(GREY_ALPHA, extra=(2,)),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("data", WHOLE)
def test_truncated(tmp_path, data, capfd):
    for part in (1, 10, 30, len(data) // 3, len(data) * 9 // 10, len(data) - 20):
        refused(read_picture, saved(tmp_path / "a.tif", data[:part]))
    if data[:2] != b"II":  # libtiff has its own say
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", WHOLE)
def test_damaged_bytes_give_one_line_or_a_picture(tmp_path, data):
    rng = np.random.default_rng(3)
    failures = 0
    for i in range(100):
        damaged = bytearray(data)
        # Most damage to a TIFF goes into its directory, at the end.
        positions = rng.integers(0, len(data), 4) if i % 2 else len(data) - 1 - rng.integers(0, 250, 3)
        for position in positions:
            damaged[position] = rng.integers(256)
        path = saved(tmp_path / "a.tif", damaged)
        try:
            assert read_picture(path, max_pixels=100_000).pixels.dtype in (np.uint8, np.uint16)
        except InputError as error:
            failures += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert failures > 20


def test_decompression_bombs(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    size = {256: ("I", [60_000]), 257: ("I", [60_000])}
    for data in (bomb, tiff(RGB, tags=size), tiff(GREY_ALPHA, extra=(2,), tags=size)):
        for function in (read_picture, read_image, image_size):
            refused(function, saved(tmp_path / "a.tif", data), "60000x60000", "3600000000", "400000000")


def test_more_pixels_than_pillow_allows_by_itself(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for data in (tiff(RGB), tiff(to_depth(RGB, 8)), png(RGB), png(GREY)):
        path = saved(tmp_path / "a.tif", data)
        assert read_picture(path).pixels.shape[:2] == read_image(path).shape[:2] == (21, 37)
    assert Image.MAX_IMAGE_PIXELS == 100 and len(recwarn) == 0


# Libraries.


def test_no_library_is_imported_before_a_file_needs_it(repo, tmp_path):
    path = saved(tmp_path / "a.png", png(GREY))
    code = (
        "import sys; from refusion_jax.imaging.files import read_picture; "
        f"read_picture({str(path)!r}); sys.exit(bool({{'cv2', 'tifffile', 'imagecodecs'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repo).returncode == 0


def test_others_keep_what_tifffile_logs(tmp_path, caplog):
    path = saved(tmp_path / "a.tif", tiff(RGB)[:-30])
    refused(read_picture, path)
    assert not caplog.records
    logging.getLogger("tifffile").warning("of another user")
    assert [record.message for record in caplog.records] == ["of another user"]


def test_a_written_deep_png_is_whole(tmp_path):
    data = write_image(tmp_path / "a.png", RGB).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    assert data[24] == 16 and data[25] == 2  # 16 bits, RGB
