"""Table 5, II: no meta-learning; one loss, L_f + L_r, trains F and R together. As `train.steps`.

L_f has the weights of row I (equal_weights.py), so that there is no P to train, and meta steps are left out.
"""

import jax
import optax

from refusion_jax.method import meta, steps


def make_steps(networks, loss, optimizers, inner, *, axis=None, **options):
    """As method/steps.make_steps, with a fusion step in which L_r reaches F too."""
    meta_step, _ = steps.make_steps(networks, loss, optimizers, inner, axis=axis, **options)

    def joint_step(state, batch):
        images = steps.as_luma(batch)
        w, v = meta.propose_weights(state.params.p, networks, images, loss)

        def objective(both):
            l_f, (fused, terms_f) = meta.fusion_objective(both["f"], networks, images, w, v, loss)
            l_r, (_, terms_r) = meta.reconstruction_objective(both["r"], networks, fused, images, loss)
            return l_f + l_r, terms_f | terms_r

        params = {"f": state.params.f, "r": state.params.r}
        gradients, terms = jax.grad(objective, has_aux=True)(params)
        gradients, terms = meta.mean_over((gradients, terms), axis)
        moved = {
            name: meta.descend(getattr(optimizers, name), gradients[name], getattr(state.optimizers, name), tree)
            for name, tree in params.items()
        }
        norms = {f"grad_norm_{name}": optax.tree.norm(gradient) for name, gradient in gradients.items()}
        params = state.params._replace(**{name: tree for name, (tree, _) in moved.items()})
        states = state.optimizers._replace(**{name: kept for name, (_, kept) in moved.items()})
        return steps.TrainState(state.step + 1, params, states), terms | norms

    return meta_step, joint_step
