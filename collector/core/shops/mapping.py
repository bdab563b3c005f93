"""What a platform's body says, field by field, by a mapping that is ready (compiling.py makes it of a table).

M1  paths, the first that is not empty of several, converters
M3  what is of another type is absent; money is Decimal from its text; integers keep every digit
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from collector.core import times
from collector.core.shops import money, paths
from collector.core.shops.paths import Scalar, Shape

_SECONDS_DIGITS: Final = (9, 10, 11)
_MOST_DIGITS: Final = 40
_UNSET: Final = frozenset(("false", "no", "0", "null", "none"))


Converter = Callable[[list[str], str], list[str]]


class Place(Struct):
    """A Path that is ready to be asked. `fields`: the way there, where it leads through nothing but members."""

    hops: tuple[paths.Hop | Shape, ...] = ()
    fields: tuple[str, ...] | None = None
    plain: tuple[str, ...] | None = None  # likewise, where nothing is converted
    keyed: tuple[tuple[str, ...], str, str] | None = None  # the way to a list, then which member must say what
    converters: tuple[tuple[Converter | None, str], ...] = ()  # None: "minor", which takes the currency
    header: str | None = None
    literal: str | None = None
    parts: tuple[Place | str, ...] = ()
    truth: bool = False  # a truth is an answer here; elsewhere it is of another type than any value


class Lines(Struct, frozen=True):
    """The lines of an order, or its refunds: where they are, and what each says."""

    each: Place
    fields: dict[str, list[Place]]


class States(Struct, frozen=True):
    """How a platform's words are read; `paid_if`: paid as soon as `paid_when` has a value, else pending."""

    where: list[Place] = []
    words: dict[str, str] = {}  # theirs -> ours
    draft: frozenset[str] = frozenset()
    paid_if: frozenset[str] = frozenset()  # "*": every word that nobody knows
    paid_when: list[Place] = []
    cancelled_when: list[Place] = []


class Bare(Struct, frozen=True):
    """How a message that holds no whole order is known: it has one of the members, and none of another message's."""

    has: frozenset[str]
    lacks: frozenset[str] = frozenset()

    def fits(self, members: Set[str]) -> bool:
        return not self.has.isdisjoint(members) and self.lacks.isdisjoint(members)


class Platform(Struct, frozen=True):
    """A platform, ready to read bodies with."""

    topic: Place
    topics: dict[str, str]
    delivery: list[Place]
    fields: dict[str, list[Place]]
    lines: Lines | None
    refunds: Lines | None
    states: States
    channels: dict[str, str]
    ignore_zero: frozenset[str]  # topics whose orders of 0 are none
    bare: dict[str, Bare]  # by topic
    shape: Shape


class Said:
    """What one body says, asked field by field."""

    def __init__(self, platform: Platform, headers: Mapping[str, str], body: Any) -> None:
        self._platform, self._headers, self._body = platform, headers, body
        self._keyed: dict[tuple[int, str], Any] = {}
        self.odd_amounts = 0

    def first(self, field: str, currency: str = "") -> str | None:
        """The first value of a field that is not empty, as a text."""
        return self._first(self._body, self._platform.fields.get(field, ()), currency)

    def each(self, field: str) -> list[str]:
        """Every value of a field, at any of its places."""
        return [text for place in self._platform.fields.get(field, ()) for text in self._at(self._body, place, "")]

    def is_set(self, field: str) -> bool:
        """Whether any of its places says anything but no."""
        return self._any_set(self._platform.fields.get(field, ()))

    def is_true(self, field: str) -> bool | None:
        """A truth; None where nothing says so."""
        word = self.first(field)
        return None if word is None else word.lower() in ("true", "1", "yes")

    def topic(self) -> str | None:
        return self._first(self._body, (self._platform.topic,))

    def is_bare(self, topic: str) -> bool:
        """Whether messages of the topic hold no whole order."""
        return topic in self._platform.bare

    def delivery(self) -> str:
        """The sender's own id of this message; empty where it has none."""
        return self._first(self._body, self._platform.delivery) or ""

    def lines(self, currency: str) -> list[dict[str, str]]:
        """Each line of the order, what it says by field."""
        return self._rows(self._platform.lines, currency)

    def refunds(self, currency: str) -> list[dict[str, str]]:
        """Each refund of the order, likewise."""
        return self._rows(self._platform.refunds, currency)

    def _rows(self, lines: Lines | None, currency: str) -> list[dict[str, str]]:
        if lines is None:
            return []
        fields = lines.fields.items()
        return [
            {name: found for name, where in fields if (found := self._first(line, where, currency)) is not None}
            for line in paths.among(self._body, lines.each.hops, self._keyed)
            if line is not None
        ]

    def status(self) -> str | None:
        """The word of ours, "draft", or the platform's own word where nobody knows it."""
        states = self._platform.states
        if self._any_set(states.cancelled_when):
            return "cancelled"
        theirs = self._first(self._body, states.where)
        if theirs is None:
            return None
        if theirs in states.draft:
            return "draft"
        known = states.words.get(theirs)
        if theirs in states.paid_if or (known is None and "*" in states.paid_if):
            return "paid" if self._any_set(states.paid_when) else "pending"
        return known or theirs

    def _any_set(self, where: Iterable[Place]) -> bool:
        return any(_is_set(self._first(self._body, (place,))) for place in where)

    def _first(self, base: Any, where: Iterable[Place], currency: str = "") -> str | None:
        for place in where:
            if place.plain is not None:
                if (text := _member(base, place.plain, place.truth)) is not None:
                    return text
            elif place.keyed is not None and not self._has(base, *place.keyed):
                continue  # of a dozen marks that are asked for an order has one or two
            elif found := self._at(base, place, currency):
                return found[0]
        return None

    def _at(self, base: Any, place: Place, currency: str) -> list[str]:
        texts = self._texts(base, place)
        if not texts:  # a sum of nothing is no amount
            return []
        for convert, argument in place.converters:
            texts = convert(texts, argument) if convert is not None else self._minor(texts, currency)
        return [text for text in texts if text.strip()]

    def _texts(self, base: Any, place: Place) -> list[str]:
        if place.fields is not None:
            return [text] if (text := _member(base, place.fields, place.truth)) is not None else []
        if place.literal is not None:
            return [place.literal]
        if place.parts:
            return self._filled(base, place.parts)
        if place.header is not None:
            return [text] if (text := self._headers.get(place.header)) else []
        found = [paths.scalar(one) for one in paths.among(base, place.hops, self._keyed)]
        return [text for value in found if value != "" and (text := _text(value, place.truth)) is not None]

    def _has(self, base: Any, fields: tuple[str, ...], member: str, word: str) -> bool:
        """Whether an element of the list says so."""
        for field in fields:
            base = getattr(base, field, None)
        return type(base) is list and word in paths.by(base, member, self._keyed)

    def _filled(self, base: Any, parts: Iterable[Place | str]) -> list[str]:
        """A text of several values; none where one of them is absent."""
        pieces = [part if isinstance(part, str) else self._first(base, (part,)) for part in parts]
        return ["".join(pieces)] if None not in pieces else []  # type: ignore[arg-type]  # none is None

    def _minor(self, texts: list[str], currency: str) -> list[str]:
        amounts = [money.from_minor(number, currency) for number in _numbers(texts)]
        self.odd_amounts += sum(1 for amount in amounts if amount is not None and amount.odd)
        return [f"{amount.value:f}" for amount in amounts if amount is not None]


def _member(base: Any, fields: tuple[str, ...], truth: bool) -> str | None:
    """The text of a member; None where there is none, or only blanks. `truth`: whether one is an answer."""
    for field in fields:
        base = getattr(base, field, None)
    if base is None:
        return None
    if type(base) is not str:
        base = _text(paths.scalar(base), truth)
    elif "\0" in base:
        return None
    return base if base is not None and len(base) <= paths.LONGEST and base.strip() else None


def _text(value: Scalar | None, truth: bool) -> str | None:
    return value if isinstance(value, str) or value is None else _word(value) if truth else None


def _is_set(moment: str | None) -> bool:
    """Whether something has happened: PHP's shops write false, 0 and a date of zeros for what has not."""
    return moment is not None and moment.strip().lower() not in _UNSET and not moment.startswith("0000-00-00")


def _word(value: Scalar) -> str:
    return value if isinstance(value, str) else "true" if value else "false"


# -- converters: a list of texts each


def decimal_of(text: str) -> Decimal | None:
    """An amount by its text; None for what is none."""
    return _decimal_of(text) if len(text) <= 2 * _MOST_DIGITS else None


@lru_cache(maxsize=4096)  # each is asked for twice, as a field and as an amount, and prices come again
def _decimal_of(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < _MOST_DIGITS else None


def _numbers(texts: Iterable[str]) -> list[Decimal]:
    return [number for text in texts if (number := decimal_of(text)) is not None]


def _decimal(texts: list[str], _: str) -> list[str]:
    return [plain for text in texts if len(text) <= 2 * _MOST_DIGITS and (plain := _plain(text)) is not None]


@lru_cache(maxsize=4096)  # prices come again
def _plain(text: str) -> str | None:
    number = _decimal_of(text)
    return None if number is None else f"{number:f}"


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
            if name in text or "%" in text:
                found += [value for key, value in parse_qsl(urlsplit(text).query, max_num_fields=200) if key == name]
        except ValueError:
            continue
    return found


def _json(texts: list[str], place: str) -> list[str]:
    hops, shape = _within(place)
    trees = [paths.tree(text.encode("utf-8", "replace"), shape) for text in texts]
    found = [paths.scalar(one) for tree in trees for one in paths.among(tree, hops, {})]
    return [_word(value) for value in found if value is not None]


@cache
def _within(place: str) -> tuple[tuple[paths.Hop | Shape, ...], Shape]:
    """How a path of the configuration is read in JSON that stands in a text."""
    path, shape = paths.parse(place), Shape()
    shape.add(path.steps)
    return shape.hops(path.steps), shape


def _unescape(texts: list[str], _: str) -> list[str]:
    import html

    return [html.unescape(text) for text in texts]


def _as_is(texts: list[str], _: str) -> list[str]:
    return texts


def _nonzero(texts: list[str], _: str) -> list[str]:
    return [text for text in texts if text.strip("0. ")]


CONVERTERS: Final[Mapping[str, Converter | None]] = {
    "text": _as_is,
    "url": _as_is,  # made absolute by the store's first domain when it is checked
    "decimal": _decimal,
    "minor": None,  # takes the currency: Said._minor
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
WITH_ARGUMENT: Final = frozenset(("query", "json"))
