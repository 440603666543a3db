"""A training that starts from the weights of a checkpoint instead of random ones (`train.init`): fine-tuning."""

import dataclasses

import jax
import jax.numpy as jnp

from refusion_jax.config import Config
from refusion_jax.fusing.model import load
from refusion_jax.method.losses import chosen_reconstruction_loss
from refusion_jax.method.steps import TrainState, chosen_steps
from refusion_jax.models import build as networks
from refusion_jax.weights.trees import check_architecture, flatten


def initial_params(config: Config) -> networks.Params:
    """The parameters of `train.init`, None for what it lacks (released weights: F alone) and where nothing is named.

    Raises InputError when it is no checkpoint, or one of another architecture than the configuration's, and where code
    of one's own (model.fusion and so on, loss.reconstruction, train.steps) cannot be used.
    """
    chosen_reconstruction_loss(config.loss)
    chosen_steps(config.train.steps)
    channels = networks.gradient_channels(config.loss.sobel_form, config.loss.proposal_form)
    networks.check_own(config.model, channels)
    if not config.train.init:
        return networks.Params(None)
    given = load(config.train.init).params
    expected = networks.expected_shapes(networks.build(**dataclasses.asdict(config.model)), channels)
    for name, shapes, tree in zip(networks.NAMES, expected, given, strict=True):
        if tree is not None:
            alike = "model.*, loss.sobel_form and loss.proposal_form must be as there"
            check_architecture(shapes, flatten(tree), f"train.init {config.train.init}, network {name} ({alike})")
    return given


def started_from(state: TrainState, given: networks.Params) -> TrainState:
    """A fresh state with the parameters given; those that are None, the step and the optimisers stay fresh."""
    params = (fresh if tree is None else tree for fresh, tree in zip(state.params, given, strict=True))
    return state._replace(params=jax.tree.map(jnp.asarray, networks.Params(*params)))
