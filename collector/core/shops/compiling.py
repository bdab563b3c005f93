"""From a table of the configuration to a mapping, or to everything that is wrong with it.

M1  paths, the first that is not empty of several, converters
M2  at most MOST_PATHS paths of eight levels; what is wrong is told all at once, each with its key
M4  names that carry our marks are looked for under `marks` on every platform
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from collector.core.shops import paths
from collector.core.shops.mapping import CONVERTERS, WITH_ARGUMENT, Bare, Lines, Place, Platform, States
from collector.core.shops.paths import Path, Shape

MOST_PATHS: Final = 100
FIELDS: Final = frozenset(
    "orderId names numbers statusAt timestamp eventValue refunded deducted deductedIf currency email phone name "
    "firstName lastName city state zipCode country externalId ipAddress userAgent eventSourceUrl fbclid referrer "
    "fbp fbc visitorId consent eventId test live notification channel renewal renewalOf shop orders "
    "refundId refundAmount".split()
)
TABLES: Final = {  # fields that are lists, and what each of theirs says
    "products": frozenset("productId name price quantity category skip consent".split()),
    "refunds": frozenset("id amount currency at".split()),
}
_EXAMPLES: Final = {
    "products": '{each = "lines[*]", productId = "sku"}',
    "refunds": '{each = "refunds[*]", id = "id", amount = "total | abs"}',
}
REQUIRED: Final = ("orderId", "statusAt", "eventValue", "currency")
STATUSES: Final = frozenset("pending failed authorized paid partially_refunded cancelled voided refunded".split())
_STATUS_KEYS: Final = STATUSES | {"from", "draft", "paid_if", "paid_when", "cancelled_when"}
_MONEY: Final = frozenset(("eventValue", "refunded", "deducted", "refundAmount", "price", "amount"))
_MOMENTS: Final = frozenset(("statusAt", "timestamp", "at"))
MARKS: Final = {
    "fbp": ("_fbp", "fbp", "_elevar__fbp", "_collector_fbp"),
    "fbc": ("_fbc", "fbc", "_elevar__fbc", "_collector_fbc"),
    "visitorId": ("_cv", "visitor_id", "_collector_visitor", "_collector_cv"),
    "consent": ("_consent",),
}

_TRUTHS: Final = frozenset("test live notification renewal deductedIf skip consent".split())

Key = tuple[str | int, ...]
Fault = tuple[Key, str]  # the key below the platform's table, and what is wrong there


class _Compiling:
    """Faults are gathered; what is at fault is left out, so that all the rest is looked at too."""

    def __init__(self, base: tuple[paths.Step, ...]) -> None:
        self.faults: list[Fault] = []
        self.shape = Shape()
        self.count = 0
        self._base = base
        self._placed_so_far: list[tuple[Place, Shape, tuple[paths.Step, ...]]] = []

    def fault(self, key: Key, message: str) -> None:
        self.faults.append((key, message))

    def places(self, key: Key, given: Any, default: str | None = None) -> list[Place]:
        """The paths of a key, from the order on."""
        return _answering(key, [self._placed(path) for path in self.parsed(key, given, default)])

    def parsed(self, key: Key, given: Any, default: str | None = None) -> list[Path]:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.fault(key, "expected a path or a list of paths")
            return []
        return [path for text in texts if (path := self._path(key, text, default)) is not None]

    def _path(self, key: Key, text: str, default: str | None) -> Path | None:
        self.count += 1
        try:
            path = paths.parse(text)
            _check_converters(path)
        except ValueError as error:
            self.fault(key, f"'{text}': {error}")
            return None
        if default and not path.literal and not any(n in ("minor", "naive_utc", default) for n, _ in path.converters):
            path = Path(path.steps, (*path.converters, (default, "")), path.header, None, path.parts, path.absolute)
        return path

    def _placed(self, path: Path) -> Place:
        """The path from the body on, its values decoded."""
        return self._below(self.shape, path, self._base)

    def _below(self, shape: Shape, path: Path, base: tuple[paths.Step, ...] = ()) -> Place:
        converters = tuple((CONVERTERS[name], argument) for name, argument in path.converters)
        if path.parts:
            return Place(parts=tuple(p if isinstance(p, str) else self._below(shape, p, base) for p in path.parts))
        if path.header is not None or path.literal is not None:
            return Place(converters=converters, header=path.header, literal=path.literal)
        place, steps = Place(converters=converters), path.steps if path.absolute else (*base, *path.steps)
        shape.add(steps)
        self._placed_so_far.append((place, shape, steps))
        return place

    def finish(self) -> None:
        """Tell each place its way, once it is known of every value what is asked of it."""
        for place, shape, steps in self._placed_so_far:
            place.hops = hops = shape.hops(steps)
            if all(isinstance(hop, str) for hop in hops):
                place.fields = hops  # type: ignore[assignment]  # all of them, as was just asked
                place.plain = None if place.converters else place.fields
            place.keyed = _keyed(hops)

    def lines(self, field: str, given: Any) -> Lines | None:
        """The table of an order's lines, or of its refunds."""
        key: tuple[str, ...] = ("fields", field)
        if not given:
            return None
        if not isinstance(given, dict) or not isinstance(given.get("each"), str):
            self.fault(key, f"expected a table such as {_EXAMPLES[field]}")
            return None
        if not (each := self.parsed(key, given["each"])):
            return None
        steps = each[0].steps if each[0].absolute else (*self._base, *each[0].steps)
        line, lines = self.shape.add(steps, asked=False), Place()
        self._placed_so_far.append((lines, self.shape, steps))
        fields = {}
        for name, where in given.items():
            if name == "each":
                continue
            self.known((*key, name), name, TABLES[field])
            places = [self._below(line, path) for path in self.parsed((*key, name), where, _default(name))]
            fields[name] = _answering((*key, name), places)
        return Lines(lines, fields)

    def known(self, key: Key, name: str, names: Iterable[str]) -> bool:
        if name in names:
            return True
        self.fault(key, f"unknown key{nearest(name, names)}")
        return False

    def states(self, table: Any) -> States:
        if not isinstance(table, dict):
            self.fault(("status",), "expected a table")
            return States()
        lists = {k: v for k, v in table.items() if self.known(("status", k), k, _STATUS_KEYS)}
        words = {word: ours for ours in STATUSES for word in self.words(ours, lists)}
        return States(
            where=self.places(("status", "from"), lists["from"]) if "from" in lists else [],
            words=words,
            draft=frozenset(self.words("draft", lists)),
            paid_if=frozenset(self.words("paid_if", lists)),
            paid_when=self.places(("status", "paid_when"), lists.get("paid_when", [])),
            cancelled_when=self.places(("status", "cancelled_when"), lists.get("cancelled_when", [])),
        )

    def words(self, name: str, table: dict[str, Any]) -> list[str]:
        given = table.get(name, [])
        if isinstance(given, list) and all(isinstance(word, str) for word in given):
            return given
        self.fault(("status", name), "expected a list of words")
        return []


def _keyed(hops: tuple[paths.Hop | Shape, ...]) -> tuple[tuple[str, ...], str, str] | None:
    """The way to the first elements that a member's word chooses, where nothing but members leads there."""
    for n, hop in enumerate(hops):
        if isinstance(hop, tuple):
            return hops[:n], *hop  # type: ignore[return-value]  # texts, as was just asked of each
        if not isinstance(hop, str):
            return None
    return None


def _answering(key: Key, places: list[Place]) -> list[Place]:
    """The places, each knowing whether a truth is an answer there."""
    for place in places:
        place.truth = key[0] == "status" or key[-1] in _TRUTHS
    return places


def _default(name: str) -> str | None:
    return "decimal" if name in _MONEY else "time" if name in _MOMENTS else None


def _check_converters(path: Path) -> None:
    for part in path.parts:
        if isinstance(part, Path):
            _check_converters(part)
    for name, argument in path.converters:
        if name not in CONVERTERS:
            raise ValueError(f"unknown converter '{name}'{nearest(name, CONVERTERS)}")
        if bool(argument) != (name in WITH_ARGUMENT):
            raise ValueError(f"'{name}' takes {'a name, as in ' + name + ':fbclid' if not argument else 'no argument'}")
        if name == "json":
            paths.parse(argument)


def nearest(name: str, names: Iterable[str]) -> str:
    """ "; did you mean '…'?" of the name that was probably meant."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f"; did you mean '{close[0]}'?" if close else ""


def compiled(table: Mapping[str, Any]) -> tuple[Platform | None, list[Fault]]:
    """The mapping that a platform's table means, or everything that is wrong with it.

    `table`: topic, topics, delivery, order, fields, marks, status, channels as in the configuration; ignore_zero, bare.
    """
    begin = _Compiling(())
    order = begin.parsed(("order",), table.get("order") or "$")
    found = _Compiling(order[0].steps if order else ())
    found.faults += begin.faults
    topic = found.places(("topic",), table.get("topic") or "")
    fields = _fields(found, table.get("fields") or {})
    for name in REQUIRED:
        if not (table.get("fields") or {}).get(name):
            found.fault(("fields", name), f"'{name}' is missing: every platform must say where it is")
    _add_marks(found, fields, table.get("marks"))
    topics = table.get("topics") or {}
    for name, forced in topics.items():
        if forced and forced not in STATUSES and forced != "refund:" and not forced.startswith(("ignore:", "request:")):
            found.fault(("topics", name), f"expected a status or nothing{nearest(forced, STATUSES)}")
        if forced == "refund:" and not {"refundId", "refundAmount"} <= fields.keys():
            found.fault(("topics", name), "a refund alone needs fields refundId and refundAmount")
    if not topics:
        found.fault(("topics",), "name the topics that are taken; all others are ignored")
    lines, refunds = (found.lines(field, (table.get("fields") or {}).get(field)) for field in TABLES)
    states = found.states(table.get("status") or {})
    delivery = found.places(("delivery",), table.get("delivery") or [])
    if found.count > MOST_PATHS:
        found.fault(("fields",), f"{found.count} paths; at most {MOST_PATHS} are read")
    if found.faults:
        return None, found.faults
    found.finish()
    channels = dict(table.get("channels") or {})
    zero = frozenset(table.get("ignore_zero") or ())
    bare = msgspec.convert(table.get("bare") or {}, dict[str, Bare])
    whole = (topic[0], dict(topics), delivery, fields, lines, refunds, states, channels, zero, bare, found.shape)
    return Platform(*whole), []


def _fields(found: _Compiling, table: Mapping[str, Any]) -> dict[str, list[Place]]:
    return {
        name: found.places(("fields", name), where, _default(name))
        for name, where in table.items()
        if name not in TABLES and found.known(("fields", name), name, FIELDS | TABLES.keys())
    }


def _add_marks(found: _Compiling, fields: dict[str, list[Place]], where: Any) -> None:
    """Our marks' names, wherever this platform keeps what a page gave it: `meta[key={}].value` (M4)."""
    for place in [where] if isinstance(where, str) else where or []:
        if not isinstance(place, str) or "{}" not in place:
            found.fault(("marks",), "expected a path with {} where the name stands, as in meta[key={}].value")
            continue
        for field, names in MARKS.items():
            more = found.places(("marks",), [place.replace("{}", name) for name in names])
            fields[field] = [*fields.get(field, ()), *_answering(("fields", field), more)]
