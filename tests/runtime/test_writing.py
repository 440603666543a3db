"""Files and folders that are whole or not there."""

import os
import signal
import subprocess
import sys

import pytest

from refusion_jax.errors import InputError
from refusion_jax.runtime.writing import whole_folder

KILLED = """
import os, signal, sys
from refusion_jax.runtime import writing
with writing.whole_folder(sys.argv[1]) as folder, writing.whole_file(sys.argv[2]) as file:
    (folder / "1.dcm").write_bytes(b"half")
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_nothing_under_the_final_names(repo, tmp_path):
    names = [str(tmp_path / "series"), str(tmp_path / "f.nii.gz")]
    (tmp_path / "f.nii.gz").write_bytes(b"older")
    done = subprocess.run([sys.executable, "-c", KILLED, *names], env=os.environ | {"PYTHONPATH": str(repo)})
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["f.nii.gz"]
    assert (tmp_path / "f.nii.gz").read_bytes() == b"older"


def test_a_folder_comes_into_an_empty_one_and_into_no_other(tmp_path):
    (tmp_path / "series").mkdir()
    for content in (b"first", b"second"):
        try:
            with whole_folder(tmp_path / "series") as folder:
                (folder / "1.dcm").write_bytes(content)
        except InputError as error:
            assert content == b"second" and "files in it" in str(error)
    assert (tmp_path / "series" / "1.dcm").read_bytes() == b"first"
    with pytest.raises(KeyError), whole_folder(tmp_path / "other"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


@pytest.mark.parametrize("name", [".", "link", "series"])
def test_an_empty_folder_that_is_there_is_kept(tmp_path, monkeypatch, name):
    """As a mount point, the current folder and what a link leads to must be."""
    series = tmp_path / "series"
    series.mkdir()
    (series / ".0f1e.tmp").mkdir()  # of a run that was killed
    (tmp_path / "link").symlink_to("series")
    monkeypatch.chdir(series if name == "." else tmp_path)
    before = series.stat().st_ino
    with pytest.raises(KeyError), whole_folder(name) as folder:
        (folder / "1.dcm").touch()
        raise KeyError
    assert [path.name for path in series.iterdir()] == [".0f1e.tmp"]
    with whole_folder(name) as folder:
        (folder / "1.dcm").write_bytes(b"whole")
        (folder / "2.dcm").touch()
        assert not list(series.glob("*.dcm"))
    assert sorted(path.name for path in series.iterdir()) == [".0f1e.tmp", "1.dcm", "2.dcm"]
    assert series.stat().st_ino == before and (tmp_path / "link").is_symlink()


def test_a_folder_comes_where_a_link_leads(tmp_path):
    (tmp_path / "link").symlink_to("series")
    with whole_folder(tmp_path / "link") as folder:
        (folder / "1.dcm").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "series" / "1.dcm").exists()
    with pytest.raises(InputError, match="is a file"), whole_folder(tmp_path / "series" / "1.dcm"):
        pass
