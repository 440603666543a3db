"""The losses as written in the paper: the Sobel operator, the fusion loss (Eq. 1-3), the reconstruction loss (Eq. 4-6).

Images are (B,H,W,1) luma in [0,1]. Every function is differentiable to second order with finite values on flat images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp

from refusion_jax.settings import import_function, setting

SOBEL_FORMS = ("l1", "magnitude", "components")


@dataclass(frozen=True)
class LossSettings:
    """Eq. 1-6. A further term of a loss has its weight here and its value in the function of that loss; nothing else
    needs to know of it."""

    alpha1: float = setting(1.0, least=0)  # weight of the gradient term in L_f (Eq. 1)
    alpha2: float = setting(1.0, least=0)  # weight of the gradient term in L_r (Eq. 4)
    # l1 |gx|+|gy|, magnitude sqrt(gx^2+gy^2), or components (gx, gy)
    sobel_form: str = setting("l1", choices=SOBEL_FORMS)
    # The least intensity weight of a source; above 0, w cannot collapse onto one of them.
    w_floor: float = setting(0.0, least=0, below=0.5)
    proposal_form: str = setting("", choices=("", *SOBEL_FORMS))  # form of the gradients that P sees; "" = sobel_form
    sobel_scale: float = setting(1.0, above=0)  # factor on the Sobel kernel: the balance of gradient and intensity
    reconstruction: str = ""  # L_r, package.module:function, called as `reconstruction_loss`; "" = that


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Square root of x >= 0 whose derivatives are 0, not infinite, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def sobel(image: jax.Array, form: str = "l1", scale: float = 1.0) -> jax.Array:
    """The gradient operator of Eq. 3 and 6: Sobel with an edge-replicated border.

    image: (B,H,W,1). form: "l1" |gx|+|gy| -> (B,H,W,1); "magnitude" sqrt(gx^2+gy^2) -> (B,H,W,1);
    "components" (gx, gy), signed -> (B,H,W,2). The plain kernel has entries up to 2, so that |gx|+|gy| of an image in
    [0,1] reaches 8; `scale` multiplies it (1/8 gives a gradient in [0,1] and sets the balance against intensity).
    """
    if form not in SOBEL_FORMS:
        raise ValueError(f"Sobel form must be one of {', '.join(SOBEL_FORMS)}, got {form!r}")
    x = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge") * scale
    smooth_y = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    smooth_x = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    gx = smooth_y[:, :, 2:] - smooth_y[:, :, :-2]
    gy = smooth_x[:, 2:] - smooth_x[:, :-2]
    if form == "components":
        return jnp.concatenate([gx, gy], -1)
    if form == "magnitude":
        return safe_sqrt(gx * gx + gy * gy)
    return jnp.abs(gx) + jnp.abs(gy)


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Per-pixel squared difference, summed over channels: (B,H,W,C) twice -> (B,H,W)."""
    return jnp.sum((x - y) ** 2, -1)


def fusion_loss(fused, a, b, w, v, loss: LossSettings = LossSettings()):
    """L_f (Eq. 1-3): weighted squared distance of the fused image to both sources, in intensity and in gradient.

    fused, a, b: (B,H,W,1); w, v: (B,H,W,2), weights of source a and of source b. Returns the scalar L_f and the
    dict of its terms {"fusion", "fusion_intensity", "fusion_gradient"}; means over all pixels of the batch.
    """
    chex.assert_rank(fused, 4)
    chex.assert_equal_shape([fused, a, b])
    chex.assert_shape([w, v], (*fused.shape[:3], 2))
    grad_fused, grad_a, grad_b = (sobel(x, loss.sobel_form, loss.sobel_scale) for x in (fused, a, b))
    intensity = jnp.mean(w[..., 0] * squared_error(a, fused) + w[..., 1] * squared_error(b, fused))
    edges = jnp.mean(v[..., 0] * squared_error(grad_a, grad_fused) + v[..., 1] * squared_error(grad_b, grad_fused))
    return weighted_sum("fusion", intensity=(1.0, intensity), gradient=(loss.alpha1, edges))


def reconstruction_loss(rebuilt_a, rebuilt_b, a, b, loss: LossSettings = LossSettings()):
    """L_r (Eq. 4-6): per pixel the larger of the two sources' squared errors, in intensity and in gradient.

    All images (B,H,W,1). Returns the scalar L_r and the dict of its terms {"reconstruction",
    "reconstruction_intensity", "reconstruction_gradient"}; means over all pixels of the batch.
    """
    chex.assert_rank(a, 4)
    chex.assert_equal_shape([rebuilt_a, rebuilt_b, a, b])
    gradients = [sobel(x, loss.sobel_form, loss.sobel_scale) for x in (a, rebuilt_a, b, rebuilt_b)]
    intensity = jnp.mean(jnp.maximum(squared_error(a, rebuilt_a), squared_error(b, rebuilt_b)))
    edges = jnp.mean(jnp.maximum(squared_error(*gradients[:2]), squared_error(*gradients[2:])))
    return weighted_sum("reconstruction", intensity=(1.0, intensity), gradient=(loss.alpha2, edges))


def chosen_reconstruction_loss(loss: LossSettings) -> Callable:
    """The function that is L_r: `reconstruction_loss`, or the one that the settings name."""
    return import_function(loss.reconstruction, "loss.reconstruction") if loss.reconstruction else reconstruction_loss


def weighted_sum(name: str, **terms: tuple[float, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The sum of weight * value over the terms, TERM=(weight, value), and {name: sum, "name_TERM": value}.

    What is in this dict is recorded at every step, so that a term added to a loss shows in the records by itself.
    """
    total = jnp.asarray(sum(weight * value for weight, value in terms.values()))
    return total, {name: total} | {f"{name}_{term}": value for term, (_, value) in terms.items()}
