"""A platform as data: which topics it tells, and where in a body each of our fields lies.

M1  paths, the first that is not empty of several, converters
M2  at most MOST_PATHS paths of eight levels; what is wrong is told all at once, each with its key
M3  what is of another type is absent; money is Decimal from its text; integers keep every digit
M4  names that carry our marks are looked for under `marks` on every platform
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from collector.core import times
from collector.core.shops import money, paths
from collector.core.shops.paths import Path, Scalar, Shape, View

MOST_PATHS: Final = 100
FIELDS: Final = frozenset(
    "orderId names numbers statusAt timestamp eventValue refunded deducted deductedIf currency email phone name "
    "firstName lastName city state zipCode country externalId ipAddress userAgent eventSourceUrl fbclid referrer "
    "fbp fbc visitorId consent eventId test live notification channel renewal renewalOf shop orders".split()
)
LINE: Final = frozenset("productId name price quantity category skip".split())
REQUIRED: Final = ("orderId", "statusAt", "eventValue", "currency")
STATUSES: Final = frozenset("pending failed authorized paid partially_refunded cancelled voided refunded".split())
_STATUS_KEYS: Final = STATUSES | {"from", "draft", "paid_if", "paid_when", "cancelled_when"}
_MONEY: Final = frozenset(("eventValue", "refunded", "deducted", "price"))
_MOMENTS: Final = frozenset(("statusAt", "timestamp"))
MARKS: Final = {
    "fbp": ("_fbp", "fbp", "_elevar__fbp", "_collector_fbp"),
    "fbc": ("_fbc", "fbc", "_elevar__fbc", "_collector_fbc"),
    "visitorId": ("_cv", "visitor_id", "_collector_visitor", "_collector_cv"),
    "consent": ("_consent",),
}
_SECONDS_DIGITS: Final = (9, 10, 11)
_MOST_DIGITS: Final = 40

Fault = tuple[tuple[str | int, ...], str]  # the key below the platform's table, and what is wrong there


class Lines(Struct, frozen=True):
    """The lines of an order: where they are, and what each says."""

    each: Path
    fields: dict[str, list[Path]]


class States(Struct, frozen=True):
    """How a platform's words are read; `paid_if`: paid as soon as `paid_when` has a value, else pending."""

    where: list[Path] = []
    words: dict[str, str] = {}  # theirs -> ours
    draft: frozenset[str] = frozenset()
    paid_if: frozenset[str] = frozenset()  # "*": every word that nobody knows
    paid_when: list[Path] = []
    cancelled_when: list[Path] = []


class Platform(Struct, frozen=True):
    """A platform, ready to read bodies with."""

    topic: Path
    topics: dict[str, str]
    delivery: list[Path]
    fields: dict[str, list[Path]]
    lines: Lines | None
    states: States
    channels: dict[str, str]
    ignore_zero: frozenset[str]  # topics whose orders of 0 are none
    shape: Shape


class Said:
    """What one body says, asked field by field."""

    def __init__(self, platform: Platform, headers: Mapping[str, str], body: View) -> None:
        self._platform, self._headers, self._body = platform, headers, body
        self.odd_amounts = 0

    def first(self, field: str, currency: str = "") -> str | None:
        """The first value of a field that is not empty, as a text."""
        return next(iter(self._values(self._body, self._platform.fields.get(field, ()), currency)), None)

    def each(self, field: str) -> list[str]:
        """Every value of a field, at any of its places."""
        return [text for path in self._platform.fields.get(field, ()) for text in self._at(self._body, path, "")]

    def is_true(self, field: str) -> bool | None:
        """A truth; None where nothing says so."""
        word = self.first(field)
        return None if word is None else word.lower() in ("true", "1", "yes")

    def topic(self) -> str | None:
        return next(iter(self._values(self._body, [self._platform.topic])), None)

    def delivery(self) -> str:
        """The sender's own id of this message; empty where it has none."""
        return next(iter(self._values(self._body, self._platform.delivery)), "")

    def lines(self, currency: str) -> list[dict[str, str]]:
        """Each line of the order, what it says by field."""
        lines = self._platform.lines
        if lines is None:
            return []
        return [
            {name: found[0] for name, where in lines.fields.items() if (found := self._values(line, where, currency))}
            for line in self._body.at(lines.each.steps)
        ]

    def status(self) -> str | None:
        """The word of ours, "draft", or the platform's own word where nobody knows it."""
        states = self._platform.states
        if self._values(self._body, states.cancelled_when):
            return "cancelled"
        theirs = next(iter(self._values(self._body, states.where)), None)
        if theirs is None:
            return None
        if theirs in states.draft:
            return "draft"
        known = states.words.get(theirs)
        if theirs in states.paid_if or (known is None and "*" in states.paid_if):
            return "paid" if self._values(self._body, states.paid_when) else "pending"
        return known or theirs

    def _values(self, base: View, where: Iterable[Path], currency: str = "") -> list[str]:
        for path in where:
            if found := self._at(base, path, currency):
                return found
        return []

    def _at(self, base: View, path: Path, currency: str) -> list[str]:
        if path.literal is not None:
            return [path.literal]
        if path.parts:
            return self._filled(base, path.parts)
        if path.header is not None:
            found: list[Scalar] = [self._headers[path.header]] if path.header in self._headers else []
        else:
            found = [value for one in base.at(path.steps) if (value := one.scalar) is not None]
        texts = [_word(value) for value in found if value != ""]
        if not texts:  # a sum of nothing is no amount
            return []
        for name, argument in path.converters:
            texts = self._minor(texts, currency) if name == "minor" else _CONVERTERS[name](texts, argument)
        return [text for text in texts if text.strip()]

    def _filled(self, base: View, parts: Iterable[Path | str]) -> list[str]:
        """A text of several values; none where one of them is absent."""
        pieces = [[part] if isinstance(part, str) else self._at(base, part, "") for part in parts]
        return ["".join(piece[0] for piece in pieces)] if all(pieces) else []

    def _minor(self, texts: list[str], currency: str) -> list[str]:
        amounts = [money.from_minor(number, currency) for number in _numbers(texts)]
        self.odd_amounts += sum(1 for amount in amounts if amount is not None and amount.odd)
        return [f"{amount.value:f}" for amount in amounts if amount is not None]


def _word(value: Scalar) -> str:
    return value if isinstance(value, str) else "true" if value else "false"


# -- converters: a list of texts each


def decimal_of(text: str) -> Decimal | None:
    """An amount by its text; None for what is none."""
    try:
        number = Decimal(text.strip()) if len(text) <= 2 * _MOST_DIGITS else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and abs(number.adjusted()) < _MOST_DIGITS else None


def _numbers(texts: Iterable[str]) -> list[Decimal]:
    return [number for text in texts if (number := decimal_of(text)) is not None]


def _decimal(texts: list[str], _: str) -> list[str]:
    return [f"{number:f}" for number in _numbers(texts)]


def _sum(texts: list[str], _: str) -> list[str]:
    return [f"{sum(_numbers(texts), Decimal(0)):f}"]


def _abs(texts: list[str], _: str) -> list[str]:
    return [f"{abs(number):f}" for number in _numbers(texts)]


def _time(texts: list[str], _: str) -> list[str]:
    return [times.exact(at) for text in texts if (at := _moment(text.strip())) is not None]


def _moment(text: str) -> int | None:
    """Milliseconds: of RFC 3339, of seconds or milliseconds since 1970."""
    if text.isascii() and text.isdigit():
        return int(text) * 1000 if len(text) in _SECONDS_DIGITS else int(text) if len(text) in (12, 13, 14) else None
    return times.parse(text)


def _naive(texts: list[str], _: str) -> list[str]:
    return _time([f"{text.strip()}Z" for text in texts], "")


def _gid(texts: list[str], _: str) -> list[str]:
    return [text.partition("?")[0].rpartition("/")[2] for text in texts]


def _query(texts: list[str], name: str) -> list[str]:
    found = []
    for text in texts:
        try:
            found += [value for key, value in parse_qsl(urlsplit(text).query, max_num_fields=200) if key == name]
        except ValueError:
            continue
    return found


def _json(texts: list[str], place: str) -> list[str]:
    path, shape = paths.parse(place), Shape()
    shape.add(path.steps)
    bodies = [paths.view(text.encode("utf-8", "replace"), shape) for text in texts]
    found = [one.scalar for body in bodies if body is not None for one in body.at(path.steps)]
    return [_word(value) for value in found if value is not None]


def _unescape(texts: list[str], _: str) -> list[str]:
    import html

    return [html.unescape(text) for text in texts]


def _as_is(texts: list[str], _: str) -> list[str]:
    return texts


def _nonzero(texts: list[str], _: str) -> list[str]:
    return [text for text in texts if text.strip("0. ")]


_CONVERTERS: Final[Mapping[str, Callable[[list[str], str], list[str]]]] = {
    "text": _as_is,
    "url": _as_is,  # made absolute by the store's first domain when it is checked
    "decimal": _decimal,
    "minor": _as_is,  # takes the currency: Said._minor
    "time": _time,
    "naive_utc": _naive,
    "gid": _gid,
    "query": _query,
    "json": _json,
    "sum": _sum,
    "abs": _abs,
    "unescape": _unescape,
    "nonzero": _nonzero,
}
_WITH_ARGUMENT: Final = frozenset(("query", "json"))


# -- from a table to a mapping


class _Compiling:
    """Faults are gathered; what is at fault is left out, so that all the rest is looked at too."""

    def __init__(self, base: tuple[paths.Step, ...]) -> None:
        self.faults: list[Fault] = []
        self.shape = Shape()
        self.count = 0
        self._base = base

    def fault(self, key: tuple[str | int, ...], message: str) -> None:
        self.faults.append((key, message))

    def paths(self, key: tuple[str | int, ...], given: Any, default: str | None = None) -> list[Path]:
        """The paths of a key, from the order on."""
        return [self._placed(path) for path in self.parsed(key, given, default)]

    def parsed(self, key: tuple[str | int, ...], given: Any, default: str | None = None) -> list[Path]:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.fault(key, "expected a path or a list of paths")
            return []
        return [path for text in texts if (path := self._path(key, text, default)) is not None]

    def _path(self, key: tuple[str | int, ...], text: str, default: str | None) -> Path | None:
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

    def _placed(self, path: Path) -> Path:
        """The path from the body on, its values decoded."""
        if path.parts:
            parts = tuple(part if isinstance(part, str) else self._placed(part) for part in path.parts)
            return Path(parts=parts)
        if path.header is not None or path.literal is not None:
            return path
        steps = path.steps if path.absolute else (*self._base, *path.steps)
        self.shape.add(steps)
        return Path(steps, path.converters)

    def lines(self, given: Any) -> Lines | None:
        """The table of an order's lines."""
        key: tuple[str, ...] = ("fields", "products")
        if not isinstance(given, dict) or not isinstance(given.get("each"), str):
            self.fault(key, 'expected a table such as {each = "lines[*]", productId = "sku"}')
            return None
        each = self.paths(key, given["each"])
        if not each:
            return None
        element = self.shape.add(each[0].steps)
        fields = {}
        for name, where in given.items():
            if name == "each":
                continue
            self.known((*key, name), name, LINE)
            fields[name] = self.parsed((*key, name), where, _default(name))
            for path in fields[name]:
                _add_below(element, path)
        return Lines(each[0], fields)

    def known(self, key: tuple[str | int, ...], name: str, names: Iterable[str]) -> bool:
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
            where=self.paths(("status", "from"), lists["from"]) if "from" in lists else [],
            words=words,
            draft=frozenset(self.words("draft", lists)),
            paid_if=frozenset(self.words("paid_if", lists)),
            paid_when=self.paths(("status", "paid_when"), lists.get("paid_when", [])),
            cancelled_when=self.paths(("status", "cancelled_when"), lists.get("cancelled_when", [])),
        )

    def words(self, name: str, table: dict[str, Any]) -> list[str]:
        given = table.get(name, [])
        if isinstance(given, list) and all(isinstance(word, str) for word in given):
            return given
        self.fault(("status", name), "expected a list of words")
        return []


def _add_below(element: Shape, path: Path) -> None:
    for part in path.parts:
        if isinstance(part, Path):
            _add_below(element, part)
    element.add(path.steps)


def _default(name: str) -> str | None:
    return "decimal" if name in _MONEY else "time" if name in _MOMENTS else None


def _check_converters(path: Path) -> None:
    for part in path.parts:
        if isinstance(part, Path):
            _check_converters(part)
    for name, argument in path.converters:
        if name not in _CONVERTERS:
            raise ValueError(f"unknown converter '{name}'{nearest(name, _CONVERTERS)}")
        if bool(argument) != (name in _WITH_ARGUMENT):
            raise ValueError(f"'{name}' takes {'a name, as in ' + name + ':fbclid' if not argument else 'no argument'}")
        if name == "json":
            paths.parse(argument)


def nearest(name: str, names: Iterable[str]) -> str:
    """ "; did you mean '…'?" of the name that was probably meant."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f"; did you mean '{close[0]}'?" if close else ""


def compiled(table: Mapping[str, Any]) -> tuple[Platform | None, list[Fault]]:
    """The mapping that a platform's table means, or everything that is wrong with it.

    `table`: topic, topics, delivery, order, fields, marks, status, channels as in the configuration; ignore_zero.
    """
    begin = _Compiling(())
    order = begin.parsed(("order",), table.get("order") or "$")
    found = _Compiling(order[0].steps if order else ())
    found.faults += begin.faults
    topic = found.paths(("topic",), table.get("topic") or "")
    fields = _fields(found, table.get("fields") or {})
    for name in REQUIRED:
        if not (table.get("fields") or {}).get(name):
            found.fault(("fields", name), f"'{name}' is missing: every platform must say where it is")
    _add_marks(found, fields, table.get("marks"))
    topics = table.get("topics") or {}
    for name, forced in topics.items():
        if forced and forced not in STATUSES and not forced.startswith(("ignore:", "request:")):
            found.fault(("topics", name), f"expected a status or nothing{nearest(forced, STATUSES)}")
    if not topics:
        found.fault(("topics",), "name the topics that are taken; all others are ignored")
    products = (table.get("fields") or {}).get("products")
    lines = found.lines(products) if products else None
    states = found.states(table.get("status") or {})
    delivery = found.paths(("delivery",), table.get("delivery") or [])
    if found.count > MOST_PATHS:
        found.fault(("fields",), f"{found.count} paths; at most {MOST_PATHS} are read")
    if found.faults:
        return None, found.faults
    channels, zero = dict(table.get("channels") or {}), frozenset(table.get("ignore_zero") or ())
    return Platform(topic[0], dict(topics), delivery, fields, lines, states, channels, zero, found.shape), []


def _fields(found: _Compiling, table: Mapping[str, Any]) -> dict[str, list[Path]]:
    return {
        name: found.paths(("fields", name), where, _default(name))
        for name, where in table.items()
        if name != "products" and found.known(("fields", name), name, FIELDS | {"products"})
    }


def _add_marks(found: _Compiling, fields: dict[str, list[Path]], where: Any) -> None:
    """Our marks' names, wherever this platform keeps what a page gave it: `meta[key={}].value` (M4)."""
    for place in [where] if isinstance(where, str) else where or []:
        if not isinstance(place, str) or "{}" not in place:
            found.fault(("marks",), "expected a path with {} where the name stands, as in meta[key={}].value")
            continue
        for field, names in MARKS.items():
            more = found.paths(("marks",), [place.replace("{}", name) for name in names])
            fields[field] = [*fields.get(field, ()), *more]
