"""Pictures from prompts."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

from fastapi import FastAPI

from kmm_jax.generation.request import Request as Painting
from kmm_jax.generation.restyle import restyling
from kmm_jax.serving import asking, schemas, uploads
from kmm_jax.serving.problems import ProblemError
from kmm_jax.serving.service import Service


def add_generation(app: FastAPI, service: Service) -> None:
    """Pictures from a generator, where one is loaded."""

    @app.post("/v1/generate", response_model=schemas.GenerateResponse, tags=["generation"])
    async def generate(request: schemas.GenerateRequest) -> schemas.GenerateResponse:
        """Make a picture from a prompt, or make a given one over."""
        started = time.perf_counter()
        if service.painter is None:
            raise ProblemError(404, "not_found", "no generator is loaded (--generator)")
        prompt = asking.said(service, request.prompt)
        negative = asking.said(service, request.negative)
        if not prompt:
            raise ProblemError(422, "invalid", "prompt: it says nothing")
        seed = secrets.randbelow(1 << 32) if request.seed is None else request.seed
        asked: dict[str, Any] = {
            "negative": negative or None, "steps": request.steps, "guidance": request.guidance
        }  # fmt: skip
        if request.image is None:
            painting = Painting(prompts=(prompt,), seeds=seed, **asked)
        else:
            coded, most = request.image, service.settings.upload
            data = await service.work(lambda: uploads.decoded(coded, most=most))
            painting = restyling(
                await asking.picture_of(service, data),
                prompt,
                side=service.painter.side,
                strength=request.strength,
                seed=seed,
                **asked,
            )
        painted = await service.painter.paint(painting)
        return schemas.GenerateResponse(
            image=f"data:image/png;base64,{base64.b64encode(painted.png).decode()}",
            seed=seed,
            blackened=painted.blackened,
            milliseconds=round(1e3 * (time.perf_counter() - started), 2),
        )
