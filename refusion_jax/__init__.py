"""ReFusion (IJCV 2024) in JAX: image fusion with a loss learned by meta-learning.

import refusion_jax as rj

model = rj.load("meie")  # a task's name, a run, a checkpoint, .safetensors or a released .pth
fused = model.fuse(under, over)  # NumPy in, NumPy out
"""

from typing import TYPE_CHECKING

from refusion_jax.errors import InputError

if TYPE_CHECKING:
    from refusion_jax.fusing.model import Model, load

__version__ = "0.1.0"
__all__ = ["InputError", "Model", "load"]


def __getattr__(name):
    # JAX takes a while to import: only what needs it pays for it.
    if name in ("load", "Model"):
        from refusion_jax.fusing import model

        return getattr(model, name)
    raise AttributeError(f"module 'refusion_jax' has no attribute {name!r}")
