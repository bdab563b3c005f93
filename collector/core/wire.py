"""Bytes into bodies: one prepared decoder per body type, and every fault of the bytes in the contract's words.

Unknown fields are ignored and named. Seeing them costs nothing on the usual path: the decoders refuse unknown keys, and
only a refused body is taken apart, pruned and decoded again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar, get_args

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from collector.core.events import ClickBody, Consent, ConversionBody, CustomerData, Marketing, Product
from collector.errors import ApiError

MAX_ITEMS: Final = 1000
_MAX_DEPTH: Final = 16
_MAX_NODES: Final = 2_000
_MAX_INTEGER: Final = 1 << 53  # beyond it JavaScript and Meta lose digits


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
_UNKNOWN: Final = re.compile(r"^Object contains unknown field ")
# What to say where msgspec says "Invalid …" with the caller's value, or with nothing.
_EXPECTED: Final = {
    "consent.marketing": f"one of {', '.join(get_args(Marketing))}",
    "eventValue": "a number",
    "type": "one of click, conversion, event",
}
# msgspec takes "12.50" for a decimal; the contract says number.
_QUOTED_VALUE: Final = re.compile(rb'"eventValue"\s*:\s*"')
_CLICK_TAG: Final = re.compile(rb'"type"\s*:\s*"click"')
_NUL: Final = b"\\u0000"


def decode_click(raw: bytes) -> tuple[ClickBody, Sequence[str]]:
    """A click body and the names of the fields that were ignored; ApiError for anything else."""
    return _decode(_click, raw, _CLICK_FIELDS)


def decode_conversion(raw: bytes) -> tuple[ConversionBody, Sequence[str]]:
    """A conversion or event body and the names of the fields that were ignored; ApiError for anything else."""
    return _decode(_conversion, raw, _CONVERSION_FIELDS)


def decode_batch(raw: bytes, *, lines: bool = False) -> list[tuple[Item, Sequence[str]] | ApiError]:
    """Every item of a JSON array (or of NDJSON) by itself: a bad one becomes its error, in its place."""
    if not lines and not _may_hold_nul(raw) and _QUOTED_VALUE.search(raw) is None:
        try:
            items = _items.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # at least one item is bad or has unknown fields: each is looked at by itself below
        else:
            _check_count(len(items))
            return [(item, ()) if type(item) is ClickItem else _checked_item(item) for item in items]
    pieces = split_batch(raw, lines=lines)
    _check_count(len(pieces))
    return [decode_item(piece) for piece in pieces]


def split_batch(raw: bytes, *, lines: bool) -> Sequence[bytes | Raw]:
    """The items of a batch as they came; ApiError where it is no array."""
    return _split_lines(raw) if lines else _split_array(raw)


def _checked_item(item: Item) -> tuple[Item, Sequence[str]] | ApiError:
    try:
        _check_tree(item)
    except ApiError as error:
        return error
    return item, ()


def decode_item(piece: bytes | Raw) -> tuple[Item, Sequence[str]] | ApiError:
    """One item by itself; its known fields are those of its type."""
    raw = bytes(piece)
    try:
        return _decode(_item, raw, _CLICK_ITEM_FIELDS if _is_click(raw) else _CONVERSION_ITEM_FIELDS)
    except ApiError as error:
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


def _decode(decoder: Decoder[Any], raw: bytes, known: frozenset[str]) -> tuple[Any, Sequence[str]]:
    check_strings(raw)
    try:
        body = decoder.decode(raw)
    except msgspec.ValidationError as error:
        if _UNKNOWN.match(str(error)) is None:
            raise _fault(str(error)) from error
        return _decode_pruned(decoder, raw, known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken_json(error) from error
    if decoder is not _click:
        _check_quoted_value(raw)
        _check_tree(body)
    return body, ()


def _broken_json(error: Exception) -> ApiError:
    if isinstance(error, RecursionError):
        return ApiError("invalid_json", "the JSON is nested too deeply")
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
    if path in _REQUIRED and ("got `null`" in text or "length >= 1" in text):
        return ApiError("missing_required_field", f"{path} is required", path)
    if text.startswith("Invalid "):
        text = f"expected {_EXPECTED.get(path, 'one of the values of the contract')}"
    return ApiError("invalid_field", f"{path}: {text[0].lower()}{text[1:]}", path)


def _decode_pruned(decoder: Decoder[Any], raw: bytes, known: frozenset[str]) -> tuple[Any, Sequence[str]]:
    ignored: list[str] = []
    pruned = _prune(raw, known, "", ignored)
    body, _ = _decode(decoder, pruned, known) if ignored else (None, None)
    if body is None:
        raise ApiError("invalid_json", "the body must be a JSON object")
    return body, ignored


def _prune(raw: bytes, known: frozenset[str], path: str, ignored: list[str]) -> bytes:
    """`raw` without the keys that nobody knows, at every level that has a fixed set of keys."""
    try:
        members = _raw_object.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw
    kept: dict[str, Raw] = {}
    for name, value in members.items():
        if name not in known:
            ignored.append(_printable(path + name))
        elif (inner := _NESTED.get(name)) is not None and bytes(value)[:1] == b"{":
            kept[name] = Raw(_prune(bytes(value), inner, f"{path}{name}.", ignored))
        elif name == "products":
            kept[name] = _prune_products(value, ignored)
        else:
            kept[name] = value
    return msgspec.json.encode(kept)


def _prune_products(value: Raw, ignored: list[str]) -> Raw:
    try:
        products = _raw_items.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value
    pruned = [Raw(_prune(bytes(p), _PRODUCT_FIELDS, f"products[{i}].", ignored)) for i, p in enumerate(products)]
    return Raw(msgspec.json.encode(pruned))


def _printable(name: str) -> str:
    """A caller's field name, fit for a response header."""
    return re.sub(r"[^A-Za-z0-9_.\[\]-]", "?", name)[:64]


def _may_hold_nul(raw: bytes) -> bool:
    """A single byte is looked for by memchr, a longer string at 2 ns a byte."""
    return b"\\" in raw and _NUL in raw


def check_strings(raw: bytes) -> None:
    """Refuse NUL in any string: SQLite would cut the text there."""
    if _may_hold_nul(raw):
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


def _check_quoted_value(raw: bytes) -> None:
    if _QUOTED_VALUE.search(raw) is not None and _member(raw, "eventValue").startswith(b'"'):
        raise ApiError("invalid_field", "eventValue: expected a number, got a string", "eventValue")


def _check_tree(body: Any) -> None:
    tree = getattr(body, "custom_data", None)
    if tree:
        check_custom_data(tree)


def check_custom_data(tree: dict[str, Any]) -> None:
    """Bound what `customData` may hold: depth, size, integers that survive JavaScript and SQLite."""
    if _count(tree, 0) > _MAX_NODES:
        raise ApiError("invalid_field", f"customData: at most {_MAX_NODES} values", "customData")


def _count(tree: Any, depth: int) -> int:
    if depth > _MAX_DEPTH:
        raise ApiError("invalid_field", f"customData: nested over {_MAX_DEPTH} levels deep", "customData")
    if isinstance(tree, dict):
        return 1 + sum(_count(value, depth + 1) for value in tree.values())
    if isinstance(tree, list):
        return 1 + sum(_count(value, depth + 1) for value in tree)
    if isinstance(tree, int) and abs(tree) > _MAX_INTEGER:
        raise ApiError("invalid_field", "customData: an integer is beyond 2^53", "customData")
    return 1


def _names(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct))


_CLICK_FIELDS: Final = _names(ClickBody)
_CONVERSION_FIELDS: Final = _names(ConversionBody)
_CLICK_ITEM_FIELDS: Final = _CLICK_FIELDS | {"type"}
_CONVERSION_ITEM_FIELDS: Final = _CONVERSION_FIELDS | {"type"}
_PRODUCT_FIELDS: Final = _names(Product)
_NESTED: Final[dict[str, frozenset[str]]] = {"customerData": _names(CustomerData), "consent": _names(Consent)}
_REQUIRED: Final = frozenset(
    f.encode_name for s in (ClickBody, ConversionBody) for f in msgspec.structs.fields(s) if f.required
)
