"""Manifests: written, published, moved, edited, damaged; taken by train.py and evaluate.py; hashes."""

import csv
import json
import random
import shutil

import pytest
from picture_files import touch
from scripts import TINY, fails, picture, settings

from refusion_jax import config
from refusion_jax.cli.data import main
from refusion_jax.cli.evaluate import main as evaluate_main
from refusion_jax.cli.train import main as train_main
from refusion_jax.data import manifest
from refusion_jax.data.pairs import Pair
from refusion_jax.data.search import find_pairs
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image
from refusion_jax.training import loop


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twelve pairs, some of a test part, names with what CSV and shells find hard; their manifest beside them."""
    base = tmp_path_factory.mktemp("made")
    for i, name in enumerate(["a, b", 'quo"te', "wörld", "x 1.v2", "x 10", "x 2", "#7", *"ghijk"]):
        part = "test" if name in "jk" else "train"
        for seed, source in enumerate(("ir", "vi")):
            write_image(base / "data" / part / source / f"{name}.png", picture(2 * i + seed, (32, 40)))
    written(base / "data", base / "lists" / "pairs.csv")
    return base


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the pairs."""
    return shutil.copytree(made / "data", tmp_path / "data")


def written(folder, path, *options):
    assert main([str(folder), "--manifest", str(path), "--validation-every", "4", *options]) == 0
    return path


@pytest.fixture
def listed(made, folder, tmp_path):
    """A copy of the manifest beside the folder, not in it."""
    return shutil.copytree(made / "lists", tmp_path / "lists") / "pairs.csv"


def rows_of(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return list(csv.DictReader(lines))


def head_of(path):
    return [line for line in path.read_text().splitlines() if line.startswith("# ")]


def edited(path, old, new, drop_hash=True):
    text = path.read_text()
    assert old in text
    text = text.replace(old, new, 1)
    if drop_hash:
        text = "".join(line for line in text.splitlines(True) if not line.startswith("# sha256"))
    path.write_text(text)
    return path


def refused(path, *words, task=None):
    with pytest.raises(InputError) as caught:
        find_pairs(path, task)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# Written and read


def test_what_is_written(folder, listed, capsys):
    written(folder, listed.with_name("again.csv"))
    printed = capsys.readouterr().out
    assert listed.with_name("again.csv").read_bytes() == listed.read_bytes()
    assert "12 pairs (8 train, 2 validation, 2 test), sha256 " in printed
    assert head_of(listed)[:3] == ["# refusion_jax pairs 1", "# task: ivif", "# root: ../data"]
    rows = rows_of(listed)
    assert list(rows[0]) == ["name", "a", "b", "split", "sha256_a", "sha256_b"]
    assert [row["name"] for row in rows] == [pair.name for pair in find_pairs(folder)]
    for row in rows:
        part, name = row["name"].split("/")
        assert (row["a"], row["b"]) == tuple(f"{part}/{source}/{name}.png" for source in ("ir", "vi"))
        assert row["sha256_a"] == manifest.file_hash(folder / row["a"])
    # Every fourth of the pairs that are not for tests, in plain order of the names.
    usable = sorted(row["name"] for row in rows if row["split"] != "test")
    assert [row["name"] for row in rows if row["split"] == "validation"] == sorted(usable[3::4])
    assert str(listed.parent.parent) not in listed.read_text()


def test_it_is_read_as_the_folder_is(folder, listed):
    pairs = find_pairs(listed, "ivif")
    assert [pair.name for pair in pairs] == [pair.name for pair in find_pairs(folder)]
    assert [(p.a.samefile(q.a), p.b.samefile(q.b)) for p, q in zip(pairs, find_pairs(folder), strict=True)] == (
        [(True, True)] * 12
    )
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}


def test_it_is_the_same_list_wherever_it_lies(folder, listed, tmp_path, capsys):
    inside = written(folder, folder / "list.csv")
    assert "# root" not in inside.read_text() and rows_of(inside) == rows_of(listed)
    assert head_of(inside)[-1] == head_of(listed)[-1]  # the hash
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.move(folder, moved)
    assert len(find_pairs(moved / "list.csv")) == 12
    message = refused(listed, "24 of its 24 files are missing", "and 21 more", "--root DIR --manifest NEW.csv")
    assert message.count("ir/") + message.count("vi/") == 3
    new = tmp_path / "new.csv"
    assert main([str(listed), "--root", str(moved), "--manifest", str(new)]) == 0
    assert "# root: elsewhere/renamed" in head_of(new) and rows_of(new) == rows_of(listed)
    assert head_of(new)[-1] == head_of(listed)[-1] and len(find_pairs(new)) == 12


def test_linked_folders_and_lists(folder, listed, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "lists").symlink_to(listed.parent, target_is_directory=True)
    assert len(find_pairs(tmp_path / "a" / "b" / "lists" / "pairs.csv")) == 12


def test_a_list_by_hand(folder, tmp_path):
    path = tmp_path / "hand.CSV"
    path.write_bytes(
        b"\xef\xbb\xbfNote, Name ,B,a\r\n"  # as spreadsheets save: a mark, other columns, another order
        b"x,g,data\\train\\vi\\g.png,data/train/ir/g.png\r\n\r\n"
        b"," + f'h,{folder}/train/vi/h.png,"{folder}/train/ir/h.png"\r\n'.encode()
    )
    assert find_pairs(path, "mfif") == [
        Pair(n, base / f"train/ir/{n}.png", base / f"train/vi/{n}.png")
        for n, base in (("g", tmp_path / "data"), ("h", folder))
    ]


def test_a_list_that_a_spreadsheet_saved_again(listed):
    lines = listed.read_text().splitlines()
    listed.write_text("\r\n".join(f"{line},,,,," if line.startswith("# ") else line for line in lines))
    assert len(find_pairs(listed)) == 12


# What is wrong with a list


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("# task: ivif", "# task: ivf", ["names the task 'ivf'", "ivif, mif, mfif, meie"]),
        ("name,a,b", "nom,a,b", ["expected columns name, a, b", "got nom, a, b"]),
        ("name,a,b,split", "name,a,b,a", ["two columns have one name"]),
        ("train/ir/g.png", "C:\\data\\g.png", ["line 9, a: 'C:/data/g.png' is a path of a Windows machine", "--root"]),
        ("train/ir/g.png", "\\\\server\\g.png", ["path of a Windows machine"]),
        ("train/ir/g.png", "", ["line 9: pair 'train/g' lacks its a"]),
        ("train/ir/g.png", "train/vi/g.png", ["both files of pair 'train/g' are 'train/vi/g.png'"]),
        ("train/ir/g.png", "train/ir/none.png", ["1 of its 24 files are missing", "train/ir/none.png"]),
        ("train/ir/g.png", "train/ir", ["1 of its 24 files are missing"]),
        ("train/g,", "train/h,", ["line 10: the name 'train/h' stands on line 9 already"]),
        ("train/g,", "../g,", ["line 9: the name '../g' cannot be used", "lead out of the folder"]),
        ("train/g,", "/etc/g,", ["lead out"]),
        ("train/g,", "C:g,", ["lead out"]),
        ("train/g,", "a//g,", ["lead out"]),
        ("train/g,", "a\\g,", ["backslash"]),
        ("train/g,", ",", ["it is empty"]),
        ("train/ir/g.png,train/vi/g.png", "train/ir/h.png,train/vi/h.png", ["line 10: lists the two files of line 9"]),
        ("train/ir/g.png", '"train/ir/g\n.png"', ["line 10, a: expected a path of printable characters"]),
        ("train/ir/g.png", "g\0.png", ["line 9, a: expected a path of printable characters"]),
        ("train/ir/g.png", "g" * 1001, ["line 9, a: expected a path of printable characters, 1000 at most"]),
        (",train,", ',"tr\nain",', ["expected split to be train, validation, test or empty, got 'tr\\nain'"]),
        ("train/g,", "train/g,more,", ["line 9: expected 6 fields, got 7"]),
        (",train,", ",training,", ["expected split to be train, validation, test or empty, got 'training'"]),
        (",train,", ",train,12", ["expected a SHA-256 of 64 hexadecimal digits"]),
        ('"train/a, b"', '"train/a, b', ["not CSV"]),
    ],
)
def test_bad_rows(listed, old, new, words):
    refused(edited(listed, old, new), str(listed), *words)


NASTY = [
    "",
    " ",
    "\n",
    "a\nb",
    "\0",
    "..",
    "../..",
    "/",
    "C:\\x",
    "\\\\srv\\x",
    "\u2028",
    "\x85",
    "e\u0301",
    "\ufeff",
    "٣",
    "\x1b[31m",
]
NASTY += [
    "x" * 5000,
    "a/" * 3000,
    '"',
    ",",
    "'",
    "#",
    "# task: mif",
    "test",
    "0" * 64,
    "g" * 64,
    "name",
    "a/1.png",
    "a",
]


def test_any_content_of_a_field_is_read_or_refused_in_one_line(tmp_path, capsys):
    touch(tmp_path, *(f"{source}/{n}.png" for source in "ab" for n in "123"))
    path = tmp_path / "list.csv"
    read = 0
    for seed in range(400):
        pick = random.Random(seed)
        table = [list(manifest.COLUMNS), *([f"p{n}", f"a/{n}.png", f"b/{n}.png", "", "", ""] for n in "123")]
        head = ["task: ivif", "root: .", *(f"{key}: {pick.choice(NASTY)}" for key in ("task", "root", "sha256"))]
        for _ in range(pick.randint(1, 2)):
            pick.choice(table[pick.random() < 0.9 :])[pick.randrange(6)] = pick.choice(NASTY)
        with open(path, "w", newline="", encoding="utf-8") as file:
            file.writelines(f"# {line}\n" for line in pick.sample(head, pick.randint(0, 1)))
            csv.writer(file, lineterminator=pick.choice(["\n", "\r\n", "\r"])).writerows(table)
        try:
            read += len(find_pairs(path)) > 0
        except InputError as error:
            assert str(error).isprintable() and len(str(error)) < 2000, seed
        if seed % 20 == 0:
            assert main([str(path), "--quick"]) in (1, 2)  # the pictures are empty
    assert 20 < read < 200
    assert "Traceback" not in capsys.readouterr().err


def test_bad_files(listed, tmp_path):
    refused(tmp_path / "none.csv", "no such manifest")
    refused(listed, "lists pairs for ivif, not for meie", task="meie")
    for content, words in (
        (b"", "got nothing"),
        (b"name,a,b\n", "lists no pairs"),
        (b"name:a:b\n", "got name:a:b"),
        (b"name,a,b\ncaf\xe9,x,y\n", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8"),
    ):
        listed.write_bytes(content)
        refused(listed, words)
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "no image pairs")


def test_a_changed_list_is_noticed(listed):
    """By the hash of the list: the rows themselves are sound."""
    text = listed.read_text()
    for old, new in ((",train,", ",validation,"), ("train/g,", "train/gg,")):
        message = refused(edited(listed, old, new, drop_hash=False), "was changed after it was written", "'# sha256'")
        assert "--root" not in message
        listed.write_text(text)
    row = next(line for line in text.splitlines(True) if line.startswith("train/g,"))
    refused(edited(listed, row, "", drop_hash=False), "was changed after it was written")


def test_several_problems_are_counted(listed, capsys):
    edited(edited(listed, "train/g,", "../g,"), "train/h,", "../h,")
    refused(listed, "line 9: the name '../g'", "and 1 more")
    assert main([str(listed)]) == 1
    printed = capsys.readouterr().out
    assert "other problems: 2" in printed and "'../g'" in printed and "'../h'" in printed and "10 (" in printed


@pytest.mark.parametrize("changed", [["ir"], ["vi"], ["ir", "vi"]])
def test_contents_are_checked_when_asked(folder, listed, capsys, changed):
    assert main([str(listed)]) == 0
    assert "no problems in 12 pairs" in capsys.readouterr().out
    for i, source in enumerate(changed):
        write_image(folder / "train" / source / "g.png", picture(77 + i, (32, 40)))
    assert len(find_pairs(listed)) == 12  # not looked at
    assert main([str(listed), "--quick"]) == 0
    capsys.readouterr()
    assert main([str(listed)]) == 1
    printed = capsys.readouterr().out
    assert f"files that are not those listed: {len(changed)}\n" in printed
    for source in ("ir", "vi"):
        assert (f"{source}/g.png: the content is not the one listed" in printed) == (source in changed)


def test_the_hash_of_a_list_covers_both_files_of_a_pair():
    """With the name, the split and the task; not the order of the rows."""
    row = ("x", "train", "a" * 64, "b" * 64)
    others = [("y", *row[1:]), ("x", "test", *row[2:]), (*row[:2], "c" * 64, row[3]), (*row[:3], "c" * 64)]
    hashes = {manifest.list_hash("ivif", [other]) for other in (row, *others)}
    assert len(hashes | {manifest.list_hash("mif", [row]), manifest.list_hash(None, [row])}) == 7
    assert manifest.list_hash("ivif", [row, others[0]]) == manifest.list_hash("ivif", [others[0], row])


# Writing


def test_nothing_is_overwritten(folder, listed, tmp_path, capsys):
    before = listed.read_bytes()
    assert "exists already" in fails(main, capsys, folder, "--manifest", listed)
    assert "end in .csv" in fails(main, capsys, folder, "--manifest", tmp_path / "list.txt")
    assert listed.read_bytes() == before


@pytest.mark.parametrize("name", ["back\\slash", "tab\tbed", " blank", "caf\udce9"])
def test_names_a_list_cannot_hold(tmp_path, capsys, name):
    for source in ("ir", "vi"):
        write_image(tmp_path / "data" / source / f"{name}.png", picture(3 + len(source)))
        write_image(tmp_path / "data" / source / "x.png", picture(5))
    printed = fails(main, capsys, tmp_path / "data", "--quick", "--manifest", tmp_path / "list.csv")
    assert "a manifest cannot hold" in printed and "rename the file" in printed
    assert not (tmp_path / "list.csv").exists()


def test_unsound_pairs_are_left_out(folder, tmp_path, capsys):
    write_image(folder / "train" / "vi" / "g.png", picture(1, (32, 41)))
    (folder / "train" / "ir" / "h.png").write_bytes(b"")
    (folder / "train" / "ir" / "alone.png").write_bytes(b"")
    assert main([str(folder), "--manifest", str(tmp_path / "sound.csv")]) == 1
    assert "10 pairs" in capsys.readouterr().out
    pairs = find_pairs(tmp_path / "sound.csv")
    assert len(pairs) == 10 and not {"train/g", "train/h", "train/alone"} & {pair.name for pair in pairs}


# In use


def test_training_on_a_list(listed, tmp_path, monkeypatch, capsys):
    """train.py takes it, keeps its split, and goes on from another folder."""
    calls = []
    monkeypatch.setattr(loop, "train", lambda run, settings, data, **_: calls.append(data) or loop.Outcome(1, True))
    monkeypatch.chdir(tmp_path)
    small = settings(*TINY, "data.crop=16")
    assert train_main(["--data", "lists/pairs.csv", "--out", "run", *small]) == 0
    printed = capsys.readouterr().out
    assert "task ivif, recognised by the names in lists/pairs.csv" in printed
    assert "8 training and 2 validation pairs" in printed and "(2 of its test part left out)" in printed
    rows = rows_of(listed)
    expected = {part: sorted(r["name"] for r in rows if r["split"] == part) for part in ("train", "validation")}
    names = json.loads((tmp_path / "run" / "pairs.json").read_text())
    assert {part: names[part] for part in expected} == expected
    assert config.load(tmp_path / "run" / "config.toml").data.dir == str(listed.resolve())
    monkeypatch.chdir("/")
    assert train_main(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert calls[1].train.names == expected["train"] and calls[1].validation.names == expected["validation"]
    edited(listed, ",validation,", ",train,")
    printed = fails(train_main, capsys, "--resume", "--out", tmp_path / "run")
    assert "was trained on 8 pairs" in printed


def test_scoring_a_part_of_a_list(folder, listed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for pair in find_pairs(folder):
        write_image(tmp_path / "fused" / f"{pair.name}.png", picture(1, (32, 40)))
    base = ["--data", "lists/pairs.csv", "--fused", "fused", "--metrics", "SD"]
    assert evaluate_main([*base, "--split", "test"]) == 0
    summary = json.loads((tmp_path / "results" / "pairs" / "summary.json").read_text())
    assert summary["data"]["pairs"] == 2 and summary["data"]["task"] == "ivif"
    assert "recognised by the names" in capsys.readouterr().out
    assert evaluate_main(base) == 0
    assert "has 8 train, 2 validation, 2 test pairs; all are scored" in capsys.readouterr().err
    for source in ("ir", "vi"):
        write_image(tmp_path / "plain" / source / "1.png", picture(1))
    printed = fails(evaluate_main, capsys, "--data", "plain", "--fused", "fused", "--split", "test")
    assert "--split test: plain has no such pairs, but 1 of no part" in printed
