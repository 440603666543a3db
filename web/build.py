"""The page that fuses in the browser, as a folder of static files: python web/build.py OUT.

Needs the package onnx, and onnxruntime-web from npm in web/node_modules (`npm ci --ignore-scripts`).
"""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import refusion_jax as rj  # noqa: E402
from refusion_jax.errors import InputError  # noqa: E402
from refusion_jax.export.network import layers_of  # noqa: E402
from refusion_jax.export.passes import write_passes  # noqa: E402
from refusion_jax.imaging.files import write_image  # noqa: E402
from refusion_jax.models import build as networks  # noqa: E402
from refusion_jax.report.page import asset  # noqa: E402
from refusion_jax.scenes import make_pair  # noqa: E402
from refusion_jax.tasks import SOURCES  # noqa: E402

RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
# The two builds of the runtime and the code each one loads: for graphics cards, and for processors alone.
RUNTIME_FILES = (
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
TITLES = {
    "ivif": "Infrared and visible",
    "mif": "PET, SPECT or CT and MRI",
    "mfif": "Near and far focus",
    "meie": "Under- and over-exposed",
}
EXAMPLE_SIZE = 384, 512


def build(out: Path, example_size: tuple[int, int] = EXAMPLE_SIZE) -> None:
    """Writes the page to the folder `out`. InputError where onnxruntime-web is missing."""
    if not RUNTIME.is_dir():
        raise InputError(f"onnxruntime-web is not in {HERE}/node_modules; run: npm ci --ignore-scripts --prefix web")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "page.css", "page.js", "worker.js"):
        shutil.copy(HERE / name, out / name)
    for name in ("base.css", "base.js"):
        (out / name).write_text(asset(name), encoding="utf-8")
    (out / "ort").mkdir(exist_ok=True)
    for name in RUNTIME_FILES:
        shutil.copy(RUNTIME / name, out / "ort" / name)
    site = {"reach": 0, "tasks": {task: _task(out, task, example_size) for task in TITLES}}
    site["reach"] = max(task.pop("reach") for task in site["tasks"].values())
    (out / "site.json").write_text(json.dumps(site), encoding="utf-8")


def _task(out: Path, task: str, size: tuple[int, int]) -> dict:
    """Writes the passes and the built-in pair of a task; what site.json says of them."""
    model = rj.load(task)
    fusion, *_ = networks.build(**asdict(model.settings))
    files = write_passes(fusion, model.params.f)
    passes = [f"{task}/{i}.onnx" for i in range(len(files))]
    (out / task).mkdir(exist_ok=True)
    for name, data in zip(passes, files, strict=True):
        (out / name).write_bytes(data)
    pair, example = make_pair(task, 7, 0, size), [f"{task}/a.png", f"{task}/b.png"]
    for name, picture in zip(example, (pair.a, pair.b), strict=True):
        write_image(out / name, picture)
    return {
        "title": TITLES[task],
        "sources": list(SOURCES[task]),
        "passes": passes,
        "example": example,
        "reach": layers_of(fusion, model.params.f).reach,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python web/build.py OUT")
    try:
        build(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(f"error: {error}")
