"""Weights of any kind as parameters: run directories, the package's own files, the released ones."""

from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError
from refusion_jax.models.build import Params
from refusion_jax.tasks import TASKS
from refusion_jax.weights.released import read_released
from refusion_jax.weights.safetensors_file import read_safetensors


def read_weights(path: Path) -> tuple[Params, dict[str, Any]]:
    """(parameters as NumPy arrays, info) of a run directory (its newest checkpoint), a checkpoint folder inside one, a
    .safetensors file or a released .pth file (F alone).

    info, as far as it is known: task, preset, model and loss (tables of settings), step, and of a training all other
    settings (config, without the folder of the pairs) and the hash of its lists of pairs (data_sha256). Raises
    InputError when the path is none of these or cannot be read; whether the parameters fit is not looked at.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise InputError(
            f"{path}: no such checkpoint; expected a run directory, a .safetensors or a .pth file, or a task's name "
            f"({', '.join(TASKS)}) for the weights that come with the package"
        )
    if path.suffix in (".onnx", ".stablehlo"):
        raise InputError(
            f"{path}: an exported file is for other programs, such as ONNX Runtime or a browser, and is not read back; "
            "give the run, the .safetensors or the .pth file that it was made from"
        )
    readers = {".safetensors": read_safetensors, ".pth": read_released}
    if path.suffix not in readers:
        kind = path.suffix or "plain"
        raise InputError(f"{path}: expected a run directory, a .safetensors or a .pth file, got a {kind} file")
    return readers[path.suffix](path)


def _read_folder(path: Path) -> tuple[Params, dict[str, Any]]:
    from refusion_jax.weights import orbax_folder  # Orbax takes over a second to import; files do not need it

    folder = path if orbax_folder.is_checkpoint(path) else orbax_folder.newest(path)
    if folder is None:
        raise InputError(
            f"{path}: expected a run directory with checkpoints/, or one checkpoint inside it; "
            "there is no complete checkpoint here"
        )
    params, info = orbax_folder.read_params(folder)
    try:
        kept = {key: info["config"][key] for key in ("task", "preset", "model", "loss")}
        settings = {key: value for key, value in info["config"].items() if key not in kept}
        data = {key: value for key, value in settings["data"].items() if key != "dir"}
        return params, kept | {
            "step": info["step"],
            "config": settings | {"data": data},
            "data_sha256": info.get("data_sha256", ""),
        }
    except (KeyError, TypeError):
        raise InputError(f"{folder}: expected the run's configuration in info/; use another checkpoint") from None
