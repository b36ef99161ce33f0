"""What those who run the service ask."""

from __future__ import annotations

from fastapi import FastAPI, Response

from kmm_jax.serving.problems import ProblemError
from kmm_jax.serving.service import Service


def add_operations(app: FastAPI, service: Service) -> None:
    """Health, readiness and metrics."""

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz() -> dict[str, str]:
        """Whether requests are answered."""
        if service.failure is not None:
            raise ProblemError(503, "not_ready", f"the model does not run: {service.failure}")
        if not service.ready:
            raise ProblemError(503, "not_ready", "the model is still warming up", retry_after=2)
        return {"status": "ready"}

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )
