"""The contract's answers: every success and every error in its one shape, as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from collector.core import times
from collector.core.capi import gate
from collector.core.capi.gate import Gate
from collector.core.capi.states import CapiState, name_of
from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.core.matching import Match
from collector.errors import ApiError
from collector.exchange.clicks import ClickResult
from collector.exchange.rows import ClickRow
from collector.exchange.states import Attempt, Delivery, EventState
from collector.guard.names import new_request_id

# Put together by hand, in a third of the time of encoding it: a click id that was checked has nothing to escape.
_USUAL_CLICK: Final = '{"success":true,"data":{"clickId":"%s","fbclid":"%s","tracked":true,"timestamp":"%s"}}'

Headers = list[tuple[bytes, bytes]]
JSON: Final = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Answer(Struct, gc=False):
    """One HTTP answer: status, body, headers beside content type and length."""

    status: int
    body: bytes
    headers: Headers = []


class ClickData(Struct, rename="camel", gc=False):
    click_id: str
    fbclid: str
    tracked: bool
    timestamp: str
    reason: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    time_corrected: bool | UnsetType = UNSET


class EvidenceItem(Struct, rename="camel", omit_defaults=True):
    signal: str
    bits: float
    result: str = ""
    value: float | None = None


class AttributedTo(Struct, rename="camel"):
    click_id: str | None
    fbclid: str | None
    confidence_score: int
    method: str
    evidence: list[EvidenceItem]
    click_age_seconds: int
    log_odds_bits: float
    strong: bool
    alternatives: int
    capped_from: int | UnsetType | None = UNSET


class ConversionData(Struct, rename="camel"):
    conversion_id: str
    event_type: str
    attributed: bool
    attributed_to: AttributedTo | None
    capi_sent: bool
    capi_status: str
    event_id: str
    timestamp: str
    revision: int
    model: str
    log_odds_bits: float
    reason: str | UnsetType = UNSET
    evidence: list[EvidenceItem] | UnsetType = UNSET
    best_score: int | UnsetType = UNSET
    capi_reason: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    time_corrected: bool | UnsetType = UNSET
    path: list[str] | UnsetType = UNSET
    deliveries: list[dict[str, Any]] | UnsetType = UNSET
    attempts: list[dict[str, Any]] | UnsetType = UNSET


class ToldData(Struct, rename="camel"):
    """What a page is answered: what it told, and nothing of what others know (T4)."""

    conversion_id: str
    event_type: str
    capi_status: str
    event_id: str
    timestamp: str
    capi_reason: str | UnsetType = UNSET


class WebhookData(Struct, rename="camel"):
    """What a shop is told of its delivery: the conversion that it is about, or why none."""

    topic: str
    conversion_id: str | UnsetType = UNSET
    ignored: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET


class Success(Struct):
    success: bool
    data: Any


class ErrorBody(Struct, rename="camel"):
    code: str
    message: str
    request_id: str
    field: str | UnsetType = UNSET


class Failure(Struct):
    success: bool
    error: ErrorBody


def success(data: Any) -> bytes:
    """`{"success": true, "data": …}`."""
    return _encode(Success(True, data))


def batch(answers: Iterable[str]) -> bytes:
    """The answer to a batch, of its items' own answers."""
    return f'{{"success":true,"data":{{"results":[{",".join(answers)}]}}}}'.encode()


def failure(error: ApiError, request_id: str | None = None) -> bytes:
    """`{"success": false, "error": …}`."""
    field = UNSET if error.field is None else error.field
    return _encode(Failure(False, ErrorBody(error.code, error.message, request_id or new_request_id(), field)))


def reason(word: str) -> tuple[bytes, bytes]:
    """`Collector-Reason`: in one word why a hit was refused or is kept unused; pages' scripts cannot see more."""
    return b"collector-reason", word.encode("ascii", "replace")


def error_answer(error: ApiError, request_id: str | None = None) -> Answer:
    """The one error shape, with the headers that its status asks for; `request_id` where the log names it too."""
    extra = list(error.headers)
    if not any(name == b"collector-reason" for name, _ in extra):  # it may have a closer one
        extra.append(reason(error.code))
    if error.status == 401:
        extra.append((b"www-authenticate", b'Bearer realm="collector"'))
    if error.code == "storage_unavailable":
        extra.append((b"retry-after", b"5"))
    return Answer(error.status, failure(error, request_id), extra)


def click(result: ClickResult, fbclid: str, public: PublicIds, reason: str | None, time_corrected: bool) -> str:
    """A click's answer."""
    click_id, at = public.public("click", result.id), times.text(result.ts)
    if reason is None and not result.duplicate and not time_corrected:
        return _USUAL_CLICK % (click_id, fbclid, at)
    data = ClickData(
        click_id,
        fbclid,
        reason is None,
        at,
        reason if reason is not None else UNSET,
        True if result.duplicate else UNSET,
        True if time_corrected else UNSET,
    )
    return success(data).decode()


def conversion_data(state: EventState, public: PublicIds, *, duplicate: bool = False) -> ConversionData:
    """A conversion's answer, of the POST and of the GET."""
    found, event = state.match, state.event
    evidence = _evidence(found)
    return ConversionData(
        conversion_id=public.public("conv", state.row.id),
        event_type=event.event_type,
        attributed=found.attributed,
        attributed_to=_attributed_to(state, public, evidence) if found.attributed else None,
        capi_sent=state.state is CapiState.SENT,
        capi_status=name_of(state.state),
        event_id=event.event_id,
        timestamp=times.text(event.ts),
        revision=state.row.revision,
        model=found.model,
        log_odds_bits=sum(item.bits for item in evidence),
        reason=UNSET if found.attributed or found.reason is None else found.reason,
        evidence=UNSET if found.attributed else evidence,
        best_score=UNSET if found.attributed else found.best,
        capi_reason=state.reason or gate.why_unqueued(event, state.state) or UNSET,
        duplicate=True if duplicate else UNSET,
        time_corrected=True if event.time_corrected else UNSET,
        path=[public.public("click", click) for click in found.path] if found.path else UNSET,
    )


_TOLD: Final = {CapiState.QUEUED: "queued", CapiState.DRY_RUN: "queued", CapiState.HELD: "held"}


def told_data(row_id: int, event: StoredEvent, verdict: Gate, public: PublicIds) -> ToldData:
    """A page's answer; `verdict`: how its own telling stands."""
    conversion = public.public("conv", row_id)
    status = _TOLD.get(verdict.state, "skipped")
    return ToldData(
        conversion_id=conversion,
        event_type=event.event_type,
        capi_status=status,
        event_id=event.event_id or conversion,
        timestamp=times.text(event.ts),
        capi_reason=UNSET if status == "queued" else verdict.reason or gate.why_unqueued(event, verdict.state) or UNSET,
    )


def _evidence(found: Match) -> list[EvidenceItem]:
    return [EvidenceItem(e.signal, e.bits, e.result, e.value) for e in found.evidence]


def _attributed_to(state: EventState, public: PublicIds, evidence: list[EvidenceItem]) -> AttributedTo:
    found = state.match
    clicked = found.click_ts if found.click_ts is not None else state.event.ts
    return AttributedTo(
        click_id=public.public("click", found.click) if found.click is not None else None,
        fbclid=state.click.fbclid if state.click else None,
        confidence_score=found.confidence,
        method=found.method or "",
        evidence=evidence,
        click_age_seconds=max(0, (state.event.ts - clicked) // 1000),
        log_odds_bits=sum(item.bits for item in evidence),
        strong=found.strong,
        alternatives=found.alternatives,
        capped_from=found.capped_from if found.capped_from is not None else UNSET,
    )


def with_deliveries(
    data: ConversionData, deliveries: Sequence[Delivery], attempts: Sequence[Attempt]
) -> ConversionData:
    """The GET's answer: the POST's, with how each pixel's delivery went."""
    data.deliveries = [
        {"pixel": d.pixel, "status": d.status, "attempts": d.attempts}
        | ({"reason": d.reason} if d.reason else {})
        | ({"settledAt": times.text(d.settled)} if d.settled else {})
        for d in deliveries
    ]
    data.attempts = [
        {"pixel": a.pixel, "at": times.text(a.at), "outcome": a.outcome}
        | {name: value for name, value in _attempt_details(a) if value is not None}
        for a in attempts
    ]
    return data


def _attempt_details(attempt: Attempt) -> list[tuple[str, Any]]:
    return [
        ("httpStatus", attempt.http_status),
        ("code", attempt.code),
        ("subcode", attempt.subcode),
        ("traceId", attempt.trace_id),
        ("message", attempt.message),
    ]


def stored_click_data(
    row: ClickRow, fbclid: str, reason: str | None, conversions: list[int], public: PublicIds
) -> dict[str, Any]:
    """The GET's answer for a click: the POST's, with what came of it."""
    data: dict[str, Any] = {
        "clickId": public.public("click", row.id),
        "fbclid": fbclid,
        "tracked": reason is None,
        "timestamp": times.text(row.ts),
        "lastSeen": times.text(row.last_ts),
        "conversions": [public.public("conv", i) for i in conversions],
    }
    return data if reason is None else data | {"reason": reason}
