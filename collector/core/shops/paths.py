"""Where in a body a value lies: `lines[*].price`, `meta[key=_fbp].value | text`, decoded as far as the paths go.

A body becomes no dicts. The paths of a mapping make one tree of Structs (msgspec.defstruct), decoded in one pass, so
that what nobody asks for is only skipped (2.3 MB: 10 ms). Where something is of another type than expected that pass
refuses the whole; then the same tree is made level by level, and what does not fit is absent where it stands, nowhere
else (M3).

    name.name   [0]  [-1]   [*] each   [key=value] the elements whose member says so
    $.name      from the body, wherever the order begins   header:NAME   =text itself   {path}_{path} a text of several
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

MOST_LEVELS: Final = 8
_MOST_ELEMENTS: Final = 5_000
LONGEST: Final = 65_536  # characters of a text that is read
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
_whole = msgspec.json.Decoder(Raw).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_MISFITS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Step = str | int | tuple[str, str] | None  # a member, an element, those of a key's value, each
Scalar = str | bool
Hop = str | int | tuple[str, str] | None  # a step in the tree: a field of the struct instead of a member's name


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
        self.asked = False  # for itself, and not for what is in it alone

    def add(self, steps: Sequence[Step], *, asked: bool = True) -> Shape:
        """Have the value at `steps` decoded; its shape."""
        shape = self
        for step in steps:
            if isinstance(step, str):
                shape = shape.members.setdefault(step, Shape())
                continue
            shape.element = shape.element or Shape()
            shape = shape.element
            if isinstance(step, tuple):
                shape.members.setdefault(step[0], Shape()).asked = True
        shape.asked |= asked
        return shape

    def hops(self, steps: Sequence[Step]) -> tuple[Hop | Shape, ...]:
        """The way to the value at `steps` in what `read` gives; a Shape where something raw is to be read first."""
        found: list[Hop | Shape] = []
        shape = self
        for step in steps:
            if shape._is_mixed:
                found.append(shape)
            if isinstance(step, str):
                found.append(shape._field(step))
                shape = shape.members[step]
                continue
            assert shape.element is not None, "the steps were added"
            within = shape.element
            found.append((within._field(step[0]), step[1]) if isinstance(step, tuple) else step)
            shape = within
        return tuple(found)

    @property
    def _is_mixed(self) -> bool:
        """Whether it may be this or that (a text, or an object): it stays raw until it is asked for."""
        return self.asked + bool(self.members) + (self.element is not None) > 1

    def _field(self, name: str) -> str:
        return f"m{list(self.members).index(name)}"

    @cached_property
    def _kind(self) -> Any:
        """The type that the value is decoded as, where it fits."""
        if self._is_mixed:
            return Raw
        if self.members:
            return self._made
        return list[self.element._kind | None] if self.element is not None else Any  # type: ignore[name-defined]

    @cached_property
    def _made(self) -> type[Struct]:
        kinds = [Any if (kind := shape._kind) is Any else kind | None for shape in self.members.values()]
        return self._struct("Members", kinds)

    def _struct(self, name: str, kinds: Sequence[Any]) -> type[Struct]:
        fields = [(f"m{n}", kind, None) for n, kind in enumerate(kinds)]
        names = {f"m{n}": member for n, member in enumerate(self.members)}
        return msgspec.defstruct(name, fields, rename=names, gc=False)

    @cached_property
    def _decode(self) -> Any:
        return msgspec.json.Decoder(self._kind, float_hook=_number).decode

    @cached_property
    def _decode_members(self) -> Any:
        return msgspec.json.Decoder(self._struct("RawMembers", [Raw] * len(self.members))).decode

    def fitting(self, raw: bytes | Raw) -> Any:
        """The value as a tree of structs, lists and what is asked for; an error where anything in it does not fit."""
        return self._decode(raw)

    def read(self, raw: bytes | Raw) -> Any:
        """As `fitting`, but whatever does not fit is None."""
        if self._is_mixed:
            return raw
        try:
            return self._decode(raw)
        except _MISFITS:
            return self._piecemeal(raw)

    def _piecemeal(self, raw: bytes | Raw) -> Any:
        try:
            if self.members:
                found = [getattr(self._decode_members(raw), f"m{n}") for n in range(len(self.members))]
                values = zip(self.members.values(), found, strict=True)
                return self._made(*[None if one is None else shape.read(one) for shape, one in values])
            if self.element is not None:
                return [self.element.read(one) for one in _list(raw)]
        except _MISFITS:
            return None
        return _scalar_of(bytes(raw).strip())

    @cached_property
    def _inside(self) -> tuple[Shape, Shape]:
        """As an object alone, and as a list alone."""
        one, many = Shape(), Shape()
        one.members, many.element = self.members, self.element
        return one, many

    def opened(self, raw: Any) -> Any:
        """What a mixed value has in it: as `read`, of its members or its elements."""
        begin = bytes(raw).lstrip()[:1] if isinstance(raw, bytes | Raw) else b""
        return self._inside[begin == b"["].read(raw) if begin in (b"{", b"[") else None


def among(node: Any, hops: Sequence[Any], keyed: dict[tuple[int, str], Any]) -> list[Any]:
    """What lies at these hops. `keyed`: elements by what a member of theirs says, kept for one body."""
    found = [node]
    for hop in hops:
        found = [following for one in found if one is not None for following in _beyond(one, hop, keyed)]
    return found


def _beyond(node: Any, hop: Hop | Shape, keyed: dict[tuple[int, str], Any]) -> Sequence[Any]:
    if isinstance(hop, str):
        return (getattr(node, hop, None),)
    if isinstance(hop, Shape):
        return (hop.opened(node),)
    if not isinstance(node, list):
        return ()
    if isinstance(hop, tuple):
        return by(node, hop[0], keyed).get(hop[1], ())
    if hop is None:
        return node[:_MOST_ELEMENTS]
    return (node[hop],) if -len(node) <= hop < len(node) else ()


def by(elements: list[Any], field: str, keyed: dict[tuple[int, str], Any]) -> dict[Scalar, list[Any]]:
    """The elements by what their member says: a shop's list of attributes is asked for a dozen names."""
    found = keyed.get((id(elements), field))
    if found is None:
        found = keyed[id(elements), field] = {}
        for one in elements[:_MOST_ELEMENTS]:
            if (word := scalar(getattr(one, field, None))) is not None:
                found.setdefault(word, []).append(one)
    return found


def scalar(value: Any) -> Scalar | None:
    """A text, a number as it is written, or a truth; None for all else, and for a text with NUL in it."""
    kind = type(value)
    if kind is str:
        return None if "\0" in value or len(value) > LONGEST else value
    if kind is int:
        return text if len(text := str(value)) < _LONGEST_NUMBER else None
    if kind is Raw or kind is bytes:
        return _scalar_of(bytes(value).strip())
    return value if kind is bool else None


def _number(text: str) -> str | None:
    """A number as it is written; None for one that is longer than any amount."""
    return text if len(text) < _LONGEST_NUMBER and _NUMBER.fullmatch(text) else None


def _scalar_of(raw: bytes) -> Scalar | None:
    if raw in (b"true", b"false"):
        return raw == b"true"
    if raw[:1] != b'"':
        return _number(raw.decode("ascii", "replace")) if len(raw) < _LONGEST_NUMBER else None
    try:
        text = _text(raw)
    except _MISFITS:
        return None
    return None if "\0" in text or len(text) > LONGEST else text


def tree(body: bytes, shape: Shape) -> Any:
    """A body as the struct of its members; None where it is no JSON object."""
    try:
        return shape.fitting(body)
    except _MISFITS:
        pass
    for raw in (body, _mended(body)):
        try:
            _whole(raw)
        except _MISFITS:
            continue
        return shape.read(raw) if raw.lstrip()[:1] == b"{" else None
    return None


def members(body: bytes) -> Set[str]:
    """The names of a body's members, whatever they say; none where it is no JSON object."""
    for raw in (body, _mended(body)):
        try:
            return _members(raw).keys()
        except _MISFITS:
            continue
    return frozenset()


def _mended(body: bytes) -> bytes:
    """Without a mark at its head and halves of surrogate pairs."""
    return _ESCAPES.sub(lambda m: rb"\ufffd" if m["lone"] else m[0], body.removeprefix(b"\xef\xbb\xbf"))
