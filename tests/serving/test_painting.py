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
        forms = {(each.guided, each.image is not None) for each in generator.compiled}
        assert forms == {(True, True), (True, False), (False, True), (False, False)}
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


def test_a_picture_is_made_over(shop: Path, picture: Any) -> None:
    with painting(shop, Blue()) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        image = base64.b64encode(picture("빨간")).decode()
        asked = {"prompt": "파란 셔츠", "image": image, "strength": 0.5}
        made_over = picture_of(client.post("/v1/generate", json=asked))
        assert made_over.size == (16, 16) and made_over.getpixel((3, 3)) == (127, 0, 127 + 0)
        for wrong in ({"strength": 0}, {"strength": 1.1}, {"image": "!!!"}, {"image": "eA=="}):
            assert client.post("/v1/generate", json={**asked, **wrong}).status_code in (415, 422)


def test_a_stable_diffusion_makes_over_by_what_was_compiled(
    shop: Path, made: Callable[[str], Path], picture: Any
) -> None:
    from kmm_jax.generation.loading import load_pipeline
    from kmm_jax.generation.restyle import restyling

    pipeline = load_pipeline(made("sd1"))
    source = Image.open(io.BytesIO(picture("빨간", size=(80, 50))))
    with painting(shop, pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, 600)
        compiled = pipeline.compiled
        image = base64.b64encode(picture("빨간", size=(80, 50))).decode()
        asked = {"prompt": "파란 셔츠", "image": image, "strength": 0.5, "steps": 4, "seed": 3}
        found = picture_of(client.post("/v1/generate", json=asked))
        assert pipeline.compiled == compiled
    request = restyling(source, "파란 셔츠", side=pipeline.side, strength=0.5, steps=4, seed=3)
    alone = pipeline.generate(request)
    assert alone.images.shape == (1, pipeline.side, pipeline.side, 3)
    np.testing.assert_allclose(np.asarray(found, int), alone.images[0].astype(int), atol=1)
