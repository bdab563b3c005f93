"""Does what a platform has asked for its customers: the same as `collector erase`, under every value that it named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from collector.config import Config
from collector.storage.ground.database import open_existing
from collector.storage.people.erasure import erase_person
from collector.storage.shops.requests import Requests, ShopRequest
from collector.storage.verbs.person import Asked, Nameless


def open_requests(config: Config) -> list[ShopRequest]:
    """Every request, the newest last."""
    with closing(open_existing(config.storage)) as db:
        return Requests(db).all()


def run(config: Config, request: ShopRequest, now: int) -> int:
    """Erase what the request names, and strip it to a receipt; how many orders went (P1)."""
    gone = 0
    for asked in asked_of(request):
        try:
            erased = erase_person(config, request.store, asked, now, dry_run=False)
        except Nameless:
            continue
        gone += sum(receipt.conversions for receipt in erased.receipts)
    finish(config, request, now, gone)
    return gone


def finish(config: Config, request: ShopRequest, now: int, found: int | None) -> None:
    """Strip a request to its receipt; `found` None: it is dismissed."""
    with closing(open_existing(config.storage)) as db:
        Requests(db).finish(request, now, found)


def asked_of(request: ShopRequest) -> Iterator[Asked]:
    """Each name of the person and of his orders that the platform gave."""
    who = request.who
    if who.external_id:
        yield Asked(external_id=who.external_id)
    if who.email:
        yield Asked(email=who.email)
    if who.phone:
        yield Asked(phone=who.phone)
    for order in who.orders:
        yield Asked(order=order)
