"""1x1 convolution as a matrix product over pixels, with derivative rules that stay fast to any order.

JAX's derivative of x @ k in k transposes the large operand first; on a CPU it is several times faster to contract over
pixels where they lie. The product M(x, k) and the contraction G(x, g) are closed under differentiation: the rule of
each is written with the other.

    M(x, k)[p, d] = sum_c x[p, c] k[c, d]      dM/dx: M(g, k^T)    dM/dk: G(x, g)
    G(x, g)[c, d] = sum_p x[p, c] g[p, d]      dG/dx: M(g, u^T)    dG/dg: M(x, u)
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution: x (...,C), kernel (C,D) -> (...,D)."""
    return x @ kernel


@jax.custom_vjp
def pointwise_correlation(x: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of `pointwise` in its kernel: x (...,C), g (...,D) -> (C,D), summed over all pixels."""
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())))


pointwise.defvjp(
    lambda x, kernel: (pointwise(x, kernel), (x, kernel)),
    lambda saved, g: (pointwise(g, saved[1].T), pointwise_correlation(saved[0], g)),
)
pointwise_correlation.defvjp(
    lambda x, g: (pointwise_correlation(x, g), (x, g)),
    lambda saved, u: (pointwise(saved[1], u.T), pointwise(saved[0], u)),
)


@jax.custom_vjp
def channel_mean(x: jax.Array) -> jax.Array:
    """The mean over the last axis, repeated along it. (...,C) -> (...,C).

    A product with a constant: for few channels several times faster on a CPU than a reduction, and so is its
    derivative, which is the same function.
    """
    column = x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
    return jnp.broadcast_to(column, x.shape)


channel_mean.defvjp(lambda x: (channel_mean(x), None), lambda _, g: (channel_mean(g),))
