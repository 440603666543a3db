"""An independent witness of the ONNX file: jax2onnx, which writes F from JAX's own trace, with nothing of ours.

It asks for an older Orbax than the trainings here use, so it is no requirement: docs/export.md says how to run this.
"""

import dataclasses

import jax
import numpy as np
import pytest

import refusion_jax as rj
from refusion_jax.export.onnx_file import onnx_file
from refusion_jax.models import build as networks
from refusion_jax.tasks import TASKS

ort = pytest.importorskip("onnxruntime")
jax2onnx = pytest.importorskip("jax2onnx")

SHAPE = 13, 11  # small enough for the form of F that does not depend on the platform: jax2onnx knows no such choice


def largest_difference(model) -> float:
    """Between F as we write it and as jax2onnx does, both in ONNX Runtime, on random lumas."""
    module, *_ = networks.build(**dataclasses.asdict(model.settings))
    spec = jax.ShapeDtypeStruct((1, *SHAPE, 1), np.float32)
    written = jax2onnx.to_onnx(lambda a, b: module.apply({"params": model.params.f}, a, b), [spec, spec])
    theirs = ort.InferenceSession(written.SerializeToString())
    a, b = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    first, second = (x.name for x in theirs.get_inputs())
    (expected,) = theirs.run(None, {first: a[None, ..., None], second: b[None, ..., None]})
    (found,) = ort.InferenceSession(onnx_file(model)).run(None, {"a": a[None, None], "b": b[None, None]})
    assert expected.shape == (1, *SHAPE, 1) and expected.std() > 0.01
    return np.abs(found[0, 0] - expected[0, ..., 0]).max()


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_weights_as_jax2onnx_writes_them(task):
    assert largest_difference(rj.load(task)) < 1e-6


@pytest.mark.parametrize("task", ["IVIF", "MIF", "MFIF", "MEIF"])
def test_released_weights_as_jax2onnx_writes_them(reference, task):
    assert largest_difference(rj.load(reference / "official_weights" / f"ReFusion_{task}.pth")) < 1e-6
