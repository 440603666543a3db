"""python -m refusion_jax data: what it recognises, every kind of problem it finds, its exit status."""

import numpy as np
import pytest
from PIL import Image
from scripts import fails, picture, script

from refusion_jax.cli.data import main
from refusion_jax.data import check
from refusion_jax.data.search import discover
from refusion_jax.imaging.files import write_image


def scene(seed, shape=(96, 128)):
    """A grey picture with structure of many sizes, as registration needs it."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    for size in (2, 4, 8, 16):
        coarse = rng.standard_normal((shape[0] // size + 1, shape[1] // size + 1))
        image += np.kron(coarse, np.ones((size, size)))[: shape[0], : shape[1]]
    return np.clip(128 + 30 * image, 0, 255).astype(np.uint8)


def colored(image):
    return np.stack([image, image // 2, 255 - image], -1)


@pytest.fixture
def folder(tmp_path):
    """Three sound infrared-visible pairs, with labels beside them."""
    for i in range(3):
        write_image(tmp_path / "M3FD" / "Ir" / f"{i}.png", scene(i))
        write_image(tmp_path / "M3FD" / "Vis" / f"{i}.jpg", colored(scene(i)))
        write_image(tmp_path / "M3FD" / "Labels" / f"{i}.png", scene(9))
    return tmp_path / "M3FD"


def looked(capsys, *arguments, status=1):
    """What the command prints."""
    assert main([*map(str, arguments)]) == status
    return capsys.readouterr().out


def problems(folder, task=None, **options):
    return check.survey(discover(folder, task), task, **options).problems


def test_a_sound_folder_as_a_process(folder, repo):
    done = script(repo, "-m", "refusion_jax", "data", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{folder}\n  layout     M3FD\n  task       ivif\n  source 1   Ir/\n  source 2   Vis/\n"
        "  order      by meaning\n  pairs      3\n  not used   Labels/\n"
        "no problems in 3 pairs (names, sizes, contents, order and registration)\n"
    )
    assert done.stderr == ""


def test_every_kind_of_problem_at_once(folder, capsys):
    write_image(folder / "Ir" / "size.png", scene(1, (96, 130)))
    write_image(folder / "Vis" / "size.png", scene(1))
    write_image(folder / "Ir" / "broken.png", scene(2))
    whole = (folder / "Ir" / "broken.png").read_bytes()
    (folder / "Ir" / "broken.png").write_bytes(whole[: len(whole) // 2])
    write_image(folder / "Vis" / "broken.png", scene(2))
    write_image(folder / "Ir" / "swapped.png", colored(scene(3)))
    write_image(folder / "Vis" / "swapped.png", scene(3))
    write_image(folder / "Ir" / "shifted.png", scene(4, (120, 160))[8:104, 6:134])
    write_image(folder / "Vis" / "shifted.png", colored(scene(4, (120, 160))[:96, :128]))
    write_image(folder / "Ir" / "same.png", scene(5))
    write_image(folder / "Vis" / "same.png", scene(5))
    (folder / "Ir" / "alone.png").write_bytes(whole)
    write_image(folder / "Vis" / "2.bmp", scene(7))
    printed = looked(capsys, folder)
    assert "  pairs      8\n" in printed and printed.endswith(
        "7 problems in 8 pairs (names, sizes, contents, order and registration)\n"
    )
    for words in (
        f"unpaired files: 1\n  {folder / 'Ir' / 'alone.png'} (nothing of that stem in {folder / 'Vis'})\n",
        "size mismatches: 1\n  size: 130x96 and 128x96 pixels",
        f"unreadable files: 1\n  {folder / 'Ir' / 'broken.png'}: damaged or truncated",
        "both pictures the same: 1\n  same: ",
        "pairs that look swapped: 1\n  swapped: the first is in colour and the second grey",
        "pairs that look misregistered: 1\n  shifted: the second picture looks shifted by 6.",
        "other problems: 1\n",
        "have the same stem; keep one of them",
    ):
        assert words in printed, words
    # Without decoding: the truncated file has a sound header.
    printed = looked(capsys, folder, "--quick")
    assert "3 problems in 8 pairs (names and sizes)" in printed and "130x96 and 128x96" in printed


def test_many_problems_are_cut_short(folder, capsys):
    for i in range(30):
        (folder / "Ir" / f"alone{i}.png").touch()
    printed = looked(capsys, folder)
    assert printed.count("alone") == 20 and "  and 10 more (--all prints them)" in printed
    printed = looked(capsys, folder, "--all")
    assert printed.count("alone") == 30 and "more" not in printed


# Order


def both(folder, first, second, a, b):
    write_image(folder / first, a)
    write_image(folder / second, b)


def test_brightness_by_meaning_and_by_letters(tmp_path, capsys):
    dark, bright = picture(1, (64, 64), mean=70), picture(1, (64, 64), mean=170)
    both(tmp_path / "named", "under/1.png", "over/1.png", bright, dark)
    assert "1: the first is the brighter (mean 170 and 70)" in problems(tmp_path / "named")[check.SWAPPED][0]
    # Letters do not say which is which: the brightness decides when the pair is used.
    both(tmp_path / "MEFB", "x/x_A.png", "x/x_B.png", bright, dark)
    both(tmp_path / "MEFB", "y/y_A.png", "y/y_B.png", dark, bright)
    printed = looked(capsys, tmp_path / "MEFB", status=0)
    assert "note: in 1 of 2 pairs source 1 as named is the brighter; the darker counts as source 1" in printed


@pytest.mark.parametrize(
    "task, a, b, swapped",
    [
        ("ivif", True, False, True),
        ("ivif", False, True, False),
        ("ivif", True, True, False),
        ("ivif", False, False, False),
        ("mif", False, True, True),
        ("mif", True, False, False),
        ("mfif", True, False, False),
        ("meie", False, True, False),
    ],
)
def test_colors(tmp_path, task, a, b, swapped):
    a, b = (colored(scene(1)) if color else np.stack([scene(2)] * 3, -1) for color in (a, b))
    Image.fromarray(a).save(tmp_path / "x_A.jpg")  # grey as colour JPEG
    Image.fromarray(b).save(tmp_path / "x_B.jpg")
    assert (check.SWAPPED in problems(tmp_path, task)) == swapped


def test_names_in_a_list_the_wrong_way_round(tmp_path, capsys):
    both(tmp_path, "MRI/1.png", "CT/1.png", scene(1), scene(2))
    both(tmp_path, "x/2_mri.png", "x/2_ct.png", scene(1), scene(2))
    (tmp_path / "list.csv").write_text("# task: mif\nname,a,b\n1,MRI/1.png,CT/1.png\n2,x/2_mri.png,x/2_ct.png\n")
    for options in ((), ("--quick",)):
        printed = looked(capsys, tmp_path / "list.csv", *options)
        assert "pairs that look swapped: 2\n" in printed and "CT/1.png is the first source and" in printed


def test_another_task_than_the_names_tell(folder, capsys):
    printed = looked(capsys, folder, "--task", "MFIF")
    assert "other problems: 1\n  the names of 3 pairs say ivif (M3FD), not mfif\n" in printed and "note:" not in printed
    for name in "ab":
        both(folder.parent / "plain", f"left/{name}.png", f"right/{name}.png", scene(1), scene(2))
    printed = looked(capsys, folder.parent / "plain", "--task", "mfif", status=0)
    assert "task       not in the names; mfif given" in printed
    assert "note: which source is the first was decided by the alphabet: left/ before right/" in printed


# What is printed and refused


def test_several_layouts_in_one_folder(folder, tmp_path, capsys):
    both(tmp_path, "MFIFB/input/door/door_A.png", "MFIFB/input/door/door_B.png", scene(1), scene(2))
    printed = looked(capsys, tmp_path, status=0)
    for words in ("layout     M3FD", "layout     MFIFB", "source 1   NAME_A", "pairs      3", "all pairs  4"):
        assert words in printed


def test_parts_are_counted_and_exposures_chosen(tmp_path, capsys):
    for number, level in enumerate((90, 30, 200), 1):
        for part in ("Dataset_Part1/train/1", "Dataset_Part1/test/2"):
            write_image(tmp_path / part / f"{number}.jpg", picture(number, (64, 64), mean=level))
    printed = looked(capsys, tmp_path, status=0)
    assert "layout     SICE" in printed and "pairs      2 (1 train, 1 test)" in printed
    assert "order      the darkest, then the brightest" in printed and "note: the two exposures of each of 2" in printed
    printed = looked(capsys, tmp_path, "--exposures", "1", "-1", status=0)
    assert "source 2   exposure -1 of each folder" in printed and "order      as chosen" in printed


def test_bad_input(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([tmp_path / "none"], "does not exist"),
        ([tmp_path / "empty"], "no image pairs found"),
        ([folder / "Ir" / "0.png"], "it is a file"),
        ([folder, "--task", "ivf"], "unknown task 'ivf'; did you mean 'ivif'?"),
        ([folder, "--root", folder], "--root is for a manifest"),
        ([folder, "--validation-every", "1"], "n >= 2, got 1"),
    ):
        assert words in fails(main, capsys, *arguments)
    (folder / "list.csv").write_text("name,a,b\n0,Ir/0.png,Vis/0.jpg\n")
    assert "--exposures" in fails(main, capsys, folder / "list.csv", "--exposures", "1", "2")
    assert "does not exist" in fails(main, capsys, folder / "list.csv", "--root", tmp_path / "none")
    assert main([str(folder / "list.csv"), "--root", str(folder)]) == 0


def test_real_data(real_data):
    """Published data sets: nothing unpaired, unreadable, of two sizes or swapped."""
    for name, task in (("mfif/MFIFB", "mfif"), ("meie/MEFB", "meie")):
        found = discover(real_data / name)
        assert found.task == task and not problems(real_data / name, headers_only=True)
