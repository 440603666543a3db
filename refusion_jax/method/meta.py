"""Eq. 7-12 as pure functions: inner update, outer (meta) objective, fusion and reconstruction objectives.

P never sees a loss of its own. Its weights w, v define F's loss; one explicit SGD step of F under that loss gives F'
(Eq. 7); how well R' rebuilds the sources from what F' makes of *other* pairs (Eq. 9) is differentiated through the
step with respect to P (Eq. 10): a gradient of a gradient.

The parameters travel as one `Params(f, r, p)`, the networks are plain functions (`Networks`), so F, R, P, the loss or
the inner loop can be swapped one at a time. A pair batch is a tuple (a, b) of (B,H,W,1) luma in [0,1].

`axis` is for batches divided in equal parts over the devices of a mesh axis, under jax.shard_map with check_vma=False:
each device gives its own part, and gradients are those of the mean over all. A loss is a mean over pixels, so every
gradient that is taken, the inner one included, is averaged over the axis, and differentiating through that average
averages again. Terms, w, v and images that come back are of the device's own part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from refusion_jax.method.losses import fusion_loss, reconstruction_loss, sobel
from refusion_jax.models.build import Networks, Params

Tree = Any  # the parameters of one network
Batch = tuple[jax.Array, jax.Array]


class LossSettings(NamedTuple):
    """alpha1 (Eq. 1), alpha2 (Eq. 4) and the Sobel operator's form and scale. proposal_form: of the gradients that P
    sees, where they are not those of the losses. w_floor: the least that w gives to either source."""

    alpha1: float = 1.0
    alpha2: float = 1.0
    sobel_form: str = "l1"
    sobel_scale: float = 1.0
    proposal_form: str = ""
    w_floor: float = 0.0


class InnerReport(NamedTuple):
    """What the inner update saw on the meta-train batch, before its first step."""

    terms: dict[str, jax.Array]  # of L_f and L_r
    norm_f: jax.Array  # norm of dL_f/dF
    norm_r: jax.Array  # norm of dL_r/dR
    w: jax.Array  # (B,H,W,2)
    v: jax.Array  # (B,H,W,2)


def linen_networks(fusion, reconstruction, proposal, dtype=None) -> Networks:
    """Networks from three Linen modules.

    dtype: of the activations inside, jnp.bfloat16 say, to halve what an accelerator moves. Parameters keep their own
    type and are rounded where they are used; normalisations and all sums over pixels are formed in float32; images and
    weights that come out, and with them the losses, are float32. None: the type of the images.
    """

    def of(module):
        def apply(params, *images):
            inside = images if dtype is None else [x.astype(dtype) for x in images]
            return module.apply({"params": params}, *inside)

        return apply

    return Networks(of(fusion), of(reconstruction), of(proposal))


def propose_weights(params_p: Tree, networks: Networks, batch: Batch, loss: LossSettings):
    """w and v, (B,H,W,2) each: P on the sources and their gradients."""
    a, b = batch
    gradients = [sobel(x, loss.proposal_form or loss.sobel_form, loss.sobel_scale) for x in (a, b)]
    w, v = networks.propose(params_p, a, b, *gradients)
    return (loss.w_floor + (1 - 2 * loss.w_floor) * w, v) if loss.w_floor else (w, v)


def fusion_objective(params_f: Tree, networks: Networks, batch: Batch, w, v, loss: LossSettings):
    """L_f of F on a batch under the weights w, v (Eq. 1). Returns (L_f, (fused image, dict of terms))."""
    fused = networks.fuse(params_f, *batch)
    total, terms = fusion_loss(
        fused, *batch, w, v, alpha1=loss.alpha1, sobel_form=loss.sobel_form, sobel_scale=loss.sobel_scale
    )
    return total, (fused, terms)


def reconstruction_objective(params_r: Tree, networks: Networks, fused, batch: Batch, loss: LossSettings):
    """L_r of R on a fused image (Eq. 4). Returns (L_r, dict of terms)."""
    return reconstruction_loss(
        *networks.reconstruct(params_r, fused),
        *batch,
        alpha2=loss.alpha2,
        sobel_form=loss.sobel_form,
        sobel_scale=loss.sobel_scale,
    )


def sgd(params: Tree, gradient: Tree, rate) -> Tree:
    """One plain gradient-descent step, params - rate * gradient."""
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient)


def recomputed(function: Callable) -> Callable:
    """function(params, *args), whose derivative computes it anew instead of keeping all that it went through.

    The same values and derivatives, of any order, in less memory, for the time of one more evaluation. jax.checkpoint
    is the tool for this, but XLA's CPU backend drops its barriers, finds the two evaluations equal and keeps everything
    after all. Here the second one reads parameters that depend, in a way XLA cannot see through, on the cotangent: it
    is another one, and cannot begin earlier. Where the cotangent is not finite the derivatives are NaN.
    """
    call = jax.custom_vjp(function)

    def backward(saved, cotangent):
        params, args = saved
        known = jnp.isfinite(jax.tree.leaves(cotangent)[0].reshape(-1)[0])
        params = jax.tree.map(lambda x: jnp.where(known, x, jnp.nan), params)
        return jax.vjp(function, params, *args)[1](cotangent)

    call.defvjp(lambda params, *args: (function(params, *args), (params, args)), backward)
    return call


def mean_over(tree: Any, axis: str | None) -> Any:
    """The tree averaged over a mesh axis; as it is where axis is None."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def inner_update(
    params: Params,
    networks: Networks,
    batch: Batch,
    loss: LossSettings,
    *,
    eta_f,
    eta_r,
    steps: int = 1,
    first_order: bool = False,
    recompute: bool = False,
    axis: str | None = None,
):
    """Eq. 7 and 8: F' and R' after `steps` explicit SGD steps on the meta-train batch.

    F' remembers how it depends on P (through w, v). R learns from F's image; L_r never updates F here.
    first_order: the inner gradient counts as a constant, MAML's first-order approximation. P enters L_r through that
    gradient alone, so P's meta-gradient is then exactly zero: a control that leaves P as it was initialised.
    recompute: the derivative in P evaluates P anew (see recomputed), so that its inner maps need not be kept meanwhile.
    Returns (Params with F' and R', and P as it was; InnerReport of the first step).
    """

    def propose(params_p, batch):
        return propose_weights(params_p, networks, batch, loss)

    w, v = (recomputed(propose) if recompute else propose)(params.p, batch)
    f, r = params.f, params.r
    report = None
    for _ in range(steps):
        grad_f, (fused, terms_f) = jax.grad(fusion_objective, has_aux=True)(f, networks, batch, w, v, loss)
        # A gradient in R's parameters alone: L_r does not update F. From the second step on F's image, and so R',
        # depends on P; that path belongs to the derivative of Eq. 9 and is kept.
        grad_r, terms_r = jax.grad(reconstruction_objective, has_aux=True)(r, networks, fused, batch, loss)
        grad_f, grad_r = mean_over((grad_f, grad_r), axis)
        if first_order:
            grad_f = jax.lax.stop_gradient(grad_f)
        if report is None:
            report = InnerReport(terms_f | terms_r, global_norm(grad_f), global_norm(grad_r), w, v)
        f, r = sgd(f, grad_f, eta_f), sgd(r, grad_r, eta_r)
    return params._replace(f=f, r=r), report


def outer_objective(
    params: Params, networks: Networks, meta_train: Batch, meta_test: Batch, loss: LossSettings, **inner
):
    """Eq. 9's L_r on the meta-test batch with F' and R', which depend on P. `inner` goes to inner_update.

    Returns (L_r, (terms on the meta-test batch, InnerReport on the meta-train batch)).
    """
    updated, report = inner_update(params, networks, meta_train, loss, **inner)
    fused = networks.fuse(updated.f, *meta_test)
    total, terms = reconstruction_objective(updated.r, networks, fused, meta_test, loss)
    return total, (terms, report)


def meta_gradient(
    params: Params,
    networks: Networks,
    meta_train: Batch,
    meta_test: Batch,
    loss: LossSettings,
    axis: str | None = None,
    **inner,
):
    """Eq. 10: dL_r(meta-test; F', R')/dP through the inner step. `inner` goes to inner_update.

    Returns (gradient in P, (terms, report) as outer_objective gives them).
    """

    def objective(p):
        return outer_objective(params._replace(p=p), networks, meta_train, meta_test, loss, axis=axis, **inner)

    gradient, reports = jax.grad(objective, has_aux=True)(params.p)
    return mean_over(gradient, axis), reports


def fusion_gradients(params: Params, networks: Networks, batch: Batch, loss: LossSettings, axis: str | None = None):
    """Eq. 11 and 12: dL_f/dF with P frozen, and dL_r/dR on F's image with the image's gradient stopped.

    Returns (gradients as Params without p, terms, (w, v, fused)). L_r never reaches F, nor L_f P.
    """
    w, v = jax.lax.stop_gradient(propose_weights(params.p, networks, batch, loss))
    grad_f, (fused, terms_f) = jax.grad(fusion_objective, has_aux=True)(params.f, networks, batch, w, v, loss)
    fused = jax.lax.stop_gradient(fused)
    grad_r, terms_r = jax.grad(reconstruction_objective, has_aux=True)(params.r, networks, fused, batch, loss)
    return mean_over(Params(grad_f, grad_r), axis), terms_f | terms_r, (w, v, fused)


def global_norm(tree: Tree) -> jax.Array:
    """Euclidean norm of a whole tree."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)))
