"""The experiments around their trainings, which stand-in processes play: plan, resume, failures, tables, bad input."""

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scripts import fails, picture

from refusion_jax import config
from refusion_jax.cli import experiments
from refusion_jax.data import manifest
from refusion_jax.errors import InputError
from refusion_jax.evaluation.paper_tables import load_table
from refusion_jax.experiments import duration, folder, plan, results, runs
from refusion_jax.experiments.plan import BUDGETS, EXPERIMENTS, FULL, lengths, settings_of
from refusion_jax.imaging.files import write_image
from refusion_jax.imaging.levels import Rule

METRICS = ("EN", "SD", "SF", "AG", "SCD", "SSIM")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve pairs, of which the tenth is held out."""
    root = tmp_path_factory.mktemp("data")
    for i in range(12):
        for source in ("ir", "vi"):
            write_image(root / source / f"{i:02d}.png", picture(i, (16, 16)))
    return root


class Processes:
    """In place of subprocess.Popen: plays train and evaluate. ends: {(row, seed): what its training says last}."""

    def __init__(self, ends=(), better=()):
        self.commands, self.ends, self.better = [], dict(ends), dict(better)

    def __call__(self, command, stdout, **_):
        self.commands.append(command)
        name = Path(command[command.index("--out") + 1]).name
        run, out = name, Path(command[command.index("--out") + 1])
        status = 0
        if "train" in command:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.toml").touch()
            if text := self.ends.get(run):
                stdout.write(f"error: {text}\n".encode())
                stdout.flush()
                status = 2
        else:
            out.mkdir(parents=True)
            row, seed = run.split("-seed")
            value = self.better.get(row, 1.0) + 0.01 * int(seed)
            metrics = {metric: {"mean": value, "std": 0.1} for metric in METRICS}
            summary = {
                "protocol": "paper",
                "data": {"pairs": 1},
                "methods": {"x": {"checkpoint": "c", "metrics": metrics}},
            }
            (out / "summary.json").write_text(json.dumps(summary))
        process = type("Process", (), {})()
        process.wait, process.terminate = lambda: status, lambda: None
        return process


@pytest.fixture
def play(monkeypatch):
    """play(arguments, **Processes') -> (status, the commands that ran)."""

    def call(*arguments, **played):
        processes = Processes(**played)
        monkeypatch.setattr(runs.Runner.__init__, "__defaults__", (1, processes))
        return experiments.main([*map(str, arguments)]), processes.commands

    return call


def named(commands, command):
    return [Path(c[c.index("--out") + 1]).name for c in commands if command in c]


def test_a_table_is_trained_scored_and_written_and_a_second_call_does_nothing(play, data, tmp_path, capsys):
    out = tmp_path / "t5"
    call = ("table5", "--data", data, "--out", out, "--budget", "small", "--rows", "I", "ours")
    status, commands = play(*call, better={FULL: 2.0})
    assert status == 0
    expected = ["I-seed0", "Ours-seed0", "I-seed1", "Ours-seed1"]
    assert named(commands, "train") == expected == named(commands, "evaluate")
    said = capsys.readouterr().out
    assert "4 trainings, 0 done" in said and "[4/4] Ours-seed1" in said
    table = (out / "table5.md").read_text()
    assert re.search(r"\| I w/o .* \| 1\.005 ± 0\.007 \(6\.26\) \|", table)
    assert re.search(r"\| Ours \| \*\*2\.005 ± 0\.007 \(6\.71\)\*\* \|", table)
    assert table.count("holds") == 6
    assert "seeds 0, 1" in table and "6 meta and 40 fusion steps" in table
    assert r"\textbf{2.005 $\pm$ 0.007 (6.71)}" in (out / "table5.tex").read_text()
    lines = (out / "table5.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 6 and lines[1].startswith("I,0,EN,1.0,0,2600,")
    result = json.loads((out / "results" / "Ours-seed0.json").read_text())
    about = json.loads((out / "experiment.json").read_text())
    assert result["meta_steps"] == 240 and result["seed"] == 0 and result["commit"]
    assert result["data_sha256"] == about["data_sha256"] and (about["pairs_trained"], about["pairs_scored"]) == (11, 1)
    assert play(*call)[1] == []
    assert named(play(*call, "--seeds", "3")[1], "train") == ["I-seed2", "Ours-seed2"]


def test_a_row_that_diverges_is_reported_and_one_that_fails_is_tried_again(play, data, tmp_path, capsys):
    out = tmp_path / "t5"
    call = ("table5", "--data", data, "--out", out, "--budget", "smoke", "--rows", "I", "II", "Ours")
    nan = "step 3 (fusion): fusion is nan, so the training stopped; there is no checkpoint yet in run"
    status, commands = play(*call, ends={"I-seed0": nan, "II-seed0": "No space left on device"})
    assert status == 2 and named(commands, "evaluate") == ["Ours-seed0"]
    captured = capsys.readouterr()
    assert "I-seed0: diverged" in captured.out and "II-seed0: failed: No space left on device" in captured.out
    assert captured.err == "error: 1 of 3 trainings failed; the same command tries them again\n"
    table = (out / "table5.md").read_text()
    assert "(seed 0 diverged) | – (6.26)" in table and "II w/o meta-learning (seed 0 not done)" in table
    status, commands = play(*call)
    assert status == 0 and named(commands, "train") == ["II-seed0"]
    assert "--resume" in commands[0]
    assert ",diverged," in (out / "table5.csv").read_text()


def test_a_signal_stops_the_trainings_and_starts_no_more(data, tmp_path):
    setup = runs.Setup(tmp_path, "ivif", tmp_path / "pairs.csv", "", "validation", BUDGETS["smoke"])
    ended = threading.Event()

    class Waiting:
        def wait(self):
            assert ended.wait(10)
            return 143

        terminate = staticmethod(ended.set)

    started = []
    runner = runs.Runner(setup, 2, lambda command, **_: started.append(command) or Waiting())
    threading.Thread(target=lambda: (time.sleep(0.2), signal.raise_signal(signal.SIGTERM))).start()
    todo = [runs.Run(row, 0) for row in EXPERIMENTS["table5"].rows]
    assert runner.run(todo, lambda *_: pytest.fail("none has ended by itself")) == signal.SIGTERM
    assert len(started) == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_trainings_side_by_side_have_a_gpu_each(monkeypatch, data, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    setup = runs.Setup(tmp_path, "ivif", tmp_path / "pairs.csv", "", "validation", BUDGETS["smoke"])
    together, seen = threading.Barrier(2), []

    class Both:
        def wait(self):
            together.wait(10)
            return 1

    def start(command, env, **_):
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        return Both()

    todo = [runs.Run(row, 0) for row in EXPERIMENTS["table5"].rows[:2]]
    runs.Runner(setup, 2, start).run(todo, lambda *_: None)
    assert sorted(seen) == ["3", "5"]


@pytest.mark.parametrize("budget", list(BUDGETS))
def test_every_row_of_every_budget_has_settings_that_a_training_takes(budget):
    for experiment in EXPERIMENTS.values():
        full = next(row for row in experiment.rows if row.name == FULL)
        for row in experiment.rows:
            values = settings_of(BUDGETS[budget], row)
            resolved = config.resolve("ivif", "paper", [f"{key}={value}" for key, value in values.items()])
            assert (resolved.train.left(0)["meta"], resolved.train.left(0)["fusion"]) == lengths(BUDGETS[budget], row)
            if row is not full:
                assert row.settings.items() - full.settings.items(), row.name
    paper = config.resolve("ivif", "paper", [f"{k}={v}" for k, v in settings_of(BUDGETS["paper"], full).items()])
    assert (paper.train, paper.data, paper.loss, paper.model) == tuple(
        getattr(config.resolve("ivif"), part) for part in ("train", "data", "loss", "model")
    )


def test_the_rows_are_those_of_the_papers_tables():
    for experiment in EXPERIMENTS.values():
        for paper, members in results.parts(experiment, experiment.rows):
            assert [row.label for row in members] == list(paper.rows)
    alpha = {
        row.name: config.resolve("ivif", "paper", [f"{k}={v}" for k, v in row.settings.items()]).loss
        for row in EXPERIMENTS["table6"].rows
    }
    assert len(alpha) == 13 and alpha["alpha1-0.2"].alpha1 == 0.2 and alpha["alpha2-10"].alpha2 == 10
    assert alpha["alpha1-0.2"].alpha2 == 1 == alpha["Ours"].alpha1


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ((2.0, 0.1), (1.0, 0.1), results.HOLDS),
        ((1.0, 0.1), (2.0, 0.1), results.REVERSED),
        ((1.1, 0.1), (1.0, 0.1), results.WITHIN),
        ((1.0, None), (2.0, None), results.UNKNOWN),
        (None, (2.0, 0.1), results.UNKNOWN),
    ],
)
def test_orderings(own, other, expected):
    own, other = (None if x is None else results.Cell(*x) for x in (own, other))
    assert results.ordering(own, other, 6.71, 6.26) == expected
    assert results.ordering(own, other, 6.71, 6.71) == results.UNKNOWN


def test_what_is_done_corrects_the_expected_time():
    budget = BUDGETS["small"]
    done, todo = (runs.Run(EXPERIMENTS["table5"].rows[-1], seed) for seed in (0, 1))
    expected = duration.expected_seconds(budget, todo)
    # A sixteenth of the published crop's pixels: 240 meta and 2600 fusion steps.
    np.testing.assert_allclose(
        expected, duration.BESIDES + (240 * duration.META_STEP + 2600 * duration.FUSION_STEP) / 16
    )
    assert duration.pace(budget, [(done, {"seconds": None})]) is None
    factor = duration.pace(budget, [(done, {"seconds": 3 * expected})])
    np.testing.assert_allclose(duration.seconds_left(budget, [todo, todo], 2, factor), 3 * expected)


def test_parts_that_folders_tell_decide_what_is_scored(data):
    pairs = folder.discover(data, "ivif").pairs
    marked = [folder.replace(pair, split="test" if i < 3 else "train") for i, pair in enumerate(pairs)]
    divided, split = folder.divided(marked, data)
    assert split == "test" and sum(pair.split == "test" for pair in divided) == 3


def test_plan_writes_nothing(play, data, tmp_path, capsys):
    status, commands = play("table6", "--data", data, "--out", tmp_path / "x", "--plan")
    said = capsys.readouterr().out
    assert (status, commands) == (0, []) and not (tmp_path / "x").exists()
    assert said.count("refusion_jax train") == 26 and "--set loss.alpha1=0.1" in said


def test_bad_input(data, tmp_path, capsys):
    def said(*arguments):
        return fails(experiments.main, capsys, *arguments)

    assert "no experiment 'table4'; did you mean 'table" in said("table4")
    assert "did you mean 'small'" in said("table5", "--data", data, "--budget", "smal")
    assert "no row 'IX'" in said("table5", "--data", data, "--rows", "IX")
    assert "--seeds must be at least 1" in said("table5", "--data", data, "--seeds", 0)
    assert "--set train.epochs" in said("table5", "--data", data, "--set", "train.epochs=3")
    assert "loss.alpha3" in said("table5", "--data", data, "--set", "loss.alpha3=3")
    few = tmp_path / "few"
    for i in range(3):
        for source in ("ir", "vi"):
            write_image(few / source / f"{i}.png", picture(i, (16, 16)))
        if i == 0:
            assert "disjoint meta-train and meta-test pools" in said("table5", "--data", few, "--out", tmp_path / "x")
    assert "no pair is left to score" in said("table5", "--data", few, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    assert "holds no experiment" in said("table5", "--data", data, "--out", tmp_path / "full")


def test_the_folder_of_another_experiment_is_refused(play, data, tmp_path, capsys):
    out = tmp_path / "t"
    assert play("table5", "--data", data, "--out", out, "--budget", "smoke", "--rows", "I")[0] == 0
    capsys.readouterr()
    for other, word in (
        (("table6", "--budget", "smoke"), "experiment = 'table5'"),
        (("table5", "--budget", "small"), "budget = 'smoke'"),
        (("table5", "--budget", "smoke", "--set", "loss.w_floor=0.1"), "assignments"),
    ):
        said = fails(experiments.main, capsys, *other, "--data", data, "--out", out)
        assert word in said and "another --out" in said


def test_a_start_that_failed_does_not_bar_the_next(play, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "t"
    call = ("table5", "--data", data, "--out", out, "--budget", "smoke", "--rows", "I")

    def full(*_):
        raise InputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_bytes", full)
        assert play(*call) == (2, [])
    assert [path.name for path in out.iterdir()] == ["pairs.csv"]
    (out / ".0f1e.tmp").touch()
    before = (out / "pairs.csv").read_bytes()
    capsys.readouterr()
    assert "holds no experiment" in fails(experiments.main, capsys, *call, "--task", "mif")
    assert play(*call)[0] == 0 and (out / "pairs.csv").read_bytes() == before


def test_the_hash_covers_the_levels_of_a_manifest(play, data, tmp_path, capsys):
    out, listed = tmp_path / "t", tmp_path / "list.csv"
    call = ("table5", "--data", listed, "--task", "ivif", "--out", out, "--budget", "smoke", "--rows", "I")
    pairs = folder.discover(data, "ivif").pairs
    for top in (100, 200):
        rules = Rule("fixed", 0, top), Rule("fixed", 0, 255)
        listed.unlink(missing_ok=True)
        manifest.write(listed, [folder.replace(pair, levels=rules) for pair in pairs], data, "ivif", {})
        if top == 100:
            assert play(*call)[0] == 0
            about = json.loads((out / "experiment.json").read_text())
            assert f"# sha256: {about['data_sha256']}" in (out / "pairs.csv").read_text()
            capsys.readouterr()
    assert "data_sha256" in fails(experiments.main, capsys, *call)


def test_the_hash_of_pairs_without_levels_is_of_these_four(data, tmp_path):
    """As ever: an experiment that was begun goes on."""
    setup = folder.open_folder(tmp_path / "t", "table5", data, "ivif", "smoke", BUDGETS["smoke"], begin=False)
    pairs, _ = folder.divided(folder.discover(data, "ivif").pairs, data)
    rows = [(pair.name, pair.split or "", *map(manifest.file_hash, (pair.a, pair.b))) for pair in pairs]
    assert setup.data_sha256 == manifest.list_hash("ivif", rows)


def test_names_that_are_no_utf8_are_refused_in_one_line(data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    for side in ("ir", "vi"):
        (tmp_path / "data" / side / "03.png").rename(tmp_path / "data" / side / os.fsdecode(b"caf\xe9.png"))
    said = fails(experiments.main, capsys, "table5", "--data", tmp_path / "data", "--out", tmp_path / "t")
    assert "not UTF-8; rename the file" in said and not (tmp_path / "t").exists()


def test_table_7_counts_ours_beside_the_papers(capsys):
    assert experiments.main(["table7"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"F, this repository\* +0\.060 +59,856", said) and re.search(r"HoLoCo +17\.691", said)


def test_a_row_stands_beside_the_papers_own_value():
    assert load_table("Table 5").rows[plan.TABLE_5[3].label]["SD"] == 32.65
