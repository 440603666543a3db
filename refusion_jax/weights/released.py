"""The released weights of F (.pth files) under our parameter names."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.models.build import Params
from refusion_jax.tasks import TASK_ALIASES, TASKS
from refusion_jax.weights.torch_file import read_state_dict
from refusion_jax.weights.trees import unflatten


def _released_names() -> dict[str, str]:
    """Released parameter name -> ours, for F at the published size."""
    names = {
        "project_in_1.weight": "project_in_1/kernel",
        "project_in_2.weight": "project_in_2/kernel",
        "project_out_0.weight": "project_out_0/kernel",
        "project_out_1.weight": "project_out_1/kernel",
        "FM.project_E.weight": "fusion/gate/pointwise",
        "FM.project_E_d.weight": "fusion/gate/depthwise",
    }
    for s in "12":
        names |= {
            f"FM.qkv{s}.weight": f"fusion/qkv{s}/pointwise",
            f"FM.qkv{s}_dwconv.weight": f"fusion/qkv{s}/depthwise",
            f"FM.temperature{s}": f"fusion/attention{s}/temperature",
            f"FM.project_mid{s}.weight": f"fusion/attention{s}/project_out",
            f"FM.project_E{s}.weight": f"fusion/value{s}/pointwise",
            f"FM.project_E{s}_d.weight": f"fusion/value{s}/depthwise",
            f"FM.project_out{s}.weight": f"fusion/project_out{s}/kernel",
        }
    for stage in ("encoder1", "encoder2", "decoder"):
        for i in "01":
            theirs, ours = f"{stage}.{i}", f"{stage}/{i}"
            for n in "12":
                names[f"{theirs}.norm{n}.body.weight"] = f"{ours}/norm{n}/scale"
                names[f"{theirs}.norm{n}.body.bias"] = f"{ours}/norm{n}/bias"
            names |= {
                f"{theirs}.attn.qkv.weight": f"{ours}/self_attention/qkv/pointwise",
                f"{theirs}.attn.qkv_dwconv.weight": f"{ours}/self_attention/qkv/depthwise",
                f"{theirs}.attn.temperature": f"{ours}/self_attention/attention/temperature",
                f"{theirs}.attn.project_out.weight": f"{ours}/self_attention/attention/project_out",
                f"{theirs}.ffn.project_in.weight": f"{ours}/feed_forward/project_in/pointwise",
                f"{theirs}.ffn.dwconv.weight": f"{ours}/feed_forward/project_in/depthwise",
                f"{theirs}.ffn.project_out.weight": f"{ours}/feed_forward/project_out/kernel",
            }
    return names


def from_released(state: dict[str, np.ndarray], origin: str = "state dict") -> Any:
    """F's parameter tree from a released state dict ({name: array}, as torch_file.read_state_dict gives it).

    Kernels turn from (out, in, kh, kw) to (kh, kw, in, out), 1x1 kernels to (in, out), temperatures to (heads,).
    """
    state = without_copies(state)
    names = _released_names()
    wrong = [f"missing {k}" for k in names if k not in state] + [f"extra {k}" for k in state if k not in names]
    if wrong:
        few = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise InputError(f"{origin}: expected the parameters of the released ReFusion network, but {few}")
    flat = {}
    for theirs, ours in names.items():
        x = np.asarray(state[theirs], np.float32)
        if x.ndim == 4:
            x = x.transpose(2, 3, 1, 0)
            x = x[0, 0] if x.shape[:2] == (1, 1) else x
        flat[ours] = np.ascontiguousarray(x.reshape(-1) if ours.endswith("temperature") else x)
    return unflatten(flat)


def without_copies(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict without `X.conv.weight` beside `X.weight`: the released files name most tensors twice.

    Order and all other names are kept. InputError if the two differ.
    """
    kept = {}
    for name, x in state.items():
        owner, _, last = name.rpartition(".")
        short = f"{owner.removesuffix('.conv')}.{last}"
        if short == name or short not in state:
            kept[name] = x
        elif state[short].dtype != x.dtype or not np.array_equal(state[short], x, equal_nan=True):
            raise InputError(f"expected {short!r} and {name!r} to be one tensor under two names, but they differ")
    return kept


def task_of_name(path: Path) -> str | None:
    """The task that a released file's name tells (ReFusion_MEIF.pth: meie); None without one."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((task for w in words if (task := TASK_ALIASES.get(w, w)) in TASKS), None)


def read_released(path: Path) -> tuple[Params, dict[str, Any]]:
    """(parameters: F alone; info: task, name of the file) of a released .pth file, read without PyTorch.

    Raises InputError for any other file; nothing but tensors is admitted.
    """
    params = Params(from_released(read_state_dict(path), str(path)))
    return params, {"task": task_of_name(path), "released": path.name}
