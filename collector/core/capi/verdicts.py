"""What does an answer of Meta's Graph mean for the events that were sent?

The table is data: code and subcode decide, not the HTTP status (throttling comes as 400) and never the text, which is
localised. D4: only 100 with a subcode 28040xx, and 105, judge an event. Every other code is about the call, the app,
the token or the version, also one that no document names: the queue stops and its events stay. A page of HTML, a
proxy's 403 or a cut connection judges nothing. The answer is hostile: numbers are bounded, texts cut, types checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct


class Kind(StrEnum):
    """What came of a request; also the word in `request.outcome`."""

    SENT = "sent"
    SHORT = "short"  # 200, and Meta counted fewer events than were sent
    GARBLED = "garbled"  # 200 that is not Meta's JSON: no success, and in doubt
    UNREACHED = "unreached"  # nothing was sent: DNS, connection, TLS
    LOST = "lost"  # sent, and no answer came: in doubt
    TRANSIENT = "transient"  # Meta or something before it has a fault of its own
    THROTTLED = "throttled"
    BLOCKED = "blocked"  # token, permission, pixel, version, any unknown code: the queue stops, events stay
    REFUSED = "refused"  # an event in the batch is at fault
    TOO_BIG = "too_big"
    WALLED = "walled"  # something before Meta takes no such body: one of its events may be why


class Answer(Struct, frozen=True, kw_only=True):
    """What came back over the wire. `fault` is set instead of a status when there was no answer."""

    status: int | None = None
    headers: Mapping[str, str] = {}  # lower-case names
    body: bytes = b""
    fault: str | None = None  # a word for people: "connection refused", "no answer in 15 s"
    body_sent: bool = True  # whether the whole request had left us


class Verdict(Struct, frozen=True, kw_only=True):
    """The judgement. `doubt`: Meta may have taken the events. `index`: the event that Meta's message names."""

    kind: Kind
    message: str
    http_status: int | None = None
    code: int | None = None
    subcode: int | None = None
    trace_id: str | None = None
    received: int | None = None
    doubt: bool = False
    wait_ms: int | None = None  # what Meta asks us to wait
    slow: bool = False  # a temporary block by policy: retry at the longest interval
    index: int | None = None


# Codes that neither stop a queue nor judge an event; and 80000 to 80099, the business use cases' limits.
_PASSING: Final[dict[int, Kind]] = {
    1: Kind.TRANSIENT,
    2: Kind.TRANSIENT,
    5000: Kind.TRANSIENT,
    21009: Kind.TRANSIENT,  # the data set upload is temporarily not ready
    341: Kind.TRANSIENT,
    368: Kind.TRANSIENT,
    4: Kind.THROTTLED,
    17: Kind.THROTTLED,
    32: Kind.THROTTLED,
    613: Kind.THROTTLED,
}
_USE_CASES: Final = range(80_000, 80_100)
# No call is at fault where Meta says these, so `is_transient` and a status of 5xx do not soften them.
_CERTAIN: Final = frozenset({3, 10, 102, 104, 190, 803, *range(200, 300)})
_UNKNOWN_OBJECT: Final = (100, 33)
_EVENTS_OWN: Final = range(2_804_000, 2_804_100)  # subcodes of 100 that are about the payload
_TIMES: Final = frozenset({2_804_003, 2_804_004})
TOO_MANY_PARAMETERS: Final = 105
_NOT_FOR_A_BODY: Final = frozenset({401, 407, 408})  # of a proxy's answers, and 413 and 429, which say what they mean
_SLOW: Final = frozenset({341, 368})
_MAX_WAIT_MS: Final = 3_600_000  # no header may stop a queue for longer
# Meta's path, with the event's index: Unexpected key "click_id" on param "$['data'][0]['user_data']"
_INDEX: Final = re.compile(r"\$\[['\"]?data['\"]?\]\[(\d{1,4})\]|\bdata\[(\d{1,4})\]", re.ASCII)
_MAX_MESSAGE: Final = 500
_INT32: Final = 1 << 31


def classify(answer: Answer, sent: int) -> Verdict:
    """The verdict over an answer to a request of `sent` events."""
    if answer.fault is not None or answer.status is None:
        return _no_answer(answer)
    body = _object(answer.body)
    if 200 <= answer.status < 300:
        return _success(answer, body, sent)
    error = body.get("error") if body is not None else None
    if isinstance(error, dict) and (code := _int32(error.get("code"))) is not None:
        return _graph_error(answer, error, code)
    return _foreign(answer, readable=isinstance(error, dict))


def _no_answer(answer: Answer) -> Verdict:
    kind = Kind.LOST if answer.body_sent else Kind.UNREACHED
    return Verdict(kind=kind, message=answer.fault or "no answer", doubt=answer.body_sent)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _success(answer: Answer, body: dict[str, Any] | None, sent: int) -> Verdict:
    received = _int32(body.get("events_received")) if body is not None else None
    if received is None:
        message = "HTTP 200 whose body is not Meta's"
        return Verdict(kind=Kind.GARBLED, message=message, http_status=answer.status, doubt=True)
    short = received < sent
    return Verdict(
        kind=Kind.SHORT if short else Kind.SENT,
        message=f"Meta counted {received} of {sent} events" if short else "",
        http_status=answer.status,
        trace_id=_text(body, "fbtrace_id"),
        received=received,
        doubt=short,
    )


def _graph_error(answer: Answer, error: dict[str, Any], code: int) -> Verdict:
    subcode = _int32(error.get("error_subcode"))
    kind = kind_of(code, subcode, transient=error.get("is_transient") is True, status=answer.status or 0)
    text = _text(error, "message") or ""
    title = _text(error, "error_user_title")
    found = _INDEX.search(text) or _INDEX.search(_text(error, "error_user_msg") or "")
    return Verdict(
        kind=kind,
        message=(f"{title}: {text}" if title else text)[:_MAX_MESSAGE],
        http_status=answer.status,
        code=code,
        subcode=subcode,
        trace_id=_text(error, "fbtrace_id"),
        wait_ms=wait_of(answer.headers),
        slow=code in _SLOW,
        index=int(found[1] or found[2]) if found and kind is Kind.REFUSED else None,
    )


def kind_of(code: int, subcode: int | None, *, transient: bool, status: int) -> Kind:
    """The class of a Graph error. `is_transient` spares what would else be refused, never a dead token."""
    if code in _CERTAIN or (code, subcode) == _UNKNOWN_OBJECT:
        return Kind.BLOCKED
    if code in _USE_CASES:
        return Kind.THROTTLED
    if (passing := _PASSING.get(code)) is not None:
        return passing
    if judges_an_event(code, subcode) and not transient:
        return Kind.REFUSED
    if status == 429:
        return Kind.THROTTLED
    return Kind.TRANSIENT if transient or status >= 500 or status == 408 else Kind.BLOCKED


def judges_an_event(code: int, subcode: int | None) -> bool:
    """D4: whether the error is about an event, so that it may kill one."""
    return code == TOO_MANY_PARAMETERS or is_events_own(code, subcode)


def is_events_own(code: int | None, subcode: int | None) -> bool:
    """Whether Meta names a fault of the event's own fields, which it would find in no other event."""
    return code == 100 and subcode in _EVENTS_OWN


def _foreign(answer: Answer, *, readable: bool) -> Verdict:
    """An error that is not Graph's: a proxy, a firewall, a gateway before Meta. It says nothing about the events.

    `readable`: it is Graph's all the same, and names no code.
    """
    status = answer.status or 0
    kind, doubt = Kind.TRANSIENT, False
    if status == 429:
        kind = Kind.THROTTLED
    elif status == 413:
        kind = Kind.TOO_BIG
    elif 400 <= status < 500 and status not in _NOT_FOR_A_BODY and not readable:
        kind = Kind.WALLED
    elif status >= 500:
        doubt = True  # a gateway may have passed the request on before it failed
    wait_ms = wait_of(answer.headers)
    message = f"HTTP {status} whose body is not Meta's"
    return Verdict(kind=kind, message=message, http_status=status, doubt=doubt, wait_ms=wait_ms)


def wait_of(headers: Mapping[str, str]) -> int | None:
    """What the headers ask us to wait (ms, at most an hour): Retry-After in seconds, or the usage headers' minutes."""
    waits = [_retry_after(headers)]
    for name in ("x-business-use-case-usage", "x-business-use-case", "x-app-usage", "x-ad-account-usage"):
        if name in headers:
            waits.append(_regain(headers[name]))
    longest = max(waits)
    return min(longest, _MAX_WAIT_MS) if longest > 0 else None


def _retry_after(headers: Mapping[str, str]) -> int:
    """Seconds, or a date (RFC 9110), which is taken from the answer's own Date: its clock, not ours."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text) * 1000
    until, now = _date_ms(text), _date_ms(headers.get("date", ""))
    return until - now if until is not None and now is not None else 0


def date_of(headers: Mapping[str, str]) -> int | None:
    """The clock of who answered (ms); None where it does not say."""
    return _date_ms(headers.get("date", ""))


def is_metas(verdict: Verdict) -> bool:
    """Whether Graph itself has answered, and not something before it."""
    return verdict.code is not None or verdict.received is not None


def is_about_time(verdict: Verdict) -> bool:
    """Whether Meta refuses an event for its time: too old, or of the future."""
    return verdict.code == 100 and verdict.subcode in _TIMES


def _date_ms(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _regain(text: str) -> int:
    """`estimated_time_to_regain_access` (minutes), wherever it stands in the header's JSON."""
    try:
        usage = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return 0
    return _longest_regain(usage, 0) * 60_000


def _longest_regain(node: Any, depth: int) -> int:
    if depth > 4:
        return 0
    if isinstance(node, dict):
        own = node.get("estimated_time_to_regain_access")
        here = int(own) if isinstance(own, int | float) and 0 < own < 1e6 else 0
        return max([here, *(_longest_regain(child, depth + 1) for child in node.values())])
    if isinstance(node, list):
        return max((_longest_regain(child, depth + 1) for child in node), default=0)
    return 0


def _text(body: dict[str, Any] | None, key: str) -> str | None:
    """A text of the answer, cut, in one line: it ends in the log, the database and the console."""
    value = body.get(key) if body is not None else None
    if not isinstance(value, str):
        return None
    return "".join(char if char.isprintable() else " " for char in value[:_MAX_MESSAGE])


def _int32(value: Any) -> int | None:
    """A number that Meta may mean; None for any other type, and for one that SQLite or a table could not hold."""
    return value if type(value) is int and -_INT32 <= value < _INT32 else None
