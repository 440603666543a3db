"""benchmarks/gpu_pack.py: what is packed trains as the sources do. gpu_parity.py: a wrong value is found."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from refusion_jax.data.pairs import split_validation
from refusion_jax.data.search import find_pairs
from refusion_jax.training.sources import from_folder


@pytest.fixture(scope="module")
def benchmark(repo):
    def load(name):
        spec = importlib.util.spec_from_file_location(name, repo / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def write_pairs(folder, count, seed):
    rng = np.random.default_rng(seed)
    for name in ("ir", "vi"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 48, 3), np.uint8)).save(folder / name / f"{index:02d}.png")
    return folder


def test_a_pack_is_the_middle_of_the_same_pairs_with_the_same_split(benchmark, tmp_path):
    sources = [write_pairs(tmp_path / name, 11, seed) for seed, name in enumerate(("first", "second"))]
    benchmark("gpu_pack").pack_pairs(tmp_path / "pack", "ivif", sources, 32)
    packed = from_folder(tmp_path / "pack" / "pairs.csv", "ivif", crop=16)
    expected = [split_validation(find_pairs(source)) for source in sources]
    for part, pairs in (("train", 0), ("validation", 1)):
        found = getattr(packed, part)
        originals = [pair for split in expected for pair in split[pairs]]
        assert len(found) == len(originals)
        for index, pair in enumerate(originals):
            for key in "ab":
                luma = np.asarray(Image.open(getattr(pair, key)), np.float32) @ np.float32([0.299, 0.587, 0.114])
                assert found[index][key].shape[:2] == (20, 32)
                assert np.abs(found[index][key].squeeze() - luma[:, 8:40]).max() <= 0.51


def test_a_wrong_value_exceeds_its_tolerance(benchmark):
    parity = benchmark("gpu_parity")
    stored = {"meta step: gradient P": np.float32([3, 4]), "fusion step: loss": np.float32([1, 2])}
    found = {"meta step: gradient P": np.float32([3, 4.2]), "fusion step: loss": np.float32([1, 2])}
    (name, error, limit), (_, same, _) = parity.compare(found, stored)
    assert name == "meta step: gradient P" and error == pytest.approx(0.04) and error > limit and same == 0
