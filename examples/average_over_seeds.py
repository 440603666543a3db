"""Several trainings in one program: Params of all seeds as one tree with a leading axis, by vmap, then their mean.

Params is a pytree like any other. What differs between seeds here is the order of the pictures, not the start: means of
networks that start apart are no networks of use.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from refusion_jax.imaging.color import unit_luma
from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models.build import Networks
from refusion_jax.scenes import make_pair

LOSS = LossSettings(sobel_scale=1 / 8)


class Pixelwise(nn.Module):
    """A network of a few operations a pixel, in place of F: this example is about trees of parameters."""

    @nn.compact
    def __call__(self, a, b):
        return nn.sigmoid(nn.Conv(1, (3, 3))(nn.tanh(nn.Conv(8, (3, 3))(jnp.concatenate([a, b], -1)))))


def luma_batch(count: int, size: int):
    """Two batches (count,size,size,1) in [0,1]: under- and over-exposed."""
    pairs = [make_pair("meie", 0, i, (size, size)) for i in range(count)]
    return tuple(jnp.stack([unit_luma(getattr(pair, side)) for pair in pairs])[..., None] for side in "ab")


def main(seeds: int = 3, steps: int = 40, size: int = 32) -> tuple[list[float], float]:
    """L_f of each seed on pictures kept back, and of the averaged parameters."""
    module, adam = Pixelwise(), optax.adam(3e-3)
    networks = Networks(lambda f, a, b: module.apply({"params": f}, a, b), None, None)  # R and P have no part here
    a, b = luma_batch(12, size)
    start = module.init(jax.random.key(0), a, b)["params"]

    def objective(f, batch):
        half = jnp.full((*batch[0].shape[:3], 2), 0.5)  # w = v = 1/2
        return meta.fusion_objective(f, networks, batch, half, half, LOSS)[0]

    def train(f, order, a, b):
        """order (steps,2): which pictures each step takes."""

        def step(carry, chosen):
            f, state = carry
            return meta.descend(adam, jax.grad(objective)(f, (a[chosen], b[chosen])), state, f), None

        return jax.lax.scan(step, (f, adam.init(f)), order)[0][0]

    orders = jnp.asarray(np.random.default_rng(0).integers(0, 8, (seeds, steps, 2)))
    trained = jax.jit(jax.vmap(train, (None, 0, None, None)))(start, orders, a, b)  # every leaf (seeds, ...)
    average = jax.tree.map(lambda x: x.mean(0), trained)
    kept_back = a[8:], b[8:]
    each = [float(x) for x in jax.jit(jax.vmap(objective, (0, None)))(trained, kept_back)]
    together = float(jax.jit(objective)(average, kept_back))
    print(f"L_f on pictures kept back: {', '.join(f'{x:.4f}' for x in each)}; averaged parameters {together:.4f}")
    return each, together


if __name__ == "__main__":
    main()
