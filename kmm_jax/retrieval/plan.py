"""What an index of so many vectors needs: bytes, hosts, hours, queries a second.

Bytes are counted from the settings that the library itself chooses at that size; times are the
measured ones (``rates``) extrapolated along what each grows with.
"""

from __future__ import annotations

import dataclasses
import functools
import math

from kmm_jax.errors import ConfigError
from kmm_jax.retrieval import rates as measured
from kmm_jax.retrieval import size
from kmm_jax.retrieval.rates import Rates
from kmm_jax.retrieval.settings import IndexSettings, for_rows

_USABLE = 0.85  # of a host's memory; the rest is for queries, the system and what it caches
_BUSY = 0.6  # of a host's cores, so that queries do not wait for each other
_MOST_HOSTS = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that holds a shard.

    Attributes:
        memory: bytes.
        cores: that queries and building may use.
    """

    memory: int
    cores: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An index on hosts; all bytes and seconds are sums unless said otherwise.

    Attributes:
        rows, dim: of the vectors.
        settings: of a segment, all chosen.
        host: that was asked for.
        rates: that times come from.
        shards: how many hosts hold the index once.
        replicas: how often it is held.
        segments: of each shard.
        segment_rows: of each segment, at most.
        disk: of one replica.
        memory: of one replica, what its processes hold.
        host_memory: of one host, with the process itself.
        build_memory: of one host while it builds.
        build_hours: until all shards are built, one process a host, all hosts at once.
        build_core_hours: of all hosts.
        open_minutes: until a host's files are read and checked.
        query_seconds: of one core of each shard, for one query.
        queries_per_second: of one replica, at 60 % of its cores.
        disk_reads: that a query needs of each shard.
    """

    rows: int
    dim: int
    settings: IndexSettings
    host: Host
    rates: Rates
    shards: int
    replicas: int
    segments: int
    segment_rows: int
    disk: size.Parts
    memory: size.Parts
    host_memory: int
    build_memory: int
    build_hours: float
    build_core_hours: float
    open_minutes: float
    query_seconds: float
    queries_per_second: float
    disk_reads: int

    @property
    def hosts(self) -> int:
        """In all."""
        return self.shards * self.replicas


def plan_index(
    rows: int,
    dim: int,
    *,
    settings: IndexSettings,
    host: Host,
    rates: Rates,
    replicas: int = 1,
    queries_per_second: float | None = None,
    id_bytes: int = 20,
    column_bytes: float = 0,
) -> Plan:
    """Plan an index of ``rows`` vectors on the fewest hosts whose memory holds it.

    Args:
        replicas: at least so many; more where ``queries_per_second`` needs them.
        id_bytes, column_bytes: of a row.

    Raises:
        ConfigError: numbers below 1, or hosts too small for a segment of anything.
    """
    for name, value in (("vectors", rows), ("dim", dim), ("replicas", replicas)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, found {value}")
    if queries_per_second is not None and queries_per_second <= 0:
        raise ConfigError(f"queries a second must be above 0, found {queries_per_second}")
    most = size.rows_built_within(host.memory // 2, dim, settings, id_bytes=id_bytes)
    on_disk = functools.partial(size.on_disk, id_bytes=id_bytes, column_bytes=column_bytes)
    in_memory = functools.partial(size.in_memory, id_bytes=id_bytes, column_bytes=column_bytes)

    def shard(count: int) -> tuple[int, int, int]:
        """Segments of a shard, rows of a segment, bytes of memory, with so many shards."""
        of_shard = -(-rows // count)
        segments = -(-of_shard // most)
        of_segment = -(-of_shard // segments)
        held = in_memory(of_segment, dim, settings).total * segments
        return segments, of_segment, held + size.PROCESS

    def fits(count: int) -> bool:
        return shard(count)[2] <= _USABLE * host.memory

    if not fits(min(rows, _MOST_HOSTS)) or size.while_built(1, dim, settings) > host.memory // 2:
        raise ConfigError(
            f"hosts of {host.memory / 2**30:,.1f} GiB hold no segment of {dim:,} dimensions; name "
            "larger ones with --memory-per-host"
        )
    few, enough = 0, min(rows, _MOST_HOSTS)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if fits(middle) else (middle, enough)
    segments, of_segment, host_memory = shard(enough)
    total = enough * segments
    chosen = for_rows(settings, of_segment)
    disk = on_disk(of_segment, dim, settings).times(total)
    # Comparing with centroids uses all cores; the rest is taken to be the work of one thread.
    spread = rates.distance * measured.distances(of_segment, dim, settings)
    alone = dim * (rates.number * of_segment + rates.learnt * min(of_segment, chosen.training_rows))
    mapped = chosen.reorder if chosen.reorder and chosen.rescore == "mapped" else 0
    query = segments * (
        rates.scanned * measured.scanned(of_segment, dim, settings)
        + rates.distance * dim * (chosen.leaves or 0)
        + rates.mapped * dim * mapped
        + rates.query
    )
    rate = _BUSY * host.cores / query
    if queries_per_second is not None:
        replicas = max(replicas, math.ceil(queries_per_second / rate))
    return Plan(
        rows=rows,
        dim=dim,
        settings=chosen,
        host=host,
        rates=rates,
        shards=enough,
        replicas=replicas,
        segments=segments,
        segment_rows=of_segment,
        disk=disk,
        memory=in_memory(of_segment, dim, settings).times(total),
        host_memory=host_memory,
        build_memory=size.while_built(of_segment, dim, settings, id_bytes=id_bytes),
        build_hours=segments * (spread / host.cores + alone) / 3600,
        build_core_hours=total * (spread + alone) / 3600,
        open_minutes=rates.checksum * disk.total / enough / 60,
        query_seconds=query,
        queries_per_second=rate,
        disk_reads=segments * mapped,
    )
