"""Tests of pairs: layouts, names and order of sources, files without partner, sizes, validation split."""

import os
from pathlib import Path

import numpy as np
import pytest
from picture_files import touch
from PIL import Image

from refusion_jax.data.pairs import Pair, check_sizes, darker_first, split_validation
from refusion_jax.data.search import find_pairs, pair_from_files, pairs_from_arguments
from refusion_jax.errors import InputError


def found(folder, task=None):
    """(name, source 1, source 2) with paths relative to the folder."""
    pairs = find_pairs(folder, task)
    return [(pair.name, *(str(path.relative_to(folder)) for path in (pair.a, pair.b))) for pair in pairs]


def refused(function, *arguments, words=()):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# Two sibling folders.


@pytest.mark.parametrize(
    "first, second",
    [
        ("infrared", "visible"),
        ("ir", "vi"),
        ("IR", "VIS"),
        ("thermal", "rgb"),
        ("cropinfrared", "crop_LR_visible"),
        ("cropinfrared", "crop_HR_visible"),
        ("CT", "MRI"),
        ("PET", "MRI"),
        ("SPECT", "MRI"),
        ("CT_PET_SPECT", "MRI"),
        ("functional", "mri"),
        ("near", "far"),
        ("A", "B"),
        ("sourceA", "sourceB"),
        ("source_1", "source_2"),
        ("under", "over"),
        ("UE", "OE"),
    ],
)
def test_known_folders_give_the_order(tmp_path, first, second):
    touch(tmp_path / first, "2.png", "1.png")
    touch(tmp_path / second, "1.png", "2.png")
    expected = [(n, f"{first}/{n}.png", f"{second}/{n}.png") for n in ("1", "2")]
    assert found(tmp_path) == expected
    assert found(tmp_path, "ivif") == expected


def test_formats_and_case_may_differ(tmp_path):
    touch(tmp_path / "ir", "Scene.PNG", "b.1.tif", "c.jpeg")
    touch(tmp_path / "vi", "scene.jpg", "B.1.bmp", "C.tiff")
    assert found(tmp_path) == [
        ("Scene", "ir/Scene.PNG", "vi/scene.jpg"),
        ("b.1", "ir/b.1.tif", "vi/B.1.bmp"),
        ("c", "ir/c.jpeg", "vi/C.tiff"),
    ]


def test_unknown_folders_by_the_alphabet(tmp_path):
    touch(tmp_path / "zeta", "1.png", "2.png")
    touch(tmp_path / "Alpha", "1.png", "2.png")
    touch(tmp_path / "notes", "read.txt")
    assert found(tmp_path) == [(n, f"Alpha/{n}.png", f"zeta/{n}.png") for n in ("1", "2")]


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    touch(tmp_path / "ir", "1.png", ".2.png", "Thumbs.db", "3.txt", "._1.png", ".hidden/x.png")
    touch(tmp_path / "vi", "1.png", "list.csv", "4.npy")
    touch(tmp_path, "README.md", ".git/a.png")
    (tmp_path / "ir" / "folder.png").mkdir()
    assert found(tmp_path) == [("1", "ir/1.png", "vi/1.png")]


def test_folders_beside_known_ones_are_passed_over(tmp_path):
    for folder in ("ir", "vi", "labels", "masks"):
        touch(tmp_path / folder, "1.png", "2.png")
    touch(tmp_path / "labels", "3.png")
    assert [name for name, *_ in found(tmp_path)] == ["1", "2"]


def test_roadscene_with_both_resolutions(tmp_path):
    for folder in ("cropinfrared", "crop_LR_visible", "crop_HR_visible"):
        touch(tmp_path / folder, "1.jpg")
    assert found(tmp_path) == [("1", "cropinfrared/1.jpg", "crop_LR_visible/1.jpg")]


def test_task_decides_where_two_fit(tmp_path):
    for folder in ("infrared", "visible", "near", "far"):
        touch(tmp_path / folder, "1.png")
    assert found(tmp_path, "mfif") == [("1", "near/1.png", "far/1.png")]
    assert found(tmp_path, "ivif") == [("1", "infrared/1.png", "visible/1.png")]


def test_sources_in_parts_below_known_folders(tmp_path):
    for source in ("infrared", "visible"):
        touch(tmp_path / source, "train/1.png", "train/2.png", "test/1.png")
    assert found(tmp_path) == [(n, f"infrared/{n}.png", f"visible/{n}.png") for n in ("test/1", "train/1", "train/2")]


def test_more_than_two_folders(tmp_path):
    for folder in ("CT", "PET", "MRI"):
        touch(tmp_path / "known" / folder, "1.png")
    refused(find_pairs, tmp_path / "known", words=("more than two", "CT", "PET", "MRI"))
    for folder in ("x", "y", "z"):
        touch(tmp_path / "unknown" / folder, "1.png")
    refused(find_pairs, tmp_path / "unknown", words=("3 folders", "x, y, z", "expected two"))


def test_unpaired_files_are_named(tmp_path):
    touch(tmp_path / "ir", *(f"{n}.png" for n in range(7)))
    touch(tmp_path / "vi", "0.png", "1.png", "extra.png")
    message = refused(find_pairs, tmp_path, words=("6 unpaired", "2.png", "3.png", "4.png", "3 more"))
    assert "5.png" not in message
    for n in range(2, 7):
        (tmp_path / "ir" / f"{n}.png").unlink()
    message = refused(find_pairs, tmp_path, words=("1 unpaired", str(tmp_path / "vi" / "extra.png")))
    assert "more" not in message
    (tmp_path / "vi" / "extra.png").unlink()
    assert len(find_pairs(tmp_path)) == 2


def test_known_folder_without_images(tmp_path):
    touch(tmp_path / "ir", "1.png")
    (tmp_path / "vi").mkdir()
    refused(find_pairs, tmp_path, words=(str(tmp_path / "vi"), "none"))


def test_two_files_of_one_stem(tmp_path):
    touch(tmp_path / "ir", "1.png", "1.jpg")
    touch(tmp_path / "vi", "1.png")
    refused(find_pairs, tmp_path, words=("1.png", "1.jpg", "same stem"))


# One folder per scene.


@pytest.mark.parametrize("root", ["", "input"])
def test_scenes(tmp_path, root):
    base = tmp_path / root
    touch(base / "door", "door_A.jpg", "door_B.JPG")
    touch(base / "Farm", "Farm_A.png", "farm_B.png")  # as in MEFB
    touch(base / "house", "house_A.png", "house_B.png", "belg002.png", "belg009.png", "house_C.png")
    prefix = f"{root}/" if root else ""
    expected = [
        ("Farm", "Farm/Farm_A.png", "Farm/farm_B.png"),
        ("door", "door/door_A.jpg", "door/door_B.JPG"),
        ("house", "house/house_A.png", "house/house_B.png"),
    ]
    assert found(tmp_path) == [(name, prefix + a, prefix + b) for name, a, b in expected]


def test_other_folders_beside_input_are_passed_over(tmp_path):
    touch(tmp_path / "input" / "door", "door_A.png", "door_B.png")
    touch(tmp_path / "output" / "method1", "door.png")
    touch(tmp_path / "output" / "method2", "door.png")
    assert [name for name, *_ in found(tmp_path)] == ["door"]


def test_numbered_scenes_with_further_exposures(tmp_path):
    touch(tmp_path / "tower", *(f"tower_{n}.png" for n in range(1, 6)))
    touch(tmp_path / "cave", "x_1.png", "x_2.png")
    assert found(tmp_path) == [
        ("cave", "cave/x_1.png", "cave/x_2.png"),
        ("tower", "tower/tower_1.png", "tower/tower_2.png"),
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_scenes_whose_files_are_named_alike(tmp_path, count):
    for n in range(count):
        touch(tmp_path / f"scene{n}", "img_A.png", "img_B.png")
    expected = [(f"scene{n}", f"scene{n}/img_A.png", f"scene{n}/img_B.png") for n in range(count)]
    assert found(tmp_path) == expected


def test_two_scenes_called_like_sources(tmp_path):
    touch(tmp_path / "A", "A_A.png", "A_B.png")
    touch(tmp_path / "B", "B_A.png", "B_B.png")
    assert found(tmp_path) == [("A", "A/A_A.png", "A/A_B.png"), ("B", "B/B_A.png", "B/B_B.png")]


@pytest.mark.parametrize("folders", [("ir", "vi"), ("left", "right")])
def test_two_folders_of_numbered_files_are_no_scenes(tmp_path, folders):
    for folder in folders:
        touch(tmp_path / folder, *(f"img_{n}.png" for n in range(1, 30)))
    pairs = find_pairs(tmp_path)
    assert len(pairs) == 29
    assert all(pair.a.name == pair.b.name and pair.a.parent.name == folders[0] for pair in pairs)


def test_two_folders_of_numbered_files_one_without_partner(tmp_path):
    for folder in ("ir", "vi"):
        touch(tmp_path / folder, "a_1.png", "a_2.png", "b_1.png", "b_2.png", "c_1.png")
    assert len(find_pairs(tmp_path)) == 5


def test_all_pairs_in_one_folder(tmp_path):
    touch(tmp_path, "x_A.png", "x_B.jpg", "y_a.png", "y_b.png")
    assert found(tmp_path) == [("x", "x_A.png", "x_B.jpg"), ("y", "y_a.png", "y_b.png")]
    touch(tmp_path, "z_B.png")
    refused(find_pairs, tmp_path, words=("z_B.png", "unpaired", "z_A"))


def test_a_single_scene_as_the_root(tmp_path):
    touch(tmp_path, "door_A.png", "door_B.png", "other.png")
    assert found(tmp_path) == [("door", "door_A.png", "door_B.png")]


def test_scene_without_its_partner(tmp_path):
    touch(tmp_path / "door", "door_A.png", "door_B.png")
    touch(tmp_path / "wall", "wall_A.png")
    refused(find_pairs, tmp_path, words=("wall_A.png", "unpaired", "wall_B"))


def test_scene_with_two_files_of_one_stem(tmp_path):
    touch(tmp_path / "door", "door_A.png", "door_A.jpg", "door_B.png")
    refused(find_pairs, tmp_path, words=("door_A.png", "door_A.jpg"))


# Data sets within a folder.


def test_nested_data_sets_have_unique_names(tmp_path):
    for kind in ("CT", "PET"):
        for part in ("train", "test"):
            for source in (kind, "MRI"):
                touch(tmp_path / f"{kind}-MRI" / part / source, "1.png", "2.png")
    names = [name for name, *_ in found(tmp_path)]
    assert names == [f"{k}-MRI/{p}/{n}" for k in ("CT", "PET") for p in ("test", "train") for n in "12"]
    assert found(tmp_path)[0][1:] == ("CT-MRI/test/CT/1.png", "CT-MRI/test/MRI/1.png")
    # What all names have in common is left out.
    assert [name for name, *_ in found(tmp_path / "CT-MRI")] == ["test/1", "test/2", "train/1", "train/2"]
    assert [name for name, *_ in found(tmp_path / "CT-MRI" / "test")] == ["1", "2"]


def test_mixed_layouts(tmp_path):
    touch(tmp_path / "MFIFB" / "input" / "door", "door_A.png", "door_B.png")
    touch(tmp_path / "own" / "near", "1.png")
    touch(tmp_path / "own" / "far", "1.png")
    assert [name for name, *_ in found(tmp_path)] == ["MFIFB/input/door", "own/1"]


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path / "sub" / "ir", "1.png")
    touch(tmp_path / "sub" / "vi", "1.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [name for name, *_ in found(tmp_path)] == ["1"]
    (tmp_path / "sub").rename(tmp_path.with_name(tmp_path.name + "-moved"))
    refused(find_pairs, tmp_path, words=("no image pairs",))


def test_linked_data_sets_are_found(tmp_path):
    touch(tmp_path / "disk" / "ir", "1.png")
    touch(tmp_path / "disk" / "vi", "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert len(find_pairs(tmp_path / "data")) == 1


# Folders without pairs.


def test_missing_folder_file_and_empty_folder(tmp_path):
    refused(find_pairs, tmp_path / "none", words=(str(tmp_path / "none"), "does not exist"))
    touch(tmp_path, "a.png")
    refused(find_pairs, tmp_path / "a.png", words=("is a file",))
    refused(find_pairs, tmp_path / ("n" * 300), words=("does not exist",))
    layouts = ("two sibling folders", "NAME_A", "NAME_1", "input/")
    refused(find_pairs, tmp_path, words=(str(tmp_path), "no image pairs", *layouts))
    touch(tmp_path / "x", "1.png")
    touch(tmp_path / "y", "2.png")  # nothing in common: not two sources
    refused(find_pairs, tmp_path, words=("no image pairs",))


def test_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", forbidden)
    refused(find_pairs, tmp_path, words=("cannot list", "Permission denied"))


# Pairs from arguments.


@pytest.mark.parametrize(
    "a, b, name",
    [
        ("x/1.png", "y/1.jpg", "1"),
        ("door_A.png", "door_B.png", "door"),
        ("Door_1.png", "door_2.png", "Door"),
        ("scene_under.png", "scene_over.png", "scene"),
        ("my-scene-ir.png", "my-scene-vis.png", "my-scene"),
        ("img01.png", "img02.png", "img01_img02"),
        ("ir.png", "vi.png", "ir_vi"),
        ("_a.png", "_b.png", "_a__b"),
    ],
)
def test_name_of_two_files(tmp_path, a, b, name):
    touch(tmp_path, a, b)
    pair = Pair(name, tmp_path / a, tmp_path / b)
    assert pair_from_files(tmp_path / a, str(tmp_path / b)) == pair
    assert pairs_from_arguments(str(tmp_path / a), tmp_path / b) == [pair]


def test_two_folders_in_the_order_given(tmp_path):
    touch(tmp_path / "visible", "b.png", "A.png")
    touch(tmp_path / "infrared", "a.tif", "B.tif")
    pairs = pairs_from_arguments(tmp_path / "visible", tmp_path / "infrared")
    assert [(p.name, p.a.parent.name, p.b.name) for p in pairs] == [
        ("A", "visible", "a.tif"),
        ("b", "visible", "B.tif"),
    ]


def test_wrong_arguments(tmp_path):
    touch(tmp_path / "x", "1.png", "2.png")
    touch(tmp_path / "y", "1.png")
    (tmp_path / "empty").mkdir()
    file = tmp_path / "y" / "1.png"
    for pair in ((tmp_path / "x", file), (file, tmp_path / "x")):
        refused(pairs_from_arguments, *pair, words=("two files or two folders", str(file), str(tmp_path / "x")))
    refused(pairs_from_arguments, file, tmp_path / "none.png", words=("none.png", "no such"))
    refused(pair_from_files, file, tmp_path / "none.png", words=("none.png", "no such"))
    refused(pair_from_files, tmp_path, file, words=("folder",))
    refused(pairs_from_arguments, tmp_path / "x", tmp_path / "y", words=("1 unpaired", "2.png"))
    refused(pairs_from_arguments, tmp_path / "x", tmp_path / "empty", words=("empty", "none"))


# Sizes, brightness, split.


def save(path, height, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path)


def test_sizes(tmp_path):
    for name, size in (("1", (20, 30)), ("2", (7, 5))):
        for source in ("ir", "vi"):
            save(tmp_path / source / f"{name}.png", *size)
    assert check_sizes(find_pairs(tmp_path)) == [(20, 30), (7, 5)]
    save(tmp_path / "vi" / "2.png", 5, 7)
    refused(check_sizes, find_pairs(tmp_path), words=("'2'", "7x5", "5x7", str(tmp_path / "vi" / "2.png")))
    (tmp_path / "vi" / "2.png").write_text("no image")
    refused(check_sizes, find_pairs(tmp_path), words=("2.png", "not an image"))


def test_sizes_take_the_headers_alone(tmp_path, monkeypatch):
    for source in ("ir", "vi"):
        save(tmp_path / source / "1.png", 20, 30)

    def decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert check_sizes(find_pairs(tmp_path)) == [(20, 30)]


def test_darker_first():
    dark, light = np.full((3, 4), 0.2, np.float32), np.full((3, 4), 0.3, np.float32)
    assert darker_first(dark, light)[0] is dark
    assert darker_first(light, dark)[0] is dark
    assert darker_first(light, dark)[1] is light
    same = dark.copy()
    assert darker_first(dark, same)[0] is dark
    # One level in one of four million uint8 pixels decides; neither uint8 nor float32 sums may lose it.
    a = np.full((2048, 2048), 200, np.uint8)
    b = a.copy()
    b[5, 5] -= 1
    assert darker_first(a, b)[0] is b
    assert darker_first(a.astype(np.float32), b.astype(np.float32))[0].min() == 199


def test_validation_split():
    pairs = [Pair(f"{n:02}", Path("a"), Path("b")) for n in range(25)]
    training, validation = split_validation(pairs)
    assert [pair.name for pair in validation] == ["09", "19"]
    assert [pair.name for pair in training] == [f"{n:02}" for n in range(25) if n not in (9, 19)]
    assert split_validation(pairs, every=0) == (pairs, [])
    training, validation = split_validation(pairs, every=2)
    assert [pair.name for pair in validation] == [f"{n:02}" for n in range(1, 25, 2)]
    assert split_validation(pairs[:9]) == (pairs[:9], [])
    for every in (1, -1, -10):
        refused(split_validation, pairs, every, words=(str(every),))


# Real data.


@pytest.mark.parametrize(
    "folder, count, first, last, folders",
    [
        ("ivif", 171, "FLIR_00006", "FLIR_video_04215", ("cropinfrared", "crop_LR_visible")),
        ("ivif/RoadScene", 171, "FLIR_00006", "FLIR_video_04215", ("cropinfrared", "crop_LR_visible")),
        ("mif", 738, "CT-MRI/train/2005", "SPECT-MRI/train/", ("CT", "MRI")),
        ("mif/AANLIB", 738, "CT-MRI/train/2005", "SPECT-MRI/train/", ("CT", "MRI")),
        ("mif/AANLIB/PET-MRI", 245, "", "", ("PET", "MRI")),
        ("mfif", 85, "aymaz_01", "tsai_12", ("aymaz_01", "aymaz_01")),
        ("mfif/MFIFB/input", 85, "aymaz_01", "tsai_12", ("aymaz_01", "aymaz_01")),
        ("meie", 68, "507", "", ("507", "507")),
    ],
)
def test_real_data(real_data, folder, count, first, last, folders):
    pairs = find_pairs(real_data / folder)
    assert len(pairs) == len({pair.name for pair in pairs}) == count
    assert pairs[0].name.startswith(first) and pairs[-1].name.startswith(last)
    assert (pairs[0].a.parent.name, pairs[0].b.parent.name) == folders
    assert len(check_sizes(pairs)) == count
    assert len(split_validation(pairs)[1]) == count // 10


@pytest.mark.parametrize(
    "task, folders, names",
    [
        ("IVIF", ("infrared", "visible"), ["00710N", "00906N"]),
        ("MIF", ("CT_PET_SPECT", "MRI"), ["MRI_PET_14", "MRI_PET_37"]),
        ("MFIF", ("near", "far"), ["5", "14"]),
        ("MEIF", ("under", "over"), ["AirBellowsGap", "ICCV_03"]),
    ],
)
def test_released_pairs(reference, task, folders, names):
    pairs = find_pairs(reference / "test_cases" / task)
    assert [pair.name for pair in pairs] == names
    assert all((pair.a.parent.name, pair.b.parent.name) == folders for pair in pairs)
