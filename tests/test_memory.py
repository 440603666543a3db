"""What the machine has to spare, and what follows for fusing."""

from refusion_jax import memory
from refusion_jax.inference import default_max_memory


def test_available_memory_is_what_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemFree: 100 kB\nMemAvailable:   2097152 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() == 2 * 2**30
    assert default_max_memory() == 2**30


def test_a_system_that_does_not_tell_gives_half_of_all_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "missing")
    assert memory.available_bytes() > 2**28
    assert default_max_memory() <= 3 * 2**30
