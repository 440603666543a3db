"""F as a StableHLO file by jax.export: JAX calls it without this package, for pictures of one size."""

from dataclasses import asdict

import jax
import jax.numpy as jnp
from jax import export

from refusion_jax.fusing.model import Model
from refusion_jax.models import build as networks

PLATFORMS = ("cpu", "cuda")


def stablehlo_file(model: Model, size: tuple[int, int]) -> bytes:
    """The bytes of a file for pictures of `size` (height, width), on a CPU and on an NVIDIA GPU alike.

    jax.export.deserialize(bytes).call(a, b) gives F's output (B,H,W,1) for lumas a, b (B,H,W,1) float32 in [0,1] with
    B = 1. The parameters are part of the file.
    """
    fusion, *_ = networks.build(**asdict(model.settings))
    image = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    function = jax.jit(lambda a, b: fusion.apply({"params": model.params.f}, a, b))
    with jax.default_matmul_precision("float32"):
        return bytes(export.export(function, platforms=PLATFORMS)(image, image).serialize())
