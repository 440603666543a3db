"""A third term in L_f: structure, 1 - SSIM to each source, weighted by P's w as the intensity is.

L_f stands in the inner step, so P's gradient goes through the new term too. Here the meta step is put together from the
package's pieces; to train with a term from the command line, add it to refusion_jax/method/losses.py (CONTRIBUTING.md).
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build

LOSS = LossSettings()


class Pixelwise(nn.Module):
    """A network of a few operations a pixel, for F, R and P alike: this example is about the loss."""

    outputs: int
    weights: bool = False  # w and v instead of pictures

    @nn.compact
    def __call__(self, *images):
        x = nn.Conv(self.outputs, (3, 3))(nn.tanh(nn.Conv(8, (3, 3))(jnp.concatenate(images, -1))))
        if self.weights:
            return nn.softmax(x[..., :2], -1), nn.softmax(x[..., 2:], -1)
        return nn.sigmoid(x) if self.outputs == 1 else (nn.sigmoid(x[..., :1]), nn.sigmoid(x[..., 1:]))


def structure(x, y, window: int = 7):
    """1 - SSIM at every pixel, (B,H,W,1), over a flat window. Its derivatives are finite on flat pictures."""

    def mean(z):
        return nn.avg_pool(z, (window, window), padding="SAME", count_include_pad=False)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return 1 - (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def objective(f, networks, batch, w, v, beta):
    """L_f of Eq. 1 and `beta` times the third term -> (sum, fused picture)."""
    total, (fused, _) = meta.fusion_objective(f, networks, batch, w, v, LOSS)
    term = jnp.mean(sum(w[..., i : i + 1] * structure(source, fused) for i, source in enumerate(batch)))
    return total + beta * term, fused


def outer(p, params, networks, meta_train, meta_test, beta, eta=1e-2):
    """Eq. 7 to 9 with the new L_f: L_r of what one step under P's weights makes of other pairs."""
    w, v = meta.propose_weights(p, networks, meta_train, LOSS)
    grad_f, fused = jax.grad(objective, has_aux=True)(params.f, networks, meta_train, w, v, beta)
    grad_r, _ = jax.grad(meta.reconstruction_objective, has_aux=True)(params.r, networks, fused, meta_train, LOSS)
    f, r = jax.tree.map(lambda x, g: x - eta * g, (params.f, params.r), (grad_f, grad_r))
    return meta.reconstruction_objective(r, networks, networks.fuse(f, *meta_test), meta_test, LOSS)[0]


def main(size: int = 32) -> tuple[float, float]:
    """The norms of P's meta-gradient with the third term and without it."""
    modules = Pixelwise(1), Pixelwise(2), Pixelwise(4, weights=True)
    networks, params = build.linen_networks(*modules), build.init_params(modules, jax.random.key(0))
    meta_train, meta_test = jax.random.uniform(jax.random.key(1), (2, 2, 2, size, size, 1))
    gradient = jax.jit(lambda p, *rest: optax.tree.norm(jax.grad(outer)(p, params, networks, *rest)))
    norms = [float(gradient(params.p, tuple(meta_train), tuple(meta_test), beta)) for beta in (0.5, 0.0)]
    print(f"P's meta-gradient: norm {norms[0]:.3e} with the structure term, {norms[1]:.3e} without")
    return norms[0], norms[1]


if __name__ == "__main__":
    main()
