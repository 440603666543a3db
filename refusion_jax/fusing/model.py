"""Fusing: load any kind of checkpoint, then fuse pairs of NumPy images, grey or colour (paper, Section 4.1, Eq. 15).

Images of any size: F and P run tile by tile (tiles.py, proposing.py), colour goes by rows.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from refusion_jax.config import Config, check, override
from refusion_jax.data.pairs import darker_first
from refusion_jax.errors import InputError
from refusion_jax.fusing import stream
from refusion_jax.fusing.proposing import make_propose
from refusion_jax.fusing.tiles import TILE_BYTES, make_fuse, workers
from refusion_jax.imaging.color import finished_picture, unit_luma
from refusion_jax.imaging.pixels import check_one_size
from refusion_jax.imaging.ranges import to_range
from refusion_jax.method.losses import LossSettings
from refusion_jax.models import build as networks
from refusion_jax.models.build import NAMES, ModelSettings, Params
from refusion_jax.runtime.compiling import jit
from refusion_jax.runtime.memory import available_bytes
from refusion_jax.tasks import TASKS
from refusion_jax.weights.pretrained import find_checkpoint
from refusion_jax.weights.reading import read_weights
from refusion_jax.weights.trees import by_name, check_architecture, flatten, from_names


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
F_PIXEL_BYTES = 3 * 3 + 3 * 4  # sources and result, up to 3 bytes a pixel each as they come, 4 of luma
P_PIXEL_BYTES = F_PIXEL_BYTES + 20 * 4  # gradients, rules, logits and weights of both sources


@dataclass(frozen=True)
class Model:
    """A trained network, ready to fuse.

    params: those of F and, where the checkpoint has them, of R and P. task: one of ivif, mif, mfif, meie, or None when
    unknown. info: what is known of the origin (task, model and loss settings, step).
    max_memory: bytes the process may take while fusing, about; None: half of the machine's free memory, 3 GiB at most.
    What is kept between passes (about 150 bytes a pixel) and does not fit goes to a temporary file.
    """

    params: Params
    task: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    loss: LossSettings = LossSettings()
    settings: ModelSettings = ModelSettings()
    max_memory: int | None = None
    _functions: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        self._functions.update(_compiled(networks.build(**asdict(self.settings)), self.loss))

    @functools.cached_property
    def _f(self) -> Any:
        """F's parameters on the device."""
        return jax.device_put(self.params.f)

    @functools.cached_property
    def _p(self) -> Any:
        """P's parameters on the device."""
        return jax.device_put(self.params.p)

    def _sources(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Luma of both, (H,W) float32 in [0,1], in the trained order, and whether that is (b, a)."""
        a, b = _checked(a, "the first image"), _checked(b, "the second image")
        check_one_size((a, b))
        a, b = unit_luma(a), unit_luma(b)
        first, second = darker_first(a, b) if self.task == "meie" else (a, b)
        return first, second, first is not a

    def network_output(
        self,
        a: np.ndarray,
        b: np.ndarray,
        progress: Callable | None = None,
        held: Sequence[Any] | None = None,
        seen: list[Any] | None = None,
    ) -> np.ndarray:
        """F's raw output on a pair, (H,W) float32 in (0,1). Images and progress as for `fuse`.

        held: the sums of F's attention over other pictures, which take the place of this one's own, so that F does the
        same at every pixel of a sequence. seen: gets this picture's own (`tiles.fuse_tiled`).
        """
        first, second, _ = self._sources(a, b)
        return self._run_f(first, second, progress, held=held, seen=seen)

    def _run_f(self, first: np.ndarray, second: np.ndarray, progress: Callable | None, **sums: Any) -> np.ndarray:
        """F's raw output on two lumas in the trained order, within the limit on memory."""
        room = self._room(first.size, F_PIXEL_BYTES)
        return self._functions["fuse"](self._f, first, second, room=room, progress=progress, **sums)

    def _room(self, pixels: int, each: int) -> int:
        """Bytes that are left for what lies between two passes; each: of a pixel's sources and results."""
        limit = default_max_memory() if self.max_memory is None else self.max_memory
        return max(limit - PROCESS_BYTES - workers() * TILE_BYTES - pixels * each, 0)

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

    def fuse_stream(
        self,
        pairs: Iterable[tuple[np.ndarray, np.ndarray]],
        range: str = "sources",  # noqa: A002
        gray: bool = False,
        held: stream.Held | None = None,
    ) -> Iterator[np.ndarray]:
        """The fused pictures of a stream of pairs, such as the frames of two cameras, one after the other.

        pairs: any iterable of (a, b), as for `fuse`; a thread of its own draws from it, one pair ahead of the network,
        which is one picture ahead of what is taken from here. No more than four pairs are in memory. Nothing is
        compiled anew for another size.
        range: "sources": as for `fuse`, with the means of F's attention, of the outputs' span and of the sources' over
        the frames so far, of which the last 50 or so count, so that what is still does not flicker; it follows a change
        of the scene within seconds. "minmax" and "clip": each picture on its own. held: what `look_at` found, in place
        of a range: one for all frames.
        Raises InputError as `fuse`; what the iterable raises comes behind the last picture. Closed early, it waits for
        the pair that is being drawn, 5 seconds at most.
        """
        return stream.fuse_stream(self._for_streams(), pairs, range, gray, held)

    def look_at(
        self, pairs: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]], progress: Callable[[], None] = lambda: None
    ) -> stream.Held:
        """What all frames of a video have in common, for `fuse_stream`: F's attention and one range step.

        pairs: gives the video's pairs from their start each time that it is called, three times. The levels are those
        of all frames of the sources; what F says of them is asked at 32 frames at most, evenly spread. progress: called
        after each pair of the first turn, then after each that F sees, twice.
        Raises InputError as `fuse`, and where there is no pair.
        """
        return stream.look_at(self._for_streams(), pairs, progress)

    def _for_streams(self) -> stream.Network:
        return stream.Network(self._sources, functools.partial(self._run_f, progress=None))

    def maps(self, a: np.ndarray, b: np.ndarray, progress: Callable | None = None) -> tuple[np.ndarray, np.ndarray]:
        """P's weights for a pair: w and v, (H,W,2) float32, of source a and source b in the order given. Images and
        progress as for `fuse`."""
        if self.params.p is None:
            raise InputError("this checkpoint has no loss proposal network, so there are no w and v maps to show")
        first, second, swapped = self._sources(a, b)
        room = self._room(first.size, P_PIXEL_BYTES)
        w, v = self._functions["propose"](self._p, first, second, room=room, progress=progress)
        if swapped:
            w, v = w[..., ::-1], v[..., ::-1]
        return w, v

    def reconstruct(self, fused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R's rebuilt sources, two (H,W) float32 in (0,1), from a raw network output (H,W) in [0,1]."""
        if self.params.r is None:
            raise InputError("this checkpoint has no source reconstruction network")
        a, b = self._functions["rebuild"](self.params.r, jnp.asarray(fused, jnp.float32)[None, :, :, None])
        return np.asarray(a)[0, :, :, 0], np.asarray(b)[0, :, :, 0]


@functools.lru_cache(maxsize=8)
def _compiled(modules: tuple, loss: LossSettings) -> dict[str, Callable]:
    """F, R and P as functions that are compiled once, however many models have them."""
    nets = networks.linen_networks(*modules)
    return {
        "fuse": make_fuse(modules[0]),
        "rebuild": jit(nets.reconstruct),
        "propose": make_propose(modules[2], nets, loss),
    }


def from_params(params: Params, info: dict[str, Any], origin: str) -> Model:
    """A Model of parameters and the info stored with them (weights.reading). InputError where they do not fit."""
    task, settings, loss = _stored_settings(info, origin)
    trees = by_name(params)
    for name, tree in trees.items():
        # Each block has several parameters: without this, a hostile number of blocks would be built one by one.
        own, found = getattr(settings, networks.SETTINGS[name]), len(flatten(tree))
        if not own and settings.blocks > found:
            raise InputError(
                f"{origin}: cannot have {settings.blocks} blocks a stage in the {found} parameters of {name}"
            )
    try:
        channels = networks.gradient_channels(loss.sobel_form, loss.proposal_form)
        expected = by_name(networks.expected_shapes(networks.build(**asdict(settings)), channels, tuple(trees)))
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    for name, tree in trees.items():
        check_architecture(expected[name], flatten(tree), f"{origin}, network {name}")
    return Model(params, task, info, loss, settings)


def _stored_settings(info: dict[str, Any], origin: str) -> tuple[str | None, ModelSettings, LossSettings]:
    """(task, model settings, loss settings) of a checkpoint's info, the defaults for what it does not tell."""
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
    return task, stored.model, stored.loss


def load(checkpoint: str | Path, networks: Sequence[str] = NAMES) -> Model:
    """A model from a task's name (the weights that come with the package), a run directory (its newest checkpoint), a
    checkpoint folder inside one, a .safetensors file, or one of the released .pth files (F alone).

    networks: those out of "F", "R" and "P" that are wanted, F among them; the others' parameters are neither checked
    nor kept. Raises InputError when it is none of these or of another architecture.
    """
    path = find_checkpoint(checkpoint)
    params, info = read_weights(path)
    wanted = {name: tree for name, tree in by_name(params).items() if name in networks}
    return from_params(from_names(wanted), info, str(path))
