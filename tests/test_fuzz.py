"""A short run of benchmarks/fuzz.py: mutated inputs are read or refused in one line. The long run is that command."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def fuzz(repo):
    spec = importlib.util.spec_from_file_location("fuzz", repo / "benchmarks" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["pictures", "weights", "settings", "manifests"])
def test_mutated_inputs(fuzz, kind, tmp_path):
    result = fuzz.fuzz(kind, 0, 150, limit=30, out=tmp_path)
    assert result["failed"] == 0
    assert result["refused"] > 20 and result.total() == 150


def test_a_reader_that_fails_is_noticed(fuzz, monkeypatch, tmp_path, capsys):
    def broken(path):
        raise ValueError(path)

    monkeypatch.setitem(fuzz.KINDS, "settings", (fuzz.settings, broken))
    assert fuzz.main(["--kind", "settings", "--count", "3", "--out", str(tmp_path)]) == 1
    assert "0 read, 0 refused, 3 failed" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.toml.txt"))) == 3
