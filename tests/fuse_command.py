"""The command fuse called as tests call it."""

from scripts import fails

from refusion_jax.cli.fuse import main


def fuse(*arguments, status=0):
    assert main([*map(str, arguments)]) == status


def refused(capsys, *arguments):
    """The one line that it says of bad input."""
    return fails(main, capsys, *arguments)


def images(folder):
    """The files under a folder, by name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
