"""Table 5, III: no fusion and reconstruction update; the inner updates (Eq. 7 and 8) stay in F and R. As `train.steps`.

Fusion steps are left out. F and R then learn by the inner optimiser alone, in the paper plain gradient descent.
"""

from refusion_jax.method import meta, steps


def make_steps(networks, loss, optimizers, inner, *, axis=None, **options):
    """As method/steps.make_steps, with a meta step after which F and R are F' and R'."""
    meta_step, fusion_step = steps.make_steps(networks, loss, optimizers, inner, axis=axis, **options)

    def keeping_step(state, train, test):
        updated, _ = meta.inner_update(
            state.params,
            networks,
            steps.as_luma(train),
            loss,
            *map(inner.optimizer, inner.etas(state.step)),
            steps=inner.steps,
            axis=axis,
        )
        after, metrics = meta_step(state, train, test)
        return after._replace(params=after.params._replace(f=updated.f, r=updated.r)), metrics

    return keeping_step, fusion_step
