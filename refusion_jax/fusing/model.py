"""Fusing: load any kind of checkpoint, then fuse pairs of NumPy images, grey or colour (paper, Section 4.1, Eq. 15).

Images of any size: F runs tile by tile (tiles.py), colour goes by rows.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from refusion_jax.config import TASKS, Config, check, override, to_dict
from refusion_jax.data.pairs import darker_first
from refusion_jax.errors import InputError
from refusion_jax.fusing.tiles import TILE_BYTES, make_fuse, workers
from refusion_jax.imaging.color import finished_picture, unit_luma
from refusion_jax.imaging.pixels import check_one_size
from refusion_jax.imaging.ranges import to_range
from refusion_jax.method.meta import LossSettings, linen_networks, propose_weights
from refusion_jax.models import build as networks
from refusion_jax.runtime.compiling import jit
from refusion_jax.runtime.memory import available_bytes
from refusion_jax.weights.pretrained import find_checkpoint
from refusion_jax.weights.released import read_released
from refusion_jax.weights.safetensors_file import read_safetensors
from refusion_jax.weights.trees import by_name, check_architecture, flatten


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """The image as an array; InputError unless it is uint8, uint16 or float in [0,1], (H,W) or (H,W,3)."""
    image = np.asarray(image)
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise InputError(f"{name} must be (H,W) or (H,W,3), got shape {image.shape}")
    if image.dtype in (np.uint8, np.uint16):
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{name} must be uint8, uint16 or float in [0,1], got {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise InputError(f"{name} must lie in [0,1] when it is float, got values from {low:g} to {high:g}")
    return image


def default_max_memory() -> int:
    """Bytes that a fusion may take when nothing is said: half of what the machine has to spare, 3 GiB at most."""
    return min(3 * 2**30, available_bytes() // 2)


PROCESS_BYTES = 600 * 2**20  # of Python, JAX and the compiled passes


@dataclass(frozen=True)
class Model:
    """A trained network, ready to fuse.

    params: {"F": tree} and, where the checkpoint has them, "R" and "P". task: one of ivif, mif, mfif, meie, or None
    when unknown. info: what is known of the origin (task, model size, loss settings, step).
    max_memory: bytes the process may take while fusing, about; None: half of the machine's free memory, 3 GiB at most.
    What is kept between passes (about 150 bytes a pixel) and does not fit goes to a temporary file.
    """

    params: dict[str, Any]
    task: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    loss: LossSettings = LossSettings()
    size: dict[str, Any] = field(default_factory=dict)
    max_memory: int | None = None
    _functions: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        modules = networks.build(**self.size)
        nets = linen_networks(*modules)
        self._functions["fuse"] = make_fuse(modules[0])
        self._functions["rebuild"] = jit(nets.reconstruct)
        self._functions["propose"] = jit(lambda p, a, b: propose_weights(p, nets, (a, b), self.loss))

    def _sources(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Luma of both, (H,W) float32 in [0,1], in the trained order, and whether that is (b, a)."""
        a, b = _checked(a, "the first image"), _checked(b, "the second image")
        check_one_size((a, b))
        a, b = unit_luma(a), unit_luma(b)
        first, second = darker_first(a, b) if self.task == "meie" else (a, b)
        return first, second, first is not a

    def network_output(self, a: np.ndarray, b: np.ndarray, progress: Callable | None = None) -> np.ndarray:
        """F's raw output on a pair, (H,W) float32 in (0,1). Images and progress as for `fuse`."""
        first, second, _ = self._sources(a, b)
        return self._run_f(first, second, progress)

    def _run_f(self, first: np.ndarray, second: np.ndarray, progress: Callable | None) -> np.ndarray:
        """F's raw output on two lumas in the trained order, within the limit on memory."""
        limit = default_max_memory() if self.max_memory is None else self.max_memory
        # Sources and results: up to 3 bytes a pixel each as they come, 4 of luma.
        taken = PROCESS_BYTES + workers() * TILE_BYTES + first.size * (3 * 3 + 3 * 4)
        room = max(limit - taken, 0)
        return self._functions["fuse"](self.params["F"], first, second, room=room, progress=progress)

    def fuse_luma(
        self,
        a: np.ndarray,
        b: np.ndarray,
        range: str = "sources",  # noqa: A002
        progress: Callable | None = None,
    ) -> np.ndarray:
        """The fused luma, (H,W) float32 in [0,1], not rounded. Arguments as for `fuse`."""
        first, second, _ = self._sources(a, b)
        return to_range(self._run_f(first, second, progress), (first, second), range)

    def fuse(
        self,
        a: np.ndarray,
        b: np.ndarray,
        range: str = "sources",  # noqa: A002
        gray: bool = False,
        progress: Callable | None = None,
    ) -> np.ndarray:
        """One picture with the information of both.

        a, b: (H,W) or (H,W,3), uint8, uint16 or float in [0,1], of one size, in the trained order: infrared, visible;
        functional or CT, MRI; near, far; for meie in any order, the darker is taken as the first.
        range: "sources", "minmax" (the paper's tables) or "clip", see `imaging.ranges.to_range`. gray: the fused luma
        alone, without colour. progress(done, total): called as the work goes on.
        Returns (H,W,3), or (H,W) when gray or when both sources are grey; uint8 when both sources are uint8, uint16
        when both are integers and one is uint16, else float32 in [0,1].
        Raises InputError on other shapes, types, ranges or on two sizes.
        """
        luma = self.fuse_luma(a, b, range, progress)
        return finished_picture(luma, (np.asarray(a), np.asarray(b)), gray)

    def maps(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P's weights for a pair: w and v, (H,W,2) float32, of source a and source b in the order given."""
        if "P" not in self.params:
            raise InputError("this checkpoint has no loss proposal network, so there are no w and v maps to show")
        first, second, swapped = self._sources(a, b)
        inputs = (x[None, :, :, None] for x in (first, second))
        w, v = (np.asarray(x)[0] for x in self._functions["propose"](self.params["P"], *inputs))
        if swapped:
            w, v = w[..., ::-1], v[..., ::-1]
        return w, v

    def reconstruct(self, fused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R's rebuilt sources, two (H,W) float32 in (0,1), from a raw network output (H,W) in [0,1]."""
        if "R" not in self.params:
            raise InputError("this checkpoint has no source reconstruction network")
        rebuilt = self._functions["rebuild"](self.params["R"], jnp.asarray(fused, jnp.float32)[None, :, :, None])
        return tuple(np.asarray(x)[0, :, :, 0] for x in rebuilt)


def from_trees(trees: dict[str, Any], info: dict[str, Any], origin: str) -> Model:
    """A Model from parameter trees and the info stored with them; the architecture is checked."""
    task, size, loss = _stored_settings(info, origin)
    if "F" not in trees:
        raise InputError(f"{origin}: expected the parameters of F, got {', '.join(trees) or 'none'}")
    # Each block has several parameters: without this, a hostile number of blocks would be built one by one.
    if size["blocks"] > (found := len(flatten(trees["F"]))):
        raise InputError(f"{origin}: cannot have {size['blocks']} blocks a stage in the {found} parameters of F")
    try:
        expected = _expected_shapes(**size, channels=networks.gradient_channels(loss.sobel_form, loss.proposal_form))
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{origin}: cannot build networks of the stored size {size}: {reason}") from None
    for name in trees:
        if name not in expected:
            raise InputError(f"{origin}: unknown network {name!r}; expected F, R and P")
        check_architecture(expected[name], flatten(trees[name]), f"{origin}, network {name}")
    return Model(trees, task, info, loss, size)


@functools.lru_cache(maxsize=4)
def _expected_shapes(channels: int, **size: int | bool) -> dict[str, Any]:
    """networks.expected_shapes of a size. Tracing the networks takes longer than reading their parameters."""
    return networks.expected_shapes(networks.build(**size), channels)


def _stored_settings(info: dict[str, Any], origin: str) -> tuple[str | None, dict[str, Any], LossSettings]:
    """(task, model size, loss settings) of a checkpoint's info, the defaults for what it does not tell."""
    task = info.get("task")
    if task is not None and task not in TASKS:
        raise InputError(f"{origin}: cannot be used: its task must be one of {', '.join(TASKS)}, got {task!r}")
    flat = {}
    try:
        for section in ("model", "loss"):
            values = info.get(section, {})
            if not isinstance(values, dict):
                raise InputError(f"{section} must be a table, got {values!r}")
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        stored = override(Config(), flat, "its settings")
        check(stored)
    except InputError as error:
        raise InputError(f"{origin}: cannot be used: {error}") from None
    settings = to_dict(stored)
    return task, settings["model"], LossSettings(**settings["loss"])


def load(checkpoint: str | Path) -> Model:
    """A model from a task's name (the weights that come with the package), a run directory (its newest checkpoint), a
    checkpoint folder inside one, a .safetensors file, or one of the released .pth files (F alone). Raises InputError
    when it is none of these or of another architecture."""
    path = find_checkpoint(checkpoint)
    if path.is_dir():
        from refusion_jax.weights import orbax_folder  # Orbax takes over a second to import; files do not need it

        folder = path if orbax_folder.is_checkpoint(path) else orbax_folder.newest(path)
        if folder is None:
            raise InputError(
                f"{path}: expected a run directory with checkpoints/, or one checkpoint inside it; "
                "there is no complete checkpoint here"
            )
        params, info = orbax_folder.read_params(folder)
        trees = dict(zip(networks.NAMES, params, strict=True))
        try:
            kept = {key: info["config"][key] for key in ("task", "preset", "model", "loss")} | {"step": info["step"]}
        except (KeyError, TypeError):
            raise InputError(f"{folder}: expected the run's configuration in info/; use another checkpoint") from None
        return from_trees(trees, kept, str(folder))
    if not path.exists():
        raise InputError(
            f"{path}: no such checkpoint; expected a run directory, a .safetensors or a .pth file, or a task's name "
            f"({', '.join(TASKS)}) for the weights that come with the package"
        )
    if path.suffix == ".safetensors":
        params, info = read_safetensors(path)
        return from_trees(by_name(params), info, str(path))
    if path.suffix == ".pth":
        params, info = read_released(path)
        return from_trees(by_name(params), info, str(path))
    kind = path.suffix or "plain"
    raise InputError(f"{path}: expected a run directory, a .safetensors or a .pth file, got a {kind} file")
