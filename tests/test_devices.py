"""Eight emulated devices do what one does: parameters, metrics, the meta-gradient; batches that cannot be divided."""

import subprocess
import sys
import textwrap


def on_devices(repo, code, count=8):
    """Runs Python code in a process with `count` CPU devices; returns what it prints."""
    head = f"""
        import jax
        jax.config.update("jax_num_cpu_devices", {count})
    """
    code = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, env=None
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
