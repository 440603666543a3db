"""NIfTI files: what is read of them, what is refused, what another reader finds in those written."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from volume_files import affine_of, write_nifti

from refusion_jax.errors import InputError
from refusion_jax.volumes import nifti

SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"


def read(path, limit=10**8):
    return nifti.read_nifti(Path(path), limit)


def test_files_that_nibabel_ships():
    anatomy = read(SHIPPED / "anatomical.nii")
    expected = nibabel.load(SHIPPED / "anatomical.nii")
    assert anatomy.grid.shape == (33, 41, 25) and anatomy.grid.spacing == (2, 2, 2) and anatomy.placed
    assert anatomy.values.dtype == np.int16 and anatomy.values.dtype.isnative
    np.testing.assert_array_equal(anatomy.values, np.asarray(expected.dataobj))
    np.testing.assert_array_equal(anatomy.grid.affine, expected.affine)
    with pytest.raises(InputError, match=r"series of 20.*slicer\[\.\.\., 0\]"):
        read(SHIPPED / "functional.nii")
    with pytest.raises(InputError, match="33825"):
        read(SHIPPED / "anatomical.nii", 33_000)


def test_a_shipped_template_and_map_have_their_place():
    data = Path(pytest.importorskip("nilearn").__file__).parent / "datasets" / "data"
    brain, found = read(data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"), read(data / "image_10426.nii.gz")
    assert brain.grid.shape == (197, 233, 189) and brain.values.dtype == np.uint8
    assert found.grid.spacing == (3, 3, 3)


def test_kinds_of_values(tmp_path):
    affine = affine_of((1, 2, 3))
    rng = np.random.default_rng(0)
    grey = rng.integers(-500, 900, (4, 5, 6)).astype(np.int16)
    assert read(write_nifti(tmp_path / "a.nii", grey[..., None], affine)).values.tolist() == grey.tolist()
    doubles = grey / 7
    doubles[0, 0, 0], doubles[1, 1, 1] = np.nan, np.inf
    found = read(write_nifti(tmp_path / "d.nii.gz", doubles, affine)).values
    assert found.dtype == np.float32 and np.isfinite(found).all() and found[0, 0, 0] == found.min()
    color = rng.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    packed = np.ascontiguousarray(color).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    found = read(write_nifti(tmp_path / "rgb.nii", packed, affine))
    assert found.is_color and (found.values == color).all()
    window = read(write_nifti(tmp_path / "w.nii", grey, affine, window=(-100, 200))).window
    assert window == (-100, 200)
    assert read(write_nifti(tmp_path / "none.nii", grey, affine, 0, 0)).placed is False


def test_what_cannot_be_read_is_one_line(tmp_path):
    good = write_nifti(
        tmp_path / "a.nii.gz", np.arange(24000, dtype=np.int32).reshape(20, 30, 40) % 977, affine_of((1, 1, 1))
    )
    whole = good.read_bytes()
    cases = {
        "cut.nii.gz": whole[: len(whole) // 2],
        "flipped.nii.gz": whole[:1000] + bytes(200) + whole[1200:],
        "empty.nii.gz": b"",
        "text.nii": b"no volume at all" * 40,
        "text.nii.gz": b"no volume at all" * 40,
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name) as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "b.nii")
    with pytest.raises(InputError, match="real numbers"):
        read(write_nifti(tmp_path / "c.nii", np.ones((3, 3, 3), np.complex64), affine_of((1, 1, 1))))
    flat = bytearray(
        (write_nifti(tmp_path / "flat.nii", np.ones((3, 3, 3), np.int16), affine_of((1, 1, 1)))).read_bytes()
    )
    flat[280:328] = bytes(48)  # the rows of the sform
    (tmp_path / "flat.nii").write_bytes(flat)
    with pytest.raises(InputError, match="places no voxel"):
        read(tmp_path / "flat.nii")


def test_another_reader_finds_values_and_place(tmp_path):
    itk = pytest.importorskip("SimpleITK")
    affine = affine_of((1.5, 2, 3), (-7, 8, 9), "LAS", 20)
    like = read(write_nifti(tmp_path / "like.nii", np.zeros((5, 6, 7), np.int16), affine, 2, 4))
    values = np.random.default_rng(1).integers(0, 65536, (5, 6, 7)).astype(np.uint16)
    for name in ("a.nii", "a.nii.gz"):
        nifti.write_nifti(tmp_path / name, values, like, "a test")
        own = nibabel.load(tmp_path / name)
        np.testing.assert_allclose(own.affine, affine, atol=1e-5)
        assert [own.header[key] for key in ("qform_code", "sform_code", "cal_min", "cal_max")] == [2, 4, 0, 1]
        np.testing.assert_allclose(own.get_fdata(), values / 65535, atol=1e-6)
        image = itk.ReadImage(str(tmp_path / name))
        np.testing.assert_allclose(itk.GetArrayFromImage(image).T, values / 65535, atol=1e-6)
        np.testing.assert_allclose(image.GetSpacing(), (1.5, 2, 3), atol=1e-5)
        np.testing.assert_allclose(image.GetOrigin(), (7, -8, 9), atol=1e-4)  # ITK: to the left and the back
    assert read(tmp_path / "a.nii").window == (0, 1)
    color = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    nifti.write_nifti(tmp_path / "c.nii.gz", color, like, "a test")
    image = itk.ReadImage(str(tmp_path / "c.nii.gz"))
    np.testing.assert_array_equal(itk.GetArrayFromImage(image).transpose(2, 1, 0, 3), color)
    assert (read(tmp_path / "c.nii.gz").values == color).all()


def test_the_same_volume_gives_the_same_bytes_without_its_name(tmp_path):
    like = read(write_nifti(tmp_path / "like.nii", np.zeros((5, 6, 7), np.int16), affine_of((1, 1, 1))))
    for name in ("a.nii.gz", "other.nii.gz"):
        nifti.write_nifti(tmp_path / name, np.ones((5, 6, 7), np.uint8), like, "x")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()
