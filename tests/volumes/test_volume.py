"""Volumes in the patient: slices as a radiologist sees them, one grid out of two."""

import nibabel
import numpy as np
import pytest
from volume_files import affine_of, field, points_of

from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import AUTO, Rule
from refusion_jax.volumes.grid import finer, on_one_grid, onto
from refusion_jax.volumes.volume import Grid, Volume, slices, to_levels


def volume(spacing=(2, 2, 3), origin=(-20, -24, -15), codes="RAS", shape=(18, 20, 12), turn=0, **more):
    affine = affine_of(spacing, origin, codes, turn)
    values = field(points_of(shape, affine)).astype(np.float32)
    return Volume("volume.nii", values, Grid(shape, affine), **more)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_slices_are_as_a_radiologist_sees_them_however_they_are_stored(codes):
    affine = affine_of((1, 1, 1), codes=codes)
    right, front, head = points_of((5, 6, 7), affine)
    for axis, expected in {
        "axial": (head, -front, -right),  # counted to the head, rows to the back, columns to the left
        "coronal": (front, -head, -right),
        "sagittal": (right, -head, -front),
    }.items():
        for along, values in enumerate(expected):
            assert (np.diff(slices(values, affine, axis), axis=along) == 1).all()


def test_slices_are_a_view_into_the_volume():
    stored = np.zeros((3, 4, 5, 3), np.uint8)
    slices(stored, affine_of((1, 1, 1), codes="PIL"), "coronal")[0, 0, 0] = 1, 2, 3
    assert stored.reshape(-1, 3).sum(0).tolist() == [1, 2, 3]


@pytest.mark.parametrize("codes", ["RAS", "ASL"])
def test_the_same_voxels_stored_otherwise_are_not_resampled(codes):
    a = volume()
    turned = nibabel.Nifti1Image(a.values, a.grid.affine).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(a.grid.affine), nibabel.orientations.axcodes2ornt(tuple(codes))
        )
    )
    b = Volume("b.nii", np.asarray(turned.dataobj), Grid(turned.shape, turned.affine + 1e-5))
    found = onto(b, a, 0)
    assert not found.resampled
    np.testing.assert_array_equal(found.values, a.values)


@pytest.mark.parametrize(("codes", "turn"), [("RAS", 0), ("LSA", 0), ("RPS", 25)])
def test_a_resampled_volume_shows_what_lies_at_each_place(codes, turn):
    reference = volume()
    grid = reference.grid
    origin = {"RAS": (-30, -30, -30), "LSA": (30, -30, -30), "RPS": (-50, 40, -30)}[codes]
    b = volume((1.5, 1.2, 1.3), origin, codes, (60, 70, 64), turn)
    found = onto(b, reference, -1)
    assert found.resampled
    inside = found.values != -1
    assert found.covered == pytest.approx(inside.mean()) and found.covered > 0.6
    assert np.abs(found.values - field(points_of(grid.shape, grid.affine)))[inside].max() < 40  # of 1000, smoothed


def test_the_finer_grid_is_taken_and_the_other_where_it_is_asked_for():
    coarse, fine = volume(), volume((1, 1, 1), (-15, -20, -10), shape=(20, 24, 16))
    assert finer(coarse, fine) == "b" and finer(fine, coarse) == "a" and finer(fine, fine) == "b"
    for side, expected in ((None, fine), ("a", coarse), ("b", fine)):
        reference, both = on_one_grid(coarse, fine, side, (0, 0))
        assert reference is expected
        assert [one.resampled for one in both] == [expected is fine, expected is coarse]
        assert {one.values.shape for one in both} == {expected.grid.shape}


def test_a_coarser_grid_gets_means_and_not_single_voxels():
    noise = np.random.default_rng(0).normal(0, 1, (64, 64, 64)).astype(np.float32)
    fine = Volume("noise.nii", noise, Grid(noise.shape, affine_of((1, 1, 1))))
    found = onto(fine, volume((4, 4, 4), (6, 6, 6), shape=(12, 12, 12)), 0)
    assert found.values.std() < 0.25  # of single voxels: 1


def test_volumes_beside_each_other_are_refused():
    with pytest.raises(InputError, match="no place in common"):
        on_one_grid(volume(), volume(origin=(500, 0, 0)), None, (0, 0))


def test_a_volume_that_does_not_say_where_it_lies_fits_its_own_grid_alone():
    a, b = volume(), volume(origin=(0, 0, 0), placed=False)
    reference, both = on_one_grid(a, b, "b", (0, 0))
    assert reference is a and both[1].values is b.values
    with pytest.raises(InputError, match="does not say where it lies"):
        on_one_grid(a, volume(shape=(18, 20, 11), placed=False), None, (0, 0))


def test_levels_are_the_rules_or_the_windows_or_those_of_the_values():
    own = volume()
    low, high = float(own.values.min()), float(own.values.max())
    found = own.levels(AUTO)
    assert low <= found.low < found.high <= high and found.high - found.low > 0.9 * (high - low)
    shown = volume(window=(100.0, 300.0))
    assert (shown.levels(AUTO).low, shown.levels(AUTO).high) == (100, 300)
    fixed = shown.levels(Rule("fixed", 0, 500))
    scaled = to_levels(shown.values, fixed)
    assert scaled.dtype == np.uint16
    np.testing.assert_allclose(scaled, np.clip(shown.values / 500, 0, 1) * 65535, atol=0.51)
