"""Requests made up from the service's own description: none of them breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.served import Seeing, served

schemathesis = pytest.importorskip("schemathesis", reason="in the extra test")


@pytest.fixture(scope="module")
def address(shop: Path) -> Iterator[str]:
    with served(shop / "documents", Seeing(), pictures=shop / "photos", waiting=8) as found:
        yield found


def test_it_describes_itself(client: Any) -> None:
    described = client.get("/openapi.json").json()
    assert {"/v1/search", "/v1/search/upload", "/v1/thumbnails", "/v1/heat", "/v1/image"} <= set(
        described["paths"]
    )
    for path, methods in described["paths"].items():
        for each in methods.values():
            assert each["summary"] and "429" in each["responses"], path


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_what_its_description_allows_or_nearly_allows_breaks_nothing(
    address: str, mode: str
) -> None:
    import hypothesis

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
        schemathesis.checks.CHECKS.get_one("status_code_conformance"),
    ]
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        has_input = operation.body or operation.query
        if mode == "negative" and not has_input:
            continue  # there is nothing to get wrong
        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

        @hypothesis.settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=strategy)
        def ask(case: Any) -> None:
            nonlocal asked
            response = case.call(timeout=240)
            asked += 1
            assert response.status_code < 500, case.as_curl_command()
            case.validate_response(response, checks=checks)

        ask()
    assert asked >= 40
