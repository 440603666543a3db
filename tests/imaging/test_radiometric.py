"""Thermal cameras' JPEG files: FLIR's two pictures on each other, other makers recognised, what cannot be read."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from flir_file import flir_jpeg
from scipy.ndimage import center_of_mass

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import read_picture, read_pictures
from refusion_jax.imaging.levels import AUTO
from refusion_jax.imaging.radiometric import maker_of, require_two_pictures, shared_field

REAL = Path(__file__).parent.parent / "files" / "flir_ax8.jpg"


def both(path):
    return read_pictures([path, path], [AUTO, AUTO], pages=[0, 1])


def scene():
    """(thermal counts, visible, relation) with a warm square where the visible picture has a bright one."""
    thermal, visible = np.full((30, 40), 16500, np.uint16), np.full((120, 160, 3), 40, np.uint8)
    thermal[10:16, 24:32] = 17500
    # 4 pixels to one: 160 / 40, by 1.25 less, that is 3.2; the middle 8 to the right and 4 up.
    visible[round(56 + 3.2 * (10 - 15)) : round(56 + 3.2 * (16 - 15)), round(88 + 3.2 * 4) : round(88 + 3.2 * 12)] = 220
    return thermal, visible, (1.25, 8, -4)


def test_both_pictures_of_a_file_lie_on_each_other(tmp_path):
    pytest.importorskip("flyr")
    path = tmp_path / "x.jpg"
    path.write_bytes(flir_jpeg(*scene()))
    thermal, visible = both(path)
    assert thermal.pixels.shape == visible.pixels.shape[:2] == (96, 128)
    assert thermal.pixels.dtype == np.uint16 and visible.pixels.dtype == np.uint8 and visible.pixels.shape[2] == 3
    warm = center_of_mass(thermal.pixels.astype(float) - thermal.pixels.min() > 30000)
    bright = center_of_mass(visible.pixels[..., 0].astype(float) > 130)
    assert np.abs(np.subtract(warm, bright)).max() < 0.6
    assert 10 < thermal.levels.low < thermal.levels.high < 60  # degrees Celsius
    assert "40x30" in thermal.notes[0]
    shown = read_picture(path)
    assert shown.pixels.shape == (24, 32, 3) and "radiometric JPEG (FLIR)" in shown.notes[0]


def test_a_file_that_does_not_tell_how_they_lie(tmp_path):
    pytest.importorskip("flyr")
    thermal, visible, _ = scene()
    path = tmp_path / "x.jpg"
    path.write_bytes(flir_jpeg(thermal, visible, None))
    one, other = both(path)
    assert one.pixels.shape == (30, 40) and other.pixels.shape == (120, 160, 3) and "--align" in one.notes[0]
    path.write_bytes(flir_jpeg(thermal, None, None))
    with pytest.raises(InputError, match="without a visible picture.*-RawThermalImage x.jpg"):
        both(path)


def test_a_real_file():
    """A FLIR AX8: 80x60 thermal pixels on 640x480 visible ones, a pipe colder than the wall."""
    pytest.importorskip("flyr")
    thermal, visible = both(REAL)
    assert thermal.pixels.shape == visible.pixels.shape[:2] == (412, 550)
    assert thermal.levels.low == pytest.approx(24.36, abs=0.05) and thermal.levels.high == pytest.approx(
        25.47, abs=0.05
    )
    assert thermal.pixels[190, 200:400].mean() < 0.5 * thermal.pixels[300, 200:400].mean()


def test_fields_that_reach_beyond_the_visible_picture():
    outer, inner = shared_field((60, 80), (480, 640), 0.8, (0, 0))
    assert outer == (0, 0, 640, 480) and inner == pytest.approx((8, 6, 72, 54))
    assert shared_field((60, 80), (480, 640), 0.0, (0, 0)) is None
    assert shared_field((60, 80), (480, 640), 1.0, (700, 0)) is None


def other_maker(maker):
    """The first segments of another maker's file."""
    if maker == "DJI":
        segments = [(0xE1, b"Exif\0\0II*\0 DJI\0ZH20T"), (0xE3, bytes(60))]
    else:
        segments = [(0xE2, b"\0\0\0\0IJPEG\0")]
    return b"\xff\xd8" + b"".join(bytes([0xFF, kind]) + struct.pack(">H", len(d) + 2) + d for kind, d in segments)


@pytest.mark.parametrize("maker,command", [("DJI", "dji_irp -s x.jpg -a measure"), ("InfiRay", "-ImagingData x.jpg")])
def test_other_makers_are_told_what_to_run(tmp_path, maker, command):
    path = tmp_path / "x.jpg"
    path.write_bytes(other_maker(maker) + b"\xff\xda")
    with pytest.raises(InputError, match=f"{maker}.*{command}"):
        require_two_pictures(path)
    for damaged in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\0", b"\x89PNG"):
        assert maker_of(io.BytesIO(damaged)) is None
    path.write_bytes(flir_jpeg(*scene())[:3000])
    with pytest.raises(InputError, match="x.jpg: "):
        both(path)


def test_a_missing_flyr_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flyr", None)
    with pytest.raises(InputError, match="pip install 'flyr>=5.1'"):
        both(REAL)
