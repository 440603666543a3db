"""The package as installed: every sub-package and data file is in it; what `import refusion_jax` offers and costs."""

import subprocess
import sys
import tomllib


def test_every_package_is_listed(repo):
    listed = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(repo).parts) for p in (repo / "refusion_jax").rglob("__init__.py")}
    assert set(listed) == found | {"refusion_jax.configs"}


def test_an_installed_copy_finds_its_configs_and_commands(repo, tmp_path):
    """Built by setuptools and imported from there alone, away from the checkout."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(tmp_path / "site"),
        str(repo),
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "from refusion_jax import config; print(config.resolve('mfif', 'quick').data.crop, config.__file__)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert out.stdout.split()[0] == "64" and str(tmp_path) in out.stdout, out.stderr
    assert (tmp_path / "site" / "refusion_jax" / "report" / "assets" / "fusion.js").exists()
    for command in ("refusion-train", "refusion-fuse", "refusion-evaluate"):
        assert (tmp_path / "site" / "bin" / command).exists()


def test_importing_the_package_does_not_import_jax(repo):
    code = "import sys, refusion_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo).returncode == 0
