"""What goes into `custom_data`: value and currency, contents from products, and the caller's own keys that Meta takes.

Meta refuses a wrong type under a key that it knows; free keys pass (meta-capi 1b, 2c). A bad optional field is left out
and named; what a Purchase needs is the caller's to check (payload.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from collector.core.events import Product

_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_DELIVERY: Final = frozenset({"in_store", "curbside", "home_delivery"})
_CONTENT_TYPES: Final = frozenset({"product", "product_group"})
_EMAIL_INSIDE: Final = re.compile(r"[^\s@=&?/]+@[^\s@=&?/]+\.[A-Za-z]{2,}")
# Where people put personal data by mistake. Meta forbids it here in clear, and hashed it belongs to user_data.
_PERSONAL: Final = frozenset(
    [
        "em",
        "email",
        "mail",
        "e_mail",
        "emailaddress",
        "email_address",
        "ph",
        "phone",
        "telephone",
        "mobile",
        "fn",
        "ln",
        "firstname",
        "first_name",
        "lastname",
        "last_name",
        "full_name",
        "fullname",
        "dob",
        "db",
        "date_of_birth",
        "dateofbirth",
        "birthday",
        "ssn",
        "password",
        "address",
        "street",
        "zp",
        "zip",
        "zipcode",
        "postcode",
        "postal_code",
        "ip",
        "ip_address",
        "client_ip_address",
    ]
)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str | int) for v in value)


def _contents(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and _has_id(v) for v in value)


def _has_id(item: dict[str, Any]) -> bool:
    return isinstance(item.get("id"), str | int) and item["id"] != ""


def _one_of(allowed: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in allowed


# The keys that Meta knows, with the check for each. Other keys are the caller's own.
_KNOWN: Final[dict[str, Callable[[Any], bool]]] = {
    "value": lambda v: _number(v) and v >= 0,
    "currency": lambda v: isinstance(v, str) and _CURRENCY.fullmatch(v.upper()) is not None,
    "content_ids": _ids,
    "contents": _contents,
    "content_type": _one_of(_CONTENT_TYPES),
    "content_name": _text,
    "content_category": _text,
    "num_items": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
    "order_id": lambda v: isinstance(v, str | int),
    "search_string": _text,
    "status": lambda v: isinstance(v, str | bool),
    "predicted_ltv": _number,
    "net_revenue": _number,
    "delivery_category": _one_of(_DELIVERY),
    "item_number": lambda v: isinstance(v, str | int),
    "availability": _text,
}


@lru_cache(maxsize=1024)
def is_currency(text: str | None) -> bool:
    """Three capital letters; whether ISO 4217 has them was checked at intake."""
    return text is not None and len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


def own_keys(given: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
    """The caller's customData without what Meta would refuse and without personal data; names what was left out."""
    kept: dict[str, Any] = {}
    for key, value in given.items():
        check = _KNOWN.get(key)
        if value is None:
            continue
        if (check is not None and not check(value)) or _personal(key, value):
            dropped.append(f"custom_data.{key}" if check is not None else "custom_data.personal")
            continue
        kept[key] = value
    return kept


def _personal(key: str, value: Any) -> bool:
    if key.lower() in _PERSONAL:
        return True
    return isinstance(value, str) and "@" in value and _EMAIL_INSIDE.search(value) is not None


def contents_of(products: list[Product], dropped: list[str]) -> list[dict[str, Any]]:
    """Meta's `contents`: items with an id only (2804008). A line of zero pieces is no line."""
    contents: list[dict[str, Any]] = []
    for product in products:
        identity = product.product_id
        if identity is None or identity == "" or product.quantity == 0:
            dropped.append("contents")
            continue
        item: dict[str, Any] = {"id": str(identity)}
        if product.quantity is not None:
            item["quantity"] = product.quantity
        if product.price is not None and product.price >= 0:
            item["item_price"] = product.price
        if product.name:
            item["title"] = product.name
        if product.category:
            item["category"] = product.category
        contents.append(item)
    return contents
