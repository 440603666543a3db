"""The steps of fuse.py as plain functions: read, bring to one size, align, fuse, write."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import Picture, read_image, read_picture, supports_16_bits, write_image
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.registration import looks_misregistered

LONG = 4_000_000  # pixels from which a single picture gets a progress bar of its own


def read_all(paths: Sequence[Path], deep: bool = True) -> list[Picture]:
    """The pictures of files, in full depth and with metadata; not deep: in 8 bits, for results of 8 bits."""
    pictures = []
    for path in paths:
        try:
            pictures.append(read_picture(path))
        except InputError:
            # 16 bits of colour may need an extra that 8 bits can do without.
            if deep:
                raise
            pictures.append(Picture(read_image(path)))
    return pictures


def result_bits(asked: int | None, images: Sequence[np.ndarray], path: Path) -> int:
    """The depth of a result: as asked, else 16 when a source has 16 bits and the format can hold them, else 8."""
    if asked is not None:
        return asked
    return 16 if supports_16_bits(path) and any(image.dtype == np.uint16 for image in images) else 8


def floats(image: np.ndarray) -> np.ndarray:
    """A uint8 or uint16 picture as float32 in [0,1]."""
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def shift_warnings(images: Sequence[np.ndarray], names: Sequence[str]) -> list[str]:
    """A line for each picture that looks shifted against the one before it."""
    lumas = [to_luma(image) for image in images]
    warnings = []
    for i in range(1, len(lumas)):
        said = looks_misregistered(lumas[i - 1], lumas[i])
        if said:
            stack = f" ({names[i]} against {names[i - 1]})" if len(names) > 2 else ""
            warnings.append(f"{said}{stack}")
    return warnings


def fused_picture(model, images: Sequence[np.ndarray], bits: int, stack: bool = False, **how) -> np.ndarray:
    """Two pictures, or the frames of a stack, as one of 8 or 16 bits. The images are uint8 or uint16, of one size.

    how: range and gray of `Model.fuse`.
    """
    whole = bits == 8 and all(image.dtype == np.uint8 for image in images)
    given = list(images) if whole else [floats(image) for image in images]
    if stack:
        from refusion_jax.fusing.stacks import fuse_stack

        fused = fuse_stack(model, given, **how)
    else:
        with tiles_bar(given[0].shape[:2]) as progress:
            fused = model.fuse(*given, **how, progress=progress)
    return fused if whole else quantised(fused, bits)


@contextmanager
def tiles_bar(size: tuple[int, int]) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over the tiles of a picture that takes long, as the function to call; removed at the end."""
    from tqdm import tqdm

    with tqdm(disable=size[0] * size[1] < LONG, desc=f"{size[1]}x{size[0]}", unit="tile", leave=False, delay=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def quantised(image: np.ndarray, bits: int) -> np.ndarray:
    """Floats in [0,1] as the nearest levels of 8 or 16 bits."""
    levels = np.rint(np.clip(image, 0, 1) * np.float32(2**bits - 1))
    return levels.astype(np.uint8 if bits == 8 else np.uint16)


def write_maps(model, a: np.ndarray, b: np.ndarray, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """P's w and v of a pair, (H,W): the weights of source a; written as colours to `paths` (none or two)."""
    from refusion_jax.imaging.colormaps import apply_colormap

    given = (a, b) if a.dtype == b.dtype == np.uint8 else (floats(a), floats(b))
    w, v = (weights[..., 0] for weights in model.maps(*given))
    for path, weights in zip(paths, (w, v), strict=False):
        write_image(path, apply_colormap(weights, "diverging"))
    return w, v


def in_depth(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The pictures at the largest depth among them."""
    deepest = max(image.dtype.itemsize * 8 for image in images)
    return [to_depth(image, deepest) for image in images]
