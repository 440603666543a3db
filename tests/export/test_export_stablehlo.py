"""StableHLO files: read by jax.export alone, they give F's output, for both kinds of machine."""

import jax
import numpy as np
import plain
from scripts import tiny_info, tiny_trees

from refusion_jax.cli.export import main
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import from_names


def test_a_file_gives_what_f_gives(tmp_path):
    trees = from_names(tiny_trees())
    write_safetensors(tmp_path / "tiny.safetensors", trees, tiny_info())
    out = tmp_path / "tiny.stablehlo"
    assert main([str(tmp_path / "tiny.safetensors"), str(out), "--size", "9x7"]) == 0
    exported = jax.export.deserialize(bytearray(out.read_bytes()))
    assert exported.platforms == ("cpu", "cuda")
    a, b = np.random.default_rng(0).random((2, 9, 7), np.float32)
    found = exported.call(a[None, ..., None], b[None, ..., None])
    assert np.abs(np.asarray(found)[0, ..., 0] - plain.fuse(trees.f, a, b)).max() < 1e-5
