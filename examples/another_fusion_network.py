"""Another F: a small U-Net, trained by the package's fusion gradients under equal weights.

From the command line the same class is trained with P and R, resumed and fused with by its name:
    PYTHONPATH=examples python train.py --task meie --set model.fusion=another_fusion_network:Unet --out runs/unet
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from refusion_jax.imaging.color import unit_luma
from refusion_jax.method import meta
from refusion_jax.method.losses import LossSettings
from refusion_jax.models.build import Networks
from refusion_jax.scenes import make_pair

LOSS = LossSettings(sobel_scale=1 / 8)


class Unet(nn.Module):
    """(a, b) (B,H,W,1) in [0,1] -> fused (B,H,W,1) in (0,1). `width` comes from the setting model.width."""

    width: int = 8

    @nn.compact
    def __call__(self, a, b):
        full = nn.gelu(nn.Conv(self.width, (3, 3))(jnp.concatenate([a, b], -1)))
        half = nn.gelu(nn.Conv(2 * self.width, (3, 3), strides=2)(full))
        back = jax.image.resize(half, (*full.shape[:3], half.shape[3]), "bilinear")
        return nn.sigmoid(nn.Conv(1, (3, 3))(jnp.concatenate([full, back], -1)))


def luma_batch(count: int, size: int):
    """Two batches (count,size,size,1) in [0,1]: under- and over-exposed."""
    pairs = [make_pair("meie", 0, i, (size, size)) for i in range(count)]
    return tuple(jnp.stack([unit_luma(getattr(pair, side)) for pair in pairs])[..., None] for side in "ab")


def main(steps: int = 60, size: int = 48) -> list[float]:
    """Trains the U-Net and returns L_f of every step."""
    unet, adam = Unet(), optax.adam(1e-2)
    networks = Networks(lambda f, a, b: unet.apply({"params": f}, a, b), None, None)  # R and P have no part here
    batch = luma_batch(4, size)
    f = unet.init(jax.random.key(0), *batch)["params"]

    @jax.jit
    def step(f, state, batch):
        half = jnp.full((*batch[0].shape[:3], 2), 0.5)  # w = v = 1/2
        gradient, (_, terms) = jax.grad(meta.fusion_objective, has_aux=True)(f, networks, batch, half, half, LOSS)
        return *meta.descend(adam, gradient, state, f), terms["fusion"]

    state, losses = adam.init(f), []
    for _ in range(steps):
        f, state, loss = step(f, state, batch)
        losses.append(float(loss))
    print(f"L_f of the U-Net: {losses[0]:.4f} at the first step, {losses[-1]:.4f} after {steps}")
    return losses


if __name__ == "__main__":
    main()
