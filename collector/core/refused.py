"""What may be kept of what the API refused: which field was at fault, and the order's number where it can be read."""

from __future__ import annotations

import html
import unicodedata
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from collector.core import personal

_MOST_CHARACTERS: Final = 64
_LONGEST: Final = 1_024  # characters of what is looked at: what is longer is no order's number
_MOST_ESCAPED: Final = 8  # times over; what is escaped further hides something
_MOST_BYTES: Final = 16_384  # of a body that is looked into; an order has less, and a refusal should cost little


class _Order(Struct):
    orderId: Any = None  # noqa: N815  the contract's name


_decode: Final = msgspec.json.Decoder(_Order).decode


def number_in(body: bytes) -> str:
    """The order's number in a body that was refused; empty where there is none, or none that can be read."""
    if not body or len(body) > _MOST_BYTES:
        return ""
    try:
        return number_of(_decode(body).orderId)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def number_of(given: Any) -> str:
    """An order's number as it is kept: printable, short, and nobody's e-mail or phone."""
    if not isinstance(given, str | int) or isinstance(given, bool):
        return ""
    text = _printable(str(given)).strip()
    cut = text[:_MOST_CHARACTERS]
    return "" if len(text) > _LONGEST or _is_personal(text) or _is_personal(cut) else cut


def _is_personal(text: str) -> bool:
    """Whether it is, or may be, somebody's in any of the forms that it stands for; asked before a cut halves it."""
    for _ in range(_MOST_ESCAPED):
        if personal.is_in(text):
            return True
        before, text = text, _printable(unicodedata.normalize("NFKC", unquote(html.unescape(text))))
        if text == before:
            return False
    return True


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))
