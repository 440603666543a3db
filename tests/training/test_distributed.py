"""Real processes as one training: killed, stopped, resumed to what one process alone computes; what they refuse."""

import signal
import socket
import time

import numpy as np
import pytest
from scripts import fails, script, start_process
from stand_in import SETTINGS, STEPS

from refusion_jax.cli.train import main
from refusion_jax.training import processes
from refusion_jax.training.records import read_metrics
from refusion_jax.weights import orbax_folder
from refusion_jax.weights import trees as parameters

EVERY = ["--set", "checkpoint.every_steps=5", "--set", "log.every=2"]


def command(out, *more):
    settings = [x for s in SETTINGS for x in ("--set", s)]
    return ["train.py", "--task", "meie", "--out", str(out), *settings, *EVERY, *more]


def resume(out, *more):
    return ["train.py", "--resume", "--out", str(out), *more]


def start(repo, *commands):
    """The processes of one training on this machine, each with its command."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    where = ["--distributed", "--coordinator", f"localhost:{port}", "--num-processes", len(commands)]
    return [start_process(repo, *command, *where, "--process-id", i) for i, command in enumerate(commands)]


def ended(found):
    """[(exit status, stdout, stderr)] of processes; none may hang."""
    try:
        texts = [process.communicate(timeout=500) for process in found]
    finally:
        for process in found:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(found, texts, strict=True)]


def wait_for_steps(run, found, beyond=0):
    """Until there is a checkpoint beyond that step, and a step after it: all then exchange gradients."""
    while all(p.poll() is None for p in found):
        newest = orbax_folder.newest(run)
        if newest is not None and beyond < int(newest.name) < max((x["step"] for x in read_metrics(run)), default=0):
            return
        time.sleep(0.02)
    pytest.fail(str(ended(found)))


def result(run):
    params, info = orbax_folder.read_params(orbax_folder.newest(run))
    assert info["step"] == STEPS
    return parameters.flatten(params._asdict()), read_metrics(run)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, repo):
    """(parameters, records) of the same training in one process, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    done = script(repo, *command(out))
    assert done.returncode == 0, done.stderr
    return result(out)


def test_two_processes_killed_stopped_and_resumed_end_as_one_process_does(tmp_path, repo, alone):
    run = tmp_path / "run"
    # One is killed: the other says so in one line and ends. Should it wait for a checkpoint of both, and not for
    # gradients, JAX ends it in its own words once heartbeats are missed: another try, from what is there.
    arguments, last = command(run), 0
    for _ in range(4):
        found = start(repo, arguments, arguments)
        wait_for_steps(run, found, last)
        found[1].kill()
        (status, out, said), (killed, *_) = ended(found)
        if "heartbeat" not in said:
            break
        arguments, last = resume(run), int(orbax_folder.newest(run).name)
    assert (status, killed) == (2, -signal.SIGKILL), said
    assert "on 2 devices, cpu (cpu), of 2 processes" in out
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in said
    assert "another process of this training ended" in errors[0] and "with --resume" in errors[0]
    assert "last good checkpoint is that of step" in errors[0]
    # One is asked to stop: both do, after the same step, with a checkpoint.
    before = int(orbax_folder.newest(run).name)
    found = start(repo, resume(run), resume(run))
    wait_for_steps(run, found, before)
    found[1].send_signal(signal.SIGTERM)
    (status, out, _), (other, silent, _) = ended(found)
    assert status == other == 128 + signal.SIGTERM
    step = int(out.split("stopped by SIGTERM after step ")[1].split(";")[0])
    assert before < step < STEPS and orbax_folder.newest(run).name == str(step)
    assert "step" not in silent  # only process 0 speaks
    # To the end: the parameters and the records are those of one process.
    for status, _, said in ended(start(repo, resume(run), resume(run))):
        assert status == 0, said
    (params, records), (expected, lines) = result(run), alone
    assert params.keys() == expected.keys()
    for name, x in params.items():
        np.testing.assert_allclose(x, expected[name], atol=1e-5, err_msg=name)
    steps = [x["step"] for x in records]
    assert steps == sorted(set(steps)) and set(steps) >= {x["step"] for x in lines}
    last, known = records[-1], lines[-1]
    assert all(x == pytest.approx(known[k], rel=1e-3) for k, x in last.items() if isinstance(x, float))
    # What two processes wrote, one goes on from.
    done = script(repo, *resume(run, "--set", "train.epochs=3", "--max-minutes", "1e-4"))
    assert done.returncode == 0 and f"after step {STEPS}" in done.stdout, done.stderr


def test_what_is_wrong_in_one_process_is_said_by_all(tmp_path, repo):
    """Process 1 does not find the pairs; nothing is written and nobody waits."""
    shared = ["--task", "meie", "--out", str(tmp_path / "run")]
    (tmp_path / "here").mkdir()
    found = start(repo, *(["train.py", *shared, "--data", tmp_path / folder] for folder in ("here", "missing")))
    (status, _, said), (other, _, reason) = ended(found)
    assert status == other == 2
    assert "missing: expected a folder of image pairs" in reason
    assert said.splitlines()[-1].startswith("error: ") and "Traceback" not in said + reason
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-processes", "2"], "--num-processes is for one of several processes; add --distributed"),
        (["--distributed", "--coordinator", "node1"], "--coordinator must be HOST:PORT"),
        (
            ["--distributed", "--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "2"],
            "start all processes with the same --coordinator",
        ),
        (["--distributed"], "start all processes with the same --coordinator"),
    ],
)
def test_options_that_do_not_go_together(capsys, monkeypatch, arguments, words):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    # As in a new process: JAX refuses to connect once it has been used.
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    assert words in fails(main, capsys, "--task", "meie", *arguments)


def test_one_process_is_as_if_nothing_of_this_were_there():
    assert (processes.count(), processes.index(), processes.is_lead()) == (1, 0, True)
    assert processes.from_lead(lambda: [1.5, "x"]) == [1.5, "x"]
    assert processes.Agreement(None).agree(15, 1) == (15, 1)
    assert not processes.is_lost(ValueError("UNKNOWN: Gloo all-reduce failed"))
    assert processes.leave(2) == 2
