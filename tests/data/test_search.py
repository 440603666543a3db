"""Pairs found in folders: every row of the table, data sets as they are handed out, order, parts, brackets, errors."""

import os
import time
from itertools import product

import numpy as np
import pytest
from picture_files import png, touch
from PIL import Image

from refusion_jax.cli.train import main as train_main
from refusion_jax.data import brackets, datasets
from refusion_jax.data.datasets import ALPHABET, BRIGHTNESS, CHOSEN, LETTERS, MEANING, TABLE
from refusion_jax.data.pairs import Pair, check_sizes, split_validation
from refusion_jax.data.search import discover, find_pairs, pair_from_files, pairs_from_arguments, recognise_task
from refusion_jax.errors import InputError


def found(folder, task=None, **options):
    """name -> (source 1, source 2), paths relative to the folder."""
    return {
        pair.name: tuple(path.relative_to(folder).as_posix() for path in (pair.a, pair.b))
        for pair in find_pairs(folder, task, **options)
    }


def recognised(folder, task=None):
    """(layout, task, order) of everything found, which must be one group."""
    (group,) = discover(folder, task).groups
    return group.layout, group.task, group.order


def refused(function, *arguments, words=()):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def same(folders, *stems, suffix="png"):
    """One file of each stem in each folder."""
    return [f"{folder}/{stem}.{suffix}" for folder in folders for stem in stems]


# The table


def forms(row):
    """(files, source 1, source 2) for each name of source 1 with each of source 2."""
    above, below = ("train/" if row.splits == part else "" for part in ("above", "below"))
    for first, second in product(row.first.split(), row.second.split()):
        folders = [name.removesuffix("/") for name in (first, second) if not name.startswith("*")]
        words = [name.removeprefix("*_") for name in (first, second) if not name.endswith("/")]
        if len(folders) == 2:
            for one, other in (folders, [name.upper().replace("_", "-") for name in folders]):
                yield f"{above}{one}/{below}7.png", f"{above}{other}/{below}7.jpg"
        if len(words) == 2:
            yield f"x_{words[0]}.png", f"x_{words[1]}.jpg"
            yield f"X_{words[0].upper()}.tif", f"x_{words[1].upper()}.png"


@pytest.mark.parametrize("row", [row for row in TABLE if row.first and "#" not in row.first], ids=lambda row: row.first)
def test_every_row_of_the_table(tmp_path, row):
    for number, (a, b) in enumerate(forms(row)):
        root = tmp_path / str(number)
        touch(root, b, a)
        assert list(found(root).values()) == [(a, b)]
        layout, task, order = recognised(root)
        assert (task, order) == (row.task, row.order)
        assert layout == row.name or not row.name
    assert number > 0


IN_PATHS = {row.name: (row.name, row.task) for row in TABLE if row.name and not row.path and " or " not in row.name} | {
    "realMFF": ("Real-MFF", "mfif"),
    "mfi_whu": ("MFI-WHU", "mfif"),
    "Harvard": ("Harvard (AANLIB)", "mif"),
    "AANLIB": ("Harvard (AANLIB)", "mif"),
    "SICE": ("SICE", "meie"),
    "Dataset_Part2": ("SICE", "meie"),
}


@pytest.mark.parametrize("name", IN_PATHS)
def test_a_data_set_is_known_by_its_name_in_the_path(tmp_path, name):
    touch(tmp_path, f"{name}-main/x/x_A.png", f"{name}-main/x/x_B.png", f"{name}s/y/y_A.png", f"{name}s/y/y_B.png")
    assert {(group.layout, group.task) for group in discover(tmp_path).groups} == {
        IN_PATHS[name],
        ("one folder per scene", None),  # a word that only begins so
    }


def test_the_guide_lists_every_data_set(repo):
    guide = (repo / "docs" / "data.md").read_text()
    names = {name for row in TABLE for name in row.name.split(" or ") if name}
    assert names and not [name for name in sorted(names) if name not in guide]


def test_names_are_compared_without_case_and_separators():
    assert datasets.normalise("Crop-LR visible") == datasets.normalise("crop_lr_VISIBLE") == "croplrvisible"
    assert datasets.role("Visible_gray") == ("ivif", 2) and datasets.role("CT-MRI") is None
    assert datasets.role("river") is None  # a word within a word is none


# Data sets as they are handed out: the files, what is recognised, how many pairs, one of them.
DATASETS = {
    "MSRS": (
        [
            f"MSRS/{part}/{source}/{n}.png"
            for part in ("train", "test")
            for n in ("00004N", "00010D")
            for source in ("ir", "vi", "Segmentation_labels", "Segmentation_visualize")
        ],
        ("MSRS", "ivif", MEANING),
        4,
        ("train/00010D", "MSRS/train/ir/00010D.png", "MSRS/train/vi/00010D.png"),
    ),
    "MSRS by its form": (
        [f"{part}/{source}/{n}.png" for part in ("train", "test") for n in "12" for source in ("IR", "VI")],
        ("MSRS", "ivif", MEANING),
        4,
        ("test/1", "test/IR/1.png", "test/VI/1.png"),
    ),
    "RoadScene": (
        same(("cropinfrared", "crop_LR_visible", "crop_HR_visible"), "FLIR_1", suffix="jpg"),
        ("RoadScene", "ivif", MEANING),
        1,
        ("FLIR_1", "cropinfrared/FLIR_1.jpg", "crop_LR_visible/FLIR_1.jpg"),
    ),
    "RoadScene in full resolution": (
        ["CropInfrared/1.jpg", "crop-HR-visible/1.png"],
        ("RoadScene", "ivif", MEANING),
        1,
        ("1", "CropInfrared/1.jpg", "crop-HR-visible/1.png"),
    ),
    "LLVIP": (
        [
            f"{source}/{part}/{n}.jpg"
            for source in ("infrared", "visible")
            for part in ("train", "test")
            for n in ("010001", "190001")
        ]
        + ["Annotations/010001.xml"],
        ("LLVIP", "ivif", MEANING),
        4,
        ("train/010001", "infrared/train/010001.jpg", "visible/train/010001.jpg"),
    ),
    "no data set that is known": (
        same(("infrared", "visible"), "1"),
        ("two folders", "ivif", MEANING),
        1,
        ("1", "infrared/1.png", "visible/1.png"),
    ),
    "M3FD": (
        same([f"M3FD_Fusion/{source}" for source in ("Ir", "Vis", "Labels", "masks")], "00000", "00001"),
        ("M3FD", "ivif", MEANING),
        2,
        ("00001", "M3FD_Fusion/Ir/00001.png", "M3FD_Fusion/Vis/00001.png"),
    ),
    "TNO": (
        ["TNO/ir/01.bmp", "TNO/vi/01.png", "TNO/ir/2.bmp", "TNO/vi/2.png"],
        ("TNO", "ivif", MEANING),
        2,
        ("2", "TNO/ir/2.bmp", "TNO/vi/2.png"),
    ),
    "TNO with prefixes": (
        ["ir/IR1.bmp", "vi/VIS1.bmp", "ir/IR2.bmp", "vi/VIS2.bmp"],
        ("TNO or VIFB", "ivif", MEANING),
        2,
        ("2", "ir/IR2.bmp", "vi/VIS2.bmp"),
    ),
    "VIFB": (
        ["VIFB/input/IR/fight.jpg", "VIFB/input/VI/fight.bmp", "VIFB/output/method/fight.png"],
        ("VIFB", "ivif", MEANING),
        1,
        ("fight", "VIFB/input/IR/fight.jpg", "VIFB/input/VI/fight.bmp"),
    ),
    "FLIR, aligned": (
        [f"align/JPEGImages/FLIR_{n:05}_{end}" for n in (2, 5, 9) for end in ("RGB.jpg", "PreviewData.jpeg")]
        + ["align/Annotations/FLIR_00002_PreviewData.xml", "align/align_train.txt"],
        ("FLIR", "ivif", MEANING),
        3,
        ("FLIR_00005", "align/JPEGImages/FLIR_00005_PreviewData.jpeg", "align/JPEGImages/FLIR_00005_RGB.jpg"),
    ),
    "FLIR, as first released": (
        same([f"train/{source}" for source in ("RGB", "thermal_8_bit", "thermal_16_bit")], "FLIR_00002", "FLIR_00005"),
        ("FLIR", "ivif", MEANING),
        2,
        ("FLIR_00005", "train/thermal_8_bit/FLIR_00005.png", "train/RGB/FLIR_00005.png"),
    ),
    "FLIR with 16 bits alone": (
        same(("RGB", "thermal_16_bit"), "FLIR_00002"),
        ("FLIR", "ivif", MEANING),
        1,
        ("FLIR_00002", "thermal_16_bit/FLIR_00002.png", "RGB/FLIR_00002.png"),
    ),
    "DJI": (
        [f"DJI_2024061014301{n}_000{n}_{lens}.JPG" for n in (1, 2) for lens in "TWZ"],
        ("DJI thermal", "ivif", MEANING),
        2,
        ("DJI_20240610143012_0002", "DJI_20240610143012_0002_T.JPG", "DJI_20240610143012_0002_W.JPG"),
    ),
    "VEDAI": (
        [f"Vehicules512/0000000{n}_{kind}.png" for n in range(3) for kind in ("co", "ir")],
        ("VEDAI", "ivif", MEANING),
        3,
        ("00000001", "Vehicules512/00000001_ir.png", "Vehicules512/00000001_co.png"),
    ),
    "AANLIB": (
        [
            f"MyDatasets/{kind}-MRI/{part}/{source}/{n}.png"
            for kind in ("CT", "PET", "SPECT")
            for part in ("train", "test")
            for source in (kind, "MRI")
            for n in ("2005", "16003")
        ],
        ("Harvard (AANLIB)", "mif", MEANING),
        12,
        ("PET-MRI/test/2005", "MyDatasets/PET-MRI/test/PET/2005.png", "MyDatasets/PET-MRI/test/MRI/2005.png"),
    ),
    "Harvard in one": (
        ["CT_PET_SPECT/MRI_CT_2.png", "MRI/MRI_CT_2.png"],
        ("Harvard (AANLIB)", "mif", MEANING),
        1,
        ("MRI_CT_2", "CT_PET_SPECT/MRI_CT_2.png", "MRI/MRI_CT_2.png"),
    ),
    "Lytro": (
        [f"lytro-{n:02}-{x}.jpg" for n in range(1, 4) for x in "AB"],
        ("Lytro", "mfif", LETTERS),
        3,
        ("lytro-02", "lytro-02-A.jpg", "lytro-02-B.jpg"),
    ),
    "MFIFB": (
        [
            "MFIFB/input/mffw_04/mffw_04_A.bmp",
            "MFIFB/input/mffw_04/mffw_04_B.bmp",
            "MFIFB/input/a1/a1_A.jpg",
            "MFIFB/input/a1/a1_B.png",
            "MFIFB/output/m/a1.png",
        ],
        ("MFIFB", "mfif", LETTERS),
        2,
        ("mffw_04", "MFIFB/input/mffw_04/mffw_04_A.bmp", "MFIFB/input/mffw_04/mffw_04_B.bmp"),
    ),
    "MEFB": (
        [
            "MEFB/input/House/House_a.png",
            "MEFB/input/House/House_B.png",
            "MEFB/input/House/belg002.png",
            "MEFB/input/Mask/Mask_A.JPG",
            "MEFB/input/Mask/mask_b.jpg",
        ],
        ("MEFB", "meie", LETTERS),
        2,
        ("House", "MEFB/input/House/House_a.png", "MEFB/input/House/House_B.png"),
    ),
    "MFI-WHU": (
        ["source_1/1.jpg", "source_2/1.jpg", "full_clear/1.jpg"],
        ("MFI-WHU", "mfif", LETTERS),
        1,
        ("1", "source_1/1.jpg", "source_2/1.jpg"),
    ),
    "Real-MFF": (
        [
            f"{folder}/{n:03}_{x}.png"
            for folder, x in (("imageA", "A"), ("imageB", "B"), ("Fusion", "F"))
            for n in (1, 2)
        ],
        ("Real-MFF", "mfif", LETTERS),
        2,
        ("002", "imageA/002_A.png", "imageB/002_B.png"),
    ),
    "SICE in two folders": (
        same(("SICE/oe", "SICE/ue"), *range(1, 8)),
        ("SICE", "meie", MEANING),
        7,
        ("3", "SICE/ue/3.png", "SICE/oe/3.png"),
    ),
    "scenes by words": (
        ["s1/s1_vi.png", "s1/s1_ir.png", "s2/visible.png", "s2/infrared.png"],
        ("pairs in one folder", "ivif", MEANING),
        2,
        ("s2", "s2/infrared.png", "s2/visible.png"),
    ),
    "A and B say no task": (same("AB", 1), ("two folders", None, LETTERS), 1, ("1", "A/1.png", "B/1.png")),
    "but the path may": (
        same(("meif/A", "meif/B"), 1),
        ("two folders", "meie", LETTERS),
        1,
        ("1", "meif/A/1.png", "meif/B/1.png"),
    ),
}


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets(tmp_path, name):
    files, expected, count, (pair, a, b) = DATASETS[name]
    root = tmp_path / "root"
    touch(root, *files)
    assert recognised(root) == expected
    pairs = found(root)
    assert len(pairs) == count and pairs[pair] == (a, b)


# Other folders: the files and all pairs that they make, with the files of each where its name does not say them.
FOUND = {
    "formats and case differ": (
        ["ir/Scene.PNG", "ir/b.1.tif", "ir/c.jpeg", "vi/scene.jpg", "vi/B.1.bmp", "vi/C.tiff"],
        {
            "Scene": ("ir/Scene.PNG", "vi/scene.jpg"),
            "b.1": ("ir/b.1.tif", "vi/B.1.bmp"),
            "c": ("ir/c.jpeg", "vi/C.tiff"),
        },
    ),
    "accents encoded in two ways": (
        ["ir/caf\u00e9.png", "vi/cafe\u0301.png"],
        {"caf\u00e9": ("ir/caf\u00e9.png", "vi/cafe\u0301.png")},
    ),
    "hidden and other files": (
        same(("ir", "vi"), 1)
        + ["ir/.2.png", "ir/Thumbs.db", "ir/3.txt", "ir/._1.png", "ir/.hidden/x.png", "ir/folder.png/x.txt"]
        + ["vi/list.csv", "vi/4.npy", "README.md", ".git/a.png"],
        {"1": ("ir/1.png", "vi/1.png")},
    ),
    "folders beside known ones": (
        [*same(("ir", "vi", "labels", "masks", "depth"), 1), "labels/3.png"],
        {"1": ("ir/1.png", "vi/1.png")},
    ),
    "folders of any name": ([*same(("zeta", "Alpha"), 1), "notes/read.txt"], {"1": ("Alpha/1.png", "zeta/1.png")}),
    "two known words beside a third folder": (
        same(("vis images", "ir images", "depth"), 1),
        {"1": ("ir images/1.png", "vis images/1.png")},
    ),
    "scenes with further pictures": (
        ["door/door_A.jpg", "door/door_B.JPG", "Farm/Farm_A.png", "Farm/farm_B.png"]
        + [f"house/{name}.png" for name in ("house_A", "house_B", "belg002", "belg009", "house_C")],
        {
            "Farm": ("Farm/Farm_A.png", "Farm/farm_B.png"),
            "door": ("door/door_A.jpg", "door/door_B.JPG"),
            "house": ("house/house_A.png", "house/house_B.png"),
        },
    ),
    "results beside input": (
        ["input/door/door_A.png", "input/door/door_B.png", *same(("output/method1", "output/method2"), "door")],
        {"door": ("input/door/door_A.png", "input/door/door_B.png")},
    ),
    "numbered scenes with further exposures": (
        [*(f"tower/tower_{n}.png" for n in range(1, 6)), "cave/x_1.png", "cave/x_2.png"],
        {"cave": ("cave/x_1.png", "cave/x_2.png"), "tower": ("tower/tower_1.png", "tower/tower_2.png")},
    ),
    **{
        f"{count} scenes whose files are named alike": (
            same([f"s{n}" for n in range(count)], "img_A", "img_B"),
            {f"s{n}": (f"s{n}/img_A.png", f"s{n}/img_B.png") for n in range(count)},
        )
        for count in (1, 2, 3)
    },
    "scenes called like sources": (
        ["A/A_A.png", "A/A_B.png", "B/B_A.png", "B/B_B.png"],
        {"A": ("A/A_A.png", "A/A_B.png"), "B": ("B/B_A.png", "B/B_B.png")},
    ),
    "two folders of numbered files": (
        same(("ir", "vi"), *(f"img_{n}" for n in range(1, 30))),
        {f"img_{n}": (f"ir/img_{n}.png", f"vi/img_{n}.png") for n in range(1, 30)},
    ),
    "two folders of any name of numbered files": (
        same(("left", "right"), *(f"img_{n}" for n in range(1, 30))),
        {f"img_{n}": (f"left/img_{n}.png", f"right/img_{n}.png") for n in range(1, 30)},
    ),
    "numbered files, one without partner": (
        same(("ir", "vi"), "a_1", "a_2", "c_1"),
        {stem: (f"ir/{stem}.png", f"vi/{stem}.png") for stem in ("a_1", "a_2", "c_1")},
    ),
    "all pairs in one folder": (
        ["x_A.png", "x_B.jpg", "y_a.png", "y_b.png"],
        {"x": ("x_A.png", "x_B.jpg"), "y": ("y_a.png", "y_b.png")},
    ),
    "a scene itself": (["door_A.png", "door_B.png", "other.png"], {"door": ("door_A.png", "door_B.png")}),
    "numbers in folders that number the sources": (["A/x_1.png", "B/x_2.png"], {"x": ("A/x_1.png", "B/x_2.png")}),
    "two layouts": (
        ["MFIFB/input/door/door_A.png", "MFIFB/input/door/door_B.png", "own/near/1.png", "own/far/1.png"],
        {
            "MFIFB/input/door": ("MFIFB/input/door/door_A.png", "MFIFB/input/door/door_B.png"),
            "own/1": ("own/near/1.png", "own/far/1.png"),
        },
    ),
    # What all names have in common is left out of them.
    "data sets within data sets": (
        [f"{kind}-MRI/{part}/{s}/1.png" for kind in ("CT", "PET") for part in ("test", "train") for s in (kind, "MRI")],
        {
            f"{kind}-MRI/{part}/1": (f"{kind}-MRI/{part}/{kind}/1.png", f"{kind}-MRI/{part}/MRI/1.png")
            for kind in ("CT", "PET")
            for part in ("test", "train")
        },
    ),
    "the parts of one": (
        [f"CT-MRI/{part}/{source}/1.png" for part in ("test", "train") for source in ("CT", "MRI")],
        {part + "/1": (f"CT-MRI/{part}/CT/1.png", f"CT-MRI/{part}/MRI/1.png") for part in ("test", "train")},
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found(tmp_path, case):
    files, pairs = FOUND[case]
    touch(tmp_path, *files)
    assert found(tmp_path) == pairs and list(found(tmp_path)) == list(pairs)


REFUSED = {
    "nothing": ([], ["no image pairs", "two sibling folders", "NAME_A", "NAME_1", "input/"]),
    "pictures alone": (["a.png"], ["no image pairs"]),
    "folders with nothing in common": (["x/1.png", "y/2.png"], ["no image pairs"]),
    "parts are no sources": (["train/1.png", "test/1.png"], ["no image pairs"]),
    "three known folders": (same(("CT", "PET", "MRI"), 1), ["more than two", "CT", "PET", "MRI"]),
    "two infrared ones": (same(("ir", "thermal", "vi"), 1), ["more than two", "ir", "thermal", "vi"]),
    "three unknown folders": (same("xyz", 1), ["3 folders", "x, y, z", "expected two"]),
    "three known words": (same(("vis images", "ir images", "ir small", "depth"), 1), ["4 folders of images"]),
    "a known folder without images": (
        ["ir/1.png", "vi/1.mha"],
        ["vi: expected images", "found none", "1 file of type .mha"],
    ),
    "two files of one stem": (["ir/1.png", "ir/1.jpg", "vi/1.png"], ["1.png", "1.jpg", "same stem"]),
    "a scene with two files of one stem": (["door/door_A.png", "door/door_A.jpg", "door/door_B.png"], ["door_A.jpg"]),
    "a file without partner": ([*same(("ir", "vi"), 0), "vi/extra.png"], ["1 unpaired", "vi/extra.png"]),
    "several": (
        [*same(("ir", "vi"), 0), *(f"ir/{n}.png" for n in range(1, 6)), "vi/extra.png"],
        ["6 unpaired", "1.png", "2.png", "3.png", "and 3 more"],
    ),
    "a scene without partner": (
        ["door/door_A.png", "door/door_B.png", "wall/wall_A.png"],
        ["wall_A.png", "unpaired", "wall_B"],
    ),
    "one of several in a folder": (
        ["x_A.png", "x_B.png", "y_A.png", "y_B.png", "z_B.png"],
        ["z_B.png", "unpaired", "z_A"],
    ),
    "one of several thermal ones": (
        ["1_T.JPG", "1_W.JPG", "2_T.JPG", "2_W.JPG", "3_T.JPG"],
        ["3_T.JPG", "unpaired", "3_W"],
    ),
    # Names that differ by A and B are pairs only where no stem is equal; _1 and _2 are two frames.
    "affixes beside equal stems": (["ir/x_A.png", "ir/y.png", "vi/x_B.png", "vi/y.png"], ["2 unpaired"]),
    "two frames": (["ir/x_1.png", "vi/x_2.png"], ["2 unpaired"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path, case):
    files, words = REFUSED[case]
    touch(tmp_path, *files)
    refused(find_pairs, tmp_path, words=(str(tmp_path), *words))


def test_thermal_as_a_fourth_channel_is_named(tmp_path):
    """MFNet and its kin: one file a scene."""
    for folder, channels in (("images", 4), ("labels", 1)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "00001D.png").write_bytes(png(np.zeros((8, 8, channels), np.uint8)[..., :channels]))
    refused(find_pairs, tmp_path, words=("images/00001D.png", "four channels", "ir/", "vi/", "expected two files"))


def test_folders_that_cannot_be_searched(tmp_path, monkeypatch):
    touch(tmp_path, "a.png")
    refused(find_pairs, tmp_path / "none", words=(str(tmp_path / "none"), "does not exist"))
    refused(find_pairs, tmp_path / "a.png", words=("is a file",))
    refused(find_pairs, tmp_path / ("n" * 300), words=("does not exist",))

    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", forbidden)
    refused(find_pairs, tmp_path, words=("cannot list", "Permission denied"))


def test_a_folder_below_that_cannot_be_listed_is_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "ir/1.png", "vi/1.png", "seg/1.png", "sets/s1/ir/1.png", "sets/s1/vi/1.png", "sets/s2/1.txt")
    closed, scandir = tmp_path / "lost+found", os.scandir
    closed.mkdir()

    def forbidden(folder):
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbidden)
    everything = discover(tmp_path).require()
    assert [pair.name for pair in everything.pairs] == ["1"]
    assert f"{closed}: cannot list the folder: Permission denied; passed over" in everything.remarks
    closed = tmp_path / "sets" / "s2"
    assert [pair.name for pair in discover(tmp_path / "sets").require().pairs] == ["1"]
    closed = tmp_path / "sets" / "s1"
    refused(find_pairs, tmp_path / "sets", words=("s1: cannot list", "Permission denied"))  # no pair is left
    closed = tmp_path / "ir"  # not seg/ with vi/ instead
    refused(find_pairs, tmp_path, words=("ir: cannot list", "Permission denied"))


def test_all_that_is_wrong_is_collected(tmp_path):
    touch(tmp_path, "s1/ir/1.png", "s1/ir/2.png", "s1/vi/1.png", "s2/ir/1.png", "s2/vi/1.png", "s2/vi/9.png")
    touch(tmp_path, "s3/CT/1.png", "s3/PET/1.png", "s3/MRI/1.png", "s4/ir/1.png", "s4/ir/1.jpg", "s4/vi/1.png")
    everything = discover(tmp_path)
    assert [pair.name for pair in everything.pairs] == ["s1/1", "s2/1", "s4/1"]
    assert [one.path.relative_to(tmp_path).as_posix() for one in everything.unpaired] == ["s1/ir/2.png", "s2/vi/9.png"]
    assert len(everything.errors) == 2
    assert "more than two" in everything.errors[0] and "same stem" in everything.errors[1]


def test_links(tmp_path):
    touch(tmp_path / "disk", "ir/1.png", "vi/1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert len(find_pairs(tmp_path / "data")) == 1
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data", target_is_directory=True)  # in a circle
    assert list(found(tmp_path / "data")) == ["1"]
    (tmp_path / "data" / "set").unlink()
    refused(find_pairs, tmp_path / "data", words=("no image pairs",))


# Order and task


@pytest.mark.parametrize(
    "first, second, task",
    [
        ("visible_crop", "a_infrared", None),  # both mean something, whatever the alphabet says
        ("MRI", "T1", "mif"),  # one does
        ("zzz", "IR images", "ivif"),
    ],
)
def test_a_known_word_gives_the_order(tmp_path, first, second, task):
    touch(tmp_path, f"{first}/1.png", f"{second}/1.png")
    assert found(tmp_path, task) == {"1": (f"{second}/1.png", f"{first}/1.png")}
    assert recognised(tmp_path)[2] == MEANING and not discover(tmp_path).remarks


def test_the_alphabet_decides_only_aloud(tmp_path):
    touch(tmp_path, "beta/1.png", "Alpha/1.png", "labels/1.png", "GT/1.png")
    assert recognised(tmp_path) == ("two folders", None, ALPHABET)
    (remark,) = discover(tmp_path).remarks
    assert "alphabet" in remark and "Alpha/ before beta/" in remark
    assert {path.name for path in discover(tmp_path).aside} == {"labels", "GT"}


def test_the_task_decides_where_two_fit(tmp_path):
    touch(
        tmp_path,
        *same(("infrared", "visible", "near", "far"), 1),
        *(f"s/x_{w}.png" for w in ("ir", "vi", "near", "far")),
    )
    assert found(tmp_path, "mfif") == {"1": ("near/1.png", "far/1.png")}
    assert found(tmp_path, "ivif") == {"1": ("infrared/1.png", "visible/1.png")}
    assert found(tmp_path / "s", "mfif") == {"x": ("x_near.png", "x_far.png")}
    assert found(tmp_path / "s") == {"x": ("x_ir.png", "x_vi.png")}


def test_the_task_is_recognised(tmp_path, capsys):
    touch(tmp_path, "one/ir/1.png", "one/vi/1.png", "two/near/1.png", "two/far/1.png", "three/A/1.png", "three/B/1.png")
    assert recognise_task(tmp_path / "one") == ("ivif", "TNO or VIFB")
    refused(
        recognise_task, tmp_path, words=("--task is missing", "ivif, mfif", "expected one of ivif, mif, mfif, meie")
    )
    refused(recognise_task, tmp_path / "three", words=("--task is missing", "three", "none"))
    (remark,) = discover(tmp_path / "one", "mif").remarks
    assert "ivif" in remark and "not mif" in remark
    # As train.py prints it, before the pictures turn out to be empty files.
    assert train_main(["--data", str(tmp_path / "one"), "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert "task ivif, recognised by the names in" in printed.out and "the file is empty" in printed.err


def test_parts_by_folder_and_scenes_called_so(tmp_path):
    touch(tmp_path, *(f"{s}/{part}/1.jpg" for s in ("infrared", "visible") for part in ("train", "test", "val")))
    splits = {pair.name: pair.split for pair in find_pairs(tmp_path)}
    assert splits == {"test/1": "test", "train/1": "train", "val/1": "validation"}
    touch(tmp_path / "scenes", "test/test_A.png", "test/test_B.png", "val/val_A.png", "val/val_B.png")
    assert [pair.split for pair in find_pairs(tmp_path / "scenes")] == [None, None]


# Brackets of exposures


def exposure(path, level, size=(40, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(-20, 20, (*size, 3))
    Image.fromarray(np.clip(noise + level, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def sice(tmp_path):
    """Two scenes as SICE has them; their numbers are not in the order of their brightness."""
    for scene, levels in (("1", (120, 30, 200, 90)), ("10", (60, 220, 25, 90, 100))):
        for number, level in enumerate(levels, 1):
            exposure(tmp_path / "Dataset_Part1" / scene / f"{number}.JPG", level)
        exposure(tmp_path / "Dataset_Part1" / "Label" / f"{scene}.JPG", 110)
    return tmp_path / "Dataset_Part1"


def test_the_darkest_and_the_brightest(sice):
    assert found(sice) == {"1": ("1/2.JPG", "1/3.JPG"), "10": ("10/3.JPG", "10/2.JPG")}
    assert recognised(sice) == ("SICE", "meie", BRIGHTNESS)
    assert found(sice.parent) == {k: tuple(f"Dataset_Part1/{x}" for x in v) for k, v in found(sice).items()}
    assert found(sice / "10") == {"10": ("3.JPG", "2.JPG")}
    sice.rename(sice.with_name("mine"))
    assert recognised(sice.with_name("mine"))[0] == "SICE"  # by its labels


def test_chosen_exposures(sice):
    assert found(sice, exposures=(2, -1)) == {"1": ("1/2.JPG", "1/4.JPG"), "10": ("10/2.JPG", "10/5.JPG")}
    assert discover(sice, exposures=(2, -1)).groups[0].order == CHOSEN
    for wrong in ((1, 5), (0, 2), (4, -1)):
        with pytest.raises(InputError, match="has 4 exposures"):
            find_pairs(sice, exposures=wrong)


def test_brackets_without_a_name(tmp_path):
    for scene in ("x", "y", "z"):
        for number, level in enumerate((130, 40, 90), 1):
            exposure(tmp_path / scene / f"{number}.png", level)
    assert found(tmp_path, "meie") == {scene: (f"{scene}/2.png", f"{scene}/1.png") for scene in "xyz"}
    with pytest.raises(InputError, match="3 folders of images .* brackets of exposures need --task meie"):
        find_pairs(tmp_path)
    for number, level in enumerate((130, 40, 90), 1):
        exposure(tmp_path / "set" / "tower" / f"tower_{number}.png", level)
    assert found(tmp_path / "set", "meie") == {"tower": ("tower/tower_2.png", "tower/tower_1.png")}
    assert found(tmp_path / "set", "mfif") == {"tower": ("tower/tower_1.png", "tower/tower_2.png")}


def test_a_folder_of_many_numbered_pictures_is_no_bracket(tmp_path):
    touch(tmp_path, *(f"{n}.png" for n in range(1, 20)))
    with pytest.raises(InputError, match="no image pairs"):
        find_pairs(tmp_path, "meie")
    touch(tmp_path / "two", *same("xy", *range(1, 8)))
    assert len(find_pairs(tmp_path / "two", "meie")) == 7


def test_bad_exposures_are_errors(sice):
    (sice / "1" / "1.JPG").write_bytes(b"no picture")
    for level in range(1, 4):
        (sice / "7").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 77).save(sice / "7" / f"{level}.png")
    errors = discover(sice).errors
    assert len(errors) == 2 and "1.JPG: not an image" in errors[0] and "equally bright" in errors[1]
    assert [pair.name for pair in discover(sice).pairs] == ["10"]


def test_two_exposures_of_one_number_are_an_error(sice, tmp_path):
    exposure(sice / "10" / "03.png", 250)
    one, other = sice / "10" / "03.png", "3.JPG"
    assert discover(sice).errors == (f"{one} and {other} have the same number; keep one of them",)
    assert len(discover(sice / "10").errors) == len(discover(sice).pairs) - 1 == 1
    for number, suffix in ((1, "png"), (2, "png"), (3, "bmp"), (3, "png")):
        exposure(tmp_path / "set" / "tower" / f"tower_{number}.{suffix}", 50 * number)
    refused(find_pairs, tmp_path / "set", "meie", words=("tower_3.bmp and tower_3.png", "keep one"))


def test_brightness_is_measured_on_reduced_pictures(tmp_path, monkeypatch):
    exposure(tmp_path / "x.jpg", 77, (400, 600))
    exact = float(np.asarray(Image.open(tmp_path / "x.jpg").convert("L"), float).mean())
    decoded = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, *a, **k: decoded.append(self.size) or load(self, *a, **k))
    assert brackets.mean_luma(tmp_path / "x.jpg") == pytest.approx(exact, abs=0.5)
    assert decoded == []  # never decoded whole
    monkeypatch.setattr(Image, "open", None)
    assert brackets.mean_luma(tmp_path / "x.jpg") == pytest.approx(exact, abs=0.5)  # kept


# Two files or two folders by name


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
    touch(tmp_path, "visible/b.png", "visible/A.png", "infrared/a.tif", "infrared/B.tif", "one/x_1.png")
    pairs = pairs_from_arguments(tmp_path / "visible", tmp_path / "infrared")
    assert [(p.name, p.a.parent.name, p.b.name) for p in pairs] == [
        ("A", "visible", "a.tif"),
        ("b", "visible", "B.tif"),
    ]
    assert [pair.name for pair in pairs_from_arguments(tmp_path / "one", tmp_path / "one")] == ["x_1"]


def test_wrong_arguments(tmp_path):
    touch(tmp_path, "x/1.png", "x/2.png", "y/1.png")
    (tmp_path / "empty").mkdir()
    file = tmp_path / "y" / "1.png"
    for pair in ((tmp_path / "x", file), (file, tmp_path / "x")):
        refused(pairs_from_arguments, *pair, words=("two files or two folders", str(file), str(tmp_path / "x")))
    refused(pairs_from_arguments, file, tmp_path / "none.png", words=("none.png", "no such"))
    refused(pair_from_files, file, tmp_path / "none.png", words=("none.png", "no such"))
    refused(pair_from_files, tmp_path, file, words=("folder",))
    refused(pairs_from_arguments, tmp_path / "x", tmp_path / "y", words=("1 unpaired", "2.png"))
    refused(pairs_from_arguments, tmp_path / "x", tmp_path / "empty", words=("empty", "none"))


# Large folders and real data


def test_ten_thousand_files_are_not_asked_for_one_by_one(tmp_path, monkeypatch):
    (tmp_path / "infrared").mkdir()
    for n in range(10_000):
        os.close(os.open(tmp_path / "infrared" / f"{n}.png", os.O_CREAT))
    (tmp_path / "visible").symlink_to(tmp_path / "infrared", target_is_directory=True)
    asked, scanned = [], []
    stat, scandir = os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda *a, **k: asked.append(a) or stat(*a, **k))
    monkeypatch.setattr(os, "scandir", lambda *a: scanned.append(a) or scandir(*a))
    start = time.process_time()
    pairs = find_pairs(tmp_path)
    seconds = time.process_time() - start
    assert [pair.name for pair in pairs] == [str(n) for n in range(10_000)]
    assert len(asked) < 20 and len(scanned) == 3
    assert seconds < 10  # of processor time; 0.3 measured


@pytest.mark.parametrize(
    "folder, count, first, last, folders",
    [
        ("ivif", 171, "FLIR_00006", "FLIR_video_04215", ("cropinfrared", "crop_LR_visible")),
        ("mif", 738, "CT-MRI/train/2005", "SPECT-MRI/train/", ("CT", "MRI")),
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
