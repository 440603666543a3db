"""The training state and its two pure update functions: the meta step (P) and the fusion step (F and R)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from refusion_jax.method.health import proposal_health
from refusion_jax.method.meta import LossSettings, fusion_gradients, global_norm, mean_over, meta_gradient
from refusion_jax.models.build import Networks, Params


class OptimizerStates(NamedTuple):
    """The states of the three optimisers."""

    f: Any
    r: Any
    p: Any


@flax.struct.dataclass
class TrainState:
    """Everything a step changes: step count, parameters, the optimisers' states."""

    step: jax.Array  # int32 scalar, meta and fusion steps together
    params: Params
    optimizers: OptimizerStates


class Optimizers(NamedTuple):
    """Optax transformations without their learning rates, which depend on the step."""

    f: optax.GradientTransformation
    r: optax.GradientTransformation
    p: optax.GradientTransformation


class Rates(NamedTuple):
    """Learning rates of the three networks, and the inner step sizes (None: the network's current learning rate)."""

    f: float = 1e-4
    r: float = 1e-4
    p: float = 1e-4
    eta_f: float | None = None
    eta_r: float | None = None
    decay: float = 1.0  # all three rates times this ...
    decay_steps: int = 1  # ... every so many steps (meta and fusion together)


def scale_by_largest() -> optax.GradientTransformation:
    """Divides the gradient by its entry of largest magnitude over the whole tree; a zero gradient stays zero."""

    def update(gradient, state, params=None):
        del params
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(gradient)]))
        return jax.tree.map(lambda g: g / jnp.where(largest > 0, largest, 1), gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizers(outer: str = "adam", adam_eps: float = 1e-16) -> Optimizers:
    """Adam for F and R (eps 1e-8); for P Adam with a far smaller eps, or "normalized".

    P's gradient carries the factor eta_F (entries near 1e-8), so Adam's usual eps would decide its step. The meta step
    divides it by eta_F; entries are small even so, and the small eps leaves Adam's step to their signs and sizes.
    """
    for_p = {"adam": lambda: optax.scale_by_adam(eps=adam_eps), "normalized": scale_by_largest}
    return Optimizers(optax.scale_by_adam(), optax.scale_by_adam(), for_p[outer]())


def init_state(params: Params, optimizers: Optimizers) -> TrainState:
    """The state before the first step."""
    states = OptimizerStates(*(o.init(tree) for o, tree in zip(optimizers, params, strict=True)))
    return TrainState(jnp.zeros((), jnp.int32), params, states)


def _descend(optimizer, gradient, opt_state, params, rate):
    direction, opt_state = optimizer.update(gradient, opt_state, params)
    return jax.tree.map(lambda p, d: p - rate * d, params, direction), opt_state


def as_luma(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """{"a", "b"}: (B,H,W,1) uint8 -> (a, b) float32 in [0,1]."""
    return batch["a"].astype(jnp.float32) / 255, batch["b"].astype(jnp.float32) / 255


def make_steps(
    networks: Networks,
    loss: LossSettings,
    optimizers: Optimizers,
    rates: Rates,
    *,
    inner_steps: int = 1,
    first_order: bool = False,
    recompute: bool = False,
    axis: str | None = None,
) -> tuple[Callable, Callable]:
    """(meta_step, fusion_step), pure and ready for jit.

    meta_step(state, train, test) -> (state, metrics): P by Eq. 7-10; F and R come back unchanged.
    fusion_step(state, batch) -> (state, metrics): F by Eq. 11, R by Eq. 12; P comes back unchanged.
    Batches are {"a", "b"}: (B,H,W,1) uint8. Metrics are float32 scalars: loss terms, gradient norms, health of P.
    recompute: see meta.inner_update; less memory for the meta step, some more time.
    axis: a mesh axis over which batches are divided (training/devices.py); states, metrics are of whole batches.
    """

    def decay(step):
        if rates.decay == 1:
            return 1.0
        return rates.decay ** (step // rates.decay_steps).astype(jnp.float32)

    def meta_step(state: TrainState, train, test):
        factor = decay(state.step)
        meta_train, meta_test = as_luma(train), as_luma(test)
        eta_f = rates.f * factor if rates.eta_f is None else rates.eta_f
        eta_r = rates.r * factor if rates.eta_r is None else rates.eta_r
        gradient, (outer, inner) = meta_gradient(
            state.params,
            networks,
            meta_train,
            meta_test,
            loss,
            eta_f=eta_f,
            eta_r=eta_r,
            steps=inner_steps,
            first_order=first_order,
            recompute=recompute,
            axis=axis,
        )
        # Eq. 10 carries the factor eta_F; without it the optimiser sees numbers far from its eps and from underflow.
        scaled = jax.tree.map(lambda g: g / eta_f, gradient)
        new_p, state_p = _descend(optimizers.p, scaled, state.optimizers.p, state.params.p, rates.p * factor)
        metrics = {f"inner_{k}": x for k, x in inner.terms.items()}
        metrics |= {f"outer_{k}": x for k, x in outer.items()}
        metrics = mean_over(metrics, axis)
        metrics |= {
            "grad_norm_f": inner.norm_f,
            "grad_norm_r": inner.norm_r,
            "grad_norm_p": global_norm(gradient),
            **proposal_health(inner.w, inner.v, *meta_train, axis=axis),
        }
        params, states = state.params._replace(p=new_p), state.optimizers._replace(p=state_p)
        return TrainState(state.step + 1, params, states), metrics

    def fusion_step(state: TrainState, batch):
        factor = decay(state.step)
        images = as_luma(batch)
        params, states = state.params, state.optimizers
        gradients, terms, (w, v, fused) = fusion_gradients(params, networks, images, loss, axis)
        new_f, state_f = _descend(optimizers.f, gradients.f, states.f, params.f, rates.f * factor)
        new_r, state_r = _descend(optimizers.r, gradients.r, states.r, params.r, rates.r * factor)
        metrics = mean_over(terms | {"fused_mean": jnp.mean(fused)}, axis)
        metrics |= {
            "grad_norm_f": global_norm(gradients.f),
            "grad_norm_r": global_norm(gradients.r),
            **proposal_health(w, v, *images, axis=axis),
        }
        params, states = params._replace(f=new_f, r=new_r), states._replace(f=state_f, r=state_r)
        return TrainState(state.step + 1, params, states), metrics

    return meta_step, fusion_step


def several(step: Callable) -> Callable:
    """The same step over a block of batches, one after the other in one program (lax.scan).

    block(state, *batches) with one more axis in front of every batch's arrays, (K,B,H,W,1) -> (state, metrics of (K,)).
    """

    def block(state: TrainState, *batches):
        return jax.lax.scan(lambda state, batch: step(state, *batch), state, batches)

    return block
