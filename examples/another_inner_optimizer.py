"""Another inner optimiser: Eq. 7 by momentum or Adam, and over several steps, instead of one step of plain descent.

The inner step is an argument: any Optax transformation whose update has a derivative. P's gradient goes through all of
it, moments included. From the command line: --set meta.inner_optimizer=adam --set meta.inner_steps=2
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from refusion_jax.imaging.color import unit_luma
from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build
from refusion_jax.scenes import make_pair

ETA = 1e-3
# name: (F's inner optimiser, number of inner steps). Adam with Optax's default eps_root = 0 is a mere sign in its first
# step and has no useful derivative; meta.INNER_EPS_ROOT says how large the root should be.
INNER = {
    "descent, 1 step": (optax.sgd(ETA), 1),
    "momentum, 2 steps": (optax.sgd(ETA, momentum=0.9), 2),
    "Adam, 1 step": (optax.adam(ETA, eps_root=meta.INNER_EPS_ROOT), 1),
}


class Pixelwise(nn.Module):
    """A network of a few operations a pixel, for F, R and P alike: this example is about the inner step."""

    outputs: int
    weights: bool = False  # w and v instead of pictures

    @nn.compact
    def __call__(self, *images):
        x = nn.Conv(self.outputs, (3, 3))(nn.tanh(nn.Conv(8, (3, 3))(jnp.concatenate(images, -1))))
        if self.weights:
            return nn.softmax(x[..., :2], -1), nn.softmax(x[..., 2:], -1)
        return nn.sigmoid(x) if self.outputs == 1 else (nn.sigmoid(x[..., :1]), nn.sigmoid(x[..., 1:]))


def luma_batch(first: int, count: int, size: int):
    """Two batches (count,size,size,1) in [0,1]: infrared and visible."""
    pairs = [make_pair("ivif", 0, i, (size, size)) for i in range(first, first + count)]
    return tuple(jnp.stack([unit_luma(getattr(pair, side)) for pair in pairs])[..., None] for side in "ab")


def main(size: int = 48) -> dict[str, float]:
    """For each inner optimiser the cosine between P's gradient and that of the paper's single step."""
    modules = Pixelwise(1), Pixelwise(2), Pixelwise(4, weights=True)
    networks, loss = build.linen_networks(*modules), LossSettings()
    params = build.init_params(modules, jax.random.key(0))
    batches = luma_batch(0, 4, size), luma_batch(4, 4, size)
    gradients = {}
    for name, (optimizer, steps) in INNER.items():
        gradient, _ = jax.jit(
            lambda params, optimizer=optimizer, steps=steps: meta.meta_gradient(
                params, networks, *batches, loss, optimizer, optax.sgd(ETA), steps=steps
            )
        )(params)
        gradients[name] = jnp.concatenate([x.ravel() for x in jax.tree.leaves(gradient)])
    paper = gradients["descent, 1 step"]
    cosines = {}
    for name, gradient in gradients.items():
        cosines[name] = float(paper @ gradient / (jnp.linalg.norm(paper) * jnp.linalg.norm(gradient)))
        print(f"{name:18s} norm {float(jnp.linalg.norm(gradient)):.2e}, cosine to the paper's {cosines[name]:+.3f}")
    return cosines


if __name__ == "__main__":
    main()
