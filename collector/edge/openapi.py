"""What does the public door offer: the OpenAPI 3.1 document, made from the types that decode and encode the bodies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from collector import __version__
from collector.config import EdgeConfig
from collector.core.events import ClickBody, ConversionBody
from collector.core.said import Beacon
from collector.core.wire import MAX_ITEMS, ClickItem, ConversionItem, EventItem
from collector.errors import STATUS_OF
from collector.exchange.responses import ClickData, ConversionData, Failure, ToldData, WebhookData
from collector.guard.refusals import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    OVERLOADED,
    TARGET_TOO_LONG,
    TIMED_OUT,
    TOO_MANY_FROM_ADDRESS,
)

REFERENCE: Final = "#/components/schemas/{name}"
_GUARDS: Final = (BAD_REQUEST, TIMED_OUT, TARGET_TOO_LONG, HEADERS_TOO_LARGE, OVERLOADED, TOO_MANY_FROM_ADDRESS)


class ClickAnswer(Struct):
    """The click is on disk."""

    success: Literal[True]
    data: ClickData


class ConversionAnswer(Struct):
    """The conversion or event is on disk, matched, and queued for Meta."""

    success: Literal[True]
    data: ConversionData


class ToldAnswer(Struct):
    """The page's telling is on disk: what it told, and nothing of what others know."""

    success: Literal[True]
    data: ToldData


class WebhookAnswer(Struct):
    """The order is on disk, or `ignored` says why nothing comes of the delivery: a repeat would not mend it."""

    success: Literal[True]
    data: WebhookData


class BatchResults(Struct):
    """One answer per item, in order, each as the single call gives it."""

    results: list[dict[str, Any]]


class BatchAnswer(Struct):
    """Every item was stored or says why not."""

    success: Literal[True]
    data: BatchResults


def document(edge: EdgeConfig) -> bytes:
    """The document as JSON, for `GET /openapi.json`."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "collector, the edge",
                "version": __version__,
                "description": "Clicks and conversions of a shop, on disk before they are acknowledged.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": edge.public_url.rstrip("/") or "/"}],
            "paths": _paths(edge),
            "components": {
                "schemas": _schemas(),
                "securitySchemes": _security_schemes(),
                "headers": _headers(),
            },
        }
    )


def _paths(edge: EdgeConfig) -> dict[str, Any]:
    return {
        "/v1/track/click": {"post": _post("trackClick", "Store a click", "ClickBody", "ClickAnswer")},
        "/v1/track/conversion": {"post": _event("trackConversion", "Store a conversion and match it")},
        "/v1/track/event": {"post": _event("trackEvent", "Store a funnel event")},
        "/v1/track/batch": {"post": _batch()},
        "/v1/webhooks/{name}/{storeId}": {"post": _webhook()},
        "/v1/conversions/{conversionId}": {"get": _state("conversion", "ConversionAnswer")},
        "/v1/clicks/{clickId}": {"get": _state("click", None)},
        edge.beacon_path: {"post": _beacon()},
        edge.pixel_path: {"get": _asset("pixel", "The pixel for pages without JavaScript", "image/gif")},
        edge.snippet_path: {"get": _asset("snippet", "The script for pages", "text/javascript")},
        "/healthz": {"get": _plain("health", "Whether the process lives", 200)},
        "/readyz": {"get": _plain("readiness", "Whether an event could be stored now", 200, 503)},
        "/openapi.json": {"get": _plain("openapi", "This document", 200)},
    }


# -- operations


def _post(name: str, summary: str, body: str, answer: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"key": []}, {"keyInQuery": []}, {}],  # {}: the key may travel in the body
        "parameters": [_header("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 255})],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": _answers(_ref(answer), *_WRITE_ERRORS),
    }


def _event(name: str, summary: str) -> dict[str, Any]:
    operation = _post(name, summary, "ConversionBody", "ConversionAnswer")
    operation["parameters"].append(_header("Prefer", {"type": "string", "examples": ["wait=5"]}))
    content = operation["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"anyOf": [content["schema"], _ref("ToldAnswer")]}  # to a secret key, to a page's
    return operation


def _batch() -> dict[str, Any]:
    operation = _post("trackBatch", f"Store up to {MAX_ITEMS} items", "Batch", "BatchAnswer")
    operation["security"] = [{"key": []}]
    operation["requestBody"]["content"]["application/x-ndjson"] = {"schema": {"type": "string"}}
    return operation


def _webhook() -> dict[str, Any]:
    """Its key is the signature, whose header each platform calls otherwise."""
    operation = {
        "operationId": "webhook",
        "summary": "Take an order from the shop's own webhook",
        "security": [{}],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
            for name in ("name", "storeId")
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    }
    return operation | {"responses": _answers(_ref("WebhookAnswer"), *_WRITE_ERRORS)}


def _state(noun: str, answer: str | None) -> dict[str, Any]:
    identifier = {"name": f"{noun}Id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
    return {
        "operationId": f"read{noun.title()}",
        "summary": f"The current state of a {noun}",
        "security": [{"key": []}],
        "parameters": [identifier],
        "responses": _answers(_ref(answer) if answer else {"type": "object"}, *_READ_ERRORS),
    }


def _beacon() -> dict[str, Any]:
    content = {"schema": _ref("Beacon")}
    return {
        "operationId": "beacon",
        "summary": "What the script says of a page; answered 204 once it is on disk",
        "requestBody": {"required": True, "content": {"application/json": content, "text/plain": content}},
        "responses": {"204": {"description": "on disk, or kept unused as Collector-Reason says"}}
        | _errors(_WRITE_ERRORS),
    }


def _asset(name: str, summary: str, media: str) -> dict[str, Any]:
    ok = {"description": summary, "content": {media: {"schema": {"type": "string", "contentEncoding": "binary"}}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": ok, "304": {"description": "unchanged"}} | _errors(_READ_ERRORS),
    }


def _plain(name: str, summary: str, *statuses: int) -> dict[str, Any]:
    ok = {"200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}}}
    codes = [code for code, status in STATUS_OF.items() if status in statuses]
    return {"operationId": name, "summary": summary, "responses": ok | _errors([*codes, "method_not_allowed"])}


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema}


# -- answers


_READ_ERRORS: Final = ("unauthorized", "forbidden", "not_found", "method_not_allowed", "rate_limit_exceeded")
_WRITE_ERRORS: Final = tuple(code for code in STATUS_OF if code != "internal_error")


def _answers(schema: dict[str, Any], *codes: str) -> dict[str, Any]:
    ok = {
        "description": "on disk",
        "headers": {"Collector-Ignored-Fields": {"$ref": "#/components/headers/CollectorIgnoredFields"}},
        "content": {"application/json": {"schema": schema}},
    }
    return {"200": ok} | _errors(codes)


def _errors(codes: Iterable[str]) -> dict[str, Any]:
    """One response per status; its description lists the codes."""
    by_status: dict[int, list[str]] = {}
    for code in [*codes, "internal_error"]:
        by_status.setdefault(STATUS_OF[code], []).append(code)
    for refusal in _GUARDS:
        by_status.setdefault(refusal.status_code, []).append(refusal.code)
    return {str(status): _error(status, list(dict.fromkeys(found))) for status, found in sorted(by_status.items())}


def _error(status: int, codes: list[str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": ", ".join(codes),
        "content": {"application/json": {"schema": _ref("Failure")}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response


def _headers() -> dict[str, Any]:
    return {
        "CollectorIgnoredFields": {"description": "fields of the body that were ignored", "schema": {"type": "string"}},
        "RetryAfter": {"description": "seconds", "required": True, "schema": {"type": "string", "pattern": r"^\d+$"}},
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "key": {"type": "http", "scheme": "bearer", "description": "sk_… for servers, pk_… for pages"},
        "keyInQuery": {"type": "apiKey", "in": "query", "name": "key", "description": "pk_… only"},
    }


# -- schemas


def _schemas() -> dict[str, Any]:
    types = [ClickBody, ConversionBody, ClickItem | ConversionItem | EventItem, Beacon]
    answers = [ClickAnswer, ConversionAnswer, ToldAnswer, WebhookAnswer, BatchAnswer, Failure]
    _, schemas = msgspec.json.schema_components([*types, *answers], ref_template=REFERENCE)
    schemas["Batch"] = {
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": {"anyOf": [_ref(item.__name__) for item in (ClickItem, ConversionItem, EventItem)]},
    }
    error = schemas["ErrorBody"]["properties"]
    error["code"]["enum"] = sorted({*STATUS_OF, *(refusal.code for refusal in _GUARDS)})
    _require_order(schemas["ConversionBody"])
    return {name: _open(_as_sent(schema)) for name, schema in schemas.items()}


def _require_order(conversion: dict[str, Any]) -> None:
    """What the types cannot say: a Purchase is known by its order and has a value."""
    conversion["if"] = {"properties": {"eventType": {"const": "Purchase"}}}
    conversion["then"] = {"required": ["orderId", "eventValue", "currency"]}


def _as_sent(schema: Any) -> Any:
    """Decimals are JSON numbers here, where msgspec's schema says strings."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {"type": "number", "minimum": 0}
        return {name: _as_sent(value) for name, value in schema.items()}
    return [_as_sent(value) for value in schema] if isinstance(schema, list) else schema


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Unknown fields are ignored and named, not refused: the types forbid them only to notice them."""
    return {name: value for name, value in schema.items() if name != "additionalProperties"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=name)}
