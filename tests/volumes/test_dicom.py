"""DICOM series: real and made ones, what is refused, what other readers and a validator find in those written."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from volume_files import field, points_of, write_series

from refusion_jax.errors import InputError
from refusion_jax.volumes import dicom, dicom_writing

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


def read(folder, limit=10**8):
    return dicom.read_series(Path(folder), limit)


def folder_of(folder, *names):
    """A folder with files that pydicom ships."""
    folder.mkdir()
    for name in names:
        shutil.copy(get_testdata_file(name), folder / name)
    return folder


def test_a_series_has_its_values_where_they_lie_whatever_its_files_are_called(tmp_path):
    itk = pytest.importorskip("SimpleITK")
    folder = write_series(tmp_path / "mr")
    (folder / "README").write_text("no image, and no obstacle")
    volume = read(folder)
    assert volume.grid.shape == (40, 32, 8) and volume.grid.spacing == (2, 2, 3) and volume.window == (-200, 1400)
    expected = field(points_of(volume.grid.shape, volume.grid.affine)).astype(np.int16)
    np.testing.assert_array_equal(volume.values, expected)
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(itk.GetArrayFromImage(image).T, expected)
    last = image.TransformIndexToPhysicalPoint((39, 31, 7))
    np.testing.assert_allclose(volume.grid.affine[:3] @ (39, 31, 7, 1), np.multiply(last, (-1, -1, 1)))


def test_series_that_pydicom_ships():
    heart = read(SHIPPED / "98892001" / "CT5N")
    assert heart.grid.shape == (16, 16, 5) and heart.grid.spacing == pytest.approx((0.488281, 0.488281, 2.5))
    assert heart.source[0].ImagePositionPatient[2] == -1.2375 and heart.window == (-160, 240)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("77654033/CT2", ["missing", "-99.48", "103.02", "202.5", "1.25"]),
        ("98892003/MR2", ["3 series", "FAST LOCALIZER", "PILOT", "3 images"]),
        ("98892003/MR700", ["not parallel"]),
        ("77654033/CR1", ["ImagePositionPatient"]),
    ],
)
def test_real_folders_that_are_no_volume(name, words):
    with pytest.raises(InputError) as error:
        read(SHIPPED / name)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_what_else_is_no_volume(tmp_path):
    folder = write_series(tmp_path / "mr", shape=(8, 8, 4))
    with pytest.raises(InputError, match="over the limit"):
        read(folder, 255)
    shutil.copytree(folder, tmp_path / "twice")
    for path in folder.iterdir():
        shutil.copy(path, tmp_path / "twice" / f"again{path.name}")
    with pytest.raises(InputError, match="8 images lie at 4 places"):
        read(tmp_path / "twice")
    cut = folder / "IM002"
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(InputError, match="IM002"):
        read(folder)
    (folder / "IM002").write_bytes(b"x" * 128 + b"DICM" + b"x" * 80)
    with pytest.raises(InputError, match="IM002"):
        read(folder)
    with pytest.raises(InputError, match="frames"):
        read(folder_of(tmp_path / "frames", "rtdose.dcm"))
    with pytest.raises(InputError, match="no DICOM images"):
        read(folder_of(tmp_path / "plan", "rtplan.dcm"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("element", "value"),
    [
        ("RescaleSlope", None),
        ("RescaleIntercept", None),
        ("PixelRepresentation", None),
        ("PixelRepresentation", "missing"),
        ("BitsStored", "missing"),
        ("Columns", None),
        ("ImagePositionPatient", [0, 1]),
        ("ImagePositionPatient", ["", "", ""]),
        ("ImagePositionPatient", [0, 0, "nan"]),
        ("ImageOrientationPatient", [1, 0, 0]),
        ("PixelSpacing", 2),
        ("SpacingBetweenSlices", [2, 2]),
    ],
)
def test_damaged_headers_are_named_in_one_line(tmp_path, element, value):
    folder = write_series(tmp_path / "mr", shape=(8, 8, 1))
    (path,) = folder.iterdir()
    image = pydicom.dcmread(path)
    setattr(image, element, None if value == "missing" else value)
    if value == "missing":
        delattr(image, element)
    image.save_as(path)
    with pytest.raises(InputError, match=f"{path}: a damaged DICOM file: .") as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("center", "width", "expected"),
    [
        (["40", "400"], ["", ""], None),
        (["", "40"], ["80", "400"], None),
        (None, "80", None),
        ("40", None, None),
        (["40", "400"], ["80", "800"], (0, 80)),
        ("0", "80", (-40, 40)),
    ],
)
def test_the_first_window_counts_and_an_empty_one_is_none(tmp_path, center, width, expected):
    folder = write_series(tmp_path / "mr", shape=(8, 8, 2), WindowCenter=center, WindowWidth=width)
    assert read(folder).window == expected


def test_rescaling_padding_and_compression(tmp_path):
    own = dict(template="CT_small.dcm", shape=(16, 12, 3), RescaleSlope="0.5", RescaleIntercept="-100")
    half = read(write_series(tmp_path / "half", **own, PixelPaddingValue=-2000))
    expected = field(points_of(half.grid.shape, half.grid.affine)).astype(np.int16) * 0.5 - 100
    np.testing.assert_allclose(half.values, expected)
    lowest = int(2 * (expected.min() + 100))
    padded = read(write_series(tmp_path / "padded", **own, PixelPaddingValue=lowest))
    assert padded.values.min() > expected.min()
    plain, packed = (read(folder_of(tmp_path / n, n)) for n in ("MR_small.dcm", "MR_small_RLE.dcm"))
    np.testing.assert_array_equal(plain.values, packed.values)
    assert plain.grid.shape == (64, 64, 1) and plain.grid.spacing[2] == 0.8


def test_lossless_jpeg_where_gdcm_is(tmp_path):
    pytest.importorskip("gdcm")
    plain, packed = (read(folder_of(tmp_path / n, n)) for n in ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"))
    np.testing.assert_array_equal(plain.values, packed.values)


def test_a_decoder_that_is_missing_is_named(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "packed", "JPGExtended.dcm")
    with pytest.raises(InputError, match=r"JPGExtended.dcm.*(JPEG|where it lies)"):
        read(folder)


def test_a_written_series_belongs_to_its_study_and_to_nobody_else(tmp_path):
    itk = pytest.importorskip("SimpleITK")
    a = read(write_series(tmp_path / "ct", "CT_small.dcm", seed=3))
    b = read(write_series(tmp_path / "mr", "MR_small.dcm", (48, 40, 10), (1.5, 1.6, 2.0), (-36, -32, -10)))
    assert [line for line in dicom.strangers(a, b) if "patient" in line] and not dicom.strangers(a, a)
    rng = np.random.default_rng(0)
    for name, like, sop in (("as mr", b, dicom_writing.MR), ("as ct", a, dicom_writing.CT), ("in colour", b, None)):
        shape = (*like.grid.shape, 3) if sop is None else like.grid.shape
        values = rng.integers(0, 256 if sop is None else 65536, shape).astype(np.uint8 if sop is None else np.uint16)
        dicom_writing.write_series(tmp_path / name, values, like, (a, b))
        images = [pydicom.dcmread(path) for path in sorted((tmp_path / name).iterdir())]
        for k, (image, source) in enumerate(zip(images, like.source, strict=True)):
            assert image.SOPClassUID == (sop or dicom_writing.SECONDARY_CAPTURE)
            assert image.ImageType[:2] == ["DERIVED", "SECONDARY"] and "iagnosis" in image.DerivationDescription
            for key in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
                assert image[key].value == source[key].value
            named = [str(one.ReferencedSOPInstanceUID) for one in image.SourceImageSequence]
            assert str(source.SOPInstanceUID) in named
            both = {str(header.SOPInstanceUID) for header in (*a.source, *b.source)}
            assert set(named) <= both and 1 <= len(named) <= 4
            assert not any(element.tag.is_private for element in image)
            patient = {element.tag for element in source if element.tag.group == 0x0010}
            assert {element.tag for element in image if element.tag.group == 0x0010} <= patient
            assert (image.pixel_array.swapaxes(0, 1) == values[:, :, k]).all()
        uids = {str(image.SOPInstanceUID) for image in images}
        series = {str(image.SeriesInstanceUID) for image in images}
        assert len(uids) == len(images) and len(series) == 1
        assert not (uids | series) & {
            str(h[key].value) for h in like.source for key in ("SOPInstanceUID", "SeriesInstanceUID")
        }
        reader = itk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / name)))
        image = reader.Execute()
        found = itk.GetArrayFromImage(image)
        np.testing.assert_array_equal(found.transpose(2, 1, 0, *range(3, found.ndim)), values)
        corner = np.multiply(image.TransformIndexToPhysicalPoint((3, 2, 1)), (-1, -1, 1))
        np.testing.assert_allclose(like.grid.affine[:3] @ (3, 2, 1, 1), corner, atol=1e-4)
        again = read(tmp_path / name)
        assert (again.values == values).all() and np.allclose(again.grid.affine, like.grid.affine)


def test_a_source_without_a_uid_is_written_from_but_not_named(tmp_path):
    like = read(write_series(tmp_path / "in", shape=(8, 8, 2)))
    del like.source[1].SOPInstanceUID
    dicom_writing.write_series(tmp_path / "out", np.zeros((8, 8, 2), np.uint16), like, (like,))
    named = [pydicom.dcmread(path).SourceImageSequence for path in sorted((tmp_path / "out").iterdir())]
    assert [len(images) for images in named] == [1, 0]


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("ISO_IR 192", "脳 PET", "ISO_IR 192"),
        ("ISO_IR 192", "PET", "ISO_IR 100"),
        ("ISO_IR 100", "Schädel PET", "ISO_IR 100"),
    ],
)
def test_the_names_of_both_series_are_readable(tmp_path, charset, name, expected):
    method = pydicom.Dataset()
    method.CodeValue, method.CodingSchemeDesignator, method.CodeMeaning = "1", "DCM", "geschwärzt"
    own = {"SpecificCharacterSet": "ISO_IR 100", "SeriesDescription": "Größe", "PatientName": "Müller^Jörg"}
    own |= {"DeidentificationMethodCodeSequence": [method], "Modality": ""}
    b = read(write_series(tmp_path / "b", shape=(8, 8, 2), **own))
    a = read(write_series(tmp_path / "a", shape=(8, 8, 2), SpecificCharacterSet=charset, SeriesDescription=name))
    dicom_writing.write_series(tmp_path / "out", np.zeros((8, 8, 2), np.uint16), b, (a, b))
    for path in (tmp_path / "out").iterdir():
        image = pydicom.dcmread(path)
        assert image.SpecificCharacterSet == expected and image.Modality == "MR"
        assert image.SeriesDescription == f"Fused + {name} + Größe"
        assert image.PatientName == "Müller^Jörg"
        assert image.DeidentificationMethodCodeSequence[0].CodeMeaning == "geschwärzt"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy, of the Debian package dicom3tools")
@pytest.mark.parametrize(
    ("template", "color"), [("CT_small.dcm", False), ("MR_small.dcm", False), ("MR_small.dcm", True)]
)
def test_a_validator_finds_no_error(tmp_path, template, color):
    like = read(write_series(tmp_path / "in", template, (16, 12, 3)))
    values = np.zeros((16, 12, 3, 3), np.uint8) if color else np.zeros((16, 12, 3), np.uint16)
    dicom_writing.write_series(tmp_path / "out", values, like, (like, like))
    for path in (tmp_path / "out").iterdir():
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert "Error" not in done.stderr + done.stdout, done.stderr


def test_a_folder_is_whole_or_not_there(tmp_path):
    like = read(write_series(tmp_path / "in", shape=(16, 12, 3)))
    two_of_three = np.zeros((16, 12, 2), np.uint16)
    with pytest.raises(IndexError):
        dicom_writing.write_series(tmp_path / "out", two_of_three, like, (like,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    with pytest.raises(InputError, match="files in it"):
        dicom_writing.write_series(tmp_path / "in", two_of_three, like, ())
