"""Fusing: load any kind of checkpoint, then fuse pairs of NumPy images, grey or colour (paper, Section 4.1, Eq. 15)."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from refusion_jax import networks
from refusion_jax.compiling import jit
from refusion_jax.config import TASKS, Config, check, override, to_dict
from refusion_jax.data.pairs import darker_first
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import NEUTRAL, fuse_color_float, to_luma
from refusion_jax.meta import LossSettings, linen_networks, propose_weights
from refusion_jax.parameters import check_architecture, flatten
from refusion_jax.weights.released import read_released
from refusion_jax.weights.safetensors_file import read_safetensors

RANGES = ("minmax", "clip")
# Eq. 15's tau by name, for chroma stored with its neutral value at 128. "vivid" puts tau at neutral, so that the more
# colourful source wins; the released script's own pictures have it. "soft" is the reference outputs' reading of
# "tau = 128": chroma centred on 0.5, hence tau 127.5 above neutral and close to the mean of both sources' chroma.
CHROMA_TAU = {"soft": NEUTRAL + 127.5, "vivid": NEUTRAL}


def stretch(luma: np.ndarray, how: str = "minmax") -> np.ndarray:
    """F's output (any shape) brought to [0,1]: "minmax" stretches it to the full range, as the released pipeline and
    the paper's tables do; "clip" leaves the levels as they are. A constant image is clipped either way."""
    if how not in RANGES:
        raise InputError(f"range must be one of {', '.join(RANGES)}, got {how!r}")
    low, high = float(luma.min()), float(luma.max())
    if how == "clip" or high <= low:
        return np.clip(luma, 0, 1)
    return (luma - low) / (high - low)


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """The image on 0..255 (uint8, or float32 from floats in [0,1]); InputError for anything else."""
    image = np.asarray(image)
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise InputError(f"{name} must be (H,W) or (H,W,3), got shape {image.shape}")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{name} must be uint8 or float in [0,1], got {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise InputError(f"{name} must lie in [0,1] when it is float, got values from {low:g} to {high:g}")
    return image.astype(np.float32) * 255


@dataclass(frozen=True)
class Model:
    """A trained network, ready to fuse.

    params: {"F": tree} and, where the checkpoint has them, "R" and "P". task: one of ivif, mif, mfif, meie, or None
    when unknown. info: what is known of the origin (task, model size, loss settings, step).
    """

    params: dict[str, Any]
    task: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    loss: LossSettings = LossSettings()
    size: dict[str, int] = field(default_factory=dict)
    _functions: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        nets = linen_networks(*networks.build(**self.size))
        self._functions["fuse"] = jit(nets.fuse)
        self._functions["rebuild"] = jit(nets.reconstruct)
        self._functions["propose"] = jit(lambda p, a, b: propose_weights(p, nets, (a, b), self.loss))

    def _sources(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Luma of both, (1,H,W,1) float32 in [0,1], in the trained order, and whether that is (b, a)."""
        a, b = _checked(a, "the first image"), _checked(b, "the second image")
        if a.shape[:2] != b.shape[:2]:
            raise InputError(
                f"both images must have one size, got {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} "
                "pixels; resize or crop one of them"
            )
        a, b = to_luma(a), to_luma(b)
        first, second = darker_first(a, b) if self.task == "meie" else (a, b)
        return *(x[None, :, :, None] / np.float32(255) for x in (first, second)), first is not a

    def network_output(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """F's raw output on a pair, (H,W) float32 in (0,1). Images as for `fuse`."""
        a, b, _ = self._sources(a, b)
        return np.asarray(self._functions["fuse"](self.params["F"], a, b))[0, :, :, 0]

    def fuse_luma(self, a: np.ndarray, b: np.ndarray, range: str = "minmax") -> np.ndarray:  # noqa: A002
        """The fused luma, (H,W) float32 in [0,1], not rounded. Images as for `fuse`."""
        return stretch(self.network_output(a, b), range)

    def fuse(
        self, a: np.ndarray, b: np.ndarray, range: str = "minmax", gray: bool = False, chroma: str = "soft"  # noqa: A002
    ) -> np.ndarray:
        """One picture with the information of both.

        a, b: (H,W) or (H,W,3), uint8 or float in [0,1], of one size, in the trained order: infrared, visible;
        functional or CT, MRI; near, far; for meie in any order, the darker is taken as the first.
        range: "minmax" or "clip", see `stretch`. gray: the fused luma alone, without colour. chroma: "soft" (near the
        mean of both sources' chroma where both have colour) or "vivid" (the more colourful source wins), Eq. 15.
        Returns (H,W,3), or (H,W) when gray or when both sources are grey; uint8 when both sources are uint8, else
        float32 in [0,1]. Raises InputError on other shapes, types, ranges or on two sizes.
        """
        if chroma not in CHROMA_TAU:
            raise InputError(f"chroma must be one of {', '.join(CHROMA_TAU)}, got {chroma!r}")
        luma = self.fuse_luma(a, b, range) * np.float32(255)
        whole = np.asarray(a).dtype == np.uint8 and np.asarray(b).dtype == np.uint8
        sources = _checked(a, "the first image"), _checked(b, "the second image")
        color = luma if gray else fuse_color_float(luma, *sources, CHROMA_TAU[chroma])
        return np.rint(color).astype(np.uint8) if whole else (color / 255).astype(np.float32)

    def maps(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P's weights for a pair: w and v, (H,W,2) float32, of source a and source b in the order given."""
        if "P" not in self.params:
            raise InputError("this checkpoint has no loss proposal network, so there are no w and v maps to show")
        first, second, swapped = self._sources(a, b)
        w, v = (np.asarray(x)[0] for x in self._functions["propose"](self.params["P"], first, second))
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
        expected = _expected_shapes(**size, channels=networks.gradient_channels(loss.sobel_form))
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{origin}: cannot build networks of the stored size {size}: {reason}") from None
    for name in trees:
        if name not in expected:
            raise InputError(f"{origin}: unknown network {name!r}; expected F, R and P")
        check_architecture(expected[name], flatten(trees[name]), f"{origin}, network {name}")
    return Model(trees, task, info, loss, size)


@functools.lru_cache(maxsize=4)
def _expected_shapes(channels: int, **size: int) -> dict[str, Any]:
    """networks.expected_shapes of a size. Tracing the networks takes longer than reading their parameters."""
    return networks.expected_shapes(networks.build(**size), channels)


def _stored_settings(info: dict[str, Any], origin: str) -> tuple[str | None, dict[str, int], LossSettings]:
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


def _task_of_name(path: Path) -> str | None:
    """The task a released file's name tells: ReFusion_MEIF.pth -> meie."""
    words = re.split(r"[^a-z]+", path.stem.lower().replace("meif", "meie"))
    return next((w for w in words if w in TASKS), None)


def load(checkpoint: str | Path) -> Model:
    """A model from a run directory (its newest checkpoint), a checkpoint folder inside one, a .safetensors file, or
    one of the released .pth files (F alone). Raises InputError when it is none of these or of another architecture."""
    path = Path(checkpoint)
    if path.is_dir():
        from refusion_jax import checkpoints  # Orbax takes over a second to import; the files below do not need it

        folder = path if checkpoints.is_checkpoint(path) else checkpoints.newest(path)
        if folder is None:
            raise InputError(
                f"{path}: expected a run directory with checkpoints/, or one checkpoint inside it; "
                "there is no complete checkpoint here"
            )
        trees, info = checkpoints.read_params(folder)
        try:
            kept = {key: info["config"][key] for key in ("task", "preset", "model", "loss")} | {"step": info["step"]}
        except (KeyError, TypeError):
            raise InputError(f"{folder}: expected the run's configuration in info/; use another checkpoint") from None
        return from_trees(trees, kept, str(folder))
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint; expected a run directory, a .safetensors or a .pth file")
    if path.suffix == ".safetensors":
        trees, info = read_safetensors(path)
        return from_trees(trees, info, str(path))
    if path.suffix == ".pth":
        task = _task_of_name(path)
        return from_trees({"F": read_released(path)}, {"task": task, "released": path.name}, str(path))
    kind = path.suffix or "plain"
    raise InputError(f"{path}: expected a run directory, a .safetensors or a .pth file, got a {kind} file")
