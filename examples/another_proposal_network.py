"""Another P: hand-made evidence, learned trust. It weighs by local contrast and learns how much contrast should count.

P needs four inputs and gives w and v, each (B,H,W,2), positive and summing to 1. Two numbers are all that this one
learns; the meta-gradient (Eq. 10) finds them.
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


class ContrastProposal(nn.Module):
    """(a, b, gradients of a and b) -> (w, v). Trust 0 weighs both sources alike."""

    @nn.compact
    def __call__(self, a, b, gradient_a, gradient_b):
        trust_w, trust_v = (self.param(name, nn.initializers.zeros, ()) for name in ("trust_w", "trust_v"))

        def weights(trust, x, y):
            blurred = [nn.avg_pool(jnp.abs(z).mean(-1, keepdims=True), (5, 5), padding="SAME") for z in (x, y)]
            return nn.softmax(trust * jnp.concatenate(blurred, -1), -1)

        return weights(trust_w, a, b), weights(trust_v, gradient_a, gradient_b)


class Pixelwise(nn.Module):
    """A network of a few operations a pixel, in place of the package's F and R: this example is about P."""

    outputs: int

    @nn.compact
    def __call__(self, *images):
        x = nn.tanh(nn.Conv(8, (3, 3))(jnp.concatenate(images, -1)))
        fused = nn.sigmoid(nn.Conv(self.outputs, (3, 3))(x))
        return fused if self.outputs == 1 else tuple(jnp.split(fused, self.outputs, -1))


def luma_batch(first: int, count: int, size: int):
    """Two batches (count,size,size,1) in [0,1]: near and far focus."""
    pairs = [make_pair("mfif", 0, i, (size, size)) for i in range(first, first + count)]
    return tuple(jnp.stack([unit_luma(getattr(pair, side)) for pair in pairs])[..., None] for side in "ab")


def main(steps: int = 20, size: int = 48) -> dict[str, float]:
    """Trains F, R and P in turn and returns P's two numbers."""
    modules = Pixelwise(1), Pixelwise(2), ContrastProposal()
    networks, loss = build.linen_networks(*modules), LossSettings()
    params = build.init_params(modules, jax.random.key(0))
    meta_train, meta_test = luma_batch(0, 4, size), luma_batch(4, 4, size)
    adam_p, adam_fr = optax.adam(0.1, eps=1e-16), optax.adam(1e-2)
    state_p, state_fr = adam_p.init(params.p), adam_fr.init(params._replace(p=None))

    @jax.jit
    def step(params, state_p, state_fr, meta_train, meta_test):
        gradient, _ = meta.meta_gradient(
            params, networks, meta_train, meta_test, loss, optax.sgd(1e-2), optax.sgd(1e-2)
        )
        p, state_p = meta.descend(adam_p, gradient, state_p, params.p)
        gradients, *_ = meta.fusion_gradients(params._replace(p=p), networks, meta_train, loss)
        learned, state_fr = meta.descend(adam_fr, gradients, state_fr, params._replace(p=None))
        return learned._replace(p=p), state_p, state_fr

    for _ in range(steps):
        params, state_p, state_fr = step(params, state_p, state_fr, meta_train, meta_test)
    trust = {name: float(x) for name, x in params.p.items()}
    print("P learned to trust contrast: " + ", ".join(f"{name} {x:+.2f}" for name, x in trust.items()))
    return trust


if __name__ == "__main__":
    main()
