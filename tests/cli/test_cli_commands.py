"""The one command: what it lists, what it says of unknown words, and that every message names the form in use."""

import sys

import pytest

from refusion_jax import __version__
from refusion_jax.__main__ import COMMANDS, main
from refusion_jax.cli import train
from refusion_jax.cli.common import program


@pytest.mark.parametrize(
    ("started", "fuse", "data"),
    [
        ("fuse.py", "python fuse.py", "python -m refusion_jax data"),
        ("/home/x/train.py", "python fuse.py", "python -m refusion_jax data"),
        ("/usr/bin/refusion", "refusion fuse", "refusion data"),
        ("/venv/refusion_jax/__main__.py", "python -m refusion_jax fuse", "python -m refusion_jax data"),
        ("", "python -m refusion_jax fuse", "python -m refusion_jax data"),
    ],
)
def test_a_command_is_called_as_this_process_was(monkeypatch, capsys, started, fuse, data):
    monkeypatch.setattr(sys, "argv", [started])
    assert (program("fuse"), program("data")) == (fuse, data)
    for command, name in (("fuse", fuse), ("data", data)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_help_and_version(capsys):
    assert main([]) == main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {command} " in listed for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["refusion_jax", __version__]


def test_a_training_started_by_the_command_tunes_the_allocator(monkeypatch):
    """As train.py does, at the start of a process and not when called from Python."""
    restarts = []
    monkeypatch.setattr(train, "restart_with_tuned_malloc", lambda: restarts.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["/venv/bin/refusion", "train", "--help"])
    for arguments in (None, ["train", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0 and restarts == [["--help"]]


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["fsue", "--task", "meie"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'fsue'" in error and "'fuse'" in error and "weights" in error
