"""A shop's own export of its orders, row by row: what reconciliation asks of it, and nothing of a person (C5, C6)."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from collector.core import statuses
from collector.core.shops.mapping import decimal_of

KEYS: Final = ("order", "date", "total", "currency", "status")
_SHOPIFY: Final = {
    "order": "Name",
    "id": "Id",
    "date": "Created at",
    "total": "Total",
    "currency": "Currency",
    "status": "Financial Status",
    "cancelled": "Cancelled at",
    "refunded": "Refunded Amount",
    "channel": "Source",
}
_WOOCOMMERCE: Final = {"order": "Order #", "date": "Date", "status": "Status"}  # it has no gross total
FORMATS: Final = {"shopify": _SHOPIFY, "woocommerce": _WOOCOMMERCE}
NAMES: Final = frozenset(name for columns in FORMATS.values() for name in columns.values())
_NEEDED: Final = {
    "shopify": ("order", "date", "total", "currency", "status"),
    "woocommerce": ("order", "date", "status"),
}
_DRAFTS: Final = frozenset(("checkout-draft", "draft", "auto-draft", "new"))
# Also as a spreadsheet writes it back, where that can be read in one way alone: 11/12/2026 is two days.
_WHEN: Final = re.compile(
    r"(?:(?P<day>\d{4}[-/]\d{2}[-/]\d{2})|(?P<written>\d{1,2}\.\d{1,2}\.\d{4}))"
    r"(?:[T ](?P<time>\d{1,2}:\d{2}(?::\d{2})?)(?:\.\d+)?\s?(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?"
)


_LONGEST_AMOUNT: Final = 64
_AMOUNT: Final = re.compile(r"\s*(-?)(?:[^0-9-]*[^0-9.,\s-][^0-9-]*)?(-?[0-9.,'’\s]*[0-9])[^0-9]*")


class FileOrder(Struct, frozen=True):
    """An order as the export has it. `names`: what it may be called here, its own first; `ts` in ms."""

    names: tuple[str, ...]
    ts: int
    status: str | None
    value: Decimal | None
    currency: str
    channel: str = ""
    body: bytes = b""  # as the platform gave it, where it did
    platform: str = ""
    unsent: str = ""  # why its event would never go
    draft: bool = False


class BadRow(Struct, frozen=True):
    """A row that is no order; `number` as a spreadsheet counts."""

    number: int
    why: str


class UnknownColumns(ValueError):
    """The file's head names no format that is known; the text says what was seen, and the nearest."""


def columns_of(head: list[str], form: str, given: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    """The format, and where each column is; UnknownColumns where one that is needed is missing."""
    seen = {name.strip().lower(): n for n, name in reversed(list(enumerate(head)))}
    if given:
        return "columns", _placed(given, ("order", "date"), seen, head)
    for name, columns in FORMATS.items():
        if form in ("auto", name) and all(columns[key].lower() in seen for key in _NEEDED[name]):
            return name, _placed(columns, _NEEDED[name], seen, head)
    raise UnknownColumns(_unknown(head, "shopify" if form == "auto" else form, seen))


def _placed(
    columns: Mapping[str, str], needed: Iterable[str], seen: Mapping[str, int], head: list[str]
) -> dict[str, int]:
    for key in needed:
        if columns.get(key, "").lower() not in seen:
            near = difflib.get_close_matches(columns.get(key, key), head, n=1, cutoff=0.0)
            raise UnknownColumns(
                f"no column '{columns.get(key, key)}' for {key}; the nearest is '{near[0] if near else ''}'"
            )
    return {key: seen[name.lower()] for key, name in columns.items() if name.lower() in seen}


def _unknown(head: list[str], form: str, seen: Mapping[str, int]) -> str:
    lacking = [FORMATS[form][key] for key in _NEEDED[form] if FORMATS[form][key].lower() not in seen]
    near = [f"'{name}' (nearest: '{m[0]}')" for name in lacking if (m := difflib.get_close_matches(name, head, 1, 0.0))]
    return f"columns seen: {', '.join(head[:40])}; not found: {', '.join(near)}; say which is which with --columns"


def rows_of(
    lines: Iterable[str], delimiter: str, form: str, given: Mapping[str, str], zone: ZoneInfo
) -> Iterator[FileOrder | BadRow]:
    """The orders of a CSV file, one after the other; a bad row is one, never the end of all."""
    reader = csv.reader((line.replace("\0", "") for line in lines), delimiter=delimiter)
    try:
        head = next(reader, [])
    except csv.Error as error:
        raise UnknownColumns(f"the first line is no CSV ({error})") from None
    name, columns = columns_of(head, form, given)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(reader.line_num, str(error))
            continue
        if not any(row):
            continue
        found = _order(name, {key: row[n].strip() for key, n in columns.items() if n < len(row)}, zone)
        if isinstance(found, str):
            yield BadRow(reader.line_num, found)
        elif found is not None:
            yield found


def _order(form: str, row: Mapping[str, str], zone: ZoneInfo) -> FileOrder | str | None:
    """An order, or why the row is none; None for a further line of the order above it."""
    order = row.get("order", "")
    if form == "shopify" and order and not row.get("date") and not row.get("status") and not row.get("currency"):
        return None
    if not order:
        return "no order number"
    ts = moment(row.get("date", ""), zone)
    if ts is None:
        return "its date cannot be read"
    value = amount(row.get("total", "")) if "total" in row else None
    if "total" in row and value is None:
        return "its total cannot be read"
    status = "cancelled" if row.get("cancelled") else row.get("status") or None
    if value is not None and row.get("refunded"):
        value = max(value - (amount(row["refunded"]) or Decimal(0)), Decimal(0))
    return FileOrder(
        names=_names(row.get("id", ""), order),
        ts=ts,
        status=status,
        value=value,
        currency=row.get("currency", "").upper(),
        channel=row.get("channel", ""),
        unsent=never_sent(status, value),
        draft=form == "woocommerce" and (status or "").lower() in _DRAFTS,
    )


def never_sent(status: str | None, value: Decimal | None) -> str:
    """Why an order that is known by its file alone would not be sent; empty where it would."""
    if statuses.has_ended(status):
        return "ended before sending"
    return "zero value" if value == 0 else ""


def _names(own: str, number: str) -> tuple[str, ...]:
    plain = number.lstrip("#")
    return tuple(dict.fromkeys(name for name in (own, number, plain, f"#{plain}") if name))


def amount(text: str) -> Decimal | None:
    """`1,234.50`, `1.234,50 zł`, `118.90`; None where letters stand between digits."""
    found = _AMOUNT.fullmatch(text) if len(text) <= _LONGEST_AMOUNT else None
    digits = re.sub(r"[^0-9.,-]", "", found[1] + found[2]) if found else ""
    if "," in digits and "." in digits:
        last = max(digits.rfind(","), digits.rfind("."))
        digits = re.sub(r"[.,]", "", digits[:last]) + "." + digits[last + 1 :]
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    elif "," in digits:
        head, _, tail = digits.rpartition(",")
        digits = f"{head.replace(',', '')}.{tail}" if len(tail) != 3 else digits.replace(",", "")
    return decimal_of(digits) if digits else None


def moment(text: str, zone: ZoneInfo) -> int | None:
    """Milliseconds; a time that names no zone is the shop's."""
    found = _WHEN.fullmatch(text.strip())
    if found is None:
        return None
    day = (found["day"] or "-".join(part.zfill(2) for part in reversed(found["written"].split(".")))).replace("/", "-")
    offset = (found["zone"] or "").replace("UTC", "+00:00").replace("Z", "+00:00")
    time = (found["time"] or "00:00:00").zfill(5)
    try:
        at = datetime.fromisoformat(f"{day}T{time}{offset}")
        return int((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


# Of a spreadsheet in a country's own 8 bits (Windows-1252 …) what we read is ASCII; names and towns may be as they are.
ON_FAULT: Final = {"utf-8-sig": "replace"}
_NO_TEXT: Final = (b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")  # Excel's own, zipped, PDF


def decode(head: bytes) -> str:
    """The encoding of a file by its first bytes; UnicodeError where it is no text."""
    if head.startswith(_NO_TEXT):
        raise UnicodeError
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if head[1:2] == b"\0" or head[:1] == b"\0":
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    return "utf-8-sig"


def said_delimiter(line: str) -> str:
    """What Excel's first line `sep=;` says; empty where it is a line of columns."""
    found = re.fullmatch(r"\ufeff?sep=(.)", line.strip("\r\n"), re.IGNORECASE)
    return found[1] if found else ""


def delimiter_of(head: str, known: Container[str] = ()) -> str:
    """What separates the columns of the first line: what makes the most known names of it, then the most names."""
    bare = re.sub(r'"[^"]*"', "", head)

    def weight(mark: str) -> tuple[int, int]:
        names = (name.strip(' \t\r\n"\ufeff') for name in head.split(mark))
        return sum(name in known or name.partition(".")[0] in known for name in names), bare.count(mark)

    return max((",", ";", "\t"), key=weight)
