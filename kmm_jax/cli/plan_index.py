"""``kmm plan index``: bytes, hosts and hours of an index before there is one."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from kmm_jax.cli.arguments import bytes_of
from kmm_jax.cli.index import add_settings, settings_given


def add(commands: Any) -> None:
    """Add ``kmm plan index``."""
    command = commands.add_parser(
        "plan index",
        help="bytes, hosts, hours and queries a second of an index of so many vectors",
        description="What an index needs: bytes counted from the settings that the library chooses "
        "at that size, times extrapolated from a small measurement.",
    )
    command.add_argument(
        "--vectors", type=_count, required=True, metavar="N", help="how many, such as 1.5e9"
    )
    command.add_argument("--dim", type=int, required=True, metavar="D", help="of the vectors")
    add_settings(command)
    command.add_argument(
        "--memory-per-host", type=bytes_of, default=bytes_of("256GiB"), metavar="SIZE"
    )
    command.add_argument("--cores-per-host", type=int, default=32, metavar="N")
    command.add_argument("--replicas", type=int, default=1, metavar="N", help="at least so many")
    command.add_argument(
        "--queries-per-second", type=float, metavar="N", help="replicas enough for them"
    )
    command.add_argument(
        "--id-bytes", type=int, default=20, metavar="N", help="of an id (default: %(default)s)"
    )
    command.add_argument(
        "--column-bytes",
        type=float,
        default=0,
        metavar="N",
        help="of a row of the columns to filter by, beside the id",
    )
    command.add_argument(
        "--measure",
        action="store_true",
        help="take the times from this machine, in some minutes, instead of those that come along",
    )
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan, and print."""
    from kmm_jax.errors import ConfigError
    from kmm_jax.retrieval import plan_report
    from kmm_jax.retrieval.plan import Host, plan_index
    from kmm_jax.retrieval.rates import kept_rates, measure_rates
    from kmm_jax.retrieval.settings import IndexSettings

    if arguments.cores_per_host < 1 or arguments.id_bytes < 1 or arguments.column_bytes < 0:
        raise ConfigError("--cores-per-host and --id-bytes must be at least 1, --column-bytes 0")
    settings = IndexSettings(**settings_given(arguments))
    if arguments.measure:
        with tempfile.TemporaryDirectory() as folder:
            rates = measure_rates(Path(folder))
    else:
        rates = kept_rates()
    made = plan_index(
        arguments.vectors,
        arguments.dim,
        settings=settings,
        host=Host(memory=arguments.memory_per_host, cores=arguments.cores_per_host),
        rates=rates,
        replicas=arguments.replicas,
        queries_per_second=arguments.queries_per_second,
        id_bytes=arguments.id_bytes,
        column_bytes=arguments.column_bytes,
    )
    if arguments.json:
        print(json.dumps(plan_report.as_json(made), indent=2))
    else:
        print(plan_report.as_text(made), end="")
    return 0


def _count(text: str) -> int:
    try:
        count = int(float(text))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, such as 1.5e9") from error
    return count
