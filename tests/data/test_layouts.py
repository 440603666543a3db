"""Data sets as they are handed out: layout, task, order of the sources, parts, brackets, names, large folders."""

import hashlib
import os
import random
import time

import numpy as np
import pytest
from picture_files import touch
from PIL import Image

from refusion_jax.cli.train import main as train_main
from refusion_jax.data import brackets, datasets
from refusion_jax.data.datasets import ALPHABET, BRIGHTNESS, CHOSEN, LETTERS, MEANING
from refusion_jax.data.pairs import Pair, natural_key, split_validation
from refusion_jax.data.search import discover, find_pairs, pairs_from_arguments, recognise_task
from refusion_jax.errors import InputError
from refusion_jax.training import sources


def found(folder, task=None, **more):
    """name -> (source 1, source 2), paths relative to the folder."""
    return {
        pair.name: tuple(path.relative_to(folder).as_posix() for path in (pair.a, pair.b))
        for pair in find_pairs(folder, task, **more)
    }


def recognised(folder, task=None):
    """(layout, task, order) of everything found, which must be one group."""
    (group,) = discover(folder, task).groups
    return group.layout, group.task, group.order


# Every layout of issue 5: the files, what is recognised, and a pair.
LAYOUTS = {
    "MSRS": (
        [
            f"MSRS/{part}/{source}/{n}.png"
            for part in ("train", "test")
            for n in ("00004N", "00010D")
            for source in ("ir", "vi", "Segmentation_labels", "Segmentation_visualize")
        ],
        ("MSRS", "ivif", MEANING),
        4,
        "train/00010D",
        ("MSRS/train/ir/00010D.png", "MSRS/train/vi/00010D.png"),
    ),
    "MSRS by its form": (
        [f"{part}/{source}/{n}.png" for part in ("train", "test") for n in "12" for source in ("IR", "VI")],
        ("MSRS", "ivif", MEANING),
        4,
        "test/1",
        ("test/IR/1.png", "test/VI/1.png"),
    ),
    "RoadScene": (
        ["cropinfrared/FLIR_1.jpg", "crop_LR_visible/FLIR_1.jpg", "crop_HR_visible/FLIR_1.jpg"],
        ("RoadScene", "ivif", MEANING),
        1,
        "FLIR_1",
        ("cropinfrared/FLIR_1.jpg", "crop_LR_visible/FLIR_1.jpg"),
    ),
    "RoadScene in full resolution": (
        ["CropInfrared/1.jpg", "crop-HR-visible/1.png"],
        ("RoadScene", "ivif", MEANING),
        1,
        "1",
        ("CropInfrared/1.jpg", "crop-HR-visible/1.png"),
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
        "train/010001",
        ("infrared/train/010001.jpg", "visible/train/010001.jpg"),
    ),
    "M3FD": (
        [f"M3FD_Fusion/{source}/{n}.png" for source in ("Ir", "Vis", "Labels", "masks") for n in ("00000", "00001")],
        ("M3FD", "ivif", MEANING),
        2,
        "00001",
        ("M3FD_Fusion/Ir/00001.png", "M3FD_Fusion/Vis/00001.png"),
    ),
    "TNO": (
        ["TNO/ir/01.bmp", "TNO/vi/01.png", "TNO/ir/2.bmp", "TNO/vi/2.png"],
        ("TNO", "ivif", MEANING),
        2,
        "2",
        ("TNO/ir/2.bmp", "TNO/vi/2.png"),
    ),
    "TNO with prefixes": (
        ["ir/IR1.bmp", "vi/VIS1.bmp", "ir/IR2.bmp", "vi/VIS2.bmp"],
        ("TNO or VIFB", "ivif", MEANING),
        2,
        "2",
        ("ir/IR2.bmp", "vi/VIS2.bmp"),
    ),
    "VIFB": (
        ["VIFB/input/IR/fight.jpg", "VIFB/input/VI/fight.bmp", "VIFB/output/method/fight.png"],
        ("VIFB", "ivif", MEANING),
        1,
        "fight",
        ("VIFB/input/IR/fight.jpg", "VIFB/input/VI/fight.bmp"),
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
        "PET-MRI/test/2005",
        ("MyDatasets/PET-MRI/test/PET/2005.png", "MyDatasets/PET-MRI/test/MRI/2005.png"),
    ),
    "Harvard in one": (
        ["CT_PET_SPECT/MRI_CT_2.png", "MRI/MRI_CT_2.png"],
        ("Harvard (AANLIB)", "mif", MEANING),
        1,
        "MRI_CT_2",
        ("CT_PET_SPECT/MRI_CT_2.png", "MRI/MRI_CT_2.png"),
    ),
    "Lytro": (
        [f"lytro-{n:02}-{x}.jpg" for n in range(1, 4) for x in "AB"],
        ("Lytro", "mfif", LETTERS),
        3,
        "lytro-02",
        ("lytro-02-A.jpg", "lytro-02-B.jpg"),
    ),
    "Lytro in two folders": (
        ["sourceA/1.jpg", "sourceB/1.jpg"],
        ("Lytro", "mfif", LETTERS),
        1,
        "1",
        ("sourceA/1.jpg", "sourceB/1.jpg"),
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
        "mffw_04",
        ("MFIFB/input/mffw_04/mffw_04_A.bmp", "MFIFB/input/mffw_04/mffw_04_B.bmp"),
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
        "House",
        ("MEFB/input/House/House_a.png", "MEFB/input/House/House_B.png"),
    ),
    "MFI-WHU": (
        ["source_1/1.jpg", "source_2/1.jpg", "full_clear/1.jpg"],
        ("MFI-WHU", "mfif", LETTERS),
        1,
        "1",
        ("source_1/1.jpg", "source_2/1.jpg"),
    ),
    "Real-MFF": (
        [
            f"{folder}/{n:03}_{x}.png"
            for folder, x in (("imageA", "A"), ("imageB", "B"), ("Fusion", "F"))
            for n in (1, 2)
        ],
        ("Real-MFF", "mfif", LETTERS),
        2,
        "002",
        ("imageA/002_A.png", "imageB/002_B.png"),
    ),
    "under and over": (
        ["Under/1.jpg", "OVER/1.jpg"],
        ("two folders", "meie", MEANING),
        1,
        "1",
        ("Under/1.jpg", "OVER/1.jpg"),
    ),
    "oe and ue": (["oe/1.jpg", "ue/1.jpg"], ("two folders", "meie", MEANING), 1, "1", ("ue/1.jpg", "oe/1.jpg")),
    "far and near": (
        ["far/1.jpg", "near/1.jpg"],
        ("two folders", "mfif", MEANING),
        1,
        "1",
        ("near/1.jpg", "far/1.jpg"),
    ),
    "files with words": (
        ["s1/s1_vi.png", "s1/s1_ir.png", "s2/visible.png", "s2/infrared.png"],
        ("pairs in one folder", "ivif", MEANING),
        2,
        "s2",
        ("s2/infrared.png", "s2/visible.png"),
    ),
    "A and B tell nothing": (["A/1.png", "B/1.png"], ("two folders", None, LETTERS), 1, "1", ("A/1.png", "B/1.png")),
    "but the path may": (
        ["meif/A/1.png", "meif/B/1.png"],
        ("two folders", "meie", LETTERS),
        1,
        "1",
        ("meif/A/1.png", "meif/B/1.png"),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    files, expected, count, pair, paths = LAYOUTS[name]
    root = tmp_path / "root"
    touch(root, *files)
    assert recognised(root) == expected
    pairs = found(root)
    assert len(pairs) == count and pairs[pair] == paths


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
    ((a, b),) = found(tmp_path, task).values()
    assert (a, b) == (f"{second}/1.png", f"{first}/1.png")
    assert recognised(tmp_path)[2] == MEANING and not discover(tmp_path).remarks


def test_two_known_words_among_more_folders(tmp_path):
    touch(tmp_path, "vis images/1.png", "ir images/1.png", "depth/1.png")
    assert found(tmp_path) == {"1": ("ir images/1.png", "vis images/1.png")}
    touch(tmp_path, "ir small/1.png")
    with pytest.raises(InputError, match="4 folders of images"):
        find_pairs(tmp_path)


def test_the_alphabet_decides_only_aloud(tmp_path):
    touch(tmp_path, "beta/1.png", "Alpha/1.png", "labels/1.png", "GT/1.png")
    assert found(tmp_path) == {"1": ("Alpha/1.png", "beta/1.png")}
    assert recognised(tmp_path) == ("two folders", None, ALPHABET)
    (remark,) = discover(tmp_path).remarks
    assert "decided by the alphabet: Alpha/ before beta/" in remark
    assert {path.name for path in discover(tmp_path).aside} == {"labels", "GT"}


def test_parts_of_a_data_set_are_no_sources(tmp_path):
    touch(tmp_path, "train/1.png", "test/1.png")
    with pytest.raises(InputError, match="no image pairs"):
        find_pairs(tmp_path)


def test_affixes_join_only_where_no_stem_is_equal(tmp_path):
    touch(tmp_path, "ir/x_A.png", "ir/y.png", "vi/x_B.png", "vi/y.png")
    with pytest.raises(InputError, match="2 unpaired"):
        find_pairs(tmp_path)
    touch(tmp_path / "other", "ir/x_1.png", "vi/x_2.png")  # two frames, not two sources
    with pytest.raises(InputError, match="2 unpaired"):
        find_pairs(tmp_path / "other")
    touch(tmp_path / "third", "A/x_1.png", "B/x_2.png")  # folders that number the sources, too
    assert found(tmp_path / "third") == {"x": ("A/x_1.png", "B/x_2.png")}
    pairs = pairs_from_arguments(tmp_path / "other" / "ir", tmp_path / "other" / "ir")
    assert [pair.name for pair in pairs] == ["x_1"]


def test_accents_are_one_however_encoded(tmp_path):
    touch(tmp_path, "ir/caf\u00e9.png", "vi/cafe\u0301.png")
    assert len(find_pairs(tmp_path)) == 1


def test_all_that_is_wrong_is_collected(tmp_path):
    touch(tmp_path, "s1/ir/1.png", "s1/ir/2.png", "s1/vi/1.png", "s2/ir/1.png", "s2/vi/1.png", "s2/vi/9.png")
    touch(tmp_path, "s3/CT/1.png", "s3/PET/1.png", "s3/MRI/1.png", "s4/ir/1.png", "s4/ir/1.jpg", "s4/vi/1.png")
    everything = discover(tmp_path)
    assert [pair.name for pair in everything.pairs] == ["s1/1", "s2/1", "s4/1"]
    assert [one.path.relative_to(tmp_path).as_posix() for one in everything.unpaired] == ["s1/ir/2.png", "s2/vi/9.png"]
    assert len(everything.errors) == 2
    assert "more than two" in everything.errors[0] and "same stem" in everything.errors[1]


# The task


def test_the_task_is_recognised(tmp_path, capsys):
    touch(tmp_path, "one/ir/1.png", "one/vi/1.png", "two/near/1.png", "two/far/1.png", "three/A/1.png", "three/B/1.png")
    assert recognise_task(tmp_path / "one") == ("ivif", "TNO or VIFB")
    with pytest.raises(InputError, match=r"say several \(ivif, mfif\); expected one of ivif, mif, mfif, meie"):
        recognise_task(tmp_path)
    with pytest.raises(InputError, match="--task is missing, and the names in .*three say none"):
        recognise_task(tmp_path / "three")
    (remark,) = discover(tmp_path / "one", "mif").remarks
    assert "say ivif" in remark and "not mif" in remark
    # As train.py says it, before the pictures turn out to be empty files.
    assert train_main(["--data", str(tmp_path / "one"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert "task ivif, recognised by the names in" in said.out and "the file is empty" in said.err


# Parts: train, validation, test


def picture_files(folder, *names, size=(24, 24)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 90, np.uint8)).save(path)


def test_the_test_part_is_never_trained_on(tmp_path):
    for part, count in (("train", 12), ("test", 5)):
        picture_files(tmp_path, *(f"{part}/{s}/{n}.png" for n in range(count) for s in ("ir", "vi")))
    data = sources.from_folder(tmp_path, "ivif", crop=16)
    assert data.validation.names == ["train/7"]  # the tenth by plain order: 0 1 10 11 2 3 4 5 6 7
    assert len(data.train) == 11 and all(name.startswith("train/") for name in data.train.names)
    assert "(5 of its test part left out)" in data.description
    # With a part for validation, that is the validation.
    picture_files(tmp_path, *(f"val/{s}/{n}.png" for n in range(3) for s in ("ir", "vi")))
    data = sources.from_folder(tmp_path, "ivif", crop=16)
    assert data.validation.names == ["val/0", "val/1", "val/2"] and len(data.train) == 12
    assert len(sources.from_folder(tmp_path, "ivif", crop=16, validation_every=0).validation) == 0
    # A test part named itself is used as it is; with nothing but a test part beneath, it is not.
    assert len(sources.from_folder(tmp_path / "test", "ivif", crop=16).train) == 5
    (tmp_path / "only").mkdir()
    (tmp_path / "test").rename(tmp_path / "only" / "test")
    with pytest.raises(InputError, match="all 5 pairs are of a test part"):
        sources.from_folder(tmp_path / "only", "ivif", crop=16)


def test_parts_by_folder_and_scenes_called_so(tmp_path):
    touch(tmp_path, *(f"{s}/{part}/1.jpg" for s in ("infrared", "visible") for part in ("train", "test")))
    assert {pair.name: pair.split for pair in find_pairs(tmp_path)} == {"test/1": "test", "train/1": "train"}
    touch(tmp_path / "scenes", "test/test_A.png", "test/test_B.png", "val/val_A.png", "val/val_B.png")
    assert [pair.split for pair in find_pairs(tmp_path / "scenes")] == [None, None]


# Order


def test_natural_order(tmp_path):
    names = ["a", "img1", "img2", "img02b", "img10", "img010x", "img" + "9" * 200, "x1y2", "x1y10", "x01", "Z"]
    touch(tmp_path, *(f"{s}/{name}.png" for name in names for s in ("ir", "vi")))
    listed = [pair.name for pair in find_pairs(tmp_path)]
    assert listed == ["Z", "a", "img1", "img2", "img02b", "img10", "img010x", "img" + "9" * 200, "x01", "x1y2", "x1y10"]
    assert [p.name for p in pairs_from_arguments(tmp_path / "ir", tmp_path / "vi")] == listed
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == listed


def test_the_pairs_held_out_follow_plain_order():
    pairs = [Pair(str(n), None, None) for n in range(1, 21)]  # plain: 1 10 11 ... 19 2 20 3 ...
    training, validation = split_validation(random.Random(1).sample(pairs, len(pairs)))
    assert [pair.name for pair in validation] == ["18", "9"]
    assert [pair.name for pair in training] == sorted(str(n) for n in range(1, 21) if n not in (18, 9))


@pytest.mark.parametrize(
    "folder, sha256",
    [("ivif", "69eb458f1860"), ("mif", "4e9024fec155"), ("mfif", "f47bbb895a8d"), ("meie", "eee6a52b79d5")],
)
def test_published_splits_do_not_move(real_data, folder, sha256):
    """Hashes of the names held out while pairs were still listed in plain order."""
    names = [pair.name for pair in split_validation(find_pairs(real_data / folder))[1]]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest().startswith(sha256)


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


def test_sice_repackaged_in_two_folders(tmp_path):
    touch(tmp_path / "SICE", *(f"{s}/{n}.png" for s in ("oe", "ue") for n in range(1, 8)))
    assert found(tmp_path)["3"] == ("SICE/ue/3.png", "SICE/oe/3.png")


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
    touch(tmp_path / "two", *(f"{s}/{n}.png" for s in ("x", "y") for n in range(1, 8)))
    assert len(find_pairs(tmp_path / "two", "meie")) == 7


def test_bad_exposures_are_told(sice):
    (sice / "1" / "1.JPG").write_bytes(b"no picture")
    for level in range(1, 4):
        exposure(sice / "7" / f"{level}.png", 128)
        Image.new("L", (8, 8), 77).save(sice / "7" / f"{level}.png")
    errors = discover(sice).errors
    assert len(errors) == 2 and "1.JPG: not an image" in errors[0] and "equally bright" in errors[1]
    assert [pair.name for pair in discover(sice).pairs] == ["10"]


def test_brightness_is_measured_on_reduced_pictures(tmp_path, monkeypatch):
    exposure(tmp_path / "x.jpg", 77, (800, 1200))
    exact = float(np.asarray(Image.open(tmp_path / "x.jpg").convert("L"), float).mean())
    decoded = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, *a, **k: decoded.append(self.size) or load(self, *a, **k))
    assert brackets.mean_luma(tmp_path / "x.jpg") == pytest.approx(exact, abs=0.5)
    assert decoded == []  # never decoded whole
    monkeypatch.setattr(Image, "open", None)
    assert brackets.mean_luma(tmp_path / "x.jpg") == pytest.approx(exact, abs=0.5)  # kept


# Large folders


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


def test_names_are_compared_without_case_and_separators():
    assert datasets.normalise("Crop-LR visible") == datasets.normalise("crop_lr_VISIBLE") == "croplrvisible"
    assert datasets.role("Visible_gray") == ("ivif", 2) and datasets.role("CT-MRI") is None
    assert datasets.role("river") is None  # a word within a word is none
