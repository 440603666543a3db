"""Frames into brackets and focus stacks by the times and exposures in their EXIF."""

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from refusion_jax.data.captures import by_capture
from refusion_jax.errors import InputError


def frame(folder, name, at, seconds, iso=100, aperture=8.0, fraction=None):
    """A small JPEG taken so many seconds after noon."""
    exif = Image.Exif()
    inside = exif.get_ifd(IFD.Exif)
    inside[Base.ExposureTime], inside[Base.FNumber] = IFDRational(round(seconds * 10**5), 10**5), aperture
    inside[Base.ISOSpeedRatings] = iso
    inside[Base.DateTimeOriginal] = f"2026:06:01 12:{at // 60:02d}:{at % 60:02d}"
    if fraction:
        inside[Base.SubsecTimeOriginal] = fraction
    path = folder / name
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, exif=exif)
    return path


def names(groups):
    return [[path.stem for path in group] for group in groups]


def test_a_bracket_ends_where_an_exposure_comes_again_or_after_a_pause(tmp_path):
    taken = [
        ("a1", 0, 1 / 60, 100), ("a2", 0, 1 / 240, 100), ("a3", 1, 1 / 15, 100),
        ("b1", 2, 1 / 60, 100), ("b2", 2, 1 / 240, 100), ("b3", 3, 1 / 15, 100),
        # The same light by another sensitivity is the same exposure, and a pause ends a group of two.
        ("c1", 4, 1 / 120, 200), ("c2", 5, 1 / 30, 100), ("d1", 40, 1 / 8, 100), ("d2", 41, 1.0, 100),
    ]  # fmt: skip
    frames = [frame(tmp_path, f"{n}.jpg", t, s, iso, fraction=f"{i:02d}") for i, (n, t, s, iso) in enumerate(taken)]
    expected = [["a1", "a2", "a3"], ["b1", "b2", "b3"], ["c1", "c2"], ["d1", "d2"]]
    assert names(by_capture(frames[::-1])) == expected


def test_a_long_exposure_is_no_pause(tmp_path):
    frames = [frame(tmp_path, f"{i}.jpg", at, s) for i, (at, s) in enumerate([(0, 1), (2, 30), (40, 4)])]
    assert names(by_capture(frames)) == [["0", "1", "2"]]


def test_focus_stacks_have_one_exposure_and_end_at_pauses(tmp_path):
    frames = [frame(tmp_path, f"{i}.jpg", at, 1 / 50) for i, at in enumerate([0, 1, 3, 60, 61])]
    assert names(by_capture(frames)) == [["0", "1", "2"], ["3", "4"]]


def test_frames_of_one_second_go_by_their_names(tmp_path):
    frames = [frame(tmp_path, f"IMG_{i}.jpg", 0, 2.0 ** (i % 3 - 6)) for i in (10, 9, 11)]
    assert names(by_capture(frames)) == [["IMG_9", "IMG_10", "IMG_11"]]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_frame_that_does_not_tell_is_named(tmp_path, suffix):
    path = tmp_path / f"plain.{suffix}"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(InputError, match="plain.*--group N"):
        by_capture([frame(tmp_path, "a.jpg", 0, 1), path])
