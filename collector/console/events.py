"""What happened, one by one: the last conversions, one conversion's reasons, one click."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Response
from litestar.exceptions import HTTPException
from markupsafe import Markup

from collector.console import words
from collector.console.bar import named
from collector.console.shell import Desk, delivery_word, page
from collector.core import flags
from collector.core.ids import PublicIds
from collector.core.landing import campaign_id_of, labels_of
from collector.storage.reports import conversions, orders
from collector.storage.reports.explain import WHY_NOT

_PAGE: Final = 50
_MARKS: Final = (
    (flags.BOT, "bot"),
    (flags.PREFETCH, "prefetch"),
    (flags.DENIED, "consent denied"),
    (flags.PENDING, "consent pending"),
    (flags.WITHDRAWN, "consent withdrawn"),
    (flags.TEST, "test"),
    (flags.RECOVERED, "recovered from fbc"),
    (flags.TIME_CORRECTED, "time corrected"),
    (flags.UNCONFIRMED, "unconfirmed"),
)


async def last(desk: Desk, before: str) -> Response[bytes]:
    """The last conversions and events, without personal data."""
    now, ids = desk.clock(), await desk.ids()
    number = ids.row("conv", before) if before else None
    lines = await conversions.last(desk.reader, before=number, limit=_PAGE)
    return page(
        "events.html",
        title="Events",
        here="/events",
        refresh=0 if before else 30,
        lines=[_line(desk, line, ids, now) for line in lines],
        older=ids.public("conv", lines[-1].id) if len(lines) == _PAGE else "",
        newer=bool(before),
        order="",
    )


async def of_order(desk: Desk, order_id: str) -> Response[bytes]:
    """The conversions with an order id; the one itself where there is but one."""
    seen = await orders.seen_events(desk.reader)
    numbers = await orders.of_order(desk.reader, desk.config, order_id, seen)
    lines = [line for n in reversed(numbers) for line in await conversions.last(desk.reader, before=n + 1, limit=1)]
    ids, now = await desk.ids(), desk.clock()
    if len(lines) == 1:
        return Response(b"", status_code=303, headers={"location": f"/conversions/{ids.public('conv', lines[0].id)}"})
    return page(
        "events.html",
        title=f"Order {order_id}",
        here="/events",
        status=200 if lines else 404,
        lines=[_line(desk, line, ids, now) for line in lines],
        older="",
        newer=False,
        order=order_id,
    )


def _line(desk: Desk, line: conversions.Line, ids: PublicIds, now: int) -> dict[str, Any]:
    return {
        "id": ids.public("conv", line.id),
        "kind": line.event_type,
        "store": named(desk, line.store),
        "when": words.ago(line.ts, now),
        "attribution": f"{line.confidence} · {words.method(line.method)}" if line.confidence else "",
        "why_not": WHY_NOT.get(line.reason or "", (line.reason or "").replace("_", " ")),
        "state": delivery_word(line.capi),
        "marks": marks(line.flags),
    }


def marks(bits: int) -> list[str]:
    return [word for bit, word in _MARKS if bits & bit]


def click_facts(click: conversions.Click, ids: PublicIds, now: int, shop: str) -> dict[str, Any]:
    """What is known of a click. `shop`: its name for people."""
    body = click.body
    return {
        "id": ids.public("click", click.id),
        "facts": [
            ("Shop", shop),
            ("Campaign", _campaign(body.landing_page)),
            ("Clicked", words.ago(click.ts, now)),
            ("Seen last", words.ago(click.last_ts, now)),
            ("Landing page", outside_link(body.landing_page)),
            ("Referrer", outside_link(body.referrer)),
            ("fbclid", Markup('<span class="code">{}</span>').format(body.fbclid)),
            ("Consent", body.marketing),
            ("Marks", ", ".join(marks(click.flags)) or "–"),
        ],
    }


async def click(desk: Desk, public_id: str) -> Response[bytes]:
    """One click."""
    ids = await desk.ids()
    number = ids.row("click", public_id)
    found = await conversions.find_click(desk.reader, number) if number is not None else None
    if found is None:
        raise HTTPException("no such click", status_code=404)
    return page(
        "click.html",
        title="Click",
        here="/events",
        click=click_facts(found, ids, desk.clock(), named(desk, found.store)),
    )


def _campaign(landing_page: str) -> str:
    """Campaign › ad set › ad, as the landing page names them, and Meta's own id of the campaign beside its name."""
    _, campaign, adset, ad = labels_of(landing_page)
    number = campaign_id_of(landing_page)
    name = f"{campaign} ({number})" if number and number != campaign else campaign
    return " › ".join(filter(None, (name, adset, ad))) or "–"


def outside_link(url: str | None) -> Markup | str:
    """A caller's address as a link only where it is http(s); anything else is shown as text."""
    if not url:
        return "–"
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return url
    return Markup('<a href="{0}" rel="noopener noreferrer nofollow" target="_blank">{0}</a>').format(url)
