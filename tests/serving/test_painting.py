"""Pictures from prompts over HTTP, by a stand-in and by a small Stable Diffusion."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.serving.served import Blue, Seeing, wait_until


def painting(shop: Path, generator: Any, safety: Any = None) -> Any:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from kmm_jax.serving.painting import Painter

    app = build(shop / "documents", Seeing(), painter=Painter(generator, safety))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def picture_of(response: Any) -> Image.Image:
    assert response.status_code == 200, response.text
    data = response.json()["image"].removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_says_how_it_was_made(shop: Path) -> None:
    generator = Blue()
    with painting(shop, generator) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert {each.guided for each in generator.compiled} == {True, False}
        picture = picture_of(client.post("/v1/generate", json={"prompt": "바다", "seed": 7}))
        assert picture.getpixel((3, 3)) == (0, 0, 255)
        assert '"seed": 7' in picture.text["kmm_jax"]  # type: ignore[attr-defined]
        seeds = {client.post("/v1/generate", json={"prompt": "x"}).json()["seed"] for _ in "123"}
        assert len(seeds) == 3
        for wrong in (
            {},
            {"prompt": "\u200b"},
            {"prompt": "x", "steps": 0},
            {"prompt": "x" * 9_999},
        ):
            assert client.post("/v1/generate", json=wrong).status_code == 422
        assert client.get("/v1/collection").json()["generates"]


def test_without_a_generator_there_is_nothing_to_find(client: Any) -> None:
    assert client.post("/v1/generate", json={"prompt": "바다"}).status_code == 404
    assert not client.get("/v1/collection").json()["generates"]


def test_what_the_filter_flags_is_black(shop: Path) -> None:
    class All:
        def flagged(self, images: Any) -> list[bool]:
            return [True] * len(images)

    with painting(shop, Blue(), All()) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        response = client.post("/v1/generate", json={"prompt": "바다"})
        assert picture_of(response).getbbox() is None and response.json()["blackened"]


def test_few_pictures_are_waited_for_and_searches_go_on(shop: Path) -> None:
    may = threading.Event()

    class Slow(Blue):
        def generate(self, request: Any, *, progress: Any = None) -> Any:
            may.wait(240)
            return super().generate(request)

    with painting(shop, Slow()) as client, concurrent.futures.ThreadPoolExecutor(6) as pool:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        asked = [pool.submit(client.post, "/v1/generate", json={"prompt": "x"}) for _ in range(6)]
        wait_until(lambda: sum(each.done() for each in asked) == 2)
        assert client.post("/v1/search", json={"text": "셔츠"}).status_code == 200
        may.set()
        status = sorted(each.result().status_code for each in asked)
        assert status == [200] * 4 + [429] * 2


def test_a_stable_diffusion_makes_what_it_makes_alone(
    shop: Path, made: Callable[[str], Path]
) -> None:
    from kmm_jax.generation.loading import load_pipeline
    from kmm_jax.generation.request import Request

    pipeline = load_pipeline(made("sd1"))
    with painting(shop, pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, 600)
        compiled = pipeline.compiled
        for steps in (2, 3):
            asked = {"prompt": "바다거북", "steps": steps, "seed": 5}
            picture = picture_of(client.post("/v1/generate", json=asked))
        assert pipeline.compiled == compiled
    alone = pipeline.generate(Request(prompts=("바다거북",), steps=3, seeds=5))
    np.testing.assert_allclose(np.asarray(picture, int), alone.images[0].astype(int), atol=1)
