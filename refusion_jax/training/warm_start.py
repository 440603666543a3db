"""A training that starts from the weights of a checkpoint instead of random ones (`train.init`): fine-tuning."""

from typing import Any

import jax
import jax.numpy as jnp

from refusion_jax.config import Config, to_dict
from refusion_jax.fusing.model import load
from refusion_jax.models import build as networks
from refusion_jax.weights.trees import check_architecture, flatten


def initial_trees(config: Config) -> dict[str, Any]:
    """{"F", "R", "P"} of `train.init`, those that it has (released weights: F alone); {} where nothing is named.

    Raises InputError when it is no checkpoint, or one of another architecture than the configuration's.
    """
    if not config.train.init:
        return {}
    model = load(config.train.init)
    channels = networks.gradient_channels(config.loss.sobel_form, config.loss.proposal_form)
    expected = networks.expected_shapes(networks.build(**to_dict(config)["model"]), channels)
    for name, tree in model.params.items():
        alike = "model.*, loss.sobel_form and loss.proposal_form must be as there"
        origin = f"train.init {config.train.init}, network {name} ({alike})"
        check_architecture(expected[name], flatten(tree), origin)
    return model.params


def started_from(state, trees: dict[str, Any]):
    """A fresh TrainState with the parameters of `trees` where there are some; step and optimisers stay fresh."""
    fields = {"F": "params_f", "R": "params_r", "P": "params_p"}
    return state.replace(**{fields[name]: jax.tree.map(jnp.asarray, tree) for name, tree in trees.items()})
