"""The examples run, and each shows what it is there for."""

import importlib

import numpy as np
import pytest
from scripts import tiny_info, tiny_trees

from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


@pytest.fixture(autouse=True)
def examples(repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "examples")


def run(name, **arguments):
    return importlib.import_module(name).main(**arguments)


def test_another_fusion_network_learns():
    losses = run("another_fusion_network", steps=10, size=32)
    assert losses[-1] < 0.9 * losses[0]


def test_another_proposal_network_learns_by_the_meta_gradient():
    trust = run("another_proposal_network", steps=3, size=32)
    assert all(np.isfinite(x) and x != 0 for x in trust.values())


def test_a_third_loss_term_reaches_p():
    with_term, without = run("third_loss_term", size=16)
    assert np.isfinite(with_term) and abs(with_term / without - 1) > 1e-3


def test_another_inner_optimizer_gives_p_a_gradient():
    cosines = run("another_inner_optimizer", size=32)
    assert cosines["momentum, 2 steps"] > 0.9
    assert all(np.isfinite(x) for x in cosines.values()) and len(set(cosines.values())) == len(cosines)


def test_a_loss_taught_by_a_task_lowers_the_loss_of_the_task():
    losses = run("loss_taught_by_a_task", steps=40, size=32)
    assert losses[-1] < 0.9 * losses[0]


def test_inside_a_pipeline_f_gives_what_the_model_gives(tmp_path):
    write_safetensors(tmp_path / "tiny.safetensors", from_names(tiny_trees()), tiny_info("ivif"))
    inside, alone, saliency = run("inside_your_pipeline", task_or_checkpoint=tmp_path / "tiny.safetensors", size=32)
    assert np.abs(inside - alone).max() < 1e-5
    assert np.isfinite(saliency).all() and saliency.any()


def test_averaged_parameters_are_a_network_of_use():
    each, together = run("average_over_seeds", seeds=2, steps=6)
    assert len(set(each)) == 2 and together < 1.5 * max(each)


def test_every_example_is_short_named_in_the_readme_and_tested(repo):
    listed = (repo / "examples" / "README.md").read_text()
    tested = (repo / "tests" / "test_examples.py").read_text()
    for path in (repo / "examples").glob("*.py"):
        assert 30 <= len(path.read_text().splitlines()) <= 80, path.name
        assert path.name in listed and f'"{path.stem}"' in tested
