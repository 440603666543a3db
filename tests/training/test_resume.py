"""Real processes: killed at any moment and resumed to the same bytes, stopped by signals and by the time limit."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from refusion_jax.weights import orbax_folder

TINY = [
    "model.width=4",
    "model.heads=2",
    "model.blocks=1",
    "model.expansion=1",
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
]
LAST = 33


def command(out, *more):
    settings = [x for s in TINY for x in ("--set", s)]
    return [sys.executable, "train.py", "--task", "meie", "--out", str(out), *settings, *more]


def resume(out):
    return [sys.executable, "train.py", "--resume", "--out", str(out)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, repo):
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = subprocess.run(command(out), cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "built-in scenes" in done.stdout
    return out


def everything(run):
    """All parameters and optimiser states of the newest checkpoint, as bytes by name."""
    folder = orbax_folder.newest(run)
    assert orbax_folder.read_info(folder)["step"] == LAST
    handler = ocp.PyTreeCheckpointHandler()
    trees = [ocp.Checkpointer(handler).restore((folder / part).absolute()) for part in ("params", "optimizers")]
    found = {jax.tree_util.keystr(k): np.asarray(x).tobytes() for k, x in jax.tree_util.tree_leaves_with_path(trees)}
    # Each parameter, and for each of them Adam's two moments.
    parameters = sum("[0]" == k[:3] for k in found)
    assert parameters > 100 and sum("mu" in k or "nu" in k for k in found) == 2 * parameters
    return found


def records(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {r["step"]: r for r in lines}


def test_killed_at_any_moment_and_resumed_ends_with_the_same_bytes(tmp_path, repo, uninterrupted):
    run, rng, kills = tmp_path / "killed", np.random.default_rng(0), 0
    for attempt in range(30):
        going_on = (run / "config.toml").exists()
        if run.exists() and not going_on and any(run.iterdir()):
            pytest.fail("a kill left a folder that is neither a run nor empty")
        process = subprocess.Popen(
            resume(run) if going_on else command(run),
            cwd=repo,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # The first kills fall anywhere, start-up included; later ones wait for progress, else nothing would ever end.
        if attempt < 2:
            time.sleep(rng.uniform(1, 6))
        else:
            before = orbax_folder.newest(run)
            while process.poll() is None and orbax_folder.newest(run) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
        if kills < 5 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
    assert kills == 5
    assert everything(run) == everything(uninterrupted)
    steps = sorted(records(run))
    assert steps[-1] == LAST and len(steps) == len(set(steps))
    assert (run / "previews" / "epoch_0003.png").read_bytes() == (
        uninterrupted / "previews" / "epoch_0003.png"
    ).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_after_a_checkpoint_and_resume_to_the_same_bytes(tmp_path, repo, uninterrupted, number):
    run = tmp_path / "stopped"
    process = subprocess.Popen(command(run), cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and orbax_folder.newest(run) is None:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert f"stopped by {number.name} after step" in out and "--resume" in out
    step = int(out.split("after step ")[1].split(";")[0])
    assert orbax_folder.newest(run).name == str(step) and step < LAST
    assert subprocess.run(resume(run), cwd=repo, capture_output=True).returncode == 0
    assert everything(run) == everything(uninterrupted)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(tmp_path, repo, uninterrupted):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        run = disk / "run"
        filler = disk / "filler"
        filler.write_bytes(bytes(1_200_000))
        done = subprocess.run(command(run), cwd=repo, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: the disk of ") and "is full" in last and "--resume" in last
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert subprocess.run(resume(run), cwd=repo, capture_output=True).returncode == 0
        assert everything(run) == everything(uninterrupted)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_last_checkpoints_and_the_end_are_kept(uninterrupted):
    kept = sorted(int(p.name) for p in (uninterrupted / "checkpoints").iterdir() if p.name.isdigit())
    assert len(kept) == 2 and kept[-1] == LAST


def test_a_run_is_never_overwritten(repo, uninterrupted):
    before = everything(uninterrupted), (uninterrupted / "metrics.jsonl").read_bytes()
    done = subprocess.run(command(uninterrupted), cwd=repo, capture_output=True, text=True)
    assert done.returncode == 2 and "exists already" in done.stderr and "--resume" in done.stderr
    assert (everything(uninterrupted), (uninterrupted / "metrics.jsonl").read_bytes()) == before
