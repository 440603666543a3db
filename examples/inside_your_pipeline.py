"""F inside a JAX program of your own: one jitted function from raw frames to a mask, batched, and differentiable.

Model.fuse is for pictures one by one: NumPy in, NumPy out, tiles, any size. Inside your own jit take F as a function of
its parameters; it fuses whole batches of one size on whatever device JAX uses.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import refusion_jax as rj
from refusion_jax.models import build
from refusion_jax.scenes import make_pair

LUMA = jnp.asarray([0.299, 0.587, 0.114])


def main(task_or_checkpoint: str = "ivif", size: int = 48):
    """Fuses a batch inside a pipeline, and asks which pixels of the visible frames a mask depends on."""
    model = rj.load(task_or_checkpoint)
    networks = build.linen_networks(*build.build(**dataclasses.asdict(model.settings)))

    @jax.jit
    def pipeline(params, thermal, visible):
        """thermal (B,H,W) uint8, visible (B,H,W,3) float32 on 0..255 -> (fused (B,H,W), soft mask of bright things)."""
        fused = networks.fuse(params, thermal[..., None] / 255.0, (visible @ LUMA)[..., None] / 255.0)[..., 0]
        low, high = fused.min((1, 2), keepdims=True), fused.max((1, 2), keepdims=True)
        return fused, jax.nn.sigmoid(20 * ((fused - low) / (high - low) - 0.7))

    pairs = [make_pair("ivif", 0, i, (size, size)) for i in range(2)]
    thermal = np.stack([pair.a for pair in pairs])
    visible = np.stack([pair.b for pair in pairs]).astype(np.float32)
    fused, mask = pipeline(model.params.f, thermal, visible)
    saliency = jax.jit(jax.grad(lambda x: pipeline(model.params.f, thermal, x)[1].mean()))(visible)
    alone = model.network_output(pairs[0].a, pairs[0].b)
    print(f"fused {fused.shape}, mask covers {float(mask.mean()):.0%}, saliency {saliency.shape}")
    print(f"largest difference from Model.network_output on one pair: {np.abs(np.asarray(fused[0]) - alone).max():.1e}")
    return np.asarray(fused[0]), alone, np.asarray(saliency)


if __name__ == "__main__":
    main()
