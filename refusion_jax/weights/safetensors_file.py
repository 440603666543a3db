"""Our own weights files: the parameters and what they belong to, as one .safetensors file."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from refusion_jax.errors import InputError
from refusion_jax.models.build import Params
from refusion_jax.runtime.writing import write_bytes
from refusion_jax.weights.trees import by_name, flatten, from_names, unflatten

FORMAT = "refusion_jax 1"
HEADER = "refusion_jax"  # the file's one entry of metadata: of several, safetensors writes a random order


def write_safetensors(path: Path, params: Params, info: dict[str, Any]) -> None:
    """Parameters and info (JSON-able: task, model, loss, step) as one .safetensors file, atomically.

    The same parameters and info give the same bytes.
    """
    flat = {f"{net}/{k}": x for net, tree in by_name(params).items() for k, x in flatten(tree).items()}
    flat = {k: np.asarray(x, order="C") for k, x in flat.items()}  # ascontiguousarray would give scalars an axis
    header = json.dumps({"format": FORMAT, "info": info}, sort_keys=True)
    write_bytes(path, safetensors.numpy.save(flat, {HEADER: header}))


def read_safetensors(path: Path) -> tuple[Params, dict[str, Any]]:
    """(parameters, float32, and info) of a file made by write_safetensors.

    Raises InputError for any other file, and where the parameters are no floating-point numbers.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            flat = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no mapping)
        header = json.loads(metadata.get(HEADER, "{}"))
    except Exception as error:  # SafetensorError, but also what NumPy or JSON make of hostile content
        raise InputError(f"{path}: not a readable .safetensors file: {' '.join(str(error).split())}") from None
    found = header.get("format") if isinstance(header, dict) else header
    if found != FORMAT:
        raise InputError(f"{path}: expected weights of the format {FORMAT!r}, got {found!r}")
    if not isinstance(info := header.get("info"), dict):
        raise InputError(f"{path}: expected a table as the file's info, got {type(info).__name__}")
    trees: dict[str, dict] = {}
    for key, x in flat.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(f"{path}: expected floating-point parameters, but {key} is {x.dtype}")
        net, _, name = key.partition("/")
        if not name:
            raise InputError(f"{path}: expected parameters named as F/..., got {key!r}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is found by the check of values
            trees.setdefault(net, {})[name] = x.astype(np.float32)
    try:
        return from_names({net: unflatten(tree) for net, tree in trees.items()}), info
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
