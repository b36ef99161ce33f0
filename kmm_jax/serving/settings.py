"""How a service listens, and its limits."""

from __future__ import annotations

import dataclasses
import ipaddress

from kmm_jax.errors import ConfigError, UserError

KEY_VARIABLE = "KMM_SERVE_KEY"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a service.

    Attributes:
        host, port: where it listens; port 0 is any that is free.
        rate: requests a second that one caller may make in the long run; 0 for any number.
        burst: and at once.
        waiting: requests that may be under way together; one more is told to come later (429).
        batch: queries that the model takes at once, a power of two.
        gather: seconds that the first of a batch waits for others where the model is idle.
        threads: that search and decode.
        upload: bytes of an image, at most.
        pixels: of a JPEG, at most; of other images, which are decoded whole, a quarter of it.
        held: bytes of the bodies of all requests together, at most.
        text: characters of a query, at most.
        body_seconds: in which a request's body must have come.
        refresh: seconds between two looks for a new version of the documents.
        cached: vectors of queries that are kept.

    Raises:
        ConfigError: a value that cannot work.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    rate: float = 0.0
    burst: int = 20
    waiting: int = 64
    batch: int = 16
    gather: float = 0.002
    threads: int = 4
    upload: int = 8 << 20
    pixels: int = 40_000_000
    held: int = 256 << 20
    text: int = 2_000
    body_seconds: float = 20.0
    refresh: float = 2.0
    cached: int = 4_096

    def __post_init__(self) -> None:
        for name in ("burst", "waiting", "batch", "threads", "upload", "pixels", "held", "text"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1, found {value}")
        for name in ("rate", "gather", "cached"):
            if not (value := getattr(self, name)) >= 0:
                raise ConfigError(f"{name} must not be negative, found {value}")
        for name in ("body_seconds", "refresh"):
            if not (value := getattr(self, name)) > 0:
                raise ConfigError(f"{name} must be above 0 seconds, found {value}")
        if self.batch & (self.batch - 1):
            raise ConfigError(f"batch must be a power of two, found {self.batch}")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port is from 0 to 65,535, found {self.port}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of batches: all powers of two up to ``batch``, so that few programs are compiled."""
        return tuple(1 << power for power in range(self.batch.bit_length()))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a name or address."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_reach(host: str, *, keys: bool) -> None:
    """Refuse to be reached from elsewhere by anybody.

    Raises:
        UserError: the host is none of this machine alone and there are no keys.
    """
    if not keys and not is_loopback(host):
        raise UserError(
            f"--host {host} can be reached from other machines and no key is asked for: name a "
            f"file of keys with --keys, set {KEY_VARIABLE}, or listen on 127.0.0.1"
        )
