"""Bytes into bodies: one prepared decoder per body type, and every fault of the bytes in the contract's words.

A body that fits is decoded by the strict types at once. Only one that does not is taken apart and read leniently, field
by field (lenient.py): unknown fields and those that cannot be read are left out and named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from collector.core import lenient, refused
from collector.core.events import ClickBody, ConversionBody
from collector.core.lenient import CLICK, CONVERSION, Shape
from collector.errors import ApiError

MAX_ITEMS: Final = 1000
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class ClickItem(ClickBody, tag_field="type", tag="click"):
    """A click inside a batch."""


class ConversionItem(ConversionBody, tag_field="type", tag="conversion"):
    """A conversion inside a batch."""


class EventItem(ConversionBody, tag_field="type", tag="event"):
    """A funnel event inside a batch."""


Item = ClickItem | ConversionItem | EventItem
Body = TypeVar("Body", ClickBody, ConversionBody, Item)

_click: Final = Decoder(ClickBody)
_conversion: Final = Decoder(ConversionBody)
_item: Final = Decoder(Item)
_items: Final = Decoder(list[Item])
_raw_items: Final = Decoder(list[Raw])
_raw_object: Final = Decoder(dict[str, Raw])
_any: Final = Decoder()

_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(\w+)`")
# What to say where msgspec says "Invalid …" with the caller's value, or with nothing.
_EXPECTED: Final = {"eventValue": "a number", "type": "one of click, conversion, event"}
# msgspec takes "12.50" for a decimal; the contract says number.
_QUOTED_VALUE: Final = re.compile(rb'"eventValue"\s*:\s*"')
_CLICK_TAG: Final = re.compile(rb'"type"\s*:\s*"click"')
_NUL: Final = b"\\u0000"
_MOST_DIGITS: Final = 4_000  # Python reads no longer integer
_ENDLESS: Final = Decimal("Infinity")


def decode_click(raw: bytes) -> tuple[ClickBody, Sequence[str]]:
    """A click body and the names of the fields that were ignored; ApiError for anything else."""
    return _decode(_click, ClickBody, raw, CLICK)


def decode_conversion(raw: bytes) -> tuple[ConversionBody, Sequence[str]]:
    """A conversion or event body and the names of the fields that were ignored; ApiError for anything else."""
    return _decode(_conversion, ConversionBody, raw, CONVERSION)


def decode_batch(raw: bytes, *, lines: bool = False) -> list[tuple[Item, Sequence[str]] | ApiError]:
    """Every item of a JSON array (or of NDJSON) by itself: a bad one becomes its error, in its place."""
    if not lines and not may_hold_nul(raw) and _QUOTED_VALUE.search(raw) is None:
        try:
            items = _items.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            items = []  # at least one item is bad or has unknown fields: each is looked at by itself below
        if items and all(type(item) is ClickItem or _is_fit(item) for item in items):
            _check_count(len(items))
            return [(item, ()) for item in items]
    pieces = split_batch(raw, lines=lines)
    _check_count(len(pieces))
    return [decode_item(piece) for piece in pieces]


def split_batch(raw: bytes, *, lines: bool) -> Sequence[bytes | Raw]:
    """The items of a batch as they came; ApiError where it is no array."""
    raw = without_mark(raw)
    return _split_lines(raw) if lines else _split_array(raw)


def decode_item(piece: bytes | Raw) -> tuple[Item, Sequence[str]] | ApiError:
    """One item by itself; its known fields are those of its type."""
    raw = bytes(piece)
    try:
        return _decode(_item, Item, raw, CLICK if _is_click(raw) else CONVERSION)
    except ApiError as error:
        error.order = refused.number_in(raw)
        return error


def _is_click(raw: bytes) -> bool:
    """Whether an item says so itself; customData may say what it likes."""
    return _CLICK_TAG.search(raw) is not None and _member(raw, "type") == b'"click"'


def _member(raw: bytes, name: str) -> bytes:
    """The raw value of a member of the outermost object; empty when there is none."""
    try:
        return bytes(_raw_object.decode(raw).get(name, b""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""


def _split_array(raw: bytes) -> Sequence[bytes | Raw]:
    try:
        return _raw_items.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", "expected a JSON array of items") from error


def _split_lines(raw: bytes) -> Sequence[bytes | Raw]:
    return [line for line in raw.splitlines() if line.strip()]


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise ApiError("payload_too_large", f"a batch has at most {MAX_ITEMS} items, this one has {count}")


def _decode(decoder: Decoder[Any], kind: Any, raw: bytes, shape: Shape) -> tuple[Any, Sequence[str]]:
    check_strings(raw)
    try:
        body = decoder.decode(raw)
    except msgspec.ValidationError:
        return _read_leniently(kind, raw, shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if raw.startswith(_BYTE_ORDER_MARK):
            return _decode(decoder, kind, without_mark(raw), shape)
        raise _broken_json(error) from error
    if shape is not CLICK and (_QUOTED_VALUE.search(raw) is not None or not _is_fit(body)):
        return _read_leniently(kind, raw, shape)
    return body, ()


def _read_leniently(kind: Any, raw: bytes, shape: Shape) -> tuple[Any, Sequence[str]]:
    try:
        _raw_object.decode(raw)  # refuses half a character (a lone surrogate) too
    except msgspec.ValidationError as error:
        raise ApiError("invalid_json", "the body must be a JSON object") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _broken_json(error) from error
    tree = tree_of(raw)
    left_out: list[str] = []
    fields = lenient.read(tree, shape, "", left_out)
    try:
        return msgspec.convert(fields, kind), [printable(name) for name in left_out]
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from error


def tree_of(raw: bytes) -> Any:
    """JSON with its numbers as they stand, whatever their size, and with lone surrogates; ApiError for what is none."""
    try:
        return json.loads(raw.decode(), parse_float=_decimal, parse_int=_whole, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _broken_json(error) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # no computer holds it
        return _ENDLESS


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < _MOST_DIGITS else _ENDLESS


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def without_mark(raw: bytes) -> bytes:
    """The body without the byte order mark that editors and .NET put before it."""
    return raw.removeprefix(_BYTE_ORDER_MARK)


def _is_fit(body: Any) -> bool:
    tree = body.custom_data
    return not tree or lenient.is_fit(tree)


def _broken_json(error: Exception) -> ApiError:
    if isinstance(error, RecursionError):
        return ApiError("invalid_json", "the JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError) or "UTF-8" in str(error):
        return ApiError("invalid_json", "the body is not UTF-8, in which JSON is sent (RFC 8259)")
    where = re.search(r"\(byte (\d+)\)", str(error))
    return ApiError("invalid_json", "the body is not valid JSON" + (f" at byte {where[1]}" if where else ""))


def _fault(message: str) -> ApiError:
    """msgspec's message as the contract's code, message and field; a caller's value never gets into it."""
    at = _PATH.search(message)
    path = at[1] if at else ""
    text = message[: at.start()] if at else message
    if missing := _MISSING.match(text):
        field = f"{path}.{missing[1]}" if path else missing[1]
        return ApiError("missing_required_field", f"{field} is required", field)
    if not path:
        return ApiError("invalid_json", "the body must be a JSON object" if "object" in text else text)
    if text.startswith("Invalid "):
        text = f"expected {_EXPECTED.get(path, 'one of the values of the contract')}"
    return ApiError("invalid_field", f"{path}: {text[0].lower()}{text[1:]}", path)


def printable(name: str) -> str:
    """A caller's field name, fit for a response header."""
    return re.sub(r"[^A-Za-z0-9_.\[\]-]", "?", name)[:64]


def may_hold_nul(raw: bytes) -> bool:
    """Whether NUL is written in it. A single byte is looked for by memchr, a longer string at 2 ns a byte."""
    return b"\\" in raw and _NUL in raw


def check_strings(raw: bytes) -> None:
    """Refuse NUL in any string: SQLite would cut the text there."""
    if may_hold_nul(raw):
        try:
            strings = repr_strings(_any.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _broken_json(error) from error
        if "\x00" in strings:
            raise ApiError("invalid_json", "a string holds the character NUL")


def repr_strings(tree: Any) -> str:
    """All strings of a JSON tree, one after the other."""
    if isinstance(tree, str):
        return tree
    if isinstance(tree, dict):
        return "".join(k + repr_strings(v) for k, v in tree.items())
    return "".join(map(repr_strings, tree)) if isinstance(tree, list) else ""
