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
