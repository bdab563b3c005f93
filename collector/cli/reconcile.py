"""`collector reconcile FILE`: the shop's own export of its orders, beside what is here and what Meta was sent."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import BinaryIO, Final, cast
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from collector.cli.output import print_json, timestamp
from collector.cli.settings import BOTH, config_of
from collector.cli.shop_table import percent, show
from collector.config import Config, StoreConfig
from collector.config_loader import shops
from collector.core import times
from collector.core.shops import exports, order
from collector.core.shops.counted import Line, day_of, share, totals
from collector.core.shops.exports import BadRow, FileOrder, UnknownColumns
from collector.core.shops.mapping import decimal_of
from collector.errors import ConfigError
from collector.process import hardening
from collector.storage import engine
from collector.storage.verbs.shop_files import Compared, Files

_SHOWN: Final = 100
_BATCH: Final = 500
_LONGEST_LINE: Final = 32 * 1024 * 1024


class Missing(Struct, frozen=True):
    """An order that the file has and we have not."""

    order: str
    at: str | None
    value: str | None
    currency: str


class Result(Struct, rename="camel"):
    """What comes of a file."""

    lines: list[Line]
    accuracy: float | None
    orders: int = 0
    missing: list[Missing] = []
    bad_rows: int = 0
    repeated: int = 0
    value_differs: int = 0
    filled: int = 0
    unfit: int = 0  # missing, and --fill cannot take them in: a CSV's row is no whole order


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    store = _store(config, args.store)
    zone = _zone(args.timezone or store.timezone)
    given = _columns(args.columns)
    hardening.harden()
    with closing(engine.shop_files(config, store)) as files, _opened(args.file) as file:
        try:
            result = _compared(files, store, _orders(file, args.format, given, zone, store), zone, fill=args.fill)
        except UnknownColumns as error:
            raise ConfigError([f"{args.file}: {error}"]) from None
        except UnicodeError:
            raise ConfigError([f"{args.file}: it is no text; export it as CSV, or as NDJSON"]) from None
    _show(args, result)
    return 1 if args.min is not None and (result.accuracy is None or result.accuracy < args.min) else 0


def _store(config: Config, wanted: str | None) -> StoreConfig:
    if wanted is None and len(config.store) == 1:
        return config.store[0]
    store = config.store_by_id(wanted or "")
    if store is None:
        raise ConfigError([f"--store: '{wanted or ''}' is not in the configuration; say whose orders these are"])
    return store


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ConfigError([f"--timezone: no time zone '{name}'; for example Europe/Berlin"]) from None


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for key, _, _ in pairs:
        if key.strip() not in exports.KEYS:
            raise ConfigError([f"--columns: '{key.strip()}' is none of {', '.join(exports.KEYS)}"])
    given = {key.strip(): name.strip() for key, _, name in pairs}
    if given and not {"order", "date"} <= given.keys():
        raise ConfigError(["--columns: order=… and date=… are needed"])
    return given


def _opened(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return open(name, "rb")
    except OSError as error:
        raise ConfigError([f"{name}: {error.strerror}"]) from None


def _orders(
    file: BinaryIO, form: str, given: dict[str, str], zone: ZoneInfo, store: StoreConfig
) -> Iterator[FileOrder | BadRow]:
    buffered = cast(io.BufferedReader, file)
    head = buffered.peek(4096)[:4096]
    if form == "ndjson" or (form == "auto" and not given and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"):
        return _of_ndjson(buffered, store)
    encoding = exports.decode(head)
    text = io.TextIOWrapper(buffered, encoding=encoding, errors=exports.ON_FAULT.get(encoding, "strict"), newline="")
    first = next(iter(head.decode(encoding, "ignore").splitlines()), "")
    if said := exports.said_delimiter(first):
        text.readline()
    delimiter = said or exports.delimiter_of(first, exports.NAMES.union(given.values()))
    return exports.rows_of(text, delimiter, form, given, zone)


def _of_ndjson(file: BinaryIO, store: StoreConfig) -> Iterator[FileOrder | BadRow]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if line.strip():
            yield _of_object(line.strip().removeprefix(b"\xef\xbb\xbf"), number, store)


def _of_object(line: bytes, number: int, store: StoreConfig) -> FileOrder | BadRow:
    platform = _platform(line)
    if platform is None:
        return BadRow(number, "no order of Shopify, WooCommerce or Stripe")
    hook = shops.pulled(store, platform)
    header, topic = shops.TOPICS[platform]
    told = order.read(hook.platform, hook.terms, store.id, {header: topic}, line).outcome
    unsent = told.reason if isinstance(told, order.Ignored) else ""
    found = told.order if isinstance(told, order.Ignored) else told
    if not isinstance(found, order.ShopOrder):
        return BadRow(number, f"no order: {unsent or 'a request'}")
    body = found.body
    at = times.parse(body.timestamp or body.status_at or "")
    if at is None:
        return BadRow(number, "its date cannot be read")
    value = decimal_of(str(body.event_value))
    reason = unsent or found.unsent or ("test" if body.test else "") or exports.never_sent(body.order_status, value)
    names = (str(body.order_id), *found.names, *found.numbers)
    return FileOrder(names, at, body.order_status, value, body.currency or "", found.channel, line, platform, reason)


class _Marks(Struct):
    """By what a platform's own order is known."""

    id: msgspec.Raw = msgspec.Raw(b"")
    livemode: msgspec.Raw = msgspec.Raw(b"")
    financial_status: msgspec.Raw = msgspec.Raw(b"")
    date_created_gmt: msgspec.Raw = msgspec.Raw(b"")


def _platform(line: bytes) -> str | None:
    try:
        marks = msgspec.json.decode(line, type=_Marks)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if bytes(marks.id).startswith(b'"gid://shopify/'):
        return "shopify_pull"
    given = {"woocommerce": marks.date_created_gmt, "shopify": marks.financial_status, "stripe": marks.livemode}
    return next((name for name, mark in given.items() if bytes(mark)), None)


def _compared(
    files: Files, store: StoreConfig, found: Iterable[FileOrder | BadRow], zone: ZoneInfo, *, fill: bool
) -> Result:
    result, lines = Result([], None), dict[tuple[str, str, str], Line]()
    good = _good(found, result)
    while batch := list(islice(good, _BATCH)):
        now = time.time_ns() // 1_000_000
        compared = files.compare(batch, now)
        for one in compared:
            _add(result, lines, store, one, zone)
        if fill:
            missing = [one.order for one in compared if "missing" in one.classes.values()]
            result.unfit += sum(not order.body for order in missing)
            result.filled += files.fill(missing)
    result.lines = [lines[key] for key in sorted(lines)]
    for line in result.lines:
        line.accuracy = share(line.sent + line.held + line.ignored, line.orders)
        line.delivered = share(line.sent, line.orders - line.ignored)
    result.accuracy = totals(result.lines).accuracy
    return result


def _good(found: Iterable[FileOrder | BadRow], result: Result) -> Iterator[FileOrder]:
    for one in found:
        if isinstance(one, FileOrder):
            if not one.draft:
                yield one
            continue
        result.bad_rows += 1
        if result.bad_rows <= _SHOWN:
            print(f"row {one.number}: {one.why}", file=sys.stderr)


def _add(
    result: Result, lines: dict[tuple[str, str, str], Line], store: StoreConfig, one: Compared, zone: ZoneInfo
) -> None:
    if one.repeated:
        result.repeated += 1
        return
    order, day = one.order, day_of(one.order.ts, zone)
    result.orders += 1
    result.value_differs += one.differs
    for pixel, group in one.classes.items():
        line = lines.setdefault(
            (pixel, day, order.currency),
            Line(store=store.id, pixel=pixel, day=day, currency=order.currency, basis="file"),
        )
        line.orders += 1
        setattr(line, group, getattr(line, group) + 1)
    if "missing" in one.classes.values() and len(result.missing) < _SHOWN:
        value = str(order.value) if order.value is not None else None
        result.missing.append(Missing(order.names[0], timestamp(order.ts), value, order.currency))


def _show(args: argparse.Namespace, result: Result) -> None:
    if args.json:
        print_json(result)
        return
    show(result.lines)
    whole = totals(result.lines)
    print(f"{result.orders} orders, accuracy {percent(result.accuracy)}, delivered {percent(whole.delivered)}")
    for one in result.missing:
        print(f"missing: {one.order}  {one.at}  {one.value or '-'} {one.currency}")
    if whole.missing > len(result.missing):
        print(f"missing: {whole.missing - len(result.missing)} more")
    for name, n in (
        ("rows that are no orders", result.bad_rows),
        ("told twice", result.repeated),
        ("with another value here", result.value_differs),
        ("put in to be taken", result.filled),
        ("not put in (--fill needs the platform's own NDJSON, as a CSV's row is no whole order)", result.unfit),
    ):
        if n:
            print(f"{name}: {n}")
