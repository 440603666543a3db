"""Tests of image files (every mode, every way to fail, atomic writing) and of colour maps."""

import builtins
import errno
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from picture_files import ORIENTED, refused
from PIL import ExifTags, Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.colormaps import apply_colormap
from refusion_jax.imaging.files import image_size, read_image, write_image
from refusion_jax.imaging.reading import opened
from refusion_jax.runtime import writing
from refusion_jax.runtime.writing import write_bytes

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    image.save(path, **options)
    return path


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Reading.


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm"])
def test_lossless_formats(tmp_path, extension):
    path = saved(tmp_path / f"a.{extension}", RGB)
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (6, 9)
    path = saved(tmp_path / f"b.{extension}", GREY)
    np.testing.assert_array_equal(read_image(str(path)), GREY)
    assert read_image(path).flags.writeable


def test_jpeg(tmp_path):
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    path = saved(tmp_path / "a.JPG", smooth, quality=95)
    read = read_image(path)
    assert read.shape == (48, 64) and read.dtype == np.uint8
    assert np.abs(read.astype(int) - smooth).max() <= 4


def test_grey_modes(tmp_path):
    alpha = np.stack([GREY, 255 - GREY], axis=-1)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "la.png", alpha)), GREY)
    bits = GREY > 99
    np.testing.assert_array_equal(read_image(saved(tmp_path / "1.png", bits)), np.where(bits, 255, 0))


def test_16_bit_grey_is_scaled_and_rounded(tmp_path):
    values = np.array([[0, 1, 128, 129, 257, 385, 386, 32767, 32768, 65534, 65535]], np.uint16)
    expected = np.floor(values / 257 + 0.5)
    assert expected[0, [2, 3, 5, 6]].tolist() == [0, 1, 1, 2]
    for extension in ("png", "tif"):
        np.testing.assert_array_equal(read_image(saved(tmp_path / f"a.{extension}", values)), expected)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "32.tif", values.astype(np.int32))), expected)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "every.png", every)), np.floor(every / 257 + 0.5))


def test_colour_modes_become_rgb(tmp_path):
    alpha = np.concatenate([RGB, GREY[..., None]], axis=-1)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "rgba.png", alpha)), RGB)
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(RGB).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "cmyk.tif"), np.asarray(cmyk.convert("RGB")))


@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation(tmp_path, orientation, extension):
    blocks = np.kron(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    array = np.repeat(blocks[..., None], 3, axis=-1) if extension == "webp" else blocks
    path = saved(tmp_path / f"a.{extension}", array, exif=exif, **options)
    expected = ORIENTED[orientation](array)
    read = read_image(path)
    assert np.abs(read.astype(int) - expected).max() <= (3 if extension == "jpg" else 0)
    assert image_size(path) == expected.shape[:2]


def png(width, height, rows=b"", after=b""):
    """A PNG put together by hand: 8-bit grey of any declared size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")


def test_orientation_after_the_pixels_of_a_png(tmp_path):
    # Found only by decoding all of it: left out by both, so that the size told is the size read.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = exif.tobytes()[6:]
    block = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    rows = b"".join(b"\0" + bytes([row, row + 1, row + 2]) for row in range(2))
    (tmp_path / "a.png").write_bytes(png(3, 2, rows, after=block))
    assert image_size(tmp_path / "a.png") == (2, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[0, 1, 2], [1, 2, 3]])


# Files that cannot be read.


@pytest.mark.parametrize("function", [read_image, image_size])
def test_missing_folder_pipe_empty_and_no_image(tmp_path, function):
    refused(function, tmp_path / "none.png", "no such file")
    refused(function, tmp_path, "folder")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    refused(function, tmp_path / "link.png", "no such file")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    refused(function, tmp_path / "pipe.png", "regular file")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(function, tmp_path / "empty.png", "empty", "0 bytes")
    (tmp_path / "text.png").write_text("this is no image\n" * 20)
    refused(function, tmp_path / "text.png", "not an image")
    (tmp_path / "file").write_text("x")
    refused(function, tmp_path / "file" / "a.png", "no such file")
    refused(function, tmp_path / ("n" * 300 + ".png"), "cannot read", "too long")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of TIFF tags
@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_anywhere(tmp_path, extension):
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"a.{extension}", noise).read_bytes()
    path = tmp_path / f"cut.{extension}"
    for part in (1, 10, 30, len(whole) // 3, len(whole) * 9 // 10):
        path.write_bytes(whole[:part])
        refused(read_image, path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "webp", "gif"])
def test_damaged_bytes_give_one_line_or_an_image(tmp_path, extension):
    whole = saved(tmp_path / f"a.{extension}", RGB).read_bytes()
    rng = np.random.default_rng(2)
    path = tmp_path / f"damaged.{extension}"
    failures = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 4):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            image = read_image(path, max_pixels=10_000)
        except InputError as error:
            failures += 1
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert image.dtype == np.uint8
    assert failures > 0


@pytest.mark.parametrize("function", [read_image, image_size])
def test_too_many_pixels(tmp_path, function):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000))
    refused(function, path, "60000x60000", "3600000000", "400000000")
    small = saved(tmp_path / "a.png", GREY)
    with pytest.raises(InputError, match="limit of 53"):
        function(small, max_pixels=53)
    function(small, max_pixels=54)


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_is_lifted_for_one_file_only(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "large.png"
    path.write_bytes(png(20_000, 10_000))  # 200 million: Pillow alone refuses this
    assert image_size(path) == (10_000, 20_000)
    refused(read_image, path)  # it has no rows
    assert Image.MAX_IMAGE_PIXELS == before
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_pillows_limit_comes_back_after_the_last_of_several_files(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = saved(tmp_path / "a.png", GREY)
    with opened(path, 100):
        read_image(path)
        assert Image.MAX_IMAGE_PIXELS is None  # the outer file is not decoded yet
    assert Image.MAX_IMAGE_PIXELS == before


def test_threads_leave_pillows_limit_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = saved(tmp_path / "a.png", GREY)
    threads = [threading.Thread(target=lambda: [image_size(path) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == before


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    # The superuser may read everything, so the system's answer is imitated.
    path = saved(tmp_path / "a.png", GREY)

    def forbidden(file, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    monkeypatch.setattr(builtins, "open", forbidden)
    refused(read_image, path, "cannot read", "permission denied")


# Writing.


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.tiff"])
@pytest.mark.parametrize("array", [RGB, GREY, RGB[::-1, ::2], RGB[..., ::-1]])
def test_written_is_read(tmp_path, name, array):
    path = write_image(tmp_path / "new" / "folder" / name, array)
    assert path == tmp_path / "new" / "folder" / name
    np.testing.assert_array_equal(read_image(path), array)
    assert everything_in(tmp_path) == ["new", "new/folder", f"new/folder/{name}"]


def test_png_is_the_default(tmp_path):
    path = write_image(str(tmp_path / "fused"), GREY)
    assert path == tmp_path / "fused.png"
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "L"


def test_quality(tmp_path):
    sizes = {}
    for quality in (30, 95):
        path = write_image(tmp_path / f"{quality}.jpg", np.kron(RGB, np.ones((8, 8, 1), np.uint8)), quality)
        sizes[quality] = path.stat().st_size
    assert sizes[30] < sizes[95]
    with Image.open(path) as image:
        assert image.format == "JPEG"
    # Red on blue, pixel by pixel: chroma at half resolution would blur it away.
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    read = read_image(write_image(tmp_path / "stripes.jpg", stripes, 100)).astype(int)
    assert np.abs(read - stripes).max() < 16


def test_mode_of_a_new_file_follows_the_umask(tmp_path):
    previous = os.umask(0o022)
    try:
        path = write_image(tmp_path / "a.png", GREY)
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o644


def test_longest_possible_name_and_link(tmp_path):
    write_image(tmp_path / ("n" * 251 + ".png"), GREY)
    (tmp_path / "real").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "a.png")
    write_image(tmp_path / "link.png", GREY)
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "real" / "a.png"), GREY)


@pytest.mark.parametrize(
    "array, word",
    [
        (RGB.astype(np.float32), "float32"),
        (RGB.astype(np.int64), "int64"),
        (RGB[..., :2], "(6, 9, 2)"),
        (RGB[None], "(1, 6, 9, 3)"),
        (RGB[:0], "empty"),
        (np.zeros((1, 70_000), np.uint8), "JPEG"),  # longer than the format allows
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, word):
    refused(lambda path: write_image(path, array), tmp_path / "a.jpg", word)
    assert everything_in(tmp_path) == []


def test_unknown_extension(tmp_path):
    refused(lambda path: write_image(path, GREY), tmp_path / "a.jpge", "'.jpge'", ".jpeg", ".png")
    assert everything_in(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path):
    # All of these fail for the superuser too.
    (tmp_path / "file").write_text("x")
    refused(lambda path: write_image(path, GREY), tmp_path / "file" / "a.png", "folder cannot be made")
    refused(lambda path: write_image(path, GREY), tmp_path / "file" / "b" / "a.png", "folder cannot be made")
    (tmp_path / "folder.png").mkdir()
    refused(lambda path: write_image(path, GREY), tmp_path / "folder.png", "folder")
    refused(lambda path: write_image(path, GREY), tmp_path / ("n" * 300 + ".png"), "cannot write")
    refused(lambda path: write_bytes(path, b"x"), "/dev/null", "not a regular file")
    assert everything_in(tmp_path) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "x"


def test_folder_that_may_not_be_written(tmp_path):
    # /proc takes no files, from nobody; it says "no such file" or "not permitted".
    refused(lambda path: write_image(path, GREY), "/proc/self/a.png", "cannot write")


def _fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_at_any_step_keeps_the_old_file(tmp_path, monkeypatch, step, number, words):
    path = write_image(tmp_path / "a.png", GREY)
    before = path.read_bytes()
    monkeypatch.setattr(writing.os, step, _fail_with(number))
    refused(lambda path: write_image(path, RGB), path, "cannot write", words)
    assert path.read_bytes() == before
    assert everything_in(tmp_path) == ["a.png"]


def test_full_disk_for_real(tmp_path, monkeypatch):
    """The kernel's own answer: the temporary file is a link to a device that is always full."""
    path = write_image(tmp_path / "a.png", GREY)
    before = path.read_bytes()
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    real_open = builtins.open

    def open_full(file, mode="r", *args, **kwargs):
        if mode == "xb":
            os.symlink("/dev/full", file)
            mode = "wb"
        return real_open(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", open_full)
    refused(lambda path: write_image(path, RGB), path, "disk is full", "free some space")
    assert path.read_bytes() == before
    assert everything_in(tmp_path) == ["a.png"]


def test_full_file_system(tmp_path):
    """A file system of 64 kB, where one can be mounted."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    try:
        path = write_image(small / "a.png", GREY)
        before = path.read_bytes()
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        refused(lambda path: write_image(path, noise), path, "disk is full")
        assert path.read_bytes() == before
        assert everything_in(small) == ["a.png"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", GREY)
    assert everything_in(tmp_path) == []


# Colour maps.


def lightness(rgb):
    """CIE L* of sRGB, 0..100."""
    linear = np.asarray(rgb) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_diverging_map():
    ramp = apply_colormap(np.linspace(0, 1, 101)[None], "diverging")
    assert ramp.shape == (1, 101, 3) and ramp.dtype == np.uint8
    low, middle, high = ramp[0, [0, 50, 100]].astype(int)
    assert low[2] > low[0] + 80 and high[0] > high[2] + 80  # blue, red
    assert middle.min() > 235
    light = lightness(ramp[0])
    assert (np.diff(light[:51]) > 0).all() and (np.diff(light[50:]) < 0).all()
    np.testing.assert_allclose(light, light[::-1], atol=2)  # both sides equally strong
    np.testing.assert_allclose(light[:51], np.linspace(light[0], light[50], 51), atol=3)  # even steps
    np.testing.assert_array_equal(apply_colormap(np.linspace(0, 1, 101)[None]), ramp)


def test_sequential_map():
    light = lightness(apply_colormap(np.linspace(0, 1, 101)[None], "sequential")[0])
    assert light[0] < 10 and light[-1] > 90
    np.testing.assert_allclose(light, np.linspace(light[0], light[-1], 101), atol=3)


@pytest.mark.parametrize("name", ["diverging", "sequential"])
def test_values_beyond_the_ends(name):
    ends = apply_colormap(np.array([[0.0, 1.0]]), name)[0]
    beyond = apply_colormap(np.array([[-5, -np.inf, 5, np.inf, np.nan]]), name)[0]
    np.testing.assert_array_equal(beyond, [ends[0], ends[0], ends[1], ends[1], [0, 0, 0]])
    single = apply_colormap(np.float32([[0.3]]), name)
    np.testing.assert_array_equal(single, apply_colormap(np.float64([[0.3]]), name))


def test_wrong_use_of_colour_maps():
    with pytest.raises(InputError, match="diverging, sequential.*'jet'"):
        apply_colormap(np.zeros((2, 2)), "jet")
    with pytest.raises(InputError, match=r"\(2, 2, 1\)"):
        apply_colormap(np.zeros((2, 2, 1)))
