"""The package as installed: every module and data file is in it; what `import refusion_jax` offers and costs."""

import subprocess
import sys


def test_an_installed_copy_finds_its_configs_and_commands(repo, tmp_path):
    """Built as a wheel and imported from there alone, away from the checkout."""
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
    installed = tmp_path / "site" / "refusion_jax"
    for folder, target in ((repo / "refusion_jax", installed), (repo / "configs", installed / "configs")):
        files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        assert files and not [str(name) for name in files if not (target / name).exists()]
    assert (tmp_path / "site" / "bin" / "refusion").exists()


def test_importing_the_package_does_not_import_jax(repo):
    code = "import sys, refusion_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo).returncode == 0
