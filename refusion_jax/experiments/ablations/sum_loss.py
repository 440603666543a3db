"""Table 5, IV: the sum of both sources' errors in place of the larger one in Eq. 5 and 6. As `loss.reconstruction`."""

import jax.numpy as jnp

from refusion_jax.method.losses import sobel, squared_error, weighted_sum


def sum_loss(rebuilt_a, rebuilt_b, a, b, loss):
    """As method/losses.reconstruction_loss, with a sum for max."""
    gradients = [sobel(x, loss.sobel_form, loss.sobel_scale) for x in (a, rebuilt_a, b, rebuilt_b)]
    intensity = jnp.mean(squared_error(a, rebuilt_a) + squared_error(b, rebuilt_b))
    edges = jnp.mean(squared_error(*gradients[:2]) + squared_error(*gradients[2:]))
    return weighted_sum("reconstruction", intensity=(1.0, intensity), gradient=(loss.alpha2, edges))
