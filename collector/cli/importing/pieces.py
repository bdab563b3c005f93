"""A file as pieces: the items of the API's batch, each with its line and where the next one begins in the file.

NDJSON is read line by line, CSV record by record; neither is ever held whole. Our own exports are read too: what says
that it is no person's, or nobody's order yet, is left out, and what was sent from there is not sent again.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, BinaryIO, Final, Literal

import msgspec
from msgspec import Raw, Struct

Kind = Literal["click", "conversion", "event"]
Form = Literal["ndjson", "csv"]
LONGEST_LINE: Final = 4 * 1024 * 1024
_MARK: Final = b"\xef\xbb\xbf"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")  # before which our exports put an apostrophe
_TREES: Final = frozenset({"products", "customData", "customerData", "consent"})
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)  # as JSON has it: the contract says number
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
        return _records(file, shape, offset, line)
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


def _records(file: BinaryIO, shape: Shape, offset: int, line: int) -> Iterator[Piece]:
    """A record may span lines, so where it ends is where its last line does."""
    reader = _Reader(file)
    header = next(reader.records, None)
    names = [shape.columns.get(name.strip(), name.strip()) for name in header or []]
    if not names or not any(names):
        raise ValueError("it has no line of column names")
    if offset:
        file.seek(offset)
        reader = _Reader(file, offset, line)
    while True:
        try:
            cells = next(reader.records, None)
        except (csv.Error, UnicodeError) as error:
            yield Piece(reader.line, reader.offset, fault=f"no CSV: {type(error).__name__}")
            continue
        if cells is None:
            return
        if any(cells):
            yield _record(reader, names, cells, shape)


def _record(reader: _Reader, names: list[str], cells: list[str], shape: Shape) -> Piece:
    if len(cells) > len(names):
        fault = f"{len(cells)} cells under {len(names)} columns"
        return Piece(reader.line, reader.offset, fault=fault)
    tree: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=False):
        if name and cell:
            _put(tree, name, cell)
    return _piece(reader.line, reader.offset, _encode(tree), shape)


def _put(tree: dict[str, Any], name: str, cell: str) -> None:
    outer, _, inner = name.partition(".")
    text = cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
    value: Any = {"true": True, "false": False}.get(text, text)
    if name == "eventValue" and _NUMBER.fullmatch(text.strip()):
        value = Raw(text.strip().encode())
    elif name in _TREES:
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return
    if not inner:
        tree[name] = value
    elif isinstance(within := tree.setdefault(outer, {}), dict):
        within[inner] = value


class _Reader:
    """CSV records of a file, counting the lines and bytes that they took."""

    def __init__(self, file: BinaryIO, offset: int = 0, line: int = 0) -> None:
        self._file, self.offset, self.line = file, offset, line
        self.records = csv.reader(self._decoded(), strict=True)

    def _decoded(self) -> Iterable[str]:
        for line, offset, raw in _bounded(self._file, self.offset, self.line):
            self.line, self.offset = line, offset
            yield (raw.removeprefix(_MARK) if self.line == 1 else raw).decode()


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
    if more.get("type") != "click" and b'"click"' not in members.get("type", b"") and not _is_named(members):
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
