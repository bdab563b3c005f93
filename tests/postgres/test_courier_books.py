"""What several couriers over one PostgreSQL do beside delivery is done once, by one, also where that one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest
from msgspec import structs

from collector.cli import main
from collector.config import AlertsConfig, Config, InsightsConfig, MetaConfig, ShopConfig
from collector.courier import insights, weekly
from collector.courier.shops import pull, watch
from collector.storage import requests
from collector.storage.postgres import erasing
from collector.storage.postgres.books import PostgresBooks, PostgresInbox
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.insights import PostgresInsights, PostgresWeekly
from tests.courier.test_shop_watch import BOB, redact
from tests.courier.test_shop_watch import asked as asked_of_shop
from tests.journal import test_shop_orders
from tests.journal.test_shop_orders import Shop
from tests.kit import shops as made
from tests.kit.courier_kit import CourierThread, courier_process, now_ms, wait_until
from tests.kit.engines import postgres_config
from tests.kit.hooks import hook
from tests.kit.journal_kit import MINUTE, STORE
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database
from tests.kit.program import ROOT
from tests.kit.shop_server import HALF, ShopServer, graph_order, serving
from tests.kit.simulators.ad_account import AdAccount, an_ad_day, days_back
from tests.kit.simulators.graph import GraphSimulator
from tests.shops.test_shop_reconcile import paid

ORDERS, PAGE = 30, 7
FIRST = 7_770_000


@pytest.fixture
def server() -> Iterator[ShopServer]:
    """A shop with an order each minute, the last one ten minutes ago."""
    with serving(ShopServer(page=PAGE)) as one:
        for n in range(ORDERS):
            at = now_ms() - (ORDERS - n + 10) * MINUTE
            one.orders[str(n)] = graph_order(FIRST + n, at, at)
        yield one


@pytest.fixture
def shop(tmp_path: Path, database: Database, server: ShopServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A keeper over the database, and what an edge makes of the shop's messages."""

    def made(folder: Path, **more: Any) -> PostgresKit:
        return PostgresKit(database, folder, now_ms(), **more)

    monkeypatch.setattr(test_shop_orders, "Kit", made)
    terms = ShopConfig(platform="shopify", url=server.url, access_token="token-0")
    one = Shop(tmp_path, shop=terms)
    yield one
    one.kit.close()


class Asked:
    """Who asked for which duty, and whether it became his."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, leased: bool) -> None:
        self.answers: list[tuple[str, bool]] = []
        takes = PostgresBooks.takes

        def noted(own: PostgresBooks, duty: str) -> bool:
            answer = takes(own, duty) if leased else True
            self.answers.append((duty, answer))
            return answer

        monkeypatch.setattr(PostgresBooks, "takes", noted)
        if not leased:
            monkeypatch.setattr(Duties, "require", _nothing)
        for module in (pull, watch, insights):
            monkeypatch.setattr(module, "OTHERS_S", 0.05)

    def count(self, duty: str, answer: bool) -> int:
        return self.answers.count((duty, answer))


async def _nothing(*_: object) -> None:
    """Nobody asks whose duty it is."""


def courier_of(shop: Shop) -> Config:
    """A courier that sends nothing."""
    return structs.replace(shop.kit.config, meta=MetaConfig(mode="off"))


def found(shop: Shop) -> list[int]:
    """Numbers of the orders that pulls have put in."""
    rows = shop.kit.rows("SELECT body FROM shop_inbox ORDER BY id")
    return [int(json.loads(body)["id"].rpartition("/")[2]) for (body,) in rows]


BOTH_WAYS = pytest.mark.parametrize(
    "leased", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["leased", "control: each does it"]
)
PULL = f"pull {STORE}"


@BOTH_WAYS
def test_of_two_couriers_one_pulls_a_shop(
    leased: bool, shop: Shop, server: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, both, pulled = Asked(monkeypatch, leased=leased), Barrier(2), PostgresInbox.pulled

    def together(own: PostgresInbox, store: str) -> Any:
        both.wait(60)
        return pulled(own, store)

    if not leased:
        monkeypatch.setattr(PostgresInbox, "pulled", together)
    with CourierThread(courier_of(shop)), CourierThread(courier_of(shop)):
        if leased:
            assert wait_until(lambda: asked.count(PULL, False) > 2)
        assert wait_until(lambda: len(found(shop)) >= ORDERS * (1 if leased else 2))
    wanted = [FIRST + n for n in range(ORDERS)]
    assert sorted(found(shop)) == sorted(wanted * (1 if leased else 2))
    pages = sum(path.endswith("graphql.json") for path in server.asked)
    assert pages == -(-ORDERS // PAGE) * (1 if leased else 2)
    assert shop.kit.rows("SELECT owner FROM duty WHERE owner <> ''") == [], "who leaves in order keeps nothing"


@pytest.mark.slow
def test_a_courier_killed_in_the_midst_of_a_pull_is_succeeded(
    shop: Shop, server: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every order is there, and once it is read each is one."""
    killed: list[int] = []

    def kill(_: Any) -> Any:
        os.kill(killed[0], signal.SIGKILL)
        return HALF

    def fine(said: Any) -> Any:
        return server.shopify(said, "token-0")

    with server.lock:  # nobody is answered before it is known whom to kill
        server.faults.extend([fine, fine, kill])
        process = courier_process(courier_of(shop))
        killed.append(process.pid)
    assert process.wait(60) == -signal.SIGKILL
    assert len(found(shop)) == 2 * PAGE
    asked = Asked(monkeypatch, leased=True)
    with CourierThread(courier_of(shop)):
        assert wait_until(lambda: asked.count(PULL, False) > 2), "control: it is not known to be dead"
        assert len(found(shop)) == 2 * PAGE
        shop.kit.execute("UPDATE duty SET until = 0")
        assert wait_until(lambda: set(found(shop)) == {FIRST + n for n in range(ORDERS)})
    assert len(found(shop)) < 2 * ORDERS, "it went on where the other had come to"


@pytest.mark.slow
def test_what_a_courier_pulls_that_stood_still_is_not_kept(
    shop: Shop, server: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, leased=True)

    def taken(said: Any) -> Any:
        shop.kit.execute("UPDATE duty SET owner = 'another', until = now_ms() + 600000, epoch = epoch + 1")
        return server.shopify(said, "token-0")

    server.faults.append(taken)
    with CourierThread(courier_of(shop)):
        assert wait_until(lambda: asked.count(PULL, False) > 2)
    assert found(shop) == []


# -- what platforms ask


NUMBER = 8_880_000


def ask_to_erase(shop: Shop) -> None:
    """An order of a customer, one of another, and the platform's word that the first is to be forgotten."""
    shop.tell(paid(NUMBER))
    shop.tell(paid(NUMBER + 2, **BOB))
    shop.kit.now += MINUTE
    assert shop.tell(redact(NUMBER)).reason == "redact"


def is_done(shop: Shop) -> bool:
    return bool(shop.kit.rows("SELECT 1 FROM shop_request WHERE done IS NOT NULL"))


@pytest.fixture
def no_pull(shop: Shop) -> Shop:
    store = structs.replace(shop.kit.config.store[0], shop=ShopConfig())
    shop.kit.config = structs.replace(shop.kit.config, store=[store])
    return shop


@BOTH_WAYS
def test_of_two_couriers_one_erases_what_a_platform_asks(
    leased: bool, no_pull: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, erased, both = no_pull, list[str](), Barrier(2)
    asked, erase = Asked(monkeypatch, leased=leased), requests.erase_person

    def noted(*given: Any, **named: Any) -> Any:
        if not leased and len(erased) < 2:
            erased.append("")
            both.wait(60)
        elif leased:
            erased.append("")
        return erase(*given, **named)

    monkeypatch.setattr(requests, "erase_person", noted)
    monkeypatch.setattr(erasing, "_HEARD_S", 0.0)
    ask_to_erase(shop)
    with requests.opened(shop.kit.config) as there:
        values = sum(len(list(requests.asked_of(one))) for one in there.all())
    with CourierThread(courier_of(shop)), CourierThread(courier_of(shop)):
        if leased:
            assert wait_until(lambda: asked.count("shops", False) > 2)
        assert wait_until(lambda: is_done(shop))
    assert len(erased) == (values if leased else 2)
    assert shop.kit.rows("SELECT called FROM shop_order") == [(str(NUMBER + 2),)]
    ((kept, gone),) = shop.kit.rows("SELECT asked, found FROM shop_request")
    assert b"ada" not in kept
    assert gone == 1 or not leased


DYING = """
import sys, msgspec
from collector.config import Config
from collector.courier.app import run
from collector.storage.postgres import books, erasing
def finish(*_):
    print("erased", flush=True)
    sys.stdin.read()
books.PostgresRequests.finish = finish
erasing._HEARD_S = 0.0
run(msgspec.json.decode(sys.argv[1], type=Config))
"""


@pytest.mark.slow
def test_a_courier_killed_while_it_erases_is_succeeded(no_pull: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = no_pull
    ask_to_erase(shop)
    command = [sys.executable, "-c", DYING, msgspec.json.encode(courier_of(shop)).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"erased\n"
        killed.send_signal(signal.SIGKILL)
    monkeypatch.setattr(erasing, "_HEARD_S", 0.0)
    asked = Asked(monkeypatch, leased=True)
    with CourierThread(courier_of(shop)):
        assert wait_until(lambda: asked.count("shops", False) > 2)
        assert not is_done(shop), "control: it is not known to be dead"
        shop.kit.execute("UPDATE duty SET until = 0")
        assert wait_until(lambda: is_done(shop))
    assert shop.kit.rows("SELECT called FROM shop_order") == [(str(NUMBER + 2),)]
    assert shop.kit.rows("SELECT found FROM shop_request") == [(1,)], "what the dead one took is counted"


@pytest.mark.slow
def test_what_is_held_of_a_customer_is_a_file_until_the_request_is_dismissed_anywhere(
    no_pull: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, config = no_pull, courier_of(no_pull)
    monkeypatch.setattr(watch, "EVERY_S", 0.05)
    shop.tell(paid(NUMBER))
    shop.tell(asked_of_shop("customers/data_request", {"customer": {"id": 778899}, "orders_requested": [NUMBER]}))
    folder = Path(config.storage.data_dir, requests.FOLDER)
    with CourierThread(config):
        assert wait_until(lambda: list(folder.glob("*.ndjson")))
        (file,) = folder.glob("*.ndjson")
        assert str(NUMBER) in file.read_text()
        with requests.opened(config) as there:  # on another machine
            (one,) = there.all()
            there.finish(one, now_ms(), None)
        assert wait_until(lambda: not file.exists())


@pytest.mark.slow
def test_the_command_lists_runs_and_dismisses(
    no_pull: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, storage = no_pull, no_pull.kit.config.storage
    monkeypatch.setattr(erasing, "_HEARD_S", 0.0)
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[storage]\nengine = "postgres"\ndsn = "{storage.dsn}"\nstandby = "none"\ndata_dir = "{storage.data_dir}"\n'
        f'[privacy]\npepper_file = "{storage.data_dir}/pepper.key"\n[meta]\nmode = "off"\n[[store]]\nid = "{STORE}"\n'
    )
    path.chmod(0o600)

    def command(*words: str) -> Any:
        assert main(["requests", *words, "--config", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    ask_to_erase(shop)
    shop.tell(asked_of_shop("shop/redact", made.SHOPIFY_BARE["shop/redact"]))
    ids = {one["kind"]: one["id"] for one in command("list")}
    assert command("run", ids["redact"])["erased"] == 1
    assert command("dismiss", ids["shop_redact"], "--yes")["dismissed"]
    assert {one["kind"]: one["erased"] for one in command("list")} == {"redact": 1, "shop_redact": None}


# -- the ad account


PAGES = 9


@pytest.fixture
def account(tmp_path: Path) -> Iterator[tuple[GraphSimulator, AdAccount]]:
    """Of three ads 25 days that are among the last 28, also when midnight passes; ten rows a page."""
    with GraphSimulator() as graph:
        made = graph.state.accounts["act_1"] = AdAccount("ads-token")
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        made.rows = [an_ad_day(day, ad, "1.00") for day in days_back(yesterday, 25) for ad in (1, 2, 3)]
        made.most = 10
        yield graph, made


def reading(folder: Path, database: Database, graph: GraphSimulator) -> Config:
    config = postgres_config(folder, database, graph.url)
    return structs.replace(config, insights=InsightsConfig(ad_account="act_1", access_token="ads-token"))


@BOTH_WAYS
def test_of_two_couriers_one_reads_the_ad_account_and_the_next_goes_on(
    leased: bool,
    tmp_path: Path,
    database: Database,
    account: tuple[GraphSimulator, AdAccount],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, ads = account
    config, asked, both, state = reading(tmp_path, database, graph), *_together(leased, monkeypatch)
    if not leased:
        monkeypatch.setattr(PostgresInsights, "state", lambda own: (both.wait(60), state(own))[1])
    whole = "SELECT count(*) FROM insight_account WHERE at > 0"
    with CourierThread(config), CourierThread(config):
        if leased:
            assert wait_until(lambda: asked.count("insights", False) > 2)
        assert wait_until(lambda: database.sql(whole) == "1" and len(ads.asked) >= PAGES * (1 if leased else 2))
    assert len(ads.asked) == PAGES * (1 if leased else 2), "eight, and the empty one behind the last cursor"
    if not leased:  # and one takes out what the other has just read
        return
    assert database.sql("SELECT sum(spend) / 10000 FROM insight WHERE currency = 'USD'").startswith("75")
    with CourierThread(config):  # who comes next knows when it was read
        before = len(asked.answers)
        assert wait_until(lambda: len(asked.answers) > before)
    assert len(ads.asked) == PAGES


def _together(leased: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Asked, Barrier, Any]:
    return Asked(monkeypatch, leased=leased), Barrier(2), PostgresInsights.state


@pytest.mark.slow
def test_a_courier_killed_while_it_reads_the_ad_account_is_succeeded(
    tmp_path: Path, database: Database, account: tuple[GraphSimulator, AdAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, ads = account
    config = reading(tmp_path, database, graph)
    with courier_process(config) as killed:
        assert wait_until(lambda: len(ads.asked) >= 3)
        killed.send_signal(signal.SIGKILL)
    asked = Asked(monkeypatch, leased=True)
    with CourierThread(config):
        assert wait_until(lambda: asked.count("insights", False) > 2), "control: it is not known to be dead"
        database.sql("UPDATE duty SET until = 0")
        assert wait_until(lambda: database.sql("SELECT count(*) FROM insight_account WHERE at > 0") == "1")
    assert database.sql("SELECT count(*) || ' ' || count(DISTINCT reading) FROM insight") == "75 1"


# -- the week's report


def reporting(folder: Path, database: Database, url: str) -> Config:
    """Its moment was an hour ago."""
    due = datetime.now(UTC) - timedelta(hours=1)
    alerts = AlertsConfig(webhook_url=url, weekly=f"{due:%A %H:%M}".lower())
    return structs.replace(postgres_config(folder, database), alerts=alerts, meta=MetaConfig(mode="off"))


def reports(received: list[bytes]) -> list[str]:
    told = [msgspec.json.decode(body) for body in received]
    return [one["text"] for one in told if one["kind"] == "weekly"]


@BOTH_WAYS
def test_of_two_couriers_one_sends_the_weeks_report(
    leased: bool, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, leased=leased)
    monkeypatch.setattr(weekly, "_LOOK_S", 0.05)
    if not leased:
        once = iter((True, True))  # each courier's first
        monkeypatch.setattr(PostgresWeekly, "claim", lambda *_: next(once, False))
    with hook() as (url, received):
        config = reporting(tmp_path, database, url)
        with CourierThread(config), CourierThread(config):
            if leased:
                assert wait_until(lambda: asked.count("weekly", False) > 2)
            assert wait_until(lambda: len(reports(received)) >= (1 if leased else 2))
            before = len(asked.answers)
            assert wait_until(lambda: len(asked.answers) > before + 10), "it is looked again"
        with CourierThread(config):
            before = len(asked.answers)
            assert wait_until(lambda: len(asked.answers) > before + 5)
    assert len(reports(received)) == (1 if leased else 2)
    assert database.sql("SELECT channel, done FROM weekly_sent") == ("webhook|1" if leased else "")


DYING_AT = """
import sys, msgspec
from collector.config import Config
from collector.courier import app, weekly
from collector.storage.postgres.insights import PostgresWeekly
async def send(*_):
    claim()
def claim(*_):
    print("at it", flush=True)
    sys.stdin.read()
if sys.argv[2] == "before":
    PostgresWeekly.claim = claim
else:
    weekly.send = send
app.run(msgspec.json.decode(sys.argv[1], type=Config))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("when", "sent"), [("before", 1), ("while", 0)])
def test_a_courier_killed_at_the_weeks_report_is_succeeded_and_none_is_sent_twice(
    when: str, sent: int, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on its way may have arrived: nobody sends it again by himself."""
    with hook() as (url, received):
        config = reporting(tmp_path, database, url)
        command = [sys.executable, "-c", DYING_AT, msgspec.json.encode(config).decode(), when]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as killed:
            assert killed.stdout is not None
            assert killed.stdout.readline() == b"at it\n"
            killed.send_signal(signal.SIGKILL)
        asked = Asked(monkeypatch, leased=True)
        monkeypatch.setattr(weekly, "_LOOK_S", 0.05)
        with CourierThread(config):
            assert wait_until(lambda: asked.count("weekly", False) > 2), "control: it is not known to be dead"
            database.sql("UPDATE duty SET until = 0")
            assert wait_until(lambda: database.sql("SELECT done FROM weekly_sent") == "1")
            assert wait_until(lambda: asked.count("weekly", True) > 5)
    assert len(reports(received)) == sent
