"""Real processes: killed at any moment and resumed to the same bytes, stopped by signals, on a disk that is full.

With networks of a few operations: the same of the real ones is in tests/cli/test_cli_train.py.
"""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from scripts import script, settings, start_process
from stand_in import NETWORKS
from trained_run import everything

from refusion_jax.weights import orbax_folder

SMALL = settings(
    *NETWORKS,
    "data.crop=12",
    "data.batch=2",
    "data.scenes=6",
    "data.scene_size=32",
    "data.validation_every=3",
    "train.epochs=3",
    "train.meta_steps=5",
    "train.fusion_steps=6",
    "train.lr_f=1e-3",
    "checkpoint.every_steps=3",
    "log.preview_size=16",
    "log.every=2",
    "checkpoint.keep=2",
    "validation.every=0",
)
LAST = 33


def begin(out):
    return "train.py", "--task", "meie", "--out", out, *SMALL


def resume(out):
    return "train.py", "--resume", "--out", out


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, repo):
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = script(repo, *begin(out))
    assert done.returncode == 0, done.stderr
    assert "built-in scenes" in done.stdout
    return out


def records(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {r["step"]: r for r in lines}


def wait_for_progress(process, run):
    before = orbax_folder.newest(run)
    while process.poll() is None and orbax_folder.newest(run) == before:
        time.sleep(0.01)


def test_killed_at_any_moment_and_resumed_ends_with_the_same_bytes(tmp_path, repo, uninterrupted):
    run, rng, kills = tmp_path / "killed", np.random.default_rng(0), 0
    for attempt in range(30):
        going_on = (run / "config.toml").exists()
        if run.exists() and not going_on and any(run.iterdir()):
            pytest.fail("a kill left a folder that is neither a run nor empty")
        process = start_process(repo, *(resume(run) if going_on else begin(run)))
        # The first kills fall anywhere, start-up included; later ones wait for progress, else nothing would ever end.
        if attempt < 2:
            time.sleep(rng.uniform(0.5, 4))
        else:
            wait_for_progress(process, run)
            time.sleep(rng.uniform(0, 0.3))
        if kills < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        said = process.communicate()[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
    assert kills == 4
    assert everything(run, LAST) == everything(uninterrupted, LAST)
    steps = sorted(records(run))
    assert steps[-1] == LAST and len(steps) == len(set(steps))
    last = "previews/epoch_0003.png"
    assert (run / last).read_bytes() == (uninterrupted / last).read_bytes()


def test_signals_stop_after_a_checkpoint_and_resume_to_the_same_bytes(tmp_path, repo, uninterrupted):
    run, step = tmp_path / "stopped", 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start_process(repo, *(resume(run) if step else begin(run)))
        wait_for_progress(process, run)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 128 + number, err
        assert f"stopped by {number.name} after step" in out and "--resume" in out
        before, step = step, int(out.split("after step ")[1].split(";")[0])
        assert orbax_folder.newest(run).name == str(step) and before < step < LAST
    assert script(repo, *resume(run)).returncode == 0
    assert everything(run, LAST) == everything(uninterrupted, LAST)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(tmp_path, repo, uninterrupted):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        run = disk / "run"
        filler = disk / "filler"
        filler.write_bytes(bytes(1_850_000))
        done = script(repo, *begin(run))
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: the disk of ") and "is full" in last and "--resume" in last
        assert orbax_folder.newest(run) is not None
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert script(repo, *resume(run)).returncode == 0
        assert everything(run, LAST) == everything(uninterrupted, LAST)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_last_checkpoints_and_the_end_are_kept(uninterrupted):
    kept = sorted(int(p.name) for p in (uninterrupted / "checkpoints").iterdir() if p.name.isdigit())
    assert len(kept) == 2 and kept[-1] == LAST
