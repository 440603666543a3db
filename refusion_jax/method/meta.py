"""Eq. 7-12 as pure functions: inner update, outer (meta) objective, fusion and reconstruction objectives.

P never sees a loss of its own. Its weights w, v define F's loss; one explicit step of F under that loss gives F'
(Eq. 7); how well R' rebuilds the sources from what F' makes of *other* pairs (Eq. 9) is differentiated through the
step with respect to P (Eq. 10): a gradient of a gradient.

The parameters travel as one `Params(f, r, p)`, the networks are plain functions (`Networks`), the inner optimisers are
Optax transformations, so F, R, P, the loss or the inner loop can be swapped one at a time. A pair batch is a tuple
(a, b) of (B,H,W,1) luma in [0,1].

`axis` is for batches divided in equal parts over the devices of a mesh axis, under jax.shard_map with check_vma=False:
each device gives its own part, and gradients are those of the mean over all. A loss is a mean over pixels, so every
gradient that is taken, the inner one included, is averaged over the axis, and differentiating through that average
averages again. Terms, w, v and images that come back are of the device's own part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from refusion_jax.method.losses import LossSettings, chosen_reconstruction_loss, fusion_loss, sobel
from refusion_jax.models.build import Networks, Params
from refusion_jax.settings import setting

Tree = Any  # the parameters of one network
Batch = tuple[jax.Array, jax.Array]

# Adam's first step is g / (sqrt(g^2 + eps_root) + eps), its derivative in g about eps_root / (g^2 + eps_root)^(3/2).
# With eps_root = 0 that is not finite at g = 0, and zero elsewhere: the step is a mere sign, and P has no say in it.
# The root mean square of an entry of dL_f/dF is 3e-4 for fresh parameters and 3e-3 for trained ones. With 1e-3 as root,
# Adam still evens out sizes, and P is heard.
INNER_EPS_ROOT = 1e-6

# From a rate to the transformation of the inner step, by the name in meta.inner_optimizer.
INNER_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": partial(optax.adam, eps_root=INNER_EPS_ROOT),
    "momentum": partial(optax.sgd, momentum=0.9),
}


@dataclass(frozen=True)
class MetaSettings:
    """The inner step and P's own optimiser (Eq. 7-10)."""

    inner_steps: int = setting(1, least=1)  # explicit steps from F to F'
    # Of the inner step: sgd as in Eq. 7 and 8, adam or momentum (0.9); each is differentiated through.
    inner_optimizer: str = setting("sgd", choices=tuple(INNER_OPTIMIZERS))
    eta_f: float = setting(0.0, least=0)  # step size of Eq. 7; 0 = F's current learning rate
    eta_r: float = setting(0.0, least=0)  # step size of Eq. 8; 0 = R's current learning rate
    first_order: bool = False  # drop the second-order term; P's gradient is then zero (a control)
    # Of P: adam, or normalized: the gradient divided by its largest entry, then plain descent.
    optimizer: str = setting("adam", choices=("adam", "normalized"))
    adam_eps: float = setting(1e-16, above=0)  # far below Adam's usual 1e-8, which would swallow P's small gradient


class InnerReport(NamedTuple):
    """What the inner update saw on the meta-train batch, before its first step."""

    terms: dict[str, jax.Array]  # of L_f and L_r
    norm_f: jax.Array  # norm of dL_f/dF
    norm_r: jax.Array  # norm of dL_r/dR
    w: jax.Array  # (B,H,W,2)
    v: jax.Array  # (B,H,W,2)
    rebuilt: Batch  # R's images of both sources


def propose_weights(params_p: Tree, networks: Networks, batch: Batch, loss: LossSettings, *, untaught: bool = False):
    """w and v, (B,H,W,2) each: P on the sources and their gradients. untaught: what P begins at, without asking it."""
    a, b = batch
    chex.assert_rank(a, 4)
    chex.assert_equal_shape([a, b])
    gradients = [sobel(x, loss.proposal_form or loss.sobel_form, loss.sobel_scale) for x in (a, b)]
    w, v = networks.begin(a, b, *gradients) if untaught else networks.propose(params_p, a, b, *gradients)
    chex.assert_shape([w, v], (*a.shape[:3], 2))
    return (loss.w_floor + (1 - 2 * loss.w_floor) * w, v) if loss.w_floor else (w, v)


def fusion_objective(params_f: Tree, networks: Networks, batch: Batch, w, v, loss: LossSettings):
    """L_f of F on a batch under the weights w, v (Eq. 1). Returns (L_f, (fused image, dict of terms))."""
    fused = networks.fuse(params_f, *batch)
    total, terms = fusion_loss(fused, *batch, w, v, loss)
    return total, (fused, terms)


def reconstruction_objective(params_r: Tree, networks: Networks, fused, batch: Batch, loss: LossSettings):
    """L_r of R on a fused image (Eq. 4). Returns (L_r, (both rebuilt images, dict of terms))."""
    rebuilt_a, rebuilt_b = networks.reconstruct(params_r, fused)
    total, terms = chosen_reconstruction_loss(loss)(rebuilt_a, rebuilt_b, *batch, loss)
    return total, ((rebuilt_a, rebuilt_b), terms)


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


def descend(optimizer: optax.GradientTransformation, gradient: Tree, state: Any, params: Tree) -> tuple[Tree, Any]:
    """One step of an optimiser: (new parameters, its new state)."""
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state


def inner_update(
    params: Params,
    networks: Networks,
    batch: Batch,
    loss: LossSettings,
    optimizer_f: optax.GradientTransformation = optax.sgd(1e-4),
    optimizer_r: optax.GradientTransformation = optax.sgd(1e-4),
    *,
    steps: int = 1,
    first_order: bool = False,
    recompute: bool = False,
    axis: str | None = None,
) -> tuple[Params, InnerReport]:
    """Eq. 7 and 8: F' and R' after `steps` steps on the meta-train batch, with optimisers that begin anew each time.

    F' remembers how it depends on P (through w, v). R learns from F's image; L_r never updates F here.
    optimizer_f, optimizer_r: as in the paper plain gradient descent, optax.sgd(eta_F) and optax.sgd(eta_R). Any other
    transformation whose update has a derivative will do (for Adam see INNER_EPS_ROOT).
    first_order: the inner gradient counts as a constant, MAML's first-order approximation. P enters L_r through that
    gradient alone, so P's meta-gradient is then exactly zero: a control that leaves P as it was initialised.
    recompute: the derivative in P evaluates P anew (see recomputed), so that its inner maps need not be kept meanwhile.
    Returns (Params with F' and R', and P as it was; InnerReport of the first step).
    """

    def propose(params_p, batch):
        return propose_weights(params_p, networks, batch, loss)

    w, v = (recomputed(propose) if recompute else propose)(params.p, batch)
    f, r = params.f, params.r
    state_f, state_r = optimizer_f.init(f), optimizer_r.init(r)
    reports = []
    for _ in range(steps):
        grad_f, (fused, terms_f) = jax.grad(fusion_objective, has_aux=True)(f, networks, batch, w, v, loss)
        # A gradient in R's parameters alone: L_r does not update F. From the second step on F's image, and so R',
        # depends on P; that path belongs to the derivative of Eq. 9 and is kept.
        grad_r, (rebuilt, terms_r) = jax.grad(reconstruction_objective, has_aux=True)(r, networks, fused, batch, loss)
        grad_f, grad_r = mean_over((grad_f, grad_r), axis)
        if first_order:
            grad_f = jax.lax.stop_gradient(grad_f)
        norms = optax.tree.norm(grad_f), optax.tree.norm(grad_r)
        reports.append(InnerReport(terms_f | terms_r, *norms, w, v, rebuilt))
        f, state_f = descend(optimizer_f, grad_f, state_f, f)
        r, state_r = descend(optimizer_r, grad_r, state_r, r)
    return params._replace(f=f, r=r), reports[0]


def outer_objective(
    params: Params, networks: Networks, meta_train: Batch, meta_test: Batch, loss: LossSettings, *optimizers, **inner
):
    """Eq. 9's L_r on the meta-test batch with F' and R', which depend on P.

    optimizers, inner: as inner_update takes them. Returns (L_r, (terms on the meta-test batch, InnerReport)).
    """
    updated, report = inner_update(params, networks, meta_train, loss, *optimizers, **inner)
    fused = networks.fuse(updated.f, *meta_test)
    total, (_, terms) = reconstruction_objective(updated.r, networks, fused, meta_test, loss)
    return total, (terms, report)


def meta_gradient(
    params: Params,
    networks: Networks,
    meta_train: Batch,
    meta_test: Batch,
    loss: LossSettings,
    *optimizers: optax.GradientTransformation,
    axis: str | None = None,
    **inner,
):
    """Eq. 10: dL_r(meta-test; F', R')/dP through the inner step.

    optimizers, inner: as inner_update takes them. Returns (gradient in P, (terms, report) of outer_objective).
    """

    def objective(p):
        whole = params._replace(p=p)
        return outer_objective(whole, networks, meta_train, meta_test, loss, *optimizers, axis=axis, **inner)

    gradient, reports = jax.grad(objective, has_aux=True)(params.p)
    return mean_over(gradient, axis), reports


def fusion_gradients(
    params: Params,
    networks: Networks,
    batch: Batch,
    loss: LossSettings,
    axis: str | None = None,
    *,
    untaught: bool | jax.Array = False,
):
    """Eq. 11 and 12: dL_f/dF with P frozen, and dL_r/dR on F's image with the image's gradient stopped.

    untaught: w and v are what P begins at (1/2, without a rule); P, a third of the step, is then not asked.
    Returns (gradients as Params without p, terms, (w, v, fused, rebuilt)). L_r never reaches F, nor L_f P.
    """

    def proposed(untaught=False):
        return jax.lax.stop_gradient(propose_weights(params.p, networks, batch, loss, untaught=untaught))

    w, v = proposed() if untaught is False else jax.lax.cond(untaught, lambda: proposed(True), proposed)
    grad_f, (fused, terms_f) = jax.grad(fusion_objective, has_aux=True)(params.f, networks, batch, w, v, loss)
    fused = jax.lax.stop_gradient(fused)
    grad_r, (rebuilt, terms_r) = jax.grad(reconstruction_objective, has_aux=True)(
        params.r, networks, fused, batch, loss
    )
    return mean_over(Params(grad_f, grad_r), axis), terms_f | terms_r, (w, v, fused, rebuilt)
