"""A file as pieces: the items of the API's batch, each with its line and where the next one begins in the file.

NDJSON is read line by line, CSV record by record; neither is ever held whole. Our own exports are read too: what says
that it is no person's, or nobody's order yet, is left out, and what was sent from there is not sent again.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Container, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from typing import Any, BinaryIO, Final, Literal, cast

import msgspec
from msgspec import Raw, Struct

from collector.core.events import ClickBody, ConversionBody
from collector.core.shops.exports import decode, delimiter_of, said_delimiter

Kind = Literal["click", "conversion", "event"]
Form = Literal["ndjson", "csv"]
LONGEST_LINE: Final = 4 * 1024 * 1024
_MARK: Final = b"\xef\xbb\xbf"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")  # before which our exports put an apostrophe
_TREES: Final = frozenset({"products", "customData", "customerData", "consent"})
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)  # as JSON has it: the contract says number
# As spreadsheets write amounts: 12,50 and 1.234,50 and 1,234.50 and 1 234,50. 1.234 in a country's own file is two.
_WRITTEN: Final = re.compile(
    r"(-?(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}([.,])[0-9]{3}(?:\2[0-9]{3})*))(?:(?!\2)[.,]([0-9]+))?", re.ASCII
)
_TWO_WAYS: Final = re.compile(r"(-?[1-9][0-9]{0,2})[.,]([0-9]{3})", re.ASCII)
_BLANK: Final = re.compile(r"(?<=[0-9])[ \u00a0\u202f'’](?=[0-9]{3}(?![0-9]))")  # between thousands
_NO_UTF8: Final = "it is not UTF-8 text; save the file as UTF-8 (Excel: CSV UTF-8)"
_KNOWN: Final = frozenset(
    {"type", *(field.encode_name for body in (ClickBody, ConversionBody) for field in msgspec.structs.fields(body))}
)
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Piece(Struct, frozen=True):
    """An item. `raw`: its JSON; else `left_out` or `fault` says why there is none. `end`: bytes up to behind it."""

    line: int
    end: int
    raw: bytes = b""
    left_out: str = ""
    fault: str = ""
    sent: bool = False  # Meta has it from elsewhere


class Shape(Struct, frozen=True, kw_only=True):
    """How a file is to be read. `columns`: our name of each of its columns that is called otherwise."""

    form: Form
    kind: Kind | None
    store: str | None
    columns: Mapping[str, str] = {}


def pieces_of(file: BinaryIO, shape: Shape, *, offset: int = 0, line: int = 0) -> Iterator[Piece]:
    """What the file holds from `offset` on, which is behind so many lines. ValueError where it has no header."""
    if shape.form == "csv":
        return _records(_in_utf8(file), shape, offset, line)
    file.seek(offset) if offset else None
    return _lines(file, shape, offset, line)


def _lines(file: BinaryIO, shape: Shape, offset: int, line: int) -> Iterator[Piece]:
    for number, end, raw in _bounded(file, offset, line):
        text = raw.removeprefix(_MARK).strip()
        if len(raw) > LONGEST_LINE:
            yield Piece(number, end, fault=f"the line is longer than {LONGEST_LINE >> 20} MiB")
        elif text:
            yield _piece(number, end, text, shape)


def _bounded(file: BinaryIO, offset: int, line: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, end and bytes of each line; of one that is too long a byte more than may be."""
    while raw := file.readline(LONGEST_LINE + 1):
        offset += len(raw)
        line += 1
        rest = raw
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
            offset += len(rest)
        yield line, offset, raw


def _in_utf8(file: BinaryIO) -> BinaryIO:
    """A file of UTF-16 ("Unicode text") once more in UTF-8, without a name: its lines are counted as any other's.

    ValueError for what is no text.
    """
    try:
        encoding = decode(cast(io.BufferedReader, file).peek(4)[:4])
        if encoding == "utf-8-sig":
            return file
        whole = tempfile.TemporaryFile()  # noqa: SIM115  until the end
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        while some := text.read(1 << 16):
            whole.write(some.encode())
        text.detach()
    except UnicodeError:
        raise ValueError("it is no text, or broken; export it as CSV in UTF-8") from None
    whole.seek(0)
    return whole


def _records(file: BinaryIO, shape: Shape, offset: int, line: int) -> Iterator[Piece]:
    """A record may span lines, so where it ends is where its last line does."""
    reader = _Reader(file, known=_KNOWN | shape.columns.keys())
    try:
        header = next(reader.records, None)
    except csv.Error as error:
        raise ValueError(f"its first line is no CSV ({error})") from None
    if reader.fault:
        raise ValueError(f"its line of column names: {reader.fault}")
    names = [shape.columns.get(name.strip(), name.strip()) for name in header or []]
    if not names or not any(names):
        raise ValueError("it has no line of column names")
    if offset:
        file.seek(offset)
        reader = _Reader(file, offset, line, reader.delimiter)
    while True:
        reader.fault = ""
        try:
            cells = next(reader.records, None)
        except csv.Error as error:
            yield Piece(reader.line, reader.offset, fault=reader.fault or f"no CSV: {error}")
            continue
        if cells is None:
            return
        if reader.fault:
            yield Piece(reader.line, reader.offset, fault=reader.fault)
        elif any(cells):
            yield _record(reader, names, cells, shape)


def _record(reader: _Reader, names: list[str], cells: list[str], shape: Shape) -> Piece:
    if len(cells) > len(names):
        fault = f"{len(cells)} cells under {len(names)} columns"
        return Piece(reader.line, reader.offset, fault=fault)
    tree: dict[str, Any] = {}
    try:
        for name, cell in zip(names, cells, strict=False):
            if name and cell:
                _put(tree, name, cell, by_comma=reader.delimiter == ",")
    except ValueError as error:
        return Piece(reader.line, reader.offset, fault=str(error))
    return _piece(reader.line, reader.offset, _encode(tree), shape)


def _put(tree: dict[str, Any], name: str, cell: str, *, by_comma: bool) -> None:
    outer, _, inner = name.partition(".")
    text = cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
    value: Any = {"true": True, "false": False}.get(text, text)
    if name == "eventValue" and (number := _number(text.strip(), by_comma=by_comma)):
        value = Raw(number.encode())
    elif name in _TREES:
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return
    if not inner:
        tree[name] = value
    elif isinstance(within := tree.setdefault(outer, {}), dict):
        within[inner] = value


def _number(text: str, *, by_comma: bool) -> str:
    """An amount as JSON has it, empty where it is none; ValueError where it can be read in two ways.

    Where commas divide the columns (our exports, and programs') a point is the decimal point.
    """
    if by_comma and _NUMBER.fullmatch(text):
        return text
    bare = _BLANK.sub("", text)
    if two := _TWO_WAYS.fullmatch(bare):
        whole, rest = two.groups()
        said = f"'{text}' can be read as {whole}{rest} and as {whole}.{rest}: write {whole}{rest}.00 or {whole}.{rest}0"
        raise ValueError(f"eventValue: {said}")
    found = _WRITTEN.fullmatch(bare)
    return re.sub("[.,]", "", found[1]) + (f".{found[3]}" if found[3] else "") if found else ""


class _Reader:
    """CSV records of a file, counting the lines and bytes that they took; its first line says what divides them.

    `fault`: what is wrong with a line since it was emptied; its record is read whole, so the next one begins right.
    """

    def __init__(
        self, file: BinaryIO, offset: int = 0, line: int = 0, delimiter: str = "", known: Container[str] = ()
    ) -> None:
        self._file, self.offset, self.line, self.fault = file, offset, line, ""
        lines = self._decoded()
        if not delimiter:
            first = next(lines, "")
            if not (delimiter := said_delimiter(first)):
                delimiter, lines = delimiter_of(first, known), chain([first], lines)
        self.delimiter = delimiter
        self.records = csv.reader(lines, delimiter=delimiter, strict=True)

    def _decoded(self) -> Iterator[str]:
        for line, offset, raw in _bounded(self._file, self.offset, self.line):
            self.line, self.offset = line, offset
            whole = raw.removeprefix(_MARK) if self.line == 1 else raw
            if len(raw) > LONGEST_LINE:
                self.fault = f"the line is longer than {LONGEST_LINE >> 20} MiB"
            try:
                text = whole.decode()
            except UnicodeDecodeError:  # raised here it would end the reading for good
                self.fault = self.fault or _NO_UTF8
                text = whole.decode(errors="surrogateescape")
            yield text


def _piece(line: int, end: int, raw: bytes, shape: Shape) -> Piece:
    try:
        members = _members(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Piece(line, end, fault="it is no JSON object")
    if (why := _left_out(members)) is not None:
        return Piece(line, end, left_out=why)
    more: dict[str, str] = {}
    if "type" not in members:
        more["type"] = shape.kind or ("conversion" if "eventType" in members else "click")
    if "storeId" not in members and shape.store is not None:
        more["storeId"] = shape.store
    is_click = more.get("type") == "click" or bytes(members.get("type", b"")) == b'"click"'
    if not is_click and not _is_named(members):
        # What has no name of its own is named by what it says, so that the same file twice is the same events.
        more["eventId"] = f"import-{blake2b(raw, digest_size=12).hexdigest()}"
    inner = raw.strip()[1:].lstrip()
    glue = b"" if inner.startswith(b"}") or not more else b","
    whole = b"{" + _encode(more)[1:-1] + glue + inner
    return Piece(line, end, whole, sent=members.get("capiStatus") == Raw(b'"sent"'))


def _is_named(members: Mapping[str, Raw]) -> bool:
    return any(bytes(members.get(name, Raw(b"null"))) not in (b"null", b'""') for name in ("orderId", "eventId"))


def _left_out(members: Mapping[str, Raw]) -> str | None:
    """Why a line of our own export is nothing to import: no person's click, or an order that only a page told."""
    apart = bytes(members.get("tracked", b"")) == b"false"
    if apart and bytes(members.get("reason", b"")) not in (b'"consent"', b'"test"', b"null", b""):
        return "a click that is no person's"
    return "an order that only a page has told" if bytes(members.get("unconfirmed", b"")) == b"true" else None
