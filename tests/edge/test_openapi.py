"""The OpenAPI document describes the real edge: what is generated from it gives no 5xx, and only what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from collector.config import EdgeConfig
from collector.edge import openapi
from tests.edge.test_error_shape import CLICK, ORDER
from tests.kit.edge_process import Edge, running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


class Fresh(requests.adapters.HTTPAdapter):
    """Each request on a connection of its own: the edge may end an idle one just as the next request is written."""

    def send(self, *given: Any, **more: Any) -> requests.Response:
        self.poolmanager.clear()
        return super().send(*given, **more)


@pytest.fixture(scope="module")
def session(edge: Edge) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", Fresh())
        session.headers["Authorization"] = f"Bearer {edge.keys['every']}"
        session.headers["Origin"] = "https://shop.example"
        yield session


def document() -> dict[str, Any]:
    """What is served, with the stores of these tests: nearly all generated requests would end at an unknown store."""
    made: dict[str, Any] = json.loads(openapi.document(EdgeConfig()))
    for name in ("ClickBody", "ConversionBody", "ClickItem", "ConversionItem", "EventItem"):
        fields = made["components"]["schemas"][name]["properties"]
        fields["storeId"] = {"enum": ["store_abc123", "store_other", "nobody"]}
        if "fbclid" in fields and "landingPage" in fields:
            fields["fbclid"] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,60}$"}
            fields["landingPage"] = {"enum": ["https://shop.example/?utm_source=a", "http://x", "", "javascript:x"]}
        if "currency" in fields:
            fields["currency"] = {"enum": ["USD", "eur", "XXX", "", None]}
    made["components"]["schemas"]["Beacon"]["properties"]["s"] = {"enum": ["store_abc123", "nobody"]}
    return made


OPERATIONS = [(path, method.upper()) for path, methods in document()["paths"].items() for method in methods]
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def generate(edge: Edge, session: requests.Session, operation: tuple[str, str], examples: int) -> None:
    """So many requests of one operation, each answered as the document says."""
    schema = schemathesis.openapi.from_dict(document())
    path, method = operation
    base_url = f"http://127.0.0.1:{edge.port}"

    @settings(max_examples=examples, suppress_health_check=QUIET, phases=[Phase.generate], database=None)
    @given(case=st.one_of(schema[path][method].as_strategy(generation_mode=mode) for mode in GenerationMode))
    def answered(case: schemathesis.Case) -> None:
        case.headers.pop("Authorization", None)  # the session's key; what is without one is in test_error_shape
        case.validate_response(case.call(base_url=base_url, session=session), checks=CHECKS)

    answered()


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_what_is_generated_from_the_document_is_answered_as_it_says(
    edge: Edge, session: requests.Session, operation: tuple[str, str]
) -> None:
    generate(edge, session, operation, 15)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_two_thousand_generated_requests_give_no_5xx(
    edge: Edge, session: requests.Session, operation: tuple[str, str]
) -> None:
    generate(edge, session, operation, 400 if operation[1] == "POST" else 100)


def test_the_document_is_served_as_it_is_made(edge: Edge) -> None:
    answer = edge.get("/openapi.json", None)
    assert answer.status == 200
    assert answer.body == json.loads(openapi.document(EdgeConfig()))


def test_the_contracts_examples_fit_the_document(edge: Edge) -> None:
    schema = schemathesis.openapi.from_dict(json.loads(openapi.document(EdgeConfig())))
    for path, body in (("/v1/track/click", CLICK), ("/v1/track/conversion", ORDER | {"orderId": "fits"})):
        answer = requests.post(
            f"http://127.0.0.1:{edge.port}{path}",
            json=body,
            headers={"Authorization": f"Bearer {edge.keys['secret']}"},
            timeout=60,
        )
        assert answer.status_code == 200
        schema[path]["POST"].validate_response(answer)


def test_every_operation_answers_with_the_one_error_shape() -> None:
    for path, operations in json.loads(openapi.document(EdgeConfig()))["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Failure"}, (path, method, status)


def test_the_paths_follow_the_configuration() -> None:
    paths = json.loads(openapi.document(EdgeConfig(snippet_path="/s.js", beacon_path="/b", pixel_path="/p.gif")))[
        "paths"
    ]
    assert {"/s.js", "/b", "/p.gif"} <= set(paths)
