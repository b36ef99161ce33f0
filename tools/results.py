"""Results as files: what a command measured, with what it was measured on.

`docs/results/NAME.json` holds everything, `NAME.md` the tables; both are generated, never typed.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.files import atomic_write, write_json

_ROOT = Path(__file__).resolve().parent.parent
FOLDER = _ROOT / "docs" / "results"
_PACKAGES = (
    "jax", "flax", "optax", "orbax-checkpoint", "grain", "scann", "numpy", "torch", "transformers",
    "diffusers",
)  # fmt: skip


def source_digest(folders: Sequence[str] = ("kmm_jax", "configs")) -> str:
    """A digest of the package's and the experiments' source, whatever is committed."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _commit() -> str | None:
    """The commit that is checked out, marked where the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "kmm_jax", "configs", "tools")
        return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance(command: str) -> dict[str, Any]:
    """Command, commit, date, versions and hardware of this run."""
    import jax

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": versions,
        "hardware": {
            "device": f"{jax.device_count()} x {device.device_kind}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(memory, 1),
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats to three places."""

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def write(
    name: str,
    *,
    title: str,
    command: str,
    values: Mapping[str, Any],
    body: str,
    origin: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write ``NAME.json`` and ``NAME.md``; returns both paths.

    Args:
        origin: the provenance of values measured earlier; by default this run's.
    """
    origin = origin or provenance(command)
    json_path, markdown_path = FOLDER / f"{name}.json", FOLDER / f"{name}.md"
    write_json(json_path, {"provenance": origin, **values})
    hardware = origin["hardware"]
    versions = ", ".join(f"{package} {version}" for package, version in origin["versions"].items())
    with atomic_write(markdown_path, "w") as file:
        file.write(
            f"# {title}\n\n{body.strip()}\n\n"
            f"Made by `{origin['command']}` on {origin['date']}"
            + (f" at {origin['commit']}" if origin.get("commit") else "")
            + f"; {hardware['device']}, "
            f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB; "
            f"Python {origin['python']}, {versions}. All values: `{name}.json`.\n"
        )
    print(f"wrote {json_path} and {markdown_path}", file=sys.stderr)
    return json_path, markdown_path


def read(name: str) -> dict[str, Any]:
    """What ``write`` wrote, or an empty dict."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
