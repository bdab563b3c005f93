"""What a night reads of a real journal: decoys, renewals, and how often a night there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from collector.config import Config
from collector.core.matching import Model
from collector.errors import StorageError
from collector.storage.ground import database
from collector.storage.learning import learning
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, config_for, order

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4"
START = NOW - 20 * DAY


def opened(kit: Kit) -> apsw.Connection:
    return database.connect(kit.journal.data_dir / database.DATABASE, kit.config.storage)


def a_night(kit: Kit, now: int) -> Model:
    kit.fold()
    with closing(opened(kit)) as db:
        return learning.night(db, kit.config, now)[STORE]


def device(n: int) -> dict[str, str]:
    return {"ipAddress": f"93.184.{n}.34", "userAgent": f"{AGENT} x{n}", "fingerprint": f"{n:064x}"}


@pytest.fixture(params=[1, 7, 28, 30, 90])
def clicked_before(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """Twenty orders, each four minutes after its own click, in a store with this window."""
    with Kit(tmp_path, START, config_for(tmp_path, window_days=request.param)) as kit:
        for n in range(20):
            kit.now = START + n * 10 * MINUTE
            kit.post(click(f"IwAR{n:010}", kit.now, visitorId=f"v{n}", **device(n)))
            kit.now += 4 * MINUTE
            kit.post(order(f"o{n}", kit.now, **device(n)))
        yield kit


def test_a_decoy_never_meets_the_click_that_its_order_came_from(clicked_before: Kit) -> None:
    counts = a_night(clicked_before, START + 15 * DAY + 12 * HOUR).counts
    assert counts["dec:all"] == 20
    assert [name for name in counts if name.startswith("dec:") and name != "dec:all"] == []


def test_a_decoy_meets_a_click_made_up_to_fifteen_days_after_its_order(clicked_before: Kit) -> None:
    kit = clicked_before
    for n in range(20):
        kit.now = START + 15 * DAY + n * 10 * MINUTE
        kit.post(click(f"IwARlate{n:010}", kit.now, visitorId=f"w{n}", **device(n)))
    counts = a_night(kit, START + 15 * DAY + 12 * HOUR).counts
    assert counts["dec:high"] == counts["dec:all"] == 20


def test_a_night_without_a_lesson_is_the_only_one_of_its_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop that sends page views alone never gets a model; its rows are not read again every ten minutes."""
    nights: list[int] = []
    real = learning.night

    def counted(db: apsw.Connection, config: Config, now: int) -> dict[str, Model]:
        nights.append(now)
        return real(db, config, now)

    monkeypatch.setattr(learning, "night", counted)
    with Kit(tmp_path, START) as kit:
        kit.post({"storeId": STORE, "eventType": "PageView", "visitorId": "me", "at": START})
        kit.fold()
        with closing(opened(kit)) as db:
            for n in range(4 * 144):
                assert learning.night_if_due(db, kit.config, START + n * 10 * MINUTE) == {}
    assert nights == [START + DAY, START + 2 * DAY, START + 3 * DAY]


def signed_in(kit: Kit) -> None:
    """A click, and a sign-in in its browser."""
    kit.post(click("IwAR0000000001", START, visitorId="v", **device(1)))
    jane = {"customerData": {"email": "jane@example.com"}}
    kit.post({"storeId": STORE, "eventType": "Lead", "at": START + 1, "visitorId": "v", **jane})


def test_renewals_do_not_repeat_the_lesson_of_the_first_order(tmp_path: Path) -> None:
    with Kit(tmp_path, START) as kit:
        signed_in(kit)
        kit.post(order("1", START + HOUR, **device(1), customerData={"email": "jane@example.com"}))
        for n in range(12):
            kit.post(order(f"r{n}", START + HOUR + n, renewalOf="1"))
        model = a_night(kit, START + 2 * DAY)
    assert model.labels == model.counts["labels"] == model.counts["cal:all"] == 1


def test_renewals_are_no_orders_without_proof(tmp_path: Path) -> None:
    """Nor decoys: an order that inference does not serve tells nothing about it."""
    with Kit(tmp_path, START) as kit:
        kit.post(order("1", START, **device(1)))
        for n in range(12):
            kit.post(order(f"r{n}", START + 1 + n, renewalOf="1", **device(1)))
        counts = a_night(kit, START + 15 * DAY + 12 * HOUR).counts
    assert counts["obs:all"] == counts["pool:0"] == counts["dec:all"] == 1


def test_a_night_that_found_no_index_is_made_up_for(tmp_path: Path) -> None:
    """The edge may be building it anew just then."""
    with Kit(tmp_path, START) as kit, closing(opened(kit)) as db:
        kit.post(order("1", START, **device(1)))
        kit.fold()
        index, away = tmp_path / database.INDEX, tmp_path / "away"
        index.rename(away)
        assert learning.night_if_due(db, kit.config, START + 2 * DAY) == {}
        away.rename(index)
        assert learning.night_if_due(db, kit.config, START + 2 * DAY + 10 * MINUTE).keys() == {STORE}


@pytest.mark.parametrize("state", ["none of it is there", "it lacks most rows", "it has no table yet"])
def test_a_night_and_a_lesson_hold_no_month_of_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """After a restore there is no index: its rows, in the memory of whoever looks up, were 5 GB at 10⁷ clicks."""
    with Kit(tmp_path, START) as kit, closing(opened(kit)) as db:
        for n in range(20):
            kit.post(order(str(n), START, **device(n)))
        kit.fold()
        index = tmp_path / database.INDEX
        if state == "it lacks most rows":
            for n in range(20, 40):
                kit.post(order(str(n), START, **device(n)))
        else:
            index.rename(tmp_path / "away")
        if state == "it has no table yet":
            apsw.Connection(str(index)).close()
        monkeypatch.setattr(learning, "MOST_UNFOLDED", 10)
        monkeypatch.setattr(learning, "Lookup", None)  # never made
        assert learning.night_if_due(db, kit.config, START + 2 * DAY) == {}
        with pytest.raises(StorageError, match=r"the index lacks \d+ rows: start the collector"):
            learning.at_once(db, kit.config, START + 2 * DAY, None)


@pytest.mark.parametrize("named", [True, False])
def test_a_night_over_clicks_of_nobody_in_particular_has_looked_at_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """A server that gives addresses and no visitor; a courier on another machine cannot name their networks."""
    if not named:
        monkeypatch.setattr(learning, "_names", lambda *_: None)
    with Kit(tmp_path, START) as kit:
        kit.post(order("early", START, **device(1)))
        kit.now = START + 2 * DAY
        assert not a_night(kit, kit.now).has_looked, "control: a night that had no click to look at"
        for n in range(3):
            kit.post(click(f"IwAR{n:010}", kit.now, **device(n)))
            kit.post(order(f"o{n}", kit.now + HOUR, **device(n)))
        model = a_night(kit, kit.now + 2 * DAY)
    assert (model.has_looked, model.clickers_per_visitor) == (True, 0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(model), type=Model).has_looked, "as it comes from the store"
    assert bool(model.networks) == named
