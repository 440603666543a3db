"""Parameter trees: by the networks' names, as flat named tensors, counted, and checked against an architecture."""

from typing import Any

import jax
import numpy as np
from flax import traverse_util

from refusion_jax.errors import InputError
from refusion_jax.models.build import NAMES, Params


def by_name(params: Params) -> dict[str, Any]:
    """{"F": tree} and, where there are such, "R" and "P": the names in files and messages."""
    return {name: tree for name, tree in zip(NAMES, params, strict=True) if tree is not None}


def from_names(trees: dict[str, Any]) -> Params:
    """The inverse of by_name. InputError for another network's name, and without F."""
    for name in trees:
        if name not in NAMES:
            raise InputError(f"unknown network {name!r}; expected {', '.join(NAMES)}")
    if "F" not in trees:
        raise InputError(f"expected the parameters of F, got {', '.join(trees) or 'none'}")
    return Params(*(trees.get(name) for name in NAMES))


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Nested dict of arrays -> {"encoder1/0/...": array}."""
    return {k: np.asarray(x) for k, x in traverse_util.flatten_dict(tree, sep="/").items()}


def unflatten(flat: dict[str, Any]) -> Any:
    """The inverse of flatten. InputError when one name is a parameter and the beginning of others as well."""
    for name in flat:
        parts = name.split("/")
        for i in range(1, len(parts)):
            if (above := "/".join(parts[:i])) in flat:
                raise InputError(f"both {above!r} and {name!r} are parameters; expected one of them")
    return traverse_util.unflatten_dict(flat, sep="/")


def count(tree: Any) -> int:
    """Number of scalars in a tree."""
    return sum(x.size for x in jax.tree.leaves(tree))


def _few(names) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_architecture(expected: Any, found: dict[str, np.ndarray], origin: str) -> None:
    """InputError listing missing, extra and mis-shaped parameters of `found` (flat) against `expected` (a tree)."""
    flat: dict[str, Any] = dict(traverse_util.flatten_dict(expected, sep="/"))
    shapes = {k: tuple(x.shape) for k, x in flat.items()}
    problems = []
    if missing := shapes.keys() - found.keys():
        problems.append(f"missing {_few(missing)}")
    if extra := found.keys() - shapes.keys():
        problems.append(f"extra {_few(extra)}")
    odd = [
        f"{k} {tuple(found[k].shape)} instead of {shapes[k]}"
        for k in shapes.keys() & found.keys()
        if tuple(found[k].shape) != shapes[k]
    ]
    if odd:
        problems.append(f"mis-shaped {_few(odd)}")
    if problems:
        raise InputError(
            f"{origin}: a checkpoint of another architecture ({'; '.join(problems)}); "
            "use the code or the configuration it was made with"
        )
    bad = [k for k, x in found.items() if not np.all(np.isfinite(x))]
    if bad:
        raise InputError(f"{origin}: parameters must be finite, but {_few(bad)} hold NaN or infinity")
