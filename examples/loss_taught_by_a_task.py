"""P taught by a task instead of reconstruction: the fused picture should be good for segmenting warm things.

The idea of TDFusion, with this package's inner step: P's weights define L_f, one step of F under it gives F', and F' is
judged by a segmentation head on other pairs. The head takes R's place, inner step of its own included.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from refusion_jax.imaging.color import unit_luma
from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build
from refusion_jax.scenes import make_pair

LOSS, ETA = LossSettings(), 0.05


class Pixelwise(nn.Module):
    outputs: int  # 1 in place of F and of the head, 4 in place of P: w and v

    @nn.compact
    def __call__(self, *images):
        x = nn.Conv(self.outputs, (3, 3))(nn.gelu(nn.Conv(8, (3, 3))(jnp.concatenate(images, -1))))
        return nn.sigmoid(x) if self.outputs == 1 else (nn.softmax(x[..., :2], -1), nn.softmax(x[..., 2:], -1))


def labelled_batch(first: int, count: int, size: int):
    """((infrared, visible), labels), each (count,size,size,1): the warmest tenth of each noiseless thermal picture."""
    pairs = [make_pair("ivif", 0, i, (size, size)) for i in range(first, first + count)]
    a, b = (jnp.stack([unit_luma(getattr(pair, side)) for pair in pairs])[..., None] for side in "ab")
    return (a, b), jnp.stack([pair.truth[..., :1] > np.quantile(pair.truth[..., 0], 0.9) for pair in pairs])


def task_loss(head, networks, fused, labels):
    """Squared error of the head's probabilities on a fused picture."""
    return jnp.mean((networks.reconstruct(head, fused) - labels) ** 2)


def gradients(params, p, networks, pair, labels):
    """Of L_f in F, under P's weights, and of the task's loss in the head."""
    w, v = meta.propose_weights(p, networks, pair, LOSS)
    of_f, (fused, _) = jax.grad(meta.fusion_objective, has_aux=True)(params.f, networks, pair, w, v, LOSS)
    return of_f, jax.grad(task_loss)(params.r, networks, fused, labels)


def outer(p, params, networks, train, test):
    """Eq. 7 to 9 with the task's loss in place of L_r."""
    inner = gradients(params, p, networks, *train)
    f, head = jax.tree.map(lambda x, g: x - ETA * g, (params.f, params.r), inner)
    return task_loss(head, networks, networks.fuse(f, *test[0]), test[1])


def main(steps: int = 150, size: int = 48) -> list[float]:
    """Trains P, F and the head in turn and returns the task's loss on pairs that F was not trained on."""
    modules = Pixelwise(1), Pixelwise(1), Pixelwise(4)
    networks, params = build.linen_networks(*modules), build.init_params(modules, jax.random.key(0))
    train, test = labelled_batch(0, 6, size), labelled_batch(6, 6, size)
    adam = optax.adam(5e-3, eps=1e-16)  # Adam's usual eps would swallow P's small gradient

    @jax.jit
    def step(params, state, train, test):
        loss, of_p = jax.value_and_grad(outer)(params.p, params, networks, train, test)
        updates = build.Params(*gradients(params, params.p, networks, *train), of_p)
        return *meta.descend(adam, updates, state, params), loss

    state, losses = adam.init(params), []
    for _ in range(steps):
        params, state, loss = step(params, state, train, test)
        losses.append(float(loss))
    print(f"task loss on other pairs: {losses[0]:.3f} at the first step, {losses[-1]:.3f} after {steps}")
    return losses


if __name__ == "__main__":
    main()
