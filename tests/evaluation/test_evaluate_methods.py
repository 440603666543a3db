"""What evaluate.py scores: the names of methods, and which file is whose fused image."""

import unicodedata
from pathlib import Path

import pytest

from refusion_jax.data.pairs import Pair
from refusion_jax.errors import InputError
from refusion_jax.evaluation import find_fused
from refusion_jax.evaluation.methods import unique_names


def test_names_of_methods(tmp_path):
    run_directory = tmp_path / "runs" / "meie" / "checkpoints" / "00120"
    run_directory.mkdir(parents=True)
    other = tmp_path / "other" / "meie"
    other.mkdir(parents=True)
    paths = [tmp_path / "w" / "best.v2.pth", run_directory, tmp_path / "runs" / "meie", other]
    assert unique_names(paths, [None] * 4) == ["best.v2", "meie-00120", "runs/meie", "other/meie"]
    assert unique_names([other, other, other], [None, "meie", None]) == ["other/meie", "meie", "other/meie-2"]
    with pytest.raises(InputError, match="two methods are named 'x'"):
        unique_names([other, run_directory], ["x", "x"])


def pair_names(*names: str) -> list[Pair]:
    return [Pair(name, Path("a.png"), Path("b.png")) for name in names]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_finding_fused_images(tmp_path):
    def found(*names: str) -> dict[str, str]:
        return {k: str(v.relative_to(tmp_path)) for k, v in find_fused(tmp_path, pair_names(*names)).items()}

    touch(tmp_path, "14.PNG", "5_fused.jpg", "5_fused.txt", "sub/x.png", "sub_y.tif", "Flower_1_ours.png", "notes.png")
    touch(tmp_path, "1.5.png", ".hidden/14.png")
    assert found("14", "5") == {"14": "14.PNG", "5": "5_fused.jpg"}
    assert found("sub/x", "sub/y") == {"sub/x": "sub/x.png", "sub/y": "sub_y.tif"}
    # A longer name of another pair takes its own files.
    touch(tmp_path, "flower_ours.png")
    assert found("flower", "flower_1") == {"flower": "flower_ours.png", "flower_1": "Flower_1_ours.png"}
    assert found("1.5") == {"1.5": "1.5.png"}
    # The exact name goes before any suffix.
    touch(tmp_path, "5.png", "5_w.png")
    assert found("5") == {"5": "5.png"}
    # However accents are encoded.
    composed, apart = (unicodedata.normalize(form, "Schädel") for form in ("NFC", "NFD"))
    touch(tmp_path, f"{composed}.png", f"{apart}_2.png")
    assert found(f"x/{apart}", f"x/{composed}_2") == {
        f"x/{apart}": f"{composed}.png",
        f"x/{composed}_2": f"{apart}_2.png",
    }
    # A bare last part will do where it means one pair.
    assert found("ivif/14", "mfif/5") == {"ivif/14": "14.PNG", "mfif/5": "5.png"}


def test_fused_images_that_are_not_clear(tmp_path):
    touch(tmp_path, "14.png", "14.jpg", "5_ours.png", "5_theirs.png", "other.png")
    with pytest.raises(InputError, match=r"one fused image of pair '14', got 2 \(14.jpg, 14.png\)"):
        find_fused(tmp_path, pair_names("14"))
    with pytest.raises(InputError, match="one fused image of pair '5', got 2"):
        find_fused(tmp_path, pair_names("5"))
    with pytest.raises(InputError, match="2 of 3 pairs is missing: '6', '7'"):
        find_fused(tmp_path, pair_names("6", "7", "other"))
    # Two pairs end in 14: a bare name would have to serve both.
    with pytest.raises(InputError, match="is missing"):
        find_fused(tmp_path, pair_names("ivif/14", "mfif/14"))
    # A file that is another pair's own does not continue a shorter name.
    (tmp_path / "5_theirs.png").unlink()
    with pytest.raises(InputError, match="1 of 2 pairs is missing: '5'"):
        find_fused(tmp_path, pair_names("5", "5_ours"))
    with pytest.raises(InputError, match="does not exist"):
        find_fused(tmp_path / "none", pair_names("14"))
