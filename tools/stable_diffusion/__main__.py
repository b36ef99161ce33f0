"""Stable Diffusion of full size against diffusers -> docs/results/stable_diffusion.*.

    python -m tools.stable_diffusion               # all, half an hour on two processors
    python -m tools.stable_diffusion sd15          # these; the others stay as they were measured

The weights are random, so that nothing has to be fetched; they go through folders, as a user's do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kmm_jax.errors import UserError
from tools import results
from tools.stable_diffusion import networks, originals, page, whole
from tools.stable_diffusion.originals import Kind, Sizes

_SIZES: dict[Kind, Callable[[Kind], Sizes]] = {
    "sd15": originals.published,
    "sd21": originals.published,
    "sdxl": originals.half_as_wide,  # 14 GB of weights otherwise, and as much again on disk
}
PIPELINES = "pipelines"
NAMES = (*_SIZES, PIPELINES)


def measured(name: str) -> dict[str, Any]:
    """What one name stands for."""
    tokenizer = originals.openai_tokenizer()
    if name == PIPELINES:
        return {"rows": [row for kind in _SIZES for row in whole.measured(kind, tokenizer)]}
    kind: Kind = name  # type: ignore[assignment]
    return networks.measured(kind, _SIZES[kind], tokenizer)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.stable_diffusion", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    names = parser.parse_args(argv).names or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        print(f"stable_diffusion: no {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in names:
        command = f"python -m tools.stable_diffusion {name}"
        try:
            found = measured(name)
        except (UserError, ImportError) as error:
            print(f"stable_diffusion: {error}", file=sys.stderr)
            return 2
        # With its own provenance, because the others may be of another day; written now, for the
        # rest takes long, and read only now, for another process may have measured others.
        values = {
            **results.read(page.NAME),
            name: {**found, "provenance": results.provenance(command)},
        }
        page.write({name: values[name] for name in NAMES if name in values}, command)
        print(f"{name}: {found}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
