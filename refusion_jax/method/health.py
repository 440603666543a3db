"""The health of P and of R: whether P's maps carry information or have collapsed, whether R tells the sources apart."""

import chex
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

    chex.assert_equal_shape([a, b])
    chex.assert_shape([w, v], (*a.shape[:3], 2))

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


def reconstruction_health(
    rebuilt: tuple[jax.Array, jax.Array], a: jax.Array, b: jax.Array, axis: str | None = None
) -> dict[str, jax.Array]:
    """Scalars from R's rebuilt images and the sources a, b, each (B,H,W,1). `axis` as for proposal_health.

    rebuilt_error_a, rebuilt_error_b: mean squared error of the rebuilt source, relative to that of the mean of both
    sources in its place; well below 1 = R tells the sources apart, 1 = no better than their mean.
    rebuilt_distance: mean squared distance of the two rebuilt images, relative to that of the sources; towards 1.
    Where both sources are equal there is nothing to tell apart: 1, 1 and 0.
    """
    rebuilt_a, rebuilt_b = rebuilt
    chex.assert_equal_shape([rebuilt_a, rebuilt_b, a, b])

    def distance(x, y):
        return mean_over(jnp.mean(jnp.square(x - y)), axis)

    apart = distance(a, b)
    known = jnp.where(apart > 0, apart, 1.0)
    # The mean of both sources is half their distance from each: a quarter of the squared one.
    errors = [jnp.where(apart > 0, 4 * distance(x, y) / known, 1.0) for x, y in ((rebuilt_a, a), (rebuilt_b, b))]
    return {
        "rebuilt_error_a": errors[0],
        "rebuilt_error_b": errors[1],
        "rebuilt_distance": jnp.where(apart > 0, distance(rebuilt_a, rebuilt_b) / known, 0.0),
    }
