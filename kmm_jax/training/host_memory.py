"""Memory of the host that is kept for the next step."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import platform

import jax

# Of glibc's malloc.h: parameters of mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MOST = 2**31 - 1
_PADDING = 64 << 20


def keep_freed_memory() -> bool:
    """Let the C library keep what a step on the CPU frees, so that the next finds it mapped.

    XLA allocates the temporaries of each step anew. glibc gives allocations of this size back to
    the system at once, and every page of them is then faulted in, and zeroed, in every step: a
    sixth of the time of small trainings. What is kept stays with the process to its end.

    To be called before JAX has devices: threads that have a heap of their own keep it. Where JAX
    may have an accelerator nothing is changed, because the many threads that then read data would
    wait for each other over one heap.

    Returns:
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc" or not _cpu_alone():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _MOST, _TOP_PAD: _PADDING}
    done = [mallopt(name, value) for name, value in wanted.items()]
    return all(done)


def _cpu_alone() -> bool:
    """Whether JAX is told to use the CPU, or has nothing else; asks without starting anything."""
    if platforms := jax.config.jax_platforms:  # type: ignore[attr-defined]
        return bool(platforms == "cpu")
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None
