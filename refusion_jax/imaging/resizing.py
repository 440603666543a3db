"""Pictures of one scene brought to one size, whatever their depth."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from refusion_jax.errors import InputError
from refusion_jax.imaging.pixels import check_one_size


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture uint8 or uint16, (H,W) or (H,W,3), at another size (H, W), same type and channels.

    Lanczos, widened when the picture shrinks so that nothing aliases; overshoot is clipped. The picture itself when
    it has the size. Raises InputError for another array or an empty size.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or min(size) < 1:
        raise InputError(f"expected a uint8 or uint16 picture and a size, got {image.dtype} {image.shape} and {size}")
    if image.shape[:2] == tuple(size):
        return image
    to = size[1], size[0]
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(to, Image.Resampling.LANCZOS))
    # Pillow holds no colour of 16 bits, but single channels in floating point.
    channels = image[..., None] if image.ndim == 2 else image
    resized = np.empty((*size, channels.shape[2]), np.uint16)
    for i in range(channels.shape[2]):
        values = Image.fromarray(channels[..., i].astype(np.float32)).resize(to, Image.Resampling.LANCZOS)
        resized[..., i] = np.clip(np.rint(np.asarray(values)), 0, 65535)
    return resized[..., 0] if image.ndim == 2 else resized


def to_one_size(images: Sequence[np.ndarray], keep: str | None) -> list[np.ndarray]:
    """The pictures at one size: that of the first if keep is "a", of the last if it is "b".

    With keep None, two sizes are an InputError that names them and the option.
    """
    if keep is None:
        check_one_size(images, "--resize a brings both to the first's size, --resize b to the second's")
        return list(images)
    size = images[0 if keep == "a" else -1].shape[:2]
    return [resize(image, size) for image in images]
