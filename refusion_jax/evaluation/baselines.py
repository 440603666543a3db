"""Baselines that a fusion network has to beat: the mean of the sources, and exposure fusion as OpenCV has it."""

import numpy as np

from refusion_jax.evaluation.methods import Method
from refusion_jax.imaging.alignment import require_opencv
from refusion_jax.imaging.color import to_luma, unit_luma
from refusion_jax.imaging.pixels import check_one_size


def baseline_methods(task: str | None) -> list[Method]:
    """The baselines for a task: the mean of the sources, for meie exposure fusion too. InputError without OpenCV."""
    methods = [Method("mean of sources", baseline="pixel by pixel", fuse=mean_of_sources)]
    if task == "meie":
        require_opencv("exposure fusion (--baselines)")
        methods.append(Method("exposure fusion", baseline="OpenCV's MergeMertens", fuse=exposure_fusion))
    return methods


def mean_of_sources(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of both lumas as 8-bit levels, uint8 (H,W), halves to the even level.

    a, b: (H,W) or (H,W,3), uint8, uint16 or float in [0,1]. Raises InputError for two sizes.
    """
    check_one_size([a, b])
    levels = [np.rint(255 * unit_luma(image)) for image in (a, b)]
    return np.rint((levels[0] + levels[1]) / 2).astype(np.uint8)


def exposure_fusion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Luma of the exposure fusion of two pictures, float32 (H,W) in [0,1], with OpenCV's own weights.

    Fused in colour where both have it. Source: Mertens, Kautz and Van Reeth, "Exposure fusion", Pacific Graphics 2007.

    a, b: (H,W) or (H,W,3), uint8. Raises InputError for two sizes, and where OpenCV is missing.
    """
    cv2 = require_opencv("exposure fusion (--baselines)")
    check_one_size([a, b])
    if a.ndim != b.ndim:
        a, b = (np.rint(to_luma(image)).astype(np.uint8) for image in (a, b))
    fused = cv2.createMergeMertens().process([np.ascontiguousarray(a), np.ascontiguousarray(b)])
    return to_luma(np.clip(fused, 0, 1))
