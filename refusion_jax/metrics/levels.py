"""What every metric reads: one luma image as 8-bit levels, checked once."""

import numpy as np

from refusion_jax.errors import InputError

# A float image may overshoot [0, 1] by the rounding of whatever computed it, and by no more.
_OVERSHOOT = 1e-5


def as_levels(image: np.ndarray, name: str = "image") -> np.ndarray:
    """Luma of any depth as (H, W) uint8 levels, the form in which all metrics are defined.

    - uint8: as it is.
    - uint16: divided by 257 (so 65535 becomes 255) and rounded to the nearest level.
    - float16, float32, float64: expected in [0, 1]; times 255 and rounded to the nearest level, halves to the
      even one, in the array's own precision: what rounding the same array into an 8-bit file gives.

    Rounding comes first, whatever the depth: the paper's tables were measured on 8-bit files, and the
    histogram metrics are defined on 256 levels. So a 16-bit image and its 8-bit copy score the same.

    Raises InputError, naming the image, for colour, an empty array, NaN or infinity, floats outside [0, 1]
    and other types.
    """
    image = np.asarray(image)
    if image.ndim != 2:
        raise InputError(
            f"{name}: expected one luma plane (H, W), got shape {image.shape}; "
            "reduce colour with refusion_jax.imaging.color.to_luma first"
        )
    if image.size == 0:
        raise InputError(f"{name}: expected at least one pixel, got shape {image.shape}; check the crop or the file")
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{name}: expected uint8, uint16 or float in [0, 1], got {image.dtype}; convert it first")
    if not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise InputError(f"{name}: expected finite values, got {bad} NaN or infinite pixels; find where they arise")
    low, high = float(image.min()), float(image.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise InputError(
            f"{name}: expected floats in [0, 1], got {low:g} to {high:g}; divide by the peak, or pass uint8 or uint16"
        )
    # float16 has 11 bits and would lose levels in the product.
    wide = image.astype(np.float32) if image.dtype == np.float16 else image
    return np.rint(np.clip(wide, 0, 1) * 255).astype(np.uint8)


def triplet(source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> tuple[np.ndarray, ...]:
    """The three images as uint8 levels. Raises InputError as `as_levels` does, and for unequal sizes."""
    return of_one_size({"source a": source_a, "source b": source_b, "fused image": fused})


def of_one_size(images: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The named images as uint8 levels, in their order. InputError as `as_levels` does, and for unequal sizes."""
    levels = tuple(as_levels(image, name) for name, image in images.items())
    if len({image.shape for image in levels}) > 1:
        sizes = ", ".join(
            f"{name} {image.shape[1]}x{image.shape[0]}" for name, image in zip(images, levels, strict=True)
        )
        raise InputError(f"expected images of one size, got {sizes} (width x height); register or resize first")
    return levels


def require_size(image: np.ndarray, smallest: int, metric: str) -> None:
    """Raise InputError where a side of `image` is below the metric's smallest window."""
    if min(image.shape) < smallest:
        height, width = image.shape
        raise InputError(
            f"{metric} needs images of at least {smallest}x{smallest} pixels, got {width}x{height}; "
            f"use larger images or leave {metric} out"
        )
