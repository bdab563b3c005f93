"""O5: what Meta may have taken goes again as it went, whatever becomes of the order meanwhile; of two with one id it keeps the first."""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.config import PixelConfig, ShopConfig
from collector.core import refunds
from collector.core.capi import payload
from collector.core.capi.states import CapiState
from collector.storage.ground import backup
from collector.storage.outbox.dispatch import Claim, Outbox, Report
from collector.storage.outbox.replay import replay
from tests.journal.test_refunds import ORDER, order, refund
from tests.journal.test_shop_orders import Shop
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, PIXEL

HALF = order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded")
WHOLE = order(4, "0.00", refund(901, "118.90", 2), status="refunded")
CANCELLED = order(4, "118.90", cancelled_at="2026-09-21T14:17:20Z")


class Courier:
    """Its verbs beside the keeper's, and a Meta that keeps the first of two with one id."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.box = Outbox(shop.kit.transaction._db, "test")
        self.bodies: list[dict[str, Any]] = []  # all that went out
        self.kept: dict[str, dict[str, Any]] = {}  # what Meta has

    def claim(self) -> Claim | None:
        self.shop.kit.now += MINUTE
        claim = self.box.claim_fresh(1, 100, self.shop.kit.now, MINUTE)
        self.bodies += [json.loads(event.body) for event in claim.events] if claim is not None else []
        return claim

    def refused(self, claim: Claim) -> None:
        """One of the batch is bad: Meta has none of it, and each is to be asked alone."""
        self.box.close_request(claim, Report(outcome="refused"))
        self.shop.kit.transaction._land()

    def part(self, claim: Claim) -> Claim | None:
        """The batch's part that goes next, after it was refused."""
        now = self.shop.kit.now
        part = self.box.open_request(1, claim.ids, now, MINUTE, trusted=now)
        self.bodies += [json.loads(event.body) for event in part.events] if part is not None else []
        return part

    def taken(self, claim: Claim) -> None:
        for event in claim.events:
            body = json.loads(event.body)
            self.kept.setdefault(body["event_id"], body)

    def sent(self, claim: Claim) -> None:
        self.taken(claim)
        self.box.close_sent(claim, Report(outcome="sent"), self.shop.kit.now)
        self.over(claim)

    def lost(self, claim: Claim, *, taken: bool = False) -> None:
        """No answer came; nobody but this test knows whether Meta took it."""
        if taken:
            self.taken(claim)
        self._again(claim, "lost", self.shop.kit.now)

    def unreached(self, claim: Claim) -> None:
        self._again(claim, "unreached", None)

    def _again(self, claim: Claim, outcome: str, doubt_at: int | None) -> None:
        self.box.close_request(claim, Report(outcome=outcome))
        self.box.requeue([e.id for e in claim.events], self.shop.kit.now, reason=outcome, doubt_at=doubt_at)
        self.over(claim)

    def over(self, claim: Claim) -> None:
        self.box.land([event.id for event in claim.events])
        self.shop.kit.transaction._land()

    def all_sent(self) -> None:
        while (claim := self.claim()) is not None:
            self.sent(claim)

    @property
    def net(self) -> Decimal:
        """What the shop has kept, as Meta sees it."""
        signed = {"Purchase": 1, "Refund": -1}
        return sum(
            (signed[b["event_name"]] * Decimal(str(b["custom_data"]["value"])) for b in self.kept.values()), Decimal(0)
        )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path, shop=ShopConfig(refund_event="Refund"))
    yield one
    one.kit.close()


def counts(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("user_data", "event_source_url")}


def purchases(courier: Courier) -> list[dict[str, Any]]:
    return [counts(body) for body in courier.bodies if body["event_name"] == "Purchase"]


def states(shop: Shop) -> list[CapiState]:
    return [CapiState(state) for (state,) in shop.kit.rows("SELECT state FROM outbox ORDER BY id")]


def begun(shop: Shop) -> tuple[Courier, Claim, int]:
    row = shop.tell(order(1, "118.90")).conversion
    courier = Courier(shop)
    claim = courier.claim()
    assert claim is not None
    assert row is not None
    return courier, claim, row


When = Callable[[Courier, Claim, Callable[[], Any]], None]


def in_doubt(courier: Courier, claim: Claim, change: Callable[[], Any]) -> None:
    courier.lost(claim, taken=True)
    change()


def under_way(courier: Courier, claim: Claim, change: Callable[[], Any]) -> None:
    change()
    courier.lost(claim, taken=True)


def in_doubt_twice(courier: Courier, claim: Claim, change: Callable[[], Any]) -> None:
    courier.lost(claim, taken=True)
    again = courier.claim()
    assert again is not None
    change()
    courier.lost(again)


WHEN = pytest.mark.parametrize("when", [in_doubt, under_way, in_doubt_twice])


@WHEN
@pytest.mark.parametrize(
    "changes",
    [[HALF], [HALF, HALF], [HALF, order(5, "80.00", refund(901, "30.00", 2), refund(902, "8.90", 4))], [WHOLE]],
    ids=["half", "half told twice", "two refunds", "whole"],
)
def test_O5_what_meta_may_have_goes_again_as_it_went_and_its_refund_after_it(
    shop: Shop, when: When, changes: list[Any]
) -> None:
    courier, claim, row = begun(shop)
    when(courier, claim, lambda: [shop.tell(change) for change in changes])
    assert not any(body["event_name"] == "Refund" for body in courier.bodies), "nobody knows what there is to refund"
    courier.all_sent()
    first, *again = purchases(courier)
    assert again
    assert all(one == first for one in again)
    event = shop.kit.state(row).event
    assert (event.sent_value or event.value) == Decimal("118.90")
    assert courier.net == (Decimal(0) if changes == [WHOLE] else event.value)


def test_O5_control_a_repeat_that_carries_what_stays_tells_meta_of_too_little_given_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "as_sent", lambda now, _before, _value: now)
    with pytest.raises(AssertionError):
        test_O5_what_meta_may_have_goes_again_as_it_went_and_its_refund_after_it(shop, in_doubt, [HALF])


def test_O5_control_where_a_refund_whole_ends_the_repeat_meta_keeps_a_sale_that_nobody_takes_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds, "is_told", lambda _order, _name: False)
    with pytest.raises(AssertionError):
        test_O5_what_meta_may_have_goes_again_as_it_went_and_its_refund_after_it(shop, in_doubt, [WHOLE])


def test_O5_what_meta_has_not_had_goes_as_the_order_stands_by_then(shop: Shop) -> None:
    """No byte of the request had left: the next one has what stays, and there is no refund to tell."""
    courier, claim, row = begun(shop)
    shop.tell(HALF)
    courier.unreached(claim)
    courier.all_sent()
    assert [body["custom_data"]["value"] for body in courier.kept.values()] == [88.9]
    assert (shop.kit.state(row).event.sent_value, courier.net) == (None, Decimal("88.9"))


def test_O5_nothing_of_an_order_goes_again_that_was_given_back_whole_before_it_left(shop: Shop) -> None:
    courier, claim, _ = begun(shop)
    shop.tell(WHOLE)
    courier.unreached(claim)
    courier.all_sent()
    assert (courier.kept, states(shop)) == ({}, [CapiState.SKIPPED])


@WHEN
@pytest.mark.parametrize("change", [CANCELLED, WHOLE], ids=["cancelled", "refunded"])
def test_O5_without_refunds_to_tell_an_end_stops_the_repeat(tmp_path: Path, when: When, change: Any) -> None:
    """Meta has it or not; a repeat would only make it sure that it has."""
    shop = Shop(tmp_path, shop=ShopConfig())
    courier, claim, _ = begun(shop)
    when(courier, claim, lambda: shop.tell(change))
    before = len(courier.bodies)
    courier.all_sent()
    assert (len(courier.bodies), states(shop)) == (before, [CapiState.SKIPPED])
    shop.kit.close()


@WHEN
def test_O5_paid_after_an_end_in_doubt_is_worth_what_meta_may_have(tmp_path: Path, when: When) -> None:
    shop = Shop(tmp_path, shop=ShopConfig())
    courier, claim, row = begun(shop)
    when(courier, claim, lambda: shop.tell(CANCELLED))
    shop.kit.transaction._db.execute("DELETE FROM outbox_payload")  # what is never sent is wiped after a while
    shop.tell(order(6, "100.00"))
    courier.all_sent()
    assert {body["custom_data"]["value"] for body in courier.bodies} == {118.9}
    assert shop.kit.state(row).event.sent_value == Decimal("118.90")
    shop.kit.close()


def test_O5_a_repeat_loses_the_device_of_who_withdraws_and_gains_a_phone(shop: Shop) -> None:
    """Of a person it tells what may be told by now: that changes nothing of what Meta counts."""
    courier, claim, _ = begun(shop)
    courier.lost(claim, taken=True)
    shop.tell(order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded", phone="+491701234567"))
    courier.all_sent()
    first, again = courier.bodies[:2]
    assert counts(first) == counts(again)
    assert "ph" in again["user_data"]
    assert again["user_data"]["ph"] != first["user_data"].get("ph")


def test_O5_a_refusal_of_consent_stops_the_repeat(shop: Shop) -> None:
    courier, claim, _ = begun(shop)
    courier.lost(claim)
    shop.tell(order(3, "0.00", status="refunded", note_attributes=[{"name": "_consent", "value": "denied"}]))
    before = len(courier.bodies)
    courier.all_sent()
    assert len(courier.bodies) == before
    assert states(shop) == [CapiState.SKIPPED]


def test_O5_who_replays_after_the_doubt_is_over_sends_what_stays(shop: Shop) -> None:
    """47 hours later Meta would count both; whoever sends it all the same has decided that it has none."""
    courier, claim, _ = begun(shop)
    courier.lost(claim)
    shop.tell(HALF)
    shop.kit.now += 48 * 60 * MINUTE
    courier.box._db.execute("UPDATE outbox SET due = ?", (shop.kit.now,))
    assert courier.claim() is None
    assert states(shop) == [CapiState.REJECTED]
    list(replay(courier.box._db, [CapiState.REJECTED], now=shop.kit.now))
    shop.kit.transaction._land()
    courier.all_sent()
    assert courier.net == Decimal("88.9")


def test_O5_after_a_restart_a_request_that_was_cut_off_goes_again_as_it_went(shop: Shop) -> None:
    courier, _, row = begun(shop)
    shop.tell(HALF)
    courier.box._flying.clear()
    assert courier.box.take_over(shop.kit.now) == 1
    shop.kit.transaction._land()
    courier.all_sent()
    first, again = purchases(courier)
    assert first == again
    assert (shop.kit.state(row).event.sent_value, courier.net) == (Decimal("118.90"), Decimal("88.9"))


@WHEN
def test_O5_cancelled_when_all_that_was_given_back_is_told_stops_the_repeat(shop: Shop, when: When) -> None:
    """What was given back before the first sending is in its value: the end has nothing to tell."""
    shop.tell(order(1, "118.90"))
    shop.tell(HALF)
    courier = Courier(shop)
    claim = courier.claim()
    assert claim is not None
    ended = order(4, "88.90", refund(901, "30.00", 2), cancelled_at="2026-09-21T14:17:20Z")
    when(courier, claim, lambda: shop.tell(ended))
    before = len(courier.bodies)
    courier.all_sent()
    assert (len(courier.bodies), states(shop)) == (before, [CapiState.SKIPPED])


def restored(shop: Shop) -> None:
    """A restore doubts all that was open when the copy was made."""
    shop.kit.transaction._db.execute(backup._IN_DOUBT, (shop.kit.now,))


def paid_shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, shop=ShopConfig(refund_event="Refund"), send_purchase_on="paid")


def test_O5_what_a_restore_finds_held_goes_as_the_order_stands_when_it_is_released(tmp_path: Path) -> None:
    shop, waits = paid_shop(tmp_path), 40 * HOUR
    shop.tell(order(1, "118.90", status="pending"))
    restored(shop)
    shop.kit.now += waits
    shop.tell(order(waits // MINUTE, "150.00", status="paid"))
    courier = Courier(shop)
    courier.all_sent()
    (body,) = courier.bodies
    assert (body["custom_data"]["value"], body["event_time"]) == (150.0, (NOW + waits) // 1000)
    shop.kit.close()


def test_O5_what_a_restore_finds_held_goes_two_days_later_by_replay_alone(tmp_path: Path) -> None:
    """The lost machine may have sent it an hour after the backup; a shop's newest word of it tells another time."""
    shop = paid_shop(tmp_path)
    shop.tell(order(1, "118.90", status="pending"))
    restored(shop)
    shop.kit.now += 72 * HOUR
    shop.tell(order(72 * 60, "150.00", status="paid", fulfillment_status="fulfilled"))
    courier = Courier(shop)
    courier.all_sent()
    assert (courier.bodies, states(shop)) == ([], [CapiState.REJECTED])
    list(replay(courier.box._db, [CapiState.REJECTED], now=shop.kit.now))
    courier.all_sent()
    assert [body["custom_data"]["value"] for body in courier.bodies] == [150.0]
    shop.kit.close()


@pytest.mark.parametrize("later", [HOUR, 60 * HOUR], ids=["an hour", "beyond the doubt"])
@pytest.mark.parametrize("cut", ["restored", "lost", "killed"])
def test_O5_what_was_sent_or_queued_and_is_held_then_goes_again_as_it_went(
    tmp_path: Path, cut: str, later: int
) -> None:
    """On hold, or cancelled and taken back, while Meta may have it: of two with one id it keeps the first."""
    shop = paid_shop(tmp_path)
    shop.tell(order(1, "118.90", status="paid"))
    courier = Courier(shop)
    if cut == "restored":  # the lost machine sent what the backup has queued
        restored(shop)
    claim = courier.claim() if cut != "restored" else None
    shop.tell(order(3, "118.90", status="pending"))
    if cut == "lost":
        assert claim is not None
        courier.lost(claim, taken=True)
    elif cut == "killed":
        courier.box = Outbox(courier.box._db, "next")
        assert courier.box.take_over(shop.kit.now) == 1
        shop.kit.transaction._land()
    shop.kit.now += later
    before = len(courier.bodies)
    shop.tell(order(later // MINUTE, "150.00", status="paid"))
    courier.all_sent()
    values = [body["custom_data"]["value"] for body in courier.bodies[before:]]
    assert values == ([118.9] if later == HOUR else [])
    shop.kit.close()


def a_pixel_in_doubt(tmp_path: Path) -> tuple[Shop, Courier, Claim]:
    """The first of two has the order; the second never answered, and half of it is given back."""
    pixels = [PixelConfig(id=PIXEL, access_token="t"), PixelConfig(id="123456789012346", access_token="t")]
    shop = Shop(tmp_path, shop=ShopConfig(refund_event="Refund"), pixel=pixels)
    courier, claim, _ = begun(shop)
    courier.sent(claim)
    silent = courier.box.claim_fresh(2, 100, shop.kit.now, MINUTE)
    assert silent is not None
    courier.lost(silent)
    shop.tell(HALF)
    courier.all_sent()
    assert courier.net == Decimal("118.9")
    return shop, courier, silent


def test_O5_a_pixel_that_refuses_or_is_silent_for_a_day_keeps_no_refund_from_another(tmp_path: Path) -> None:
    for case in ("refuses", "silent"):
        shop, courier, silent = a_pixel_in_doubt(tmp_path / case)
        if case == "refuses":
            again = courier.box.claim_fresh(2, 100, shop.kit.now + MINUTE, MINUTE)
            assert again is not None
            courier.box.close_request(again, Report(outcome="refused"))
            courier.box.settle([e.id for e in silent.events], CapiState.REJECTED, shop.kit.now, reason="no")
            courier.over(again)
        else:
            shop.kit.now += DAY
            shop.kit.transaction._now = shop.kit.now
            shop.kit.transaction._land()
        courier.all_sent()
        assert courier.net == Decimal("88.9"), case
        shop.kit.transaction._land()
        courier.all_sent()
        assert [body["event_name"] for body in courier.bodies] == ["Purchase", "Refund"], case
        shop.kit.close()


def part_way(courier: Courier, claim: Claim, change: Callable[[], Any], *, early: bool) -> Claim | None:
    """The order is told of anew between two requests of a refused batch; `early`: while the first is under way."""
    if early:
        change()
    courier.refused(claim)
    if not early:
        change()
    return courier.part(claim)


@pytest.mark.parametrize("early", [False, True], ids=["between", "under way"])
def test_O5_a_part_of_a_refused_batch_is_worth_what_stays_of_the_order_by_then(shop: Shop, early: bool) -> None:
    courier, claim, row = begun(shop)
    part = part_way(courier, claim, lambda: shop.tell(HALF), early=early)
    assert part is not None
    courier.sent(part)
    courier.all_sent()
    assert (courier.net, shop.kit.state(row).event.sent_value) == (Decimal("88.9"), None)
    shop.tell(order(5, "80.00", refund(901, "30.00", 2), refund(902, "8.90", 4)))
    courier.all_sent()
    assert courier.net == Decimal("80.0")


def test_O5_control_a_part_that_goes_out_from_memory_leaves_meta_with_too_much(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendable = Outbox._sendable
    first: list[Any] = []

    def remembered(box: Outbox, ids: Any, now: int, trusted: int) -> list[Any]:
        first[:] = first or sendable(box, ids, now, trusted)
        return first

    monkeypatch.setattr(Outbox, "_sendable", remembered)
    with pytest.raises(AssertionError):
        test_O5_a_part_of_a_refused_batch_is_worth_what_stays_of_the_order_by_then(shop, early=False)


@pytest.mark.parametrize("change", [CANCELLED, WHOLE], ids=["cancelled", "refunded"])
@pytest.mark.parametrize("early", [False, True], ids=["between", "under way"])
def test_O5_no_part_goes_out_of_an_order_that_has_ended(shop: Shop, early: bool, change: Any) -> None:
    courier, claim, _ = begun(shop)
    assert part_way(courier, claim, lambda: shop.tell(change), early=early) is None
    courier.over(claim)
    courier.all_sent()
    assert (courier.kept, states(shop)) == ({}, [CapiState.SKIPPED])


@pytest.mark.parametrize("early", [False, True], ids=["between", "under way"])
def test_O5_a_part_that_meta_may_have_of_before_goes_as_it_went(shop: Shop, early: bool) -> None:
    """The repeat of what went in doubt is in a batch that is refused: that says nothing of the first time."""
    courier, claim, row = begun(shop)
    courier.lost(claim, taken=True)
    again = courier.claim()
    assert again is not None
    part = part_way(courier, again, lambda: shop.tell(HALF), early=early)
    assert part is not None
    courier.sent(part)
    courier.all_sent()
    first, *more = purchases(courier)
    assert more == [first, first]
    assert (courier.net, shop.kit.state(row).event.sent_value) == (Decimal("88.9"), Decimal("118.90"))


def test_a_courier_killed_between_two_requests_of_a_refused_batch_leaves_nothing_in_doubt(shop: Shop) -> None:
    courier, claim, _ = begun(shop)
    courier.refused(claim)
    courier.box = Outbox(courier.box._db, "next")
    assert courier.box.take_over(shop.kit.now) == 0
    part = courier.part(claim)
    assert part is not None
    courier.box = Outbox(courier.box._db, "third")
    assert courier.box.take_over(shop.kit.now) == 1
    courier.all_sent()
    assert (states(shop), len(courier.kept)) == ([CapiState.SENT], 1)


def test_the_order_of_these_tests_is_the_shops() -> None:
    """Or a change of the fixture would empty them."""
    assert json.loads(HALF.body)["id"] == ORDER
