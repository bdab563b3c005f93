"""A page's beacon as it comes: its shape, and its reading part by part where the shape does not fit (F2, F3).

The format is the snippet's own (edge/assets/collector.js). Its names are one letter: block lists know the usual ones.
What an older snippet has kept in a browser, what a script on the page has bent (`Date.now`, `Array.prototype.toJSON`),
and what a merchant hands over comes here as well: a bad event costs itself, a poor field costs the field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from collector.core import event_names, lenient, times, urls, wire
from collector.core.events import Marketing
from collector.errors import ApiError

MAX_BYTES: Final = 65_536  # browsers give a keepalive request no more
Millis = Annotated[int, Meta(ge=0, le=1 << 53)]


class Happening(Struct, kw_only=True):
    """One event on the page: `at` by its clock, `u` the page, `r` where from, `d` its data, `h` who (customerData)."""

    t: Annotated[str, Meta(min_length=1, max_length=50)]
    i: Annotated[str, Meta(max_length=256)] | None = None
    at: Millis = 0
    u: Annotated[str, Meta(max_length=4096)] = ""
    r: Annotated[str, Meta(max_length=4096)] | None = None
    d: dict[str, Any] = {}
    h: dict[str, Any] | None = None


class Touch(NamedTuple):
    """A landing that a campaign led to: when (the page's clock), and its address."""

    at: Millis
    url: Annotated[str, Meta(max_length=4096)]


class Seed(NamedTuple):
    """What a visitor id is made from where no cookie has come yet: the page's randomness, and when it was drawn."""

    random: Annotated[str, Meta(min_length=16, max_length=64)]
    at: Millis


class Beacon(Struct, kw_only=True):
    """`s` store, `k` publishable key, `n` the page's clock, `c` consent said, `f` and `l` first and last touch,
    `v` seed of the visitor id, `w` a script drives the browser, `x` consent was withdrawn, `e` what happened."""

    s: Annotated[str, Meta(min_length=1, max_length=256)]
    k: Annotated[str, Meta(max_length=512)] | None = None
    n: Millis = 0
    c: Literal["granted", "denied", "pending"] | None = None
    f: Touch | None = None
    l: Touch | None = None  # noqa: E741  # the wire's name
    v: Seed | None = None
    w: int = 0
    x: int = 0
    e: Annotated[list[Happening], Meta(max_length=50)] = []


_MOST_EVENTS: Final = 50
_MOST_MILLIS: Final = 1 << 53
_MOST_IDENT: Final = 256
_MOST_KEY: Final = 512
_SEED_LENGTHS: Final = range(16, 65)
_UNWRITABLE: Final = re.compile("[\x00\ud800-\udfff]")  # SQLite cuts a text at NUL; half a character is none
_OPTIONAL: Final = ("i", "at", "u", "r", "d", "h")  # of an event
_NOTHING: Final = frozenset({"", "0", "false", "null", "undefined"})
_decoder: Final = msgspec.json.Decoder(Beacon)


def decode(raw: bytes, faults: list[ApiError] | None = None, ignored: list[str] | None = None) -> Beacon:
    """The beacon in a body; ApiError for anything else. Unknown keys are a newer snippet's, and are ignored.

    Each event stands alone: `faults` gets what is wrong with those that are left out, `ignored` the names of fields
    that were given and could not be read.
    """
    if not wire.may_hold_nul(raw):
        try:
            return _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # something in it does not fit: each part is looked at by itself
    tree = wire.tree_of(wire.without_mark(raw))
    if not isinstance(tree, dict):
        raise ApiError("invalid_json", "the beacon must be a JSON object")
    named: list[str] = [] if ignored is None else ignored
    said = _read(tree, [] if faults is None else faults, named)
    named += _unread(tree, said, "knflv", "")
    if said.c == "pending" and str(tree["c"]).strip().lower() != "pending":
        named.append("c")
    return said


def _unread(tree: dict[str, Any], said: Struct, names: str | Sequence[str], path: str) -> list[str]:
    """Fields that were given, and of which nothing came."""
    given = [n for n in names if tree.get(n) and not lenient.is_nothing(tree[n])]
    return [path + n for n in given if not getattr(said, n)]


def _read(tree: dict[str, Any], faults: list[ApiError], ignored: list[str]) -> Beacon:
    return Beacon(
        s=_store(tree.get("s")),
        k=_short(tree.get("k"), _MOST_KEY),
        n=_millis(tree.get("n")),
        c=_consent(tree.get("c")),
        f=_touch(tree.get("f")),
        l=_touch(tree.get("l")),
        v=_seed(tree.get("v")),
        w=_mark(tree.get("w")),
        x=_mark(tree.get("x")),
        e=_happenings(tree.get("e"), faults, ignored),
    )


def _store(value: Any) -> str:
    store = _short(value, _MOST_IDENT)
    if not store:
        raise ApiError("missing_required_field", "s, the store, is required", "s")
    return store


def _short(value: Any, most: int) -> str | None:
    """A text, or a number as one; None where it is longer, or cannot be written."""
    text = lenient.text_of(value)
    return text if text is not None and len(text) <= most and _UNWRITABLE.search(text) is None else None


def _millis(value: Any) -> int:
    """A moment by the page's clock; 0, which is "now", where it is none. A `Date` arrives as RFC 3339."""
    number = lenient.number_of(value)
    if number is None and isinstance(value, str):
        return max(0, times.parse(value) or 0)
    return int(number) if number is not None and 0 <= number <= _MOST_MILLIS else 0


def _consent(value: Any) -> Marketing | None:
    """A decision that cannot be read is none yet."""
    return None if lenient.is_nothing(value) else lenient.marketing_of(value) or "pending"


def _mark(value: Any) -> int:
    return 0 if not value or str(value).strip().lower() in _NOTHING else 1


def _touch(value: Any) -> Touch | None:
    at, url = [*_list(value), None, None][:2]
    page = _page(url)
    return Touch(_millis(at), page) if page else None


def _seed(value: Any) -> Seed | None:
    random, at = [*_list(value), None, None][:2]
    text = _short(random, _SEED_LENGTHS[-1])
    return Seed(text, _millis(at)) if text and len(text) in _SEED_LENGTHS else None


def _page(value: Any) -> str:
    """A page's address, cut where an older snippet kept a longer one; its click id stays."""
    if not isinstance(value, str) or _UNWRITABLE.search(value):
        return ""
    return value if len(value) <= urls.MAX_LENGTH else urls.cut(urls.without_personal_data(value))


def _list(value: Any) -> list[Any]:
    """A list, also one that Prototype.js has made a text of, or that stands alone."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = wire.tree_of(value.encode("utf-8", "surrogatepass"))
        except ApiError:
            return []
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else []


def _happenings(value: Any, faults: list[ApiError], ignored: list[str]) -> list[Happening]:
    found = list[Happening]()
    for place, one in enumerate(_list(value)):
        try:
            if place >= _MOST_EVENTS:
                raise ApiError("payload_too_large", f"a beacon has at most {_MOST_EVENTS} events", "e")
            found.append(_happening(one))
            ignored += _unread(one, found[-1], _OPTIONAL, f"e[{place}].")
        except ApiError as fault:
            faults.append(fault)
    return found


def _happening(one: Any) -> Happening:
    if not isinstance(one, dict):
        raise ApiError("invalid_field", "e: expected an object for each event", "e")
    if not _is_writable(one):
        raise ApiError("invalid_json", "a string of the event holds NUL or half a character", "e")
    data, customer = one.get("d"), one.get("h")
    return Happening(
        t=_name(one.get("t")),
        i=_short(one.get("i"), _MOST_IDENT),
        at=_millis(one.get("at")),
        u=_page(one.get("u")),
        r=_page(one.get("r")) or None,
        d=data if isinstance(data, dict) else {},
        h=customer if isinstance(customer, dict) else None,
    )


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ApiError("invalid_field", "t: expected the event's name", "t")
    return event_names.read(value)


def _is_writable(tree: Any) -> bool:
    try:
        return _UNWRITABLE.search(wire.repr_strings(tree)) is None
    except RecursionError:
        return False
