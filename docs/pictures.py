"""Makes the README's pictures: a built-in scene of each task, both sources and what the shipped weights make of them.

python docs/pictures.py            # writes docs/ivif.jpg, mif.jpg, mfif.jpg, meie.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from refusion_jax import load  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache  # noqa: E402
from refusion_jax.scenes import make_pair  # noqa: E402

SIZE = (240, 320)  # of a scene, pixels
SHOWN = {  # task: index of the scene in the stream of seed 2026 (never trained on), names of the columns
    "ivif": (7, ("infrared", "visible", "fused")),
    "mif": (3, ("PET, SPECT or CT", "MRI", "fused")),
    "mfif": (0, ("near focus", "far focus", "fused")),
    "meie": (6, ("under-exposed", "over-exposed", "fused")),
}
GAP, HEADER = 6, 16


def strip(task: str, index: int, names: tuple[str, ...]) -> Image.Image:
    """Three pictures in a row, named."""
    pair = make_pair(task, 2026, index, SIZE)
    images = [pair.a, pair.b, load(task).fuse(pair.a, pair.b)]
    height, width = SIZE
    canvas = np.full((HEADER + height, 3 * width + 2 * GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        left = i * (width + GAP)
        canvas[HEADER:, left : left + width] = image if image.ndim == 3 else image[..., None]
    picture = Image.fromarray(canvas)
    for i, name in enumerate(names):
        ImageDraw.Draw(picture).text((i * (width + GAP), 2), name, fill=(60, 60, 60))
    return picture


if __name__ == "__main__":
    enable_cache()
    for task, (index, names) in SHOWN.items():
        strip(task, index, names).save(FOLDER / f"{task}.jpg", quality=88)
        print(f"wrote docs/{task}.jpg")
