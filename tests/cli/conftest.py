"""What the tests of the command fuse share: tiny weights, their model, a pair of pictures."""

import pytest
from scripts import picture, tiny_info, tiny_trees

from refusion_jax.fusing import model as inference
from refusion_jax.imaging.files import write_image
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """The trees of seed 0 as a file, which is read faster than a run directory."""
    path = tmp_path_factory.mktemp("weights") / "tiny weights.v1.safetensors"
    write_safetensors(path, from_names(tiny_trees()), tiny_info())
    return path


@pytest.fixture(scope="session")
def model(weights):
    return inference.load(weights)


@pytest.fixture
def pair(tmp_path):
    """Two colour pictures of one scene; the second is the darker."""
    return (
        write_image(tmp_path / "in" / "scene_A.png", picture(1, color=True, mean=170)),
        write_image(tmp_path / "in" / "scene_B.png", picture(2, color=True, mean=70)),
    )
