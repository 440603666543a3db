"""Folders of volumes as data sets: found, cut into slices, surveyed, listed, trained on and scored."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from volume_files import affine_of, field, points_of, write_nifti, write_series

from refusion_jax.cli.data import main as data
from refusion_jax.cli.evaluate import main as evaluate
from refusion_jax.data.pairs import Pair
from refusion_jax.data.search import discover, find_pairs
from refusion_jax.data.slices import has_volumes, sliced
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import image_size, read_image, write_image
from refusion_jax.imaging.levels import RUN, Rule
from refusion_jax.training.sources import from_folder


def head(path: Path, shape, spacing, corner, seed=0) -> Path:
    """A volume that shows something between heights of -6 and 6 mm, and air elsewhere."""
    affine = affine_of(spacing, corner)
    points = points_of(shape, affine)
    return write_nifti(path, (field(points, seed) * (np.abs(points[2]) < 6)).astype(np.int16), affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """PET/ and MRI/ of four heads, on different grids."""
    root = tmp_path_factory.mktemp("volumes") / "heads"
    for i in range(4):
        head(root / "PET" / f"sub-{i}.nii.gz", (12, 12, 8), (4, 4, 4), (-22, -22, -14), i + 5)
        head(root / "MRI" / f"sub-{i}.nii", (24, 24, 14), (2, 2, 2), (-23, -23, -13), i)
    return root


def test_folders_of_volumes_are_pairs(folder, tmp_path):
    found = discover(folder)
    assert found.task == "mif" and [pair.name for pair in found.pairs] == [f"sub-{i}" for i in range(4)]
    assert has_volumes(found.pairs)
    for i in range(2):
        write_series(tmp_path / "PET" / f"p{i}", shape=(8, 8, 2))
        write_series(tmp_path / "MRI" / f"p{i}", shape=(8, 8, 2))
        write_series(tmp_path / "studies" / f"s{i}" / "CT", shape=(8, 8, 2))
        write_series(tmp_path / "studies" / f"s{i}" / "MR", shape=(8, 8, 2))
    assert [(p.name, p.a.parent.name) for p in find_pairs(tmp_path, "mif")][:1] == [("p0", "PET")]
    assert [(p.name, p.a.name, p.b.name) for p in find_pairs(tmp_path / "studies")] == [
        ("s0", "CT", "MR"),
        ("s1", "CT", "MR"),
    ]


def test_slices_with_content_on_one_grid_with_one_range(folder, tmp_path):
    (pair, *_) = find_pairs(folder)
    cut = sliced([pair], tmp_path, (Rule("fixed", 0, 2000), Rule("fixed", 0, 1000)))
    assert [one.name for one in cut.pairs] == [f"sub-0/axial_{k:03d}" for k in range(4, 10)]
    for one in cut.pairs:
        assert image_size(one.a) == image_size(one.b) == (24, 24)
    k = cut.pairs[2]
    points = points_of((24, 24, 14), affine_of((2, 2, 2), (-23, -23, -13)))[:, :, :, 6]
    expected = field(points, 0)[::-1, ::-1].T * 255 / 1000  # rows to the back, columns to the left
    np.testing.assert_allclose(read_image(k.b), expected, atol=1)
    assert read_image(k.a).max() < 128  # of 2000
    with pytest.raises(InputError, match="run"):
        sliced([pair], tmp_path, (RUN, RUN))


def test_no_slice_of_a_volume_that_is_trained_on_is_held_out(folder):
    found = from_folder(folder, "mif", crop=16, validation_every=2)
    train, validation = ({name.split("/")[0] for name in part.names} for part in (found.train, found.validation))
    assert train == {"sub-0", "sub-2"} and validation == {"sub-1", "sub-3"}
    pair = found.train[0]
    assert pair["a"].shape == (24, 24) and np.ptp(pair["b"]) > 50
    assert any("4 pairs of volumes, 4 of them resampled" in line for line in found.remarks)
    again = from_folder(folder, "mif", crop=16, validation_every=2)
    assert again.fingerprint == found.fingerprint and (again.train[3]["a"] == found.train[3]["a"]).all()
    kept = Path(found.slices.name)
    assert kept.is_dir()
    del found
    assert not kept.exists()


def test_of_fewer_heads_than_every_nth_none_is_held_out_and_a_note_says_so(folder, tmp_path, capsys):
    listed = tmp_path / "heads.csv"
    assert data([str(folder), "--validation-every", "5", "--manifest", str(listed)]) == 0
    assert "(4 train)" in capsys.readouterr().out
    for source in (folder, listed):
        found = from_folder(source, "mif", crop=16)
        assert len(found.train) == 24 and not len(found.validation)
        assert any("no volume is held out" in line and "of 4 pairs" in line for line in found.remarks)
    assert evaluate(["--data", str(folder), "--split", "validation", "--baselines"]) == 2
    assert "no such pairs" in capsys.readouterr().err
    none = from_folder(folder, "mif", crop=16, validation_every=0)
    assert len(none.train) == 24 and not any("held out" in line for line in none.remarks)


def test_a_held_out_picture_beside_volumes(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "heads")
    for side in ("PET", "MRI"):
        for i in range(2):
            image = np.random.default_rng(i).integers(0, 255, (24, 24), np.uint8)
            write_image(tmp_path / "slices" / side / f"{i}.png", image)
    found = from_folder(tmp_path, "mif", crop=16, validation_every=5)
    assert found.validation.names == ["slices/0"] and len(found.train) == 24 + 1


def test_a_survey_and_its_manifest(folder, tmp_path, capsys):
    root = tmp_path / "heads"
    for path in folder.rglob("*.nii*"):
        target = root / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    damaged = root / "PET" / "sub-2.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert data([str(root), "--manifest", str(tmp_path / "list.csv")]) == 1
    said = capsys.readouterr().out
    assert "unreadable files: 1" in said and str(damaged) in said and "18 pairs" in said
    assert [pair.name for pair in find_pairs(tmp_path / "list.csv")] == ["sub-0", "sub-1", "sub-3"]
    assert data([str(root), "--quick"]) == 2
    with pytest.raises(InputError, match="sub-2"):
        from_folder(root, "mif", crop=16)


def test_scores_are_of_slices(folder, tmp_path, capsys):
    options = ["--baselines", "--metrics", "EN", "SD", "--levels", "a=0,2000", "b=0,1000", "--out", str(tmp_path)]
    assert evaluate(["--data", str(folder), *options]) == 0
    rows = (tmp_path / "per_image.csv").read_text().splitlines()
    assert len(rows) == 1 + 24 and "sub-3/axial_009" in rows[-1]
    assert "4 pairs of volumes" in capsys.readouterr().err


def test_a_volume_with_a_picture_is_an_error(folder, tmp_path):
    cut = sliced([Pair("x", folder / "PET" / "sub-0.nii.gz", folder / "x.png")], tmp_path)
    assert "x.png" in cut.errors["x"]
    with pytest.raises(InputError, match="x.png"):
        cut.require()
    with pytest.raises(InputError, match="volume"):
        image_size(folder / "PET" / "sub-0.nii.gz")
