"""What the commands say of what they are given: encodings of the output, wildcards, the order of the sources."""

import pytest
from fuse_command import fuse, images, refused
from scripts import picture, script

from refusion_jax.cli.data import main as data
from refusion_jax.data.search import expanded
from refusion_jax.errors import InputError
from refusion_jax.imaging.files import write_image


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_is_not_utf_8(tmp_path, repo, encoding):
    folder = tmp_path / "szene_Ω"
    for side in ("ir", "vi"):
        write_image(folder / side / "łódź.png", picture(ord(side[0])))
    listed = tmp_path / "pairs_ő.csv"
    done = script(repo, "-m", "refusion_jax", "data", folder, "--manifest", listed, PYTHONIOENCODING=encoding)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr and "\\u03a9" in done.stdout and listed.exists()


def test_wildcards(tmp_path, weights, capsys):
    for name in ("x1", "x2", "x10"):
        write_image(tmp_path / "ir" / f"{name}.png", picture(1))
        write_image(tmp_path / "vi" / f"{name}.png", picture(2))
    (tmp_path / "ir" / "[y].png").write_bytes(b"")
    assert [path.name for path in expanded(tmp_path / "ir" / "x*.png")] == ["x1.png", "x2.png", "x10.png"]
    assert expanded(tmp_path / "ir" / "[y].png") == [tmp_path / "ir" / "[y].png"]  # what exists is itself
    base = ["--ckpt", weights, "--no-check"]
    fuse(*base, "--pair", tmp_path / "ir" / "x*.png", tmp_path / "vi" / "x?*.png", "--out", tmp_path / "out")
    assert images(tmp_path / "out") == ["x1.png", "x10.png", "x2.png"]
    fuse(*base, "--pair", tmp_path / "ir" / "x2*", tmp_path / "vi" / "x10*", "--out", tmp_path / "one.png")
    capsys.readouterr()
    said = refused(
        capsys, *base, "--pair", tmp_path / "ir" / "z*.tif", tmp_path / "vi" / "x*", "--out", tmp_path / "out"
    )
    assert "z*.tif" in said and "4 files of type .png" in said
    with pytest.raises(InputError):
        expanded(tmp_path / "none" / "*.png")


@pytest.mark.parametrize(("name", "words"), [("a.mha", "2 files of type .mha (volumes"), ("IM1", "without an")])
def test_what_is_there_instead_of_pictures(tmp_path, capsys, weights, name, words):
    for side in ("PET", "MRI"):
        (tmp_path / side).mkdir()
        for number in range(2):
            (tmp_path / side / f"{number}{name}").write_bytes(b"x")
    assert words in refused(capsys, "--ckpt", weights, "--pair", tmp_path / "PET", tmp_path / "MRI")
    assert words in refused(capsys, "--ckpt", weights, "--task", "meie", "--stack", tmp_path / "PET")
    assert data([str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_the_order_of_the_sources_is_said(tmp_path, weights, capsys):
    for sides in (("left", "right"), ("infrared", "visible")):
        for side in sides:
            write_image(tmp_path / sides[0] / side / "1.png", picture(len(side)))
    base = ["--ckpt", weights, "--no-check", "--task", "ivif", "--out", tmp_path / "out"]
    base[1] = tmp_path / "ivif.safetensors"
    base[1].write_bytes(weights.read_bytes().replace(b"meie", b"ivif"))
    fuse(*base, "--data", tmp_path / "left")
    assert "alphabet" in capsys.readouterr().err
    right = [tmp_path / "infrared" / side for side in ("infrared", "visible")]
    fuse(*base, "--pair", *right)
    assert capsys.readouterr().err == ""
    wrong = right[::-1]
    for pair in (wrong, [path / "1.png" for path in wrong]):
        fuse(*base, "--pair", *pair)
        said = capsys.readouterr().err
        assert said.count("note:") == 1 and "infrared" in said and "first source" in said


def test_levels_and_the_limit_of_pixels(tmp_path, weights, capsys):
    a, b = (write_image(tmp_path / f"{name}.png", picture(i)) for i, name in enumerate("ab"))
    base = ["--ckpt", weights, "--pair", a, b, "--out", tmp_path / "x.png", "--no-check"]
    assert "levels must be auto" in refused(capsys, *base, "--levels", "wide")
    assert "--max-pixels" in refused(capsys, *base, "--max-pixels", "100")
    fuse(*base, "--levels", "a=-5..10", "b=run", "--max-pixels", "480")
