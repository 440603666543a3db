"""What is said of a run that cannot go on as it stands: settings edited by hand, data that were moved."""

import numpy as np
import pytest
from scripts import fails, picture, tiny_run

from refusion_jax.cli.evaluate import main as evaluate
from refusion_jax.cli.train import main as train
from refusion_jax.imaging.files import write_image


@pytest.fixture
def run(tmp_path):
    return tiny_run(tmp_path / "run")


@pytest.mark.parametrize(("key", "value"), [("batch", "7"), ("inner_steps", "3"), ("sobel_scale", "0.5")])
def test_settings_edited_by_hand(run, capsys, key, value):
    path = run / "config.toml"
    lines = path.read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines) if line.startswith(f"{key} =")]
    before, lines[number] = lines[number], f"{key} = {value}"
    path.write_text("\n".join(lines))
    said = fails(train, capsys, "--resume", "--out", run)
    assert "config.toml" in said and f".{key} = {value}" in said and before.split(" = ")[1] in said


def test_data_that_were_moved(run, capsys):
    path = run / "config.toml"
    path.write_text(path.read_text().replace('dir = ""', 'dir = "/nowhere/pairs"'))
    said = fails(train, capsys, "--resume", "--out", run)
    assert "/nowhere/pairs" in said and "--data DIR" in said


def test_blank_pairs_in_a_mean_are_said(tmp_path, capsys):
    for name, sources in (("1", picture(1)), ("2", np.full_like(picture(1), 9))):
        write_image(tmp_path / "d" / "ir" / f"{name}.png", sources)
        write_image(tmp_path / "d" / "vi" / f"{name}.png", picture(2))
        write_image(tmp_path / "f" / f"{name}.png", picture(3))
    where = ["--data", tmp_path / "d", "--fused", tmp_path / "f", "--metrics", "EN", "SD", "--out", tmp_path / "out"]
    assert evaluate([*map(str, where)]) == 0
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert "1 of 2 pairs" in note and "(2)" in note
