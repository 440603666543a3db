"""compiling.jit: what `begin` and `prepare` do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from refusion_jax.runtime.compiling import enable_cache, jit, nothing_kept


def test_what_was_begun_is_compiled_once_and_not_run():
    compiled, ran = [], []

    def count(event, seconds, **_):
        del seconds
        compiled.extend([event] if event == "/jax/core/compile/backend_compile_duration" else [])

    def note(x):
        ran.append(1)
        return x

    def function(x):
        return jax.pure_callback(note, jax.ShapeDtypeStruct((3,), np.float32), x) + 1

    x, call = jnp.zeros(3), jit(function)
    jit(jnp.sin)(x)  # asks the backend for its options, which compiles as well
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        call.begin(x)
        call.prepare(x)
        assert len(compiled) == 1 and not ran
        np.testing.assert_array_equal(call(x), np.ones(3))
        call.prepare(x)
        assert len(compiled) == 1 and len(ran) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


@pytest.mark.parametrize("home", ["file", "file/below"])
def test_no_cache_where_none_can_be_written(tmp_path, monkeypatch, home):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        enable_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None and nothing_kept()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        enable_cache()
        folder = tmp_path / "refusion_jax" / "xla"
        assert folder.is_dir() and nothing_kept()
        (folder / "jit_step").write_text("")
        assert not nothing_kept()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_call_waits_for_what_was_begun_and_gets_its_error():
    call = jit(lambda x: x * 2)
    call.begin(np.float32(3))
    assert call(np.float32(3)) == 6

    def broken(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        jit(broken).begin(np.float32(3))
