"""Where in a body a value lies: `lines[*].price`, `meta[key=_fbp].value | text`, decoded as far as the paths go.

A body becomes no dicts. The paths of a mapping make one tree of Structs (msgspec.defstruct), each member kept raw until
it is asked for, so that what nobody asks for is only skipped (2.3 MB: 10 ms) and what is of another type than expected
is absent where it stands, and nowhere else (M3).

    name.name   [0]  [-1]   [*] each   [key=value] the elements whose member says so
    $.name      from the body, wherever the order begins   header:NAME   =text itself   {path}_{path} a text of several
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

MOST_LEVELS: Final = 8
_MOST_ELEMENTS: Final = 5_000
_LONGEST: Final = 65_536  # characters of a text that is read
_LONGEST_NUMBER: Final = 512
_STEP: Final = re.compile(
    r"\.?(?P<name>[^.\[\]|{}\s][^.\[\]|{}]*)|\[(?P<index>-?\d{1,4}|\*)\]|\[(?P<key>[^\[\]=]+)=(?P<value>[^\[\]]*)\]"
)
_HOLE: Final = re.compile(r"\{([^{}]+)\}")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
# A surrogate that has lost its other half; the decoder takes no such text, and an order must not be lost for an emoji.
_ESCAPES: Final = re.compile(
    rb"\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

_text = msgspec.json.Decoder(str).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_MISFITS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Step = str | int | tuple[str, str] | None  # a member, an element, those of a key's value, each
Scalar = str | bool


class Path(Struct, frozen=True):
    """One place. `header`, `literal` and `parts` are in its stead; `converters` name and argument, in order."""

    steps: tuple[Step, ...] = ()
    converters: tuple[tuple[str, str], ...] = ()
    header: str | None = None
    literal: str | None = None
    parts: tuple[Path | str, ...] = ()
    absolute: bool = False


def parse(text: str) -> Path:
    """The path; ValueError says what is wrong with it."""
    if text.startswith("="):
        return Path(literal=text[1:])
    if "{" in text:
        return _template(text)
    place, *rest = (piece.strip() for piece in text.split("|"))
    converters = tuple(_converter(piece) for piece in rest)
    if place.startswith("header:"):
        return Path(header=place.removeprefix("header:").strip().lower(), converters=converters)
    absolute = place == "$" or place.startswith(("$.", "$["))
    steps = _steps(place[1:] if absolute else place)
    if not steps and not absolute:
        raise ValueError("an empty path")
    if len(steps) > MOST_LEVELS:
        raise ValueError(f"more than {MOST_LEVELS} levels")
    return Path(steps, converters, absolute=absolute)


def _template(text: str) -> Path:
    pieces = _HOLE.split(text)
    if any("{" in piece or "}" in piece for piece in pieces):
        raise ValueError("braces do not match")
    return Path(parts=tuple(parse(piece) if n % 2 else piece for n, piece in enumerate(pieces) if piece))


def _steps(text: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f"no path from '{text[at : at + 20]}' on; for example lines[*].price")
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["name"] is not None:
        return found["name"].strip()
    if found["index"] is not None:
        return None if found["index"] == "*" else int(found["index"])
    return found["key"].strip(), found["value"].strip()


def _converter(text: str) -> tuple[str, str]:
    name, _, argument = text.partition(":")
    return name.strip(), argument.strip()


class Shape:
    """What is asked of a value: members by their names, elements of a list. Complete before the first body."""

    def __init__(self) -> None:
        self.members: dict[str, Shape] = {}
        self.element: Shape | None = None

    def add(self, steps: Sequence[Step]) -> Shape:
        """Have the value at `steps` decoded; its shape."""
        shape = self
        for step in steps:
            if isinstance(step, str):
                shape = shape.members.setdefault(step, Shape())
                continue
            shape.element = shape.element or Shape()
            shape = shape.element
            if isinstance(step, tuple):
                shape.members.setdefault(step[0], Shape())
        return shape

    @cached_property
    def names(self) -> dict[str, str]:
        """What each member is called in the struct that `read` gives."""
        return {name: f"m{n}" for n, name in enumerate(self.members)}

    @cached_property
    def _made(self) -> type[Struct]:
        names = self.names
        fields = [(field, Raw, None) for field in names.values()]
        return msgspec.defstruct("Members", fields, rename={field: name for name, field in names.items()}, gc=False)

    @cached_property
    def _decode(self) -> Any:
        return msgspec.json.Decoder(self._made).decode

    @cached_property
    def _decode_all(self) -> Any:
        return msgspec.json.Decoder(list[self._made]).decode  # type: ignore[name-defined]

    def read(self, raw: bytes | Raw) -> Any:
        """A struct of the members; None of what is no object."""
        try:
            return self._decode(raw)
        except _MISFITS:
            return None

    def read_all(self, raw: bytes | Raw) -> list[Any] | None:
        """As `read`, of every element of a list at once; None unless each is an object."""
        try:
            return self._decode_all(raw)  # type: ignore[no-any-return]
        except _MISFITS:
            return None


class _Unread:
    """Not looked at yet."""


_UNREAD: Final = _Unread()


class View:
    """A value of a body, decoded when it is first asked for. (A cached_property takes a lock: a third of the time.)"""

    __slots__ = ("_elements", "_keyed", "_members", "_raw", "_read", "_scalar", "_shape")

    def __init__(self, raw: bytes | Raw, shape: Shape, read: Any = _UNREAD) -> None:
        self._raw, self._shape = raw, shape
        self._read = read
        self._members: dict[str, View | None] = {}
        self._elements: list[View] | None = None
        self._keyed: dict[str, dict[Scalar | None, list[View]]] | None = None
        self._scalar: Scalar | _Unread | None = _UNREAD

    def _member(self, name: str) -> View | None:
        try:
            return self._members[name]
        except KeyError:
            pass
        shape, read = self._shape, self._read
        if read is _UNREAD:
            read = self._read = shape.read(self._raw) if shape.members else None
        raw = getattr(read, shape.names[name]) if read is not None else None
        found = self._members[name] = View(raw, shape.members[name]) if raw is not None else None
        return found

    def _all(self) -> list[View]:
        if self._elements is None:
            self._elements = self._read_elements(self._shape.element)
        return self._elements

    def _read_elements(self, shape: Shape | None) -> list[View]:
        if shape is None:
            return []
        if shape.members and shape.element is None and (read := shape.read_all(self._raw)) is not None:
            return [View(b"{}", shape, one) for one in read[:_MOST_ELEMENTS]]
        try:
            return [View(raw, shape) for raw in _list(self._raw)[:_MOST_ELEMENTS]]
        except _MISFITS:
            return []

    @property
    def scalar(self) -> Scalar | None:
        """A text, a number as it is written, or a truth; None for all else, and for a text with NUL in it."""
        found = self._scalar
        if found is _UNREAD:
            found = self._scalar = _scalar_of(bytes(self._raw).strip())
        return found  # type: ignore[return-value]  # read by now

    def at(self, steps: Sequence[Step]) -> list[View]:
        """What lies at these steps."""
        one = self
        for n, step in enumerate(steps):
            if not isinstance(step, str):
                return one._among(steps[n:])
            member = one._member(step)
            if member is None:
                return []
            one = member
        return [one]

    def _among(self, steps: Sequence[Step]) -> list[View]:
        found = [self]
        for step in steps:
            found = [following for view in found for following in view._step(step)]
        return found

    def _step(self, step: Step) -> list[View]:
        if isinstance(step, str):
            member = self._member(step)
            return [] if member is None else [member]
        if isinstance(step, tuple):
            key, value = step
            return self._by(key).get(value, [])
        elements = self._all()
        if step is None:
            return elements
        return [elements[step]] if -len(elements) <= step < len(elements) else []

    def _by(self, key: str) -> dict[Scalar | None, list[View]]:
        """The elements by what their member says: a shop's list of attributes is asked for a dozen names."""
        if self._keyed is None:
            self._keyed = {}
        found = self._keyed.get(key)
        if found is None:
            found = self._keyed[key] = {}
            for one in self._all():
                if (member := one._member(key)) is not None:
                    found.setdefault(member.scalar, []).append(one)
        return found


def _scalar_of(raw: bytes) -> Scalar | None:
    if raw in (b"true", b"false"):
        return raw == b"true"
    if raw[:1] != b'"':
        number = raw.decode("ascii", "replace") if len(raw) < _LONGEST_NUMBER else ""
        return number if _NUMBER.fullmatch(number) else None
    try:
        text = _text(raw)
    except _MISFITS:
        return None
    return None if "\0" in text or len(text) > _LONGEST else text


def view(body: bytes, shape: Shape) -> View | None:
    """A body; None where it is no JSON object."""
    for raw in (body, _mended(body)):
        try:
            msgspec.json.decode(raw, type=Raw)
        except _MISFITS:
            continue
        return View(raw, shape) if raw.lstrip()[:1] == b"{" else None
    return None


def _mended(body: bytes) -> bytes:
    """Without a mark at its head and halves of surrogate pairs."""
    return _ESCAPES.sub(lambda m: rb"\ufffd" if m["lone"] else m[0], body.removeprefix(b"\xef\xbb\xbf"))
