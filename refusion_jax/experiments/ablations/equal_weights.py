"""Table 5, I and II: no learnable loss, w and v fixed at 1/2. As `model.proposal`."""

from flax import linen as nn

from refusion_jax.models.build import halves


class EqualWeights(nn.Module):
    """A P without parameters that weighs both sources alike everywhere: (B,H,W,2) of 1/2, twice."""

    def __call__(self, a, b, gradient_a, gradient_b):
        return halves(a, b, gradient_a, gradient_b)
