"""Eq. 13-14: G, how alike the gradients of the reconstruction loss and of the fusion loss are, for w and for v.

P's update is -eta_P eta_F G dP/dP's parameters: G is all that the reconstruction says to P. Term (a) of Eq. 14 is
u = dL_r(meta-test)/dF' at the inner step's F' and R'; term (b) is, at each pixel, the derivative in F of the squared
error to source a minus that to source b on the meta-train batch. Where G is positive, L_r falls as source a gets more
weight there.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import Batch, Tree, fusion_objective, inner_update, reconstruction_objective
from refusion_jax.models.build import Networks, Params


class Similarity(NamedTuple):
    """G for the weights w of the intensity term of L_f (Eq. 2) and v of its gradient term (Eq. 3, times alpha1)."""

    inner_w: jax.Array  # <u, gradient in F of the term>; positive: the inner step on it lowers L_r
    inner_v: jax.Array
    cosine_w: jax.Array  # the same as a cosine, in [-1,1]; 0 where one of the gradients is zero
    cosine_v: jax.Array
    map_w: jax.Array  # (B,H,W), G of Eq. 14 at each pixel of the meta-train batch
    map_v: jax.Array


def gradient_similarity(
    params: Params,
    networks: Networks,
    meta_train: Batch,
    meta_test: Batch,
    loss: LossSettings,
    *optimizers: optax.GradientTransformation,
    **inner,
) -> Similarity:
    """G of one meta step. optimizers, inner: as meta.inner_update takes them.

    For one inner step of plain gradient descent and a P that is a free number w_a = 1 - w_b at each pixel, the
    meta-gradient of Eq. 10 is -eta_F times map_w (and likewise for v). For any other P it is the vector-Jacobian
    product of P with that. With another inner optimiser, or more steps, u is taken at their F' and R'.
    """
    updated, report = inner_update(params, networks, meta_train, loss, *optimizers, **inner)

    def outer(f):
        fused = networks.fuse(f, *meta_test)
        return reconstruction_objective(updated.r, networks, fused, meta_test, loss)[0]

    toward = jax.lax.stop_gradient(jax.grad(outer)(updated.f))
    w, v = report.w, report.v
    none = jnp.zeros_like(w)

    def fusion_gradient(w, v):
        return jax.grad(fusion_objective, has_aux=True)(params.f, networks, meta_train, w, v, loss)[0]

    slopes = slopes_by_weight(toward, fusion_gradient, w, v)
    products = [jnp.sum(weight * slope) for weight, slope in zip((w, v), slopes, strict=True)]
    terms = fusion_gradient(w, none), fusion_gradient(none, v)
    sizes = [optax.tree.norm(toward) * optax.tree.norm(term) for term in terms]
    cosines = [
        jnp.where(size > 0, product / jnp.where(size > 0, size, 1.0), 0.0)
        for product, size in zip(products, sizes, strict=True)
    ]
    return Similarity(*products, *cosines, *(slope[..., 0] - slope[..., 1] for slope in slopes))


def slopes_by_weight(
    toward: Tree, fusion_gradient: Callable[[jax.Array, jax.Array], Tree], w: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The derivatives of <toward, dL_f/dF> in w and in v, (B,H,W,2) each.

    fusion_gradient(w, v): dL_f/dF. It is linear in both, so the derivative in a weight is the gradient in F of that
    pixel's term alone.
    """
    return jax.grad(lambda w, v: optax.tree.vdot(toward, fusion_gradient(w, v)), argnums=(0, 1))(w, v)
