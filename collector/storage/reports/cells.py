"""How exported values become cells that a spreadsheet cannot run: RFC 4180 and ASVS 1.2.10."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

# A spreadsheet takes these as the start of a formula, quoted or not; those of full width where its language has them.
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTED: Final = re.compile(r'[",\r\n]')
_encode = msgspec.json.Encoder(decimal_format="number").encode


def record(values: Sequence[Any]) -> str:
    """One CSV record with its CRLF."""
    return ",".join([cell(value) for value in values]) + "\r\n"


def cell(value: Any) -> str:
    """One cell: numbers stay numbers, text cannot become a formula, lists and objects are JSON."""
    if value is None:
        return ""
    if type(value) is not str:
        return _other(value)
    text: str = "'" + value if value.startswith(_RISKY) else value
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _other(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return f"{value:f}" if isinstance(value, Decimal) else cell(_encode(value).decode())
