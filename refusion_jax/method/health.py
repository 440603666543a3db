"""The health of P: numbers that show whether its maps carry information, hover at equality or have collapsed."""

import jax
import jax.numpy as jnp

from refusion_jax.method.losses import sobel
from refusion_jax.method.meta import mean_over


def proposal_health(
    w: jax.Array, v: jax.Array, a: jax.Array, b: jax.Array, axis: str | None = None
) -> dict[str, jax.Array]:
    """Scalars in [0,1] from the weights w, v (B,H,W,2) and the sources a, b (B,H,W,1).

    With `axis`, a mesh axis over which a batch is divided in equal parts, the numbers are those of the whole batch.

    w_imbalance, v_imbalance: mean |w_a - w_b|, |v_a - v_b|; 1 = collapsed onto one source everywhere.
    w_spread, v_spread: standard deviation of w_a, v_a over all pixels; 0 = a constant map.
    w_brighter: mean w of the brighter source; far from 0.5 = a bias in brightness.
    v_sharper: how often v favours the source with the larger Sobel gradient (|gx|+|gy|, kernel/8), among pixels where
    the two differ by more than 0.01; 0.5 = no better than chance.
    """

    def mean(x):
        return mean_over(jnp.mean(x), axis)

    def total(x):
        return jnp.sum(x) if axis is None else jax.lax.psum(jnp.sum(x), axis)

    def spread(x):
        return jnp.sqrt(mean(jnp.square(x - mean(x))))

    sharper = (sobel(a, scale=1 / 8) - sobel(b, scale=1 / 8))[..., 0]
    brighter = (a - b)[..., 0]
    counted = jnp.abs(sharper) > 0.01
    agrees = (v[..., 0] > v[..., 1]) == (sharper > 0)
    number = total(counted)
    share = total(counted & agrees) / jnp.maximum(number, 1)
    return {
        "w_imbalance": mean(jnp.abs(w[..., 0] - w[..., 1])),
        "v_imbalance": mean(jnp.abs(v[..., 0] - v[..., 1])),
        "w_spread": spread(w[..., 0]),
        "v_spread": spread(v[..., 0]),
        "w_brighter": mean(jnp.where(brighter > 0, w[..., 0], w[..., 1])),
        "v_sharper": jnp.where(number > 0, share, 0.5),
    }
