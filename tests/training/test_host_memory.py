"""What a step frees is not given back to the system, where JAX has the CPU alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import types

import pytest

from kmm_jax.training import host_memory

# Page faults of 20 steps whose temporaries are 64 MiB, once they have run.
_STEPS = """
    import resource, sys
    from kmm_jax.training.host_memory import keep_freed_memory
    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    import jax, jax.numpy as jnp
    step = jax.jit(lambda x: x + 1e-9 * jnp.cumsum(jnp.outer(x, x), axis=0)[-1])
    x = jnp.ones(4096)
    def run(count):
        global x
        for _ in range(count):
            x = step(x).block_until_ready()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run(5)
    before = run(1)
    print(run(20) - before)
"""


def _faults(how: str) -> int:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_STEPS), how],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc takes it")
def test_temporaries_are_faulted_in_once() -> None:
    assert _faults("keep") < 0.5 * _faults("leave")


def test_an_accelerator_that_may_be_there_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = types.SimpleNamespace(config=types.SimpleNamespace(jax_platforms="cuda,cpu"))
    monkeypatch.setattr(host_memory, "jax", told)
    assert not host_memory.keep_freed_memory()
