"""How an index is served by a cluster."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from kmm_jax.errors import ConfigError
from kmm_jax.retrieval.settings import Engine

Missing = Literal["fail", "partial"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Settings of an index on a cluster; they travel with each of its versions.

    Attributes:
        replicas: of each shard, at least.
        most_replicas: that a shard may have under load; as many as ``replicas`` where None.
        target: requests under way in a replica above which another one is started.
        routers: replicas of what asks the shards and merges.
        processors: that the cluster sets aside for each replica and router.
        threads: searches that a replica runs at a time.
        batch: requests that a router sends to the shards as one, at most.
        gather: seconds that the first of a batch waits for others.
        seconds: in which a shard must have answered, all tries together.
        missing: where a shard does not answer: ``fail`` (UnavailableError), or ``partial``, what
            the others found, with ``Found.complete`` false.
        engine: that searches the collections.
        warm_seconds: in which a new version must be open on all replicas.
        drain_seconds: that an old version stays after the new one took its place.

    Raises:
        ConfigError: a value that cannot work.
    """

    replicas: int = 2
    most_replicas: int | None = None
    target: float = 8.0
    routers: int = 2
    processors: float = 1.0
    threads: int = 4
    batch: int = 32
    gather: float = 0.002
    seconds: float = 10.0
    missing: Missing = "fail"
    engine: Engine = "auto"
    warm_seconds: float = 1_800.0
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("replicas", "routers", "threads", "batch"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1, found {value}")
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise ConfigError(
                f"most_replicas must be at least the {self.replicas} replicas there always are, "
                f"found {self.most_replicas}"
            )
        for name in ("target", "seconds", "warm_seconds"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must be above 0, found {value}")
        for name in ("processors", "gather", "drain_seconds"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must not be negative, found {value}")
        if self.missing not in ("fail", "partial"):
            raise ConfigError(f"missing is 'fail' or 'partial', found {self.missing!r}")

    @property
    def scaling(self) -> dict[str, Any]:
        """How many replicas a shard has, as Ray Serve takes it."""
        most = self.most_replicas
        if most is None or most == self.replicas:
            return {"num_replicas": self.replicas}
        return {
            "autoscaling_config": {
                "min_replicas": self.replicas,
                "max_replicas": most,
                "target_ongoing_requests": self.target,
            }
        }
