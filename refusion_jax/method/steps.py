"""The training state and its two pure update functions: the meta step (P) and the fusion step (F and R)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.health import proposal_health, reconstruction_health
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import INNER_OPTIMIZERS, MetaSettings, descend, fusion_gradients, mean_over, meta_gradient
from refusion_jax.models.build import Networks, Params
from refusion_jax.settings import import_function


class Optimizers(NamedTuple):
    """The optimisers of the three networks, learning rates included."""

    f: optax.GradientTransformation
    r: optax.GradientTransformation
    p: optax.GradientTransformation


class OptimizerStates(NamedTuple):
    """The states of the three optimisers."""

    f: Any
    r: Any
    p: Any


class TrainState(NamedTuple):
    """Everything a step changes: step count, parameters, the optimisers' states."""

    step: jax.Array  # int32 scalar, meta and fusion steps together
    params: Params
    optimizers: OptimizerStates


class InnerLoop(NamedTuple):
    """Eq. 7 and 8: the inner optimiser, as a function of the step size, and how it is used."""

    optimizer: Callable[..., optax.GradientTransformation] = optax.sgd
    eta_f: optax.ScalarOrSchedule = 1e-4  # a number, or a function of TrainState.step
    eta_r: optax.ScalarOrSchedule = 1e-4
    steps: int = 1
    first_order: bool = False

    def etas(self, step: int | jax.Array) -> tuple[Any, Any]:
        """(eta_F, eta_R) after so many steps."""
        eta_f, eta_r = (eta(step) if callable(eta) else eta for eta in (self.eta_f, self.eta_r))
        return eta_f, eta_r


def scale_by_largest() -> optax.GradientTransformation:
    """Divides the gradient by its entry of largest magnitude over the whole tree; a zero gradient stays zero."""

    def update(updates, state, params=None):
        del params
        largest = optax.tree.norm(updates, ord=jnp.inf)
        return jax.tree.map(lambda g: g / jnp.where(largest > 0, largest, 1), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizers(schedule: Schedule = Schedule(), meta: MetaSettings = MetaSettings()) -> Optimizers:
    """Adam for F and R (eps 1e-8); for P Adam with a far smaller eps, or "normalized".

    P's gradient carries the factor eta_F (entries near 1e-8), so Adam's usual eps would decide its step. The meta step
    divides it by eta_F; entries are small even so, and the small eps leaves Adam's step to their signs and sizes.
    """
    rate_f = schedule.rate(schedule.lr_f, schedule.fusion_steps, schedule.warmup_steps)
    rate_r = schedule.rate(schedule.lr_r, schedule.fusion_steps, schedule.warmup_steps)
    rate_p = schedule.rate(schedule.lr_p, schedule.meta_steps, epochs=schedule.taught)
    if meta.optimizer == "normalized":
        for_p = optax.chain(scale_by_largest(), optax.scale_by_learning_rate(rate_p))
    else:
        for_p = optax.adam(rate_p, eps=meta.adam_eps)
    return Optimizers(optax.adam(rate_f), optax.adam(rate_r), for_p)


def make_inner_loop(schedule: Schedule = Schedule(), meta: MetaSettings = MetaSettings()) -> InnerLoop:
    """The inner loop as set. Its step sizes are the networks' learning rates of that epoch, where none are set."""
    eta_f = meta.eta_f or schedule.rate(schedule.lr_f, schedule.per_epoch, schedule.warmup_steps)
    eta_r = meta.eta_r or schedule.rate(schedule.lr_r, schedule.per_epoch, schedule.warmup_steps)
    return InnerLoop(INNER_OPTIMIZERS[meta.inner_optimizer], eta_f, eta_r, meta.inner_steps, meta.first_order)


def init_state(params: Params, optimizers: Optimizers) -> TrainState:
    """The state before the first step."""
    states = OptimizerStates(*(o.init(tree) for o, tree in zip(optimizers, params, strict=True)))
    return TrainState(jnp.zeros((), jnp.int32), params, states)


def as_luma(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """{"a", "b"}: (B,H,W,1) uint8 -> (a, b) float32 in [0,1]."""
    a, b = batch["a"], batch["b"]
    chex.assert_shape([a, b], (*a.shape[:3], 1))
    return a.astype(jnp.float32) / 255, b.astype(jnp.float32) / 255


def make_steps(
    networks: Networks,
    loss: LossSettings,
    optimizers: Optimizers,
    inner: InnerLoop = InnerLoop(),
    *,
    warmup: int = 0,
    recompute: bool = False,
    axis: str | None = None,
) -> tuple[Callable, Callable]:
    """(meta_step, fusion_step), pure and ready for jit.

    meta_step(state, train, test) -> (state, metrics): P by Eq. 7-10; F and R come back unchanged.
    fusion_step(state, batch) -> (state, metrics): F by Eq. 11, R by Eq. 12; P comes back unchanged.
    Batches are {"a", "b"}: (B,H,W,1) uint8. Metrics are float32 scalars: loss terms, gradient norms, health of P and R.
    warmup: so many steps from the start have the w and v that P begins at (Schedule.warmup_steps).
    recompute: see meta.inner_update; less memory for the meta step, some more time.
    axis: a mesh axis over which batches are divided (training/devices.py); states, metrics are of whole batches.
    """

    def meta_step(state: TrainState, train, test):
        params, states = state.params, state.optimizers
        meta_train, meta_test = as_luma(train), as_luma(test)
        eta_f, eta_r = inner.etas(state.step)
        gradient, (outer, report) = meta_gradient(
            params,
            networks,
            meta_train,
            meta_test,
            loss,
            inner.optimizer(eta_f),
            inner.optimizer(eta_r),
            steps=inner.steps,
            first_order=inner.first_order,
            recompute=recompute,
            axis=axis,
        )
        # Eq. 10 carries the factor eta_F; without it the optimiser sees numbers far from its eps and from underflow.
        scaled = jax.tree.map(lambda g: g / eta_f, gradient)
        new_p, state_p = descend(optimizers.p, scaled, states.p, params.p)
        terms = {f"inner_{k}": x for k, x in report.terms.items()} | {f"outer_{k}": x for k, x in outer.items()}
        metrics = {
            **mean_over(terms, axis),
            "grad_norm_f": report.norm_f,
            "grad_norm_r": report.norm_r,
            "grad_norm_p": optax.tree.norm(gradient),
            **proposal_health(report.w, report.v, *meta_train, axis=axis),
            **reconstruction_health(report.rebuilt, *meta_train, axis=axis),
        }
        return TrainState(state.step + 1, params._replace(p=new_p), states._replace(p=state_p)), metrics

    def fusion_step(state: TrainState, batch):
        params, states = state.params, state.optimizers
        images = as_luma(batch)
        untaught = state.step < warmup if warmup else False
        gradients, terms, (w, v, fused, rebuilt) = fusion_gradients(
            params, networks, images, loss, axis, untaught=untaught
        )
        new_f, state_f = descend(optimizers.f, gradients.f, states.f, params.f)
        new_r, state_r = descend(optimizers.r, gradients.r, states.r, params.r)
        metrics = {
            **mean_over(terms | {"fused_mean": jnp.mean(fused)}, axis),
            "grad_norm_f": optax.tree.norm(gradients.f),
            "grad_norm_r": optax.tree.norm(gradients.r),
            **proposal_health(w, v, *images, axis=axis),
            **reconstruction_health(rebuilt, *images, axis=axis),
        }
        params, states = params._replace(f=new_f, r=new_r), states._replace(f=state_f, r=state_r)
        return TrainState(state.step + 1, params, states), metrics

    return meta_step, fusion_step


def chosen_steps(name: str = "") -> Callable:
    """`make_steps`, or the function that the setting train.steps names in its place."""
    return import_function(name, "train.steps") if name else make_steps


def several(step: Callable) -> Callable:
    """The same step over a block of batches, one after the other in one program (lax.scan).

    block(state, *batches) with one more axis in front of every batch's arrays, (K,B,H,W,1) -> (state, metrics of (K,)).
    """

    def block(state: TrainState, *batches):
        return jax.lax.scan(lambda state, batch: step(state, *batch), state, batches)

    return block
