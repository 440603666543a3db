"""The command fuse on volumes, as a user calls it."""

import os
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from fuse_command import fuse, images, refused
from pydicom.data import get_testdata_file
from scripts import picture, tiny_info, tiny_trees
from volume_files import affine_of, field, points_of, write_nifti, write_series

from refusion_jax.imaging.files import write_image
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


@pytest.fixture(scope="module")
def mif(tmp_path_factory):
    """The command's beginning with tiny weights for mif."""
    path = tmp_path_factory.mktemp("weights") / "mif.safetensors"
    write_safetensors(path, from_names(tiny_trees()), tiny_info("mif"))
    return ["--ckpt", path, "--pair"]


def volume(path: Path, shape, spacing, corner, codes, seed=0, **fields) -> Path:
    """A NIfTI volume; corner: of its first voxel."""
    affine = affine_of(spacing, corner, codes)
    return write_nifti(path, field(points_of(shape, affine), seed).astype(np.int16), affine, **fields)


@pytest.fixture
def pet(tmp_path):
    return volume(tmp_path / "in" / "sub-01_PET.nii.gz", (20, 22, 6), (2, 2, 4), (20, -22, -12), "LAS", 3)


@pytest.fixture
def mri(tmp_path):
    """On a finer grid, stored in another order."""
    return volume(tmp_path / "in" / "sub-01_MRI.nii.gz", (36, 40, 10), (1, 1, 2), (-18, 20, 9), "RPI")


def test_two_grids_become_one(tmp_path, capsys, mif, pet, mri):
    fuse(*mif, pet, mri, "--maps", "--out", tmp_path / "f.nii.gz")
    assert images(tmp_path / ".") == [
        "f.nii.gz",
        "f_v.nii.gz",
        "f_w.nii.gz",
        "in/sub-01_MRI.nii.gz",
        "in/sub-01_PET.nii.gz",
    ]
    said = capsys.readouterr().err
    assert "20x22x6" in said and "36x40x10" in said
    fused, like = nibabel.load(tmp_path / "f.nii.gz"), nibabel.load(mri)
    assert fused.shape == like.shape and fused.header.get_data_dtype() == np.uint16
    np.testing.assert_allclose(fused.affine, like.affine)
    values = fused.get_fdata()
    assert values.min() == 0 and 0.9 < values.max() <= 1
    w = nibabel.load(tmp_path / "f_w.nii.gz").get_fdata()
    assert w.shape == fused.shape and 0 < w.min() < w.max() < 1
    fuse(*mif, pet, mri, "--grid", "a", "--depth", "8", "--out", tmp_path / "coarse.nii")
    coarse = nibabel.load(tmp_path / "coarse.nii")
    assert coarse.shape == (20, 22, 6) and coarse.header.get_data_dtype() == np.uint8


def test_axes_and_colour(tmp_path, capsys, mif, pet):
    found = {}
    for axis in ("axial", "sagittal"):
        out = tmp_path / axis
        fuse(*mif, pet, pet, "--axis", axis, "--pseudocolour", "hot-iron", "--out", out)
        assert images(out) == ["sub-01_PET.nii.gz"]
        stored = np.asarray(nibabel.load(out / "sub-01_PET.nii.gz").dataobj)
        assert stored.shape == (20, 22, 6) and stored.dtype.names == ("R", "G", "B")
        found[axis] = np.stack([stored[name].astype(int) for name in "RGB"], -1)
        assert (found[axis][..., 0] > found[axis][..., 2] + 20).any()
    assert (found["axial"] != found["sagittal"]).any()
    deep = [*mif, pet, pet, "--pseudocolour", "hot-iron", "--depth", "16", "--out", tmp_path / "grey.nii"]
    fuse(*deep, status=2)
    assert "--depth 16" in capsys.readouterr().err
    assert not (tmp_path / "grey.nii").exists()
    fuse(*deep, "--gray")
    assert nibabel.load(tmp_path / "grey.nii").header.get_data_dtype() == np.uint16


def test_a_volume_beside_a_picture_or_another_place_is_refused(tmp_path, capsys, mif, pet, mri):
    far = volume(tmp_path / "far.nii", (8, 8, 8), (1, 1, 1), (900, 0, 0), "RAS")
    lost = volume(tmp_path / "lost.nii", (8, 8, 8), (1, 1, 1), (0, 0, 0), "RAS", qform=0, sform=0)
    png = write_image(tmp_path / "a.png", picture(1))
    (tmp_path / "cut.nii.gz").write_bytes(mri.read_bytes()[:2000])
    series = write_series(tmp_path / "CT", shape=(8, 8, 2))
    slice_ = shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "one.dcm")
    out = ["--out", tmp_path / "f.nii.gz"]
    for arguments, words in {
        (pet, far, *out): "far.nii",
        (pet, lost, *out): "lost.nii",
        (pet, png, *out): "a.png",
        (pet, tmp_path / "cut.nii.gz", *out): "cut.nii.gz",
        (pet, tmp_path / "none.nii", *out): "none.nii",
        (pet, mri, "--out", tmp_path / "f.png"): ".nii",
        (pet, mri, "--out", mri): "overwrite",
        (pet, mri, *out, "--align", "affine"): "--align",
        (pet, mri, *out, "--pseudocolour", "hot-iron", "--pair", pet, mri): "2 pairs",
        (pet.parent, png, *out): "a.png",
        (slice_, slice_, "--out", tmp_path / "f.png"): "folders of DICOM series",
        (series, png, *out): "a.png",
        (png, png, "--axis", "axial", "--out", tmp_path / "f.png"): "--axis",
    }.items():
        assert words in refused(capsys, *mif, *arguments)
    assert not (tmp_path / "f.nii.gz").exists()


def test_folders_of_volumes_are_fused_pair_by_pair(tmp_path, capsys, mif, pet, mri):
    for side, source in (("PET", pet), ("MRI", mri)):
        (tmp_path / "heads" / side).mkdir(parents=True)
        for name in ("one", "two"):
            shutil.copy(source, tmp_path / "heads" / side / f"{name}.nii.gz")
    damaged = tmp_path / "heads" / "MRI" / "one.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:500])
    fuse(*mif[:2], "--data", tmp_path / "heads", "--out", tmp_path / "fused", status=1)
    assert images(tmp_path / "fused") == ["two.nii.gz"] and str(damaged) in capsys.readouterr().err
    sides = [tmp_path / "heads" / side for side in ("PET", "MRI")]
    assert "2 pairs" in refused(capsys, *mif, *sides, "--out", tmp_path / "f.nii.gz")
    assert "run" in refused(capsys, *mif, *sides, "--range", "run", "--out", tmp_path / "other")


def test_windows_and_levels(tmp_path, capsys, mif, pet):
    shown = volume(tmp_path / "CT.nii", (20, 22, 6), (2, 2, 4), (20, -22, -12), "LAS", window=(300, 600))
    fuse(*mif, shown, pet, "--out", tmp_path / "f.nii")
    assert "300..600" in capsys.readouterr().err
    fuse(*mif, shown, pet, "--levels", "a=0,1000", "b=0,1000", "--out", tmp_path / "g.nii")
    assert capsys.readouterr().err == ""
    one, other = (nibabel.load(tmp_path / f"{name}.nii").get_fdata() for name in "fg")
    assert np.abs(one - other).max() > 0.1
    fuse(*mif, shown, pet, "--levels", "5000,6000", "--out", tmp_path / "black.nii")
    assert "neither source shows anything" in capsys.readouterr().err
    assert not nibabel.load(tmp_path / "black.nii").get_fdata().any()


def test_series_become_a_series_or_a_file(tmp_path, capsys, monkeypatch, mif, pet):
    ct = write_series(tmp_path / "study" / "CT", "CT_small.dcm", (20, 16, 5), seed=3, RescaleIntercept=0)
    mr = write_series(tmp_path / "study" / "MR", shape=(24, 20, 6), spacing=(1.5, 1.5, 2), corner=(-36, -30, -10))
    out = tmp_path / "fused"
    fuse(*mif, ct, mr, "--maps", "--out", out)
    said = capsys.readouterr().err
    assert "patient IDs" in said and "-200..1400" in said and "CompressedSamples" not in said
    assert images(tmp_path / "fused") == [f"{k:04d}.dcm" for k in range(1, 7)]
    first = pydicom.dcmread(out / "0001.dcm")
    assert (first.Modality, first.Rows, first.Columns, first.PixelSpacing) == ("MR", 20, 24, [1.5, 1.5])
    assert nibabel.load(tmp_path / "fused_w.nii.gz").shape == (24, 20, 6)
    assert "files in it" in refused(capsys, *mif, ct, mr, "--out", out)
    fuse(*mif, ct, mr, "--maps", "--out", out, "--skip-existing")
    assert "fused already" in capsys.readouterr().out
    assert "--depth 8" in refused(capsys, *mif, ct, mr, "--out", tmp_path / "other", "--depth", "8")
    for name in ("empty", "taken"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    assert "files in it" in refused(capsys, *mif, ct, mr, "--out", tmp_path / "taken", "--skip-existing")
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)  # such as / in a container
    fuse(*mif, ct, mr, "--out", tmp_path / "empty", "--skip-existing")
    assert len(images(tmp_path / "empty")) == 6
    monkeypatch.undo()
    fuse(*mif, ct, mr, "--out", tmp_path / "f.nii.gz")
    stack = np.stack([pydicom.dcmread(path).pixel_array.T for path in sorted(out.iterdir())], -1)
    np.testing.assert_allclose(nibabel.load(tmp_path / "f.nii.gz").get_fdata(), stack / 65535, atol=1e-6)
    fuse(*mif, ct, pet, "--out", tmp_path / "mixed")
    assert images(tmp_path / "mixed") == ["CT_sub-01_PET.nii.gz"]


@pytest.mark.parametrize("library", ["nibabel", "pydicom"])
def test_without_the_library_one_line_names_it(tmp_path, capsys, monkeypatch, mif, pet, mri, library):
    series = write_series(tmp_path / "CT", shape=(8, 8, 2))
    monkeypatch.setitem(sys.modules, library, None)
    sources = (pet, mri) if library == "nibabel" else (series, series)
    assert f"pip install '{library}>=" in refused(capsys, *mif, *sources, "--out", tmp_path / "f.nii.gz")
