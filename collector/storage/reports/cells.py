"""How exported values become cells that a spreadsheet cannot run: RFC 4180 and ASVS 1.2.10."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

# A spreadsheet takes these as the start of a formula, quoted or not.
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
_QUOTED: Final = (",", '"', "\n", "\r")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def record(values: Sequence[Any]) -> str:
    """One CSV record with its CRLF."""
    return ",".join([cell(value) for value in values]) + "\r\n"


def cell(value: Any) -> str:
    """One cell: numbers stay numbers, text cannot become a formula, lists and objects are JSON."""
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    text = value if isinstance(value, str) else _encode(value).decode()
    if text.startswith(_RISKY):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in _QUOTED) else text
