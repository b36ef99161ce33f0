"""What a service tells of itself: Prometheus metrics, and logs as JSON lines.

Logs say who called what and how it ended; never a query, an image or a key.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
LOGGER = logging.getLogger("kmm_jax.serving")


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "kmm_requests", "Requests answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "kmm_request_seconds",
            "Seconds until a request was answered",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "kmm_refused", "Requests refused before any work", ["reason"], registry=registry
        )
        self.under_way = Gauge("kmm_under_way", "Requests under way", registry=registry)
        self.batch = Histogram(
            "kmm_batch_size",
            "Queries that the model took at once",
            ["kind"],
            buckets=_BATCHES,
            registry=registry,
        )
        self.documents = Gauge("kmm_documents", "Documents that may be found", registry=registry)
        self.versions = Counter(
            "kmm_versions", "New versions of the documents that were taken up", registry=registry
        )
        self.failed_looks = Counter(
            "kmm_failed_looks", "Times a new version could not be opened", registry=registry
        )
        self.incomplete = Counter(
            "kmm_incomplete", "Searches that a part of the index did not answer", registry=registry
        )
        self.ready = Gauge("kmm_ready", "1 once requests are answered", registry=registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; what stands in ``extra={"values": {...}}`` beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "values", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # In ASCII, so that no file or terminal stumbles over what callers send.
        return json.dumps(line)


def log(event: str, *, level: int = logging.INFO, error: bool = False, **values: Any) -> None:
    """Log an event; with ``error`` the exception that is being handled as well."""
    LOGGER.log(level, event, exc_info=error, extra={"values": values})


def set_up_logs(stream: TextIO = sys.stderr) -> None:
    """Send the logs of the service and of its server to a stream, as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in (LOGGER.name, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
