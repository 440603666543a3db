"""Levels: which values of a file are black and white, by what it declares, by what it uses and by what is asked for."""

import numpy as np
import pytest
import tifffile
from picture_files import png, png_chunk, tiff

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import levels_of_file, read_image, read_picture, read_pictures, write_image
from refusion_jax.imaging.levels import (
    AUTO,
    RUN,
    WHOLE,
    Levels,
    Rule,
    Values,
    common,
    find_levels,
    parse_rules,
    text_of,
)

SHAPE = (110, 130)
RNG = np.random.default_rng(5)
UNIT = RNG.random(SHAPE)  # without stray values


def saved(path, data):
    path.write_bytes(data)
    return path


def counts(low, high, dtype=np.uint16):
    """A picture whose values go from low to high."""
    picture = np.rint(low + (high - low) * UNIT)
    picture[0, :2] = low, high
    return picture.astype(dtype)


def levels_of(picture):
    return picture.levels.low, picture.levels.high


# What the file declares.


def test_8_bits_are_0_to_255_whatever_is_asked_for(tmp_path):
    grey = counts(100, 130, np.uint8)
    path = saved(tmp_path / "a.png", png(grey))
    for rule in (AUTO, RUN, Rule("fixed", 0, 10), Rule("percentile", 1, 99)):
        picture = read_picture(path, rule)
        assert np.array_equal(picture.pixels, grey) and levels_of(picture) == (0, 255) and not picture.levels.note


@pytest.mark.parametrize("tags", [{281: ("H", [4095]), 280: ("H", [0])}, {340: ("H", [0]), 341: ("H", [4095])}])
def test_the_tags_of_a_tiff_declare_them(tmp_path, tags):
    values = counts(90, 3000)
    picture = read_picture(saved(tmp_path / "a.tif", tiff(values, tags=tags)))
    assert levels_of(picture) == (0, 4095) and not picture.levels.note
    np.testing.assert_array_equal(picture.pixels, np.rint(values * (65535 / 4095)))
    wrong = read_picture(saved(tmp_path / "a.tif", tiff(values + 4000, tags=tags)))  # values beyond what they say
    assert levels_of(wrong) == (4090, 7000)


def test_the_chunk_of_a_png_declares_them_unless_the_values_are_scaled(tmp_path):
    chunk = png_chunk(b"sBIT", b"\x0c")
    assert levels_of(read_picture(saved(tmp_path / "a.png", png(counts(0, 3900), chunk)))) == (0, 4095)
    assert levels_of(read_picture(saved(tmp_path / "a.png", png(counts(0, 65535), chunk)))) == (0, 65535)


def test_a_pgm_declares_them(tmp_path):
    values = counts(0, 1023)
    head = f"P5 {SHAPE[1]} {SHAPE[0]} 4095\n".encode()
    picture = read_picture(saved(tmp_path / "a.pgm", head + values.astype(">u2").tobytes()))
    assert np.abs(picture.pixels - values * (65535 / 4095)).max() <= 1
    assert levels_of(picture) == (0, 4095)


def test_the_levels_of_a_pgm_are_in_its_own_values(tmp_path):
    head = f"P5 {SHAPE[1]} {SHAPE[0]} 16383\n".encode()
    path = saved(tmp_path / "a.pgm", head + counts(7300, 7800).astype(">u2").tobytes())
    note = read_picture(path).levels.note
    assert "7300..7800" in note and "0..16383" in note
    picture = read_picture(path, Rule("fixed", 7300, 7800))
    np.testing.assert_array_equal(picture.pixels, np.rint((counts(7300, 7800).astype(float) - 7300) * (65535 / 500)))


def test_little_of_what_is_declared_is_said(tmp_path):
    picture = read_picture(saved(tmp_path / "a.tif", tiff(counts(7300, 7800), tags={281: ("H", [16383])})))
    assert levels_of(picture) == (0, 16383)
    assert "7300..7800" in picture.levels.note and "0..16383" in picture.levels.note


# What the values use.


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (7300, 7800, np.uint16),
        (0, 4095, np.uint16),
        (-1000, 1500, np.int16),
        (-5, 10**6, np.int32),
        (70000, 90000, np.uint32),
    ],
)
def test_the_used_range_of_integers(tmp_path, low, high, dtype):
    values = counts(low, high, dtype)
    picture = read_picture(saved(tmp_path / "a.tif", tiff(values)))
    assert levels_of(picture) == (low, high) and picture.levels.measured
    assert f"{low}..{high}" in picture.levels.note
    np.testing.assert_array_equal(picture.pixels, np.rint((values.astype(float) - low) * (65535 / (high - low))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats(tmp_path, dtype):
    celsius = (18 + 20 * UNIT).astype(dtype)
    picture = read_picture(saved(tmp_path / "a.tif", tiff(celsius)))
    low, high = float(celsius.min()), float(celsius.max())
    assert np.allclose(levels_of(picture), (low, high)) and picture.levels.note
    np.testing.assert_allclose(picture.pixels, (celsius - low) * (65535 / (high - low)), atol=0.51)
    unit = read_picture(saved(tmp_path / "a.tif", tiff(UNIT.astype(dtype))))
    assert levels_of(unit) == (0, 1) and not unit.levels.note
    colour = np.stack([UNIT, UNIT[::-1], 0.1 * UNIT], -1).astype(dtype)
    np.testing.assert_allclose(read_picture(saved(tmp_path / "a.tif", tiff(colour))).pixels, colour * 65535, atol=0.51)


def test_values_that_mean_nothing(tmp_path):
    hole = (18 + 20 * UNIT).astype(np.float32)
    hole[:5] = np.nan
    hole[5, :3] = np.inf, -np.inf, -9999
    picture = read_picture(saved(tmp_path / "a.tif", tiff(hole)))
    assert 18 <= picture.levels.low < picture.levels.high <= 38
    assert not picture.pixels[:5].any() and not picture.pixels[5, :3].any()
    # A value that GDAL's tag names, and the zeros around a warped frame, which nothing names.
    for value, tags in ((60000, [(42113, "s", 0, "60000", True)]), (0, [])):
        framed = counts(7300, 7800)
        framed[:, :20] = value
        tifffile.imwrite(tmp_path / "b.tif", framed, photometric="minisblack", extratags=tags)
        picture = read_picture(tmp_path / "b.tif")
        assert picture.levels.low >= 7300 and picture.levels.high <= 7800 and not picture.pixels[:, :20].any()
    nothing = read_picture(saved(tmp_path / "a.tif", tiff(np.full(SHAPE, np.nan, np.float32))))
    assert not nothing.pixels.any() and "no data" in nothing.levels.note


def test_stray_pixels_do_not_decide(tmp_path):
    values = counts(7300, 7500)
    values[50, 60] = 16383
    picture = read_picture(saved(tmp_path / "a.tif", tiff(values)))
    assert levels_of(picture) == (7300, 7700)  # a small warm target stays apart from the rest


def test_16_bits_that_use_their_range_are_as_they_are(tmp_path):
    for values in (counts(0, 65535), counts(3000, 30000), counts(0, 60, np.uint8).astype(np.uint16) * 257):
        picture = read_picture(saved(tmp_path / "a.tif", tiff(values)))
        assert np.array_equal(picture.pixels, values) and not picture.levels.note


@pytest.mark.parametrize("level", [0, 12, 7300, 65535])
def test_nothing_but_noise_is_not_made_a_picture(tmp_path, level):
    values = np.full(SHAPE, level, np.uint16)
    assert np.array_equal(read_picture(saved(tmp_path / "a.tif", tiff(values))).pixels, values)
    values[::2] -= 1 if level else 0
    assert np.array_equal(read_picture(saved(tmp_path / "a.tif", tiff(values))).pixels, values)


def test_large_pictures_are_measured_by_a_part_of_them(monkeypatch):
    from refusion_jax.imaging import levels

    values = Values(counts(7300, 7800))
    monkeypatch.setattr(levels, "_SAMPLE", 2000)
    found = find_levels(values)
    assert 7300 <= found.low <= 7305 and 7795 <= found.high <= 7800


# What is asked for.


def test_rules(tmp_path):
    path = saved(tmp_path / "a.tif", tiff(counts(7300, 7800)))
    fixed = read_picture(path, Rule("fixed", 7400, 7500))
    assert levels_of(fixed) == (7400, 7500) and fixed.pixels.min() == 0 and fixed.pixels.max() == 65535
    middle = read_picture(path, Rule("percentile", 10, 90))
    assert np.allclose(levels_of(middle), (7350, 7750), atol=4)
    whole = read_picture(path, WHOLE)
    assert np.array_equal(whole.pixels, counts(7300, 7800)) and not whole.levels.note
    assert levels_of_file(path, RUN) == levels_of_file(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", (AUTO, AUTO)),
        ("", (AUTO, AUTO)),
        ("RUN", (RUN, RUN)),
        ("b=whole", (AUTO, WHOLE)),
        ("7300,7800", (Rule("fixed", 7300, 7800),) * 2),
        ("a=-1000..1500.5", (Rule("fixed", -1000, 1500.5), AUTO)),
        ("b=percentile:0.1,99.9 a=run", (RUN, Rule("percentile", 0.1, 99.9))),
    ],
)
def test_rules_as_text(text, expected):
    assert parse_rules(text) == expected
    a, b = map(text_of, expected)
    assert parse_rules(f"a={a} b={b}") == expected


@pytest.mark.parametrize(
    "text",
    ["wide", "5", "7,3", "3,3", "1,2,3", "nan,2", "1,inf", "percentile:99,1", "percentile:-1,50", "c=1,2", "fixed:1,2"],
)
def test_rules_that_are_none(text):
    with pytest.raises(InputError, match="levels"):
        parse_rules(text)


def test_frames_of_one_camera_have_one_black_and_white(tmp_path):
    dark, bright = (
        saved(tmp_path / f"{name}.tif", tiff(counts(*ends)))
        for name, ends in zip("ab", ((60, 900), (200, 4095)), strict=True)
    )
    both = read_pictures([dark, bright], [AUTO, AUTO], together=True)
    assert {levels_of(picture) for picture in both} == {(60, 4095)} and both[0].pixels.max() < 0.25 * 65535
    alone = read_pictures([dark, bright], [AUTO, AUTO])
    assert [levels_of(picture) for picture in alone] == [(60, 900), (200, 4095)]
    # Beside a frame that fills its range.
    assert common([Levels(60, 900, "x", True), Levels(0, 65535)])[0].high == 65535
    assert common([Levels(0, 255), Levels(0, 4095)]) == [Levels(0, 255), Levels(0, 4095)]


def test_8_bits_of_any_kind_of_file(tmp_path):
    path = saved(tmp_path / "a.tif", tiff(UNIT.astype(np.float32)))
    np.testing.assert_allclose(read_image(path), UNIT * 255, atol=0.51)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_what_is_written_says_its_levels(tmp_path, name, shape):
    faint = RNG.integers(9000, 9500, shape).astype(np.uint16)
    picture = read_picture(write_image(tmp_path / name, faint))
    assert np.array_equal(picture.pixels, faint) and not picture.levels.measured


def test_white_as_zero_turns_no_data_and_declared_levels_too(tmp_path):
    values = counts(1000, 3000)
    values[:8] = 0
    tags = [(42113, "s", 0, "0", True), (280, "H", 1, 1000, True), (281, "H", 1, 3000, True)]
    tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite", extratags=tags)
    picture = read_picture(tmp_path / "w.tif")
    assert np.array_equal(picture.no_data, values == 0)
    assert (picture.levels.low, picture.levels.high) == (65535 - 3000, 65535 - 1000)
    shown = np.rint(65535 * (3000 - np.clip(values, 1000, 3000).astype(float)) / 2000)
    assert np.abs(picture.pixels.astype(int) - np.where(values == 0, 0, shown)).max() <= 1


def test_integers_of_32_bits_do_not_wrap_around(tmp_path):
    values = np.tile(np.arange(0, 130_000, 1000, np.int32), (110, 1))
    header = {"SIMPLE": "T", "BITPIX": 32, "NAXIS": 2, "NAXIS1": values.shape[1], "NAXIS2": values.shape[0]}
    cards = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in header.items()) + "END"
    fits = saved(tmp_path / "deep.fits", cards.ljust(2880).encode() + values.astype(">i4").tobytes())
    picture = read_picture(fits)
    assert (np.diff(picture.pixels[0].astype(int)) > 0).all() and picture.levels.high == 129_000
