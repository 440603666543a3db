"""Tests of what pictures say besides their pixels: EXIF and profiles carried over, and notes on what is not."""

import io
import struct
import zlib

import numpy as np
import pytest
from picture_files import exif, png, png_chunk, tiff
from PIL import ExifTags, Image, ImageCms

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import Metadata, Picture, read_image, read_picture, write_image
from refusion_jax.imaging.metadata import fitted, icc_space

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP_RGB = RGB * np.uint16(257) ^ np.uint16(0x5A00)  # its two bytes differ
DEEP_GREY = DEEP_RGB[..., 0]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(space):
    """A profile of another colour space: enough of one for its header to be read."""
    return SRGB[:16] + space + SRGB[20:]


GREY_PROFILE, CMYK_PROFILE = profile(b"GRAY"), profile(b"CMYK")
CAMERA_TEXT = "Jürgen © 2024".encode()


def camera_exif(order="<", orientation=6):
    """As a camera writes it: a thumbnail, a maker note, sizes, text beyond ASCII, a ratio of 0 to 0."""

    def numbers(code, *values):
        return struct.pack(f"{order}{len(values)}{code}", *values)

    main = {
        271: (2, b"Maker\0"),
        274: (3, numbers("H", orientation)),
        282: (5, numbers("I", 300, 1)),
        315: (2, CAMERA_TEXT + b"\0"),
        330: (4, numbers("I", 8)),  # other directories: not to be carried over
        700: (1, b'<x tiff:Orientation="6"/>'),  # XMP
    }
    camera = {
        33434: (5, numbers("I", 1, 250)),
        36864: (7, b"0232"),
        37380: (10, numbers("i", -1, 3)),
        37500: (7, b"maker note" * 10),
        37510: (7, b"ASCII\0\0\0a comment"),
        40962: (4, numbers("I", 40)),
        40963: (4, numbers("I", 24)),
        42034: (5, numbers("I", 24, 1, 70, 1, 0, 0, 0, 0)),
    }
    position = {1: (2, b"N\0"), 2: (5, numbers("I", 48, 1, 12, 1, 0, 1))}
    thumbnail = io.BytesIO()
    Image.fromarray(RGB[:8, :8]).save(thumbnail, "JPEG")
    return exif(order, main, camera, position, thumbnail.getvalue())


def sources(order):
    """Files of each format with the same EXIF and profile."""
    block = camera_exif(order)
    for kind in ("JPEG", "WEBP"):
        packed = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        Image.fromarray(RGB).save(packed, kind, exif=b"Exif\0\0" + block, icc_profile=SRGB, **options)
        yield kind.lower(), packed.getvalue()
    chunks = [png_chunk(b"iCCP", b"p\0\0" + zlib.compress(SRGB)), png_chunk(b"eXIf", block)]
    yield "png", png(RGB, *chunks)
    yield "png", png(DEEP_RGB, *chunks)


def entries(block):
    """What other software, here Pillow, finds in a block: {directory: {tag: value}}."""
    read = Image.Exif()
    read.load(block)
    found = {"main": dict(read)}
    for name in ("Exif", "GPSInfo", "IFD1"):
        found[name] = dict(read.get_ifd(getattr(ExifTags.IFD, name)))
    return found


@pytest.mark.parametrize("order", "<>")
def test_metadata_read_and_cleaned(tmp_path, order):
    for extension, data in sources(order):
        path = tmp_path / f"a.{extension}"
        path.write_bytes(data)
        picture = read_picture(path)
        assert picture.pixels.shape == (40, 24, 3) and picture.metadata.icc == SRGB
        assert picture.notes == ("EXIF maker note dropped",)
        found = entries(picture.metadata.exif)
        assert found["main"][ExifTags.Base.Orientation] == 1
        assert found["main"][ExifTags.Base.Artist].encode("latin-1") == CAMERA_TEXT
        assert not {330, 700} & set(found["main"]) and found["IFD1"] == {}
        assert found["Exif"].keys() == {33434, 36864, 37380, 37510, 42034}
        assert found["Exif"][37380] == pytest.approx(-1 / 3) and found["Exif"][37510] == b"ASCII\0\0\0a comment"
        assert found["GPSInfo"] == {1: "N", 2: (48, 12, 0)}


def test_entries_of_megabytes_stay_behind(tmp_path):
    path = tmp_path / "a.png"
    block = exif("<", {270: (2, b"x" * 2_000_000), 271: (2, b"Maker\0")})
    path.write_bytes(png(RGB, png_chunk(b"eXIf", block)))
    assert entries(read_picture(path).metadata.exif)["main"].keys() == {271, 274}


OUTPUTS = ["a.jpg", "a.webp", "a.png", "a.tif"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "name, array",
    [(name, array) for name in OUTPUTS for array in (RGB, GREY)]
    + [(name, array) for name in ("a.png", "a.tif") for array in (DEEP_RGB, DEEP_GREY)],
)
def test_metadata_written_and_read_again(tmp_path, name, array, order):
    source = tmp_path / "source.jpg"
    Image.fromarray(RGB).save(source, exif=b"Exif\0\0" + camera_exif(order))
    metadata = read_picture(source).metadata
    profiles = {2: (GREY_PROFILE, SRGB), 3: (SRGB, GREY_PROFILE)}[3 if name == "a.webp" else array.ndim]
    path = write_image(tmp_path / name, array, metadata=Metadata(metadata.exif, profiles[0]))
    again = read_picture(path)
    assert again.metadata == Metadata(metadata.exif, profiles[0]) and again.notes == ()
    if name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(again.pixels, array)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == profiles[0]
        written = image.getexif()
        assert written[ExifTags.Base.Orientation] == 1 and written[ExifTags.Base.Make] == "Maker"
        camera = written.get_ifd(ExifTags.IFD.Exif)
        assert (camera[40962], camera[40963]) == image.size  # of this picture, not of its source
        assert camera[37510] == b"ASCII\0\0\0a comment"
        assert written.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48, 12, 0)
    # A profile for other pixels is left out, and nothing else.
    write_image(path, array, metadata=Metadata(metadata.exif, profiles[1]))
    assert read_picture(path).metadata == Metadata(metadata.exif, None)
    # Without metadata, none.
    assert read_picture(write_image(path, array)).metadata == Metadata()


def test_written_chunks_stand_before_the_pixels(tmp_path):
    block = b"Exif\0\0" + exif("<", {271: (2, b"Maker\0")})
    for array, icc in ((DEEP_RGB, SRGB), (DEEP_GREY, GREY_PROFILE), (RGB, SRGB)):
        data = write_image(tmp_path / "a.png", array, metadata=Metadata(block, icc)).read_bytes()
        assert 33 < data.index(b"iCCP") < data.index(b"eXIf") < data.index(b"IDAT")


def test_what_does_not_fit_is_said():
    block = b"Exif\0\0" + exif("<", {271: (2, b"Maker\0")})
    both = Metadata(block, SRGB)
    assert fitted(both, "a.png", RGB) == (both, ()) == fitted(both, "A.TIFF", DEEP_RGB)
    kept, notes = fitted(both, "a.png", GREY)
    assert kept == Metadata(block, None) and "RGB pixels, not for grey" in notes[0]
    kept, notes = fitted(Metadata(None, GREY_PROFILE), "a.webp", GREY)  # a WebP is RGB
    assert kept == Metadata() and "grey pixels, not for RGB" in notes[0]
    kept, notes = fitted(both, "a.bmp", RGB)
    assert kept == Metadata() and len(notes) == 1 and "BMP" in notes[0]
    long = Metadata(b"Exif\0\0" + exif("<", {271: (2, b"x" * 70_000 + b"\0")}), SRGB)
    kept, notes = fitted(long, "a.jpg", RGB)
    assert kept == Metadata(None, SRGB) and "64 KB" in notes[0]
    assert fitted(long, "a.png", RGB) == (long, ())


def test_exif_too_long_for_jpeg_is_left_out_on_writing(tmp_path):
    long = Metadata(b"Exif\0\0" + exif("<", {271: (2, b"x" * 70_000 + b"\0")}), SRGB)
    assert read_picture(write_image(tmp_path / "a.jpg", RGB, metadata=long)).metadata == Metadata(None, SRGB)
    assert len(read_picture(write_image(tmp_path / "a.png", RGB, metadata=long)).metadata.exif) > 70_000


def test_profiles():
    assert (icc_space(SRGB), icc_space(GREY_PROFILE), icc_space(CMYK_PROFILE)) == ("RGB", "grey", "CMYK")
    for damaged in (b"", SRGB[:200], SRGB[:36] + b"none" + SRGB[40:]):
        assert icc_space(damaged) is None


def test_profiles_that_do_not_fit_the_pixels_read(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).convert("CMYK").save(path, icc_profile=CMYK_PROFILE)
    picture = read_picture(path)
    assert picture.metadata.icc is None and picture.pixels.shape == RGB.shape
    assert picture.notes == (
        "CMYK converted to RGB, without colour management",
        "colour profile dropped: it is for CMYK pixels, not for these",
    )
    Image.fromarray(RGB).save(path, icc_profile=SRGB[:300])
    assert read_picture(path).notes == ("colour profile dropped: it is damaged",)


def test_tags_of_a_tiff_that_tell_how_it_is_stored_stay_behind(tmp_path):
    # Of a TIFF with two strips, an ImageJ description and a resolution, only the resolution is worth keeping.
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).save(path, compression="tiff_lzw", description="ImageJ=1.53\nimages=2", dpi=(300, 300))
    exif_block = read_picture(path).metadata.exif
    assert entries(exif_block)["main"].keys() == {274, 282, 283, 296}
    again = write_image(tmp_path / "b.tif", DEEP_RGB, metadata=Metadata(exif_block))
    with Image.open(again) as image:
        assert image.info["compression"] == "raw" and image.info["dpi"] == (300, 300)
    Image.fromarray(RGB).save(path, description="A view")
    assert entries(read_picture(path).metadata.exif)["main"][270] == "A view"
    path.write_bytes(tiff(DEEP_RGB))
    assert read_picture(path).metadata == Metadata()


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "a.png"
    whole = camera_exif()
    rng = np.random.default_rng(0)
    blocks = [b"", b"II", b"no directory at all", whole[:9], whole[:60], whole[:4] + b"\xff" * 4, whole[:4] + bytes(4)]
    for _ in range(40):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 8):
            damaged[position] = rng.integers(256)
        blocks.append(bytes(damaged))
    for block in blocks:
        path.write_bytes(png(RGB, png_chunk(b"eXIf", block)))
        picture = read_picture(path)
        assert sorted(picture.pixels.shape) == [3, 24, 40] and picture.pixels.shape == read_image(path).shape
        for name in OUTPUTS:
            write_image(tmp_path / name, RGB, metadata=picture.metadata)
        assert read_picture(tmp_path / "a.tif").metadata == picture.metadata
        path = tmp_path / "source.png"
    path.write_bytes(png(RGB, png_chunk(b"eXIf", b"garbage of some length")))
    assert read_picture(path).notes == ("EXIF dropped: it cannot be read",)


# Every format and mode.


def modes():
    """(extension, image, options, lossless pixels or None, notes)."""
    image, grey = Image.fromarray(RGB), Image.fromarray(GREY)
    alpha = Image.fromarray(np.dstack([RGB, GREY]))
    grey_alpha = Image.fromarray(np.dstack([GREY, GREY]))
    palette = image.quantize(16)
    in_colors = np.asarray(palette.convert("RGB"))
    bits = Image.fromarray(GREY > 99)
    as_cmyk = image.convert("CMYK")
    from_cmyk = np.asarray(as_cmyk.convert("RGB"))
    cmyk_note = "CMYK converted to RGB, without colour management"
    for extension in ("png", "tif", "bmp", "webp", "jpg"):
        options = {"lossless": True} if extension == "webp" else {}
        exact = extension != "jpg"
        yield extension, image, options, RGB if exact else None, ()
        yield extension, grey, options, (np.dstack([GREY] * 3) if extension == "webp" else GREY) if exact else None, ()
    for extension in ("png", "tif", "bmp"):
        yield extension, bits, {}, np.where(GREY > 99, 255, 0), ()
    for extension in ("png", "tif", "bmp", "gif"):
        yield extension, palette, {}, in_colors, ("palette converted to RGB",)
    for extension in ("png", "tif", "webp"):
        options = {"lossless": True, "exact": True} if extension == "webp" else {}
        yield extension, alpha, options, RGB, ("alpha dropped",)
    for extension in ("png", "tif"):
        yield extension, grey_alpha, {}, GREY, ("alpha dropped",)
    yield "png", palette, {"transparency": 3}, in_colors, ("alpha dropped", "palette converted to RGB")
    yield "png", palette, {"transparency": bytes(range(16))}, in_colors, ("alpha dropped", "palette converted to RGB")
    yield "tif", as_cmyk, {}, from_cmyk, (cmyk_note,)
    yield "jpg", as_cmyk, {}, None, (cmyk_note,)
    yield "tif", image.convert("YCbCr"), {"compression": "jpeg"}, None, ()
    for extension in ("gif", "png", "webp", "tif"):
        count = "several pages" if extension == "tif" else "2 frames"
        options = {"save_all": True, "append_images": [grey.convert("RGB")], "lossless": True, "duration": 50}
        pixels = None if extension == "gif" else RGB
        yield extension, image, options, pixels, (f"the first of {count} used",)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("extension, image, options, expected, notes", list(modes()))
def test_every_format_and_mode(tmp_path, extension, image, options, expected, notes):
    path = tmp_path / f"a.{extension}"
    image.save(path, **options)
    picture = read_picture(path)
    assert isinstance(picture, Picture) and picture.pixels.dtype == np.uint8
    if extension == "gif" and "save_all" in options:
        notes = ("palette converted to RGB", *notes)
    assert picture.notes == notes
    np.testing.assert_array_equal(picture.pixels, read_image(path))
    if expected is not None:
        np.testing.assert_array_equal(picture.pixels, expected)
    else:
        reference = RGB if picture.pixels.ndim == 3 else GREY
        assert picture.pixels.shape == reference.shape


def test_quality_of_a_picture_with_metadata(tmp_path):
    smooth = np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 96, 3))
    sizes = [
        write_image(tmp_path / name, smooth + RGB[0, 0], quality, Metadata(None, SRGB)).stat().st_size
        for name in ("a.jpg", "a.webp")
        for quality in (30, 95)
    ]
    assert sizes[0] < sizes[1] and sizes[2] < sizes[3]


def test_read_picture_refuses_as_read_image_does(tmp_path):
    (tmp_path / "text.png").write_text("this is no image\n" * 20)
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "text.png"):
        messages = []
        for function in (read_image, read_picture):
            with pytest.raises(InputError) as caught:
                function(path)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
