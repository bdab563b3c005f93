"""What is coming in right now: the newest happenings, as a list, and as a stream that the page's script adds to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.response import Stream

from collector.console import hub, meta_codes, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.shell import Desk, delivery_word, page
from collector.core import times
from collector.core.capi.states import CapiState, name_of
from collector.storage.reports.live import KINDS, Item

_TONES: Final = {"order": "good", "refusal": "bad", "reload": "warn"}
_AT_META: Final = {name_of(state): delivery_word(state).word for state in CapiState}
_encode: Final = msgspec.json.Encoder().encode
_RETRY_MS: Final = 3000
_MARKUP_BYTES: Final = 95  # of a line


async def live(desk: Desk, asked: Asked, kind: str) -> Response[bytes]:
    """The page: whole without a script."""
    bar = await _bar(desk, asked, kind)
    every = [_line(item, bar) for item in await desk.hub.newest() if _is_wanted(item, bar, kind)]
    lines = every[: words.fitting(every, _MARKUP_BYTES)]  # the stream has them all
    return page(
        "live.html",
        title="Live",
        here="/live",
        bar=bar,
        kind=kind,
        kinds=[("", "everything"), *((name, name + "s") for name in KINDS)],
        lines=lines,
        stream=bar.address("/live/stream", kind=kind),
        most=hub.NEWEST,
        every=len(every),
    )


async def live_stream(desk: Desk, asked: Asked, kind: str) -> Response[bytes] | Stream:
    """Server-sent events: `all` with the newest 200, then `more`; 503 where too many look already."""
    bar = await _bar(desk, asked, kind)
    try:
        batches = desk.hub.stream()
    except hub.Full:
        return Response(
            b"too many windows look already", status_code=503, headers={"retry-after": "30"}, media_type="text/plain"
        )
    headers = {"x-accel-buffering": "no"}  # nginx would hold the events back
    return Stream(_events(batches, bar, kind), media_type="text/event-stream", headers=headers)


async def _events(batches: AsyncIterator[Any], bar: Bar, kind: str) -> AsyncIterator[bytes]:
    name = "all"
    yield f"retry: {_RETRY_MS}\n\n".encode()
    async for batch in batches:
        lines = [_line(item, bar) for item in batch or () if _is_wanted(item, bar, kind)]
        if lines or name == "all":
            yield b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(lines))
        else:
            yield b":\n\n"
        name = "more"


async def _bar(desk: Desk, asked: Asked, kind: str) -> Bar:
    if kind and kind not in KINDS:
        raise Unknown(f"There is no kind {kind[:60]!r}. Known are: {', '.join(KINDS)}.")
    return await read(desk, asked)


def _is_wanted(item: Item, bar: Bar, kind: str) -> bool:
    """A shop's own: what belongs to no shop for sure (refusals, reloads) is everybody's."""
    mine = not bar.shop or _shop(item, bar) in ("", bar.shop)
    return mine and kind in ("", item["kind"])


def _shop(item: Item, bar: Bar) -> str:
    return str(item.get("store") or bar.pixels.get(str(item.get("pixel")), ""))


def _line(item: Item, bar: Bar) -> dict[str, Any]:
    """One happening for people; texts alone, which neither page nor script takes for markup."""
    at = times.parse(str(item["at"])) or 0
    moment = datetime.fromtimestamp(at / 1000, bar.zone)
    number = str(item.get("id") or "")
    place = "/clicks/" if item["kind"] == "click" else "/conversions/"
    shop = _shop(item, bar)
    return {
        "at": f"{moment:%H:%M:%S}" if moment.date() == bar.today else f"{moment.day} {moment:%b %H:%M}",
        "day": bar.moment(at),
        "kind": item["kind"],
        "tone": _tone(item),
        "shop": bar.shops.get(shop, shop),
        "text": _said(item),
        "address": place + number if number else "",
    }


def _tone(item: Item) -> str:
    if item["kind"] == "attempt":
        return "good" if item["outcome"] == "sent" else "bad"
    return _TONES.get(str(item["kind"]), "")


def _said(item: Item) -> str:
    match item["kind"]:
        case "click":
            named = f"on {item['campaign']}" if item["campaign"] else "without a campaign's name"
            return f"a click {named}" + (", kept apart" if item["keptApart"] else "")
        case "attempt":
            return _attempt(item)
        case "refusal":
            return f"{item['n']} × refused by the API: {item['error']}"
        case "reload":
            return f"{item['action']} by {item['who']}"
    return _event(item)


def _event(item: Item) -> str:
    value = f" of {words.money(item['value'], item['currency'] or '')}" if item["value"] is not None else ""
    sure = f"click known, {item['confidence']} of 100" if item["confidence"] else "no click known"
    test = ", a test" if item["test"] else ""
    return f"{item['event']}{value} · {sure} · at Meta: {_AT_META[item['meta']]}{test}"


def _attempt(item: Item) -> str:
    took = f" in {item['tookMs']:,} ms" if item["tookMs"] is not None else ""
    events = f"{item['events']:,} event" + ("s" if item["events"] != 1 else "")
    if item["outcome"] == "sent":
        return f"Meta took {events}{took}"
    code = f", code {item['code']}" if item["code"] is not None else ""
    ours = meta_codes.sentence(item["code"]).partition(". ")[0].rstrip(".")
    why = f": {ours}" if ours else ""
    return f"{events} to Meta: {str(item['outcome']).replace('_', ' ')}{code}{took}{why}"
