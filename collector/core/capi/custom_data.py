"""What goes into `custom_data`: value and currency, contents from products, and the caller's own keys that Meta takes.

Meta refuses a wrong type under a key that it knows; free keys pass. Each key that it knows has one
lenient reader: "19.99" is a number, a single id a list of one, a bad line of `contents` is left out alone. What of a
person stands in clear, under whatever key and at any depth, is left out (core/personal.py). What a Purchase needs is
the caller's to check (payload.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from msgspec import UNSET

from collector.core import personal
from collector.core.events import Product
from collector.core.personal import NOBODY, Said

_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_DELIVERY: Final = frozenset({"in_store", "curbside", "home_delivery"})
_CONTENT_TYPES: Final = frozenset({"product", "product_group"})
_COMMA_DECIMAL: Final = re.compile(r"\d+,\d{1,2}", re.ASCII)
_MOST_DIGITS: Final = 18

# A reader gives what Meta takes, or None for what it would refuse.
_Reader = Callable[[Any], Any]


def _number(value: Any) -> Any:
    """A finite number as it came; one in a text ("19.99", "19,99") as a number."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = Decimal(text.replace(",", ".") if _COMMA_DECIMAL.fullmatch(text) else text)
        except InvalidOperation:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    exact = Decimal(str(value))
    if not exact.is_finite() or not -_MOST_DIGITS <= exact.adjusted() < _MOST_DIGITS:
        return None
    return abs(value) if exact.is_zero() else value  # -0.0 is 0


def _amount(value: Any) -> Any:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _count(value: Any) -> int | None:
    number = _amount(value)
    return int(number) if number is not None and number == int(number) else None


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    return value if isinstance(value, str) else str(value) if isinstance(value, int | Decimal) else None


def _id(value: Any) -> str | None:
    """An id as text: `products` gives texts too, and Meta compares them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = _text(value)
    return text.strip() or None if text is not None else None


def _ids(value: Any) -> list[str] | None:
    ids = [_id(one) for one in (value if isinstance(value, list) else [value])]
    return [one for one in ids if one is not None] or None


def _contents(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(value, dict):  # one line, or PHP's array with gaps
        value = [value] if "id" in value else list(value.values())
    if not isinstance(value, list):
        return None
    return [line for line in map(_line, value) if line is not None] or None


def _line(line: Any) -> dict[str, Any] | None:
    """One line of contents; None without an id (2804008). What it says beside is left out where it does not fit."""
    identity = _id(line.get("id")) if isinstance(line, dict) else None
    if identity is None:
        return None
    read = {key: reader(line[key]) for key, reader in _OF_A_LINE.items() if line.get(key) is not None}
    if read.get("quantity") == 0:
        return None
    return {"id": identity, **{key: value for key, value in read.items() if value is not None}}


def _one_of(allowed: frozenset[str]) -> _Reader:
    return lambda value: low if isinstance(value, str) and (low := value.strip().lower()) in allowed else None


def _currency(value: Any) -> str | None:
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if _CURRENCY.fullmatch(code) else None


_OF_A_LINE: Final[dict[str, _Reader]] = {
    "quantity": _count,
    "item_price": _amount,
    "title": _text,
    "description": _text,
    "brand": _text,
    "category": _text,
    "delivery_category": _one_of(_DELIVERY),
}
# The keys that Meta knows, with the reader of each. Other keys are the caller's own.
_KNOWN: Final[dict[str, _Reader]] = {
    "value": _amount,
    "currency": _currency,
    "content_ids": _ids,
    "contents": _contents,
    "content_type": _one_of(_CONTENT_TYPES),
    "content_name": _text,
    "content_category": _text,
    "num_items": _count,
    "order_id": _id,
    "search_string": _text,
    "status": lambda value: value if isinstance(value, str | bool) else None,
    "predicted_ltv": _number,
    "net_revenue": _number,
    "delivery_category": _one_of(_DELIVERY),
    "item_number": _id,
    "availability": _text,
}


@lru_cache(maxsize=1024)
def is_currency(text: str | None) -> bool:
    """Three capital letters; whether ISO 4217 has them was checked at intake."""
    return text is not None and len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


def own_keys(given: dict[str, Any], said: Said = NOBODY) -> tuple[dict[str, Any], list[str]]:
    """The caller's customData without what Meta would refuse and what is a person's, and the keys of what was left out.

    `said`: what the event says of its customer, which may stand in clear nowhere. A second reading changes nothing.
    """
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in given.items():
        if value is None or value == "":
            continue
        reader = _KNOWN.get(key)
        read = value if reader is None else reader(value)
        clean = UNSET if read is None else personal.cleaned(key, read, said, known=reader is not None)
        if clean is not UNSET:
            kept[key] = clean
        if clean is UNSET or clean != read or (isinstance(value, list) and len(clean) < len(value)):
            left_out.append(key)
    return kept, left_out


def label(key: str) -> str:
    """How a key is named where it is counted: Meta's by their names; others may be of any number, and anybody's."""
    return key if key in _KNOWN else "personal"


def contents_of(products: list[Product], dropped: list[str]) -> list[dict[str, Any]]:
    """Meta's `contents`: items with an id only (2804008). A line of zero pieces is no line."""
    contents: list[dict[str, Any]] = []
    for product in products:
        identity = product.product_id
        if identity is None or identity == "" or product.quantity == 0 or personal.is_in(str(identity)):
            dropped.append("contents")
            continue
        item: dict[str, Any] = {"id": str(identity)}
        if product.quantity is not None:
            item["quantity"] = product.quantity
        if product.price is not None and product.price >= 0:
            item["item_price"] = product.price.copy_abs()
        if product.name and not personal.is_in(product.name):
            item["title"] = product.name
        if product.category and not personal.is_in(product.category):
            item["category"] = product.category
        contents.append(item)
    return contents
