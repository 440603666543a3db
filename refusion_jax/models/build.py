"""The three networks together: their settings, their parameters as one `Params`, and how they are built.

Each network may be a class of one's own, named in the settings as "package.module:Class": a Flax Linen module that is
called as ours is (`Networks`), keeps all it learns in parameters, and has a default for each of its fields other than
the size (`build`).
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from refusion_jax.errors import InputError
from refusion_jax.models.blocks import draw
from refusion_jax.models.fusion import FusionNet
from refusion_jax.models.proposal import ProposalNet
from refusion_jax.models.reconstruction import ReconstructionNet
from refusion_jax.runtime.compiling import no_collection, run_once
from refusion_jax.settings import import_named, one_line, setting

NAMES = ("F", "R", "P")
SIZE = ("width", "heads", "blocks", "expansion", "symmetric")  # what a class is constructed with, if it declares it
OURS: dict[str, type[nn.Module]] = {"fusion": FusionNet, "reconstruction": ReconstructionNet, "proposal": ProposalNet}
SETTINGS: dict[str, str] = dict(zip(NAMES, OURS, strict=True))  # the setting that names the class of F, R and P


class Params(NamedTuple):
    """The parameter trees of F, R and P. Released weights have F alone: r and p are then None."""

    f: Any
    r: Any = None
    p: Any = None


def halves(a, b, gradient_a, gradient_b) -> tuple[jax.Array, jax.Array]:
    """w = v = 1/2, (B,H,W,2) each."""
    half = jnp.full((*a.shape[:3], 2), 0.5, jnp.promote_types(a.dtype, jnp.float32))
    return half, half


class Networks(NamedTuple):
    """The three networks as functions of their parameters (for Linen modules: `module.apply` on {"params": ...})."""

    fuse: Callable  # (params_f, a, b) -> fused (B,H,W,1)
    reconstruct: Callable  # (params_r, fused) -> (a_hat, b_hat)
    propose: Callable  # (params_p, a, b, gradient_a, gradient_b) -> (w, v), each (B,H,W,2)
    begin: Callable = halves  # (a, b, gradient_a, gradient_b) -> the w and v that P begins at


@dataclass(frozen=True)
class ModelSettings:
    """The size of F, R and P alike, P's form, and their classes where they are not ours."""

    width: int = setting(16, least=1)  # channels
    heads: int = setting(8, least=1)  # attention heads; must divide width
    blocks: int = setting(2, least=1)  # transformer blocks a stage
    expansion: int = setting(2, least=1)  # feed-forward expansion
    symmetric: bool = False  # P treats both sources alike: exchanging them exchanges their weights
    fusion: str = ""  # F's class, package.module:Class of a Flax module; "" = ours
    reconstruction: str = ""  # R's class
    proposal: str = ""  # P's class


def build(**settings) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The modules (F, R, P) by the fields of ModelSettings.

    A class is given those of width, heads, blocks, expansion and symmetric that it declares as fields, and no other
    arguments. Raises InputError where one cannot be imported or constructed.
    """
    chosen = ModelSettings(**settings)
    fusion, reconstruction, proposal = (_construct(chosen, setting) for setting in OURS)
    return fusion, reconstruction, proposal


def _construct(settings: ModelSettings, setting: str) -> nn.Module:
    """The module of one network, "fusion", "reconstruction" or "proposal"."""
    name = getattr(settings, setting)
    found = import_class(name, setting) if name else OURS[setting]
    declared = {field.name for field in dataclasses.fields(found)}
    try:
        module = found(**{field: getattr(settings, field) for field in SIZE if field in declared})
        hash(module)  # as jax.jit and the caches here need it
        return module
    except TypeError as error:
        reason = f"{one_line(error)}; fields other than {', '.join(SIZE)} need defaults"
        raise InputError(f"model.{setting}: cannot construct {name}: {reason}") from None


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

    return Networks(of(fusion), of(reconstruction), of(proposal), getattr(proposal, "begin", halves))


def import_class(name: str, setting: str) -> type[nn.Module]:
    """The Linen module class called "package.module:Class". Modules in the current folder are found as well."""
    found = import_named(name, f"model.{setting}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"model.{setting}: {name} must be a class derived from flax.linen.Module")
    return found


def init_params(modules, key: jax.Array, gradient_channels: int = 1) -> Params:
    """Fresh parameters of the modules (F, R, P) from one key, for use outside jax.jit.

    Ours are drawn by NumPy (blocks.draw), those of other classes by the module's own initialisers.
    """
    parts = zip(modules, _inputs(gradient_channels), strict=True)
    return Params(*(_drawn(key, i, *part) for i, part in enumerate(parts)))


def _drawn(key: jax.Array, number: int, module: nn.Module, images: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    """Fresh parameters of the network of this number."""
    if type(module) not in OURS.values():

        def initial(key):
            return module.init(key, *(jnp.zeros(x.shape, x.dtype) for x in images)).get("params", {})

        return run_once(initial, jax.random.fold_in(key, number))
    shapes = _checked_shapes(NAMES[number], module, images)
    rng = np.random.default_rng([number, *np.asarray(jax.random.key_data(key))])
    return jax.tree_util.tree_map_with_path(lambda path, x: jnp.asarray(draw(path[-1].key, x.shape, rng)), shapes)


def expected_shapes(modules, gradient_channels: int = 1, networks: tuple[str, ...] = NAMES) -> Params:
    """The trees of jax.ShapeDtypeStruct that the modules (F, R, P) expect; None for those not in `networks`.

    Nothing is computed. Raises InputError where a module cannot be called, gives other shapes than it should, or has
    state besides its parameters (of which there may be none).
    """
    parts = zip(SETTINGS, modules, _inputs(gradient_channels), strict=True)
    return Params(*(_checked_shapes(*part) if part[0] in networks else None for part in parts))


def _inputs(gradient_channels: int) -> tuple[tuple[jax.ShapeDtypeStruct, ...], ...]:
    """What F, R and P are called with; sides that networks which halve their maps divide without a rest."""
    image = jax.ShapeDtypeStruct((1, 16, 32, 1), jnp.float32)
    gradient = jax.ShapeDtypeStruct((1, 16, 32, gradient_channels), jnp.float32)
    return (image, image), (image,), (image, image, gradient, gradient)


@functools.lru_cache(maxsize=24)  # tracing a network takes longer than reading its parameters
def _checked_shapes(name: str, module: nn.Module, images: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    """The shapes of one network's parameters, after a look at what it gives."""
    origin = f"model.{SETTINGS[name]} {type(module).__name__}"
    shape = images[0].shape[:3]
    wanted: dict[str, Any] = {"F": (*shape, 1), "R": ((*shape, 1),) * 2, "P": ((*shape, 2),) * 2}
    try:
        with no_collection():
            found, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), *images)
    except Exception as error:  # whatever a module does
        raise InputError(f"cannot build {name} ({origin}): {one_line(error)}") from None
    given = tuple(x.shape for x in found) if isinstance(found, tuple | list) else getattr(found, "shape", found)
    if given != wanted[name]:
        raise InputError(
            f"{origin} must give {name}'s {wanted[name]} for images of shape {images[0].shape}, got {given}"
        )
    if state := set(variables) - {"params"}:
        raise InputError(f"{origin} must keep all it has in parameters, got {', '.join(sorted(state))}")
    return variables.get("params", {})


def check_own(settings: ModelSettings, gradient_channels: int) -> None:
    """InputError where a class of one's own cannot be used, see `build` and `expected_shapes`; ours are not checked."""
    own = tuple(name for name, setting in SETTINGS.items() if getattr(settings, setting))
    expected_shapes(build(**dataclasses.asdict(settings)), gradient_channels, own)


def gradient_channels(sobel_form: str, proposal_form: str = "") -> int:
    """Channels of the gradients that P sees: losses.sobel in `proposal_form`, or without one in `sobel_form`."""
    return 2 if (proposal_form or sobel_form) == "components" else 1
