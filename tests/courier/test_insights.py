"""What the ads cost: read from Meta's stand-in on a real socket into a real file, restated, behind every event."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from collector.config import AlertsConfig, Config, InsightsConfig
from collector.core.capi.verdicts import Kind, Verdict
from collector.courier import insights
from collector.courier.alerts import Alerts
from collector.courier.desk import Desk
from collector.courier.graph import GraphClient
from collector.courier.insights import InsightReader
from collector.courier.targets import Target
from collector.errors import Unavailable
from collector.storage.delivery import SqliteBooks
from collector.storage.ground.database import open_database
from collector.storage.outbox.dispatch import Outbox
from collector.storage.outbox.insights import InsightBook
from tests.kit.courier_kit import CourierThread, bench, config_for, now_ms, wait_until
from tests.kit.simulators.ad_account import AdAccount, an_ad_day, days_back, purchases
from tests.kit.simulators.graph import GraphSimulator

NOON = 1_790_000_000_000  # 21 September 2026, 14:13 UTC
TODAY = date(2026, 9, 21)
HOUR_S = 3600.0
TOKEN = "ads-token-that-nobody-may-see"


def insight_config(folder: Path, url: str, *, token: str = TOKEN, **meta: Any) -> Config:
    own = InsightsConfig(ad_account="act_1", access_token=token)
    return structs.replace(config_for(folder, url, **meta), insights=own)


class Books:
    """An account at Meta, its reader, and the file that it writes."""

    def __init__(self, folder: Path, graph: GraphSimulator) -> None:
        self.graph = graph
        self.config = insight_config(folder, graph.url)
        self.db = open_database(self.config.storage)
        self.books = SqliteBooks(self.config)
        self.books._db.execute("PRAGMA synchronous=OFF")
        self.db.execute("PRAGMA synchronous=OFF")

    def begin(self) -> None:
        """As if nothing had been read yet."""
        for table in ("insight", "insight_ad", "insight_account"):
            self.db.execute(f"DELETE FROM {table}")
        self.graph.state.reset()
        self.account = self.graph.state.accounts["act_1"] = AdAccount(TOKEN)
        self.now = NOON
        self.config = insight_config(Path(self.config.storage.data_dir), self.graph.url)
        self.alerts = Alerts(AlertsConfig(webhook_url="https://hooks.example"))
        self.anew: Config | None = None

    async def reading(self, times: int = 1) -> list[float]:
        """What `once` gave, so many times."""
        client, thread = GraphClient(self.config.meta), ThreadPoolExecutor(1)
        self.reader = InsightReader(
            self.config,
            self.books,
            client,
            self.alerts,
            lambda: self.now,
            thread,
            quiet=_at_once,
            anew=lambda: self.anew,
            dice=lambda: 1.0,
        )
        try:
            return [await self.reader.once() for _ in range(times)]
        finally:
            thread.shutdown()
            await client.close()

    def read(self, times: int = 1) -> float:
        return asyncio.run(self.reading(times))[-1]

    def rows(self, sql: str) -> list[Any]:
        return self.db.execute(sql).fetchall()

    def spend(self) -> dict[str, int]:
        """Cents by currency."""
        return dict(self.rows("SELECT currency, sum(spend) / 100 FROM insight GROUP BY 1"))

    @property
    def fault(self) -> str | None:
        return InsightBook(self.db, "act_1").state().fault


async def _at_once() -> None:
    """Nothing waits."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    with GraphSimulator() as graph:
        made = Books(tmp_path_factory.mktemp("books"), graph)
        yield made
        made.db.close()


@pytest.fixture
def books(opened: Books) -> Books:
    opened.begin()
    return opened


def a_month(currency: str = "USD", ads: int = 3) -> list[dict[str, Any]]:
    return [
        an_ad_day(day, ad, f"{ad}.{n:02d}", currency=currency, **purchases(n % 3, ad % 2))
        for n, day in enumerate(days_back(TODAY, 28))
        for ad in range(1, ads + 1)
    ]


def cents(rows: list[dict[str, Any]]) -> int:
    return sum(round(float(row["spend"]) * 100) for row in rows)


def test_the_accounts_spend_is_kept_to_the_cent_over_all_pages(books: Books) -> None:
    books.account.rows, books.account.most = a_month(), 10
    assert books.read() == 3 * HOUR_S
    assert books.spend() == {"USD": cents(books.account.rows)}
    assert len(books.account.asked) == 10, "84 rows of ten, and the empty page that the last cursor leads to"
    assert all("token" not in json.dumps(said) for said in books.account.asked)


def test_each_reading_restates_the_last_28_days_and_takes_out_what_is_gone(books: Books) -> None:
    books.account.rows = a_month()
    books.read()
    books.account.rows = [{**row, "spend": "0.07"} for row in a_month()[3:]]
    books.read()
    assert books.spend() == {"USD": 7 * 81}
    books.account.rows = []
    books.read()
    assert books.spend() == {}


def test_what_is_older_than_28_days_stays_as_it_was_last_told(books: Books) -> None:
    books.account.rows = a_month()
    books.read()
    before = books.rows("SELECT day, sum(spend) FROM insight GROUP BY 1 ORDER BY 1")
    books.now += 10 * 86_400_000
    books.account.rows = [an_ad_day(TODAY, 1, "5.00")]
    books.read()
    after = books.rows("SELECT day, sum(spend) FROM insight GROUP BY 1 ORDER BY 1")
    assert after == [*before[:10], (before[-1][0], 50_000)]


def test_control_without_the_taking_out_a_deleted_ad_costs_for_ever(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = InsightBook.done

    def lax(self: InsightBook, reading: int, *rest: Any, **more: Any) -> None:
        self._db.execute("UPDATE insight SET reading = ?", (reading,))
        real(self, reading, *rest, **more)

    monkeypatch.setattr(InsightBook, "done", lax)
    books.account.rows = a_month()
    books.read()
    books.account.rows = a_month()[3:]
    books.read()
    assert books.spend() != {"USD": cents(a_month()[3:])}


def test_a_reading_that_breaks_off_takes_nothing_out(books: Books) -> None:
    books.account.rows, books.account.most = a_month(), 10
    books.read()
    books.account.rows = [{**row, "spend": "1.00"} for row in a_month()]
    books.graph.faults({"name": "ok", "times": 3}, {"name": "500", "times": 1}, pixel="act_1")
    assert books.read() == 30.0
    assert books.rows("SELECT count(*) FROM insight") == [(84,)]
    assert "Service temporarily unavailable (code 2)" in str(books.fault)
    assert books.read() == 3 * HOUR_S
    assert (books.spend(), books.fault) == ({"USD": 8400}, None)


def test_a_purchase_has_many_names_and_is_counted_once(books: Books) -> None:
    books.account.rows = [an_ad_day(TODAY, 1, "1.00", **purchases(2, 1, "10.50"))]
    books.read()
    assert books.rows("SELECT purchases, purchase_units FROM insight") == [(3, 315_000)]


def test_two_currencies_are_two_sums(books: Books) -> None:
    books.account.rows = [*a_month("USD", ads=1), *a_month("EUR", ads=1)]
    books.read()
    assert books.spend() == {"EUR": cents(a_month(ads=1)), "USD": cents(a_month(ads=1))}


@pytest.mark.parametrize(
    ("zone", "hour", "today"),
    [
        ("Asia/Tokyo", 20, TODAY + timedelta(1)),
        ("Asia/Tokyo", 14, TODAY),
        ("America/Los_Angeles", 3, TODAY - timedelta(1)),
        ("Asia/Kolkata", 19, TODAY + timedelta(1)),
        ("UTC", 23, TODAY),
        ("Nowhere/Atlantis", 23, TODAY),
    ],
)
def test_days_are_the_accounts(books: Books, zone: str, hour: int, today: date) -> None:
    books.account.timezone = zone
    books.now = int(datetime(2026, 9, 21, hour, tzinfo=UTC).timestamp() * 1000)
    books.read()
    asked = json.loads(books.account.asked[0]["time_range"])
    assert asked == {"since": str(today - timedelta(27)), "until": str(today)}


def test_an_account_that_does_not_say_its_zone_is_read_by_the_last_known_one(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are asked for all the same; rows without a currency have the account's."""
    books.account.timezone, books.account.currency = "Asia/Tokyo", "JPY"
    books.account.rows = [{k: v for k, v in an_ad_day(TODAY, 1, "120").items() if k != "account_currency"}]
    books.read()
    assert books.spend() == {"JPY": 12_000}
    real = AdAccount.answer
    monkeypatch.setattr(AdAccount, "answer", lambda self, url: real(self, url) if "/insights" in url else (400, "no"))
    books.now = int(datetime(2026, 9, 21, 20, tzinfo=UTC).timestamp() * 1000)
    assert books.read() == 3 * HOUR_S
    assert json.loads(books.account.asked[-1]["time_range"])["until"] == str(TODAY + timedelta(1))
    assert books.spend() == {"JPY": 12_000}


def test_without_any_word_of_the_currency_it_is_a_sum_of_its_own(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AdAccount.answer
    monkeypatch.setattr(AdAccount, "answer", lambda self, url: real(self, url) if "/insights" in url else (200, {}))
    bare = {k: v for k, v in an_ad_day(TODAY, 1, "1.20").items() if k != "account_currency"}
    books.account.rows = [bare, an_ad_day(TODAY, 2, "3.40", currency="EUR", ad_id=120000000002)]
    books.read()
    assert books.spend() == {"": 120, "EUR": 340}


def test_days_count_as_known_only_without_a_gap(books: Books) -> None:
    def known() -> tuple[date, date]:
        ((since, until),) = books.rows("SELECT since, until FROM insight_account")
        return date(1970, 1, 1) + timedelta(since), date(1970, 1, 1) + timedelta(until)

    books.read()
    assert known() == (TODAY - timedelta(27), TODAY)
    books.now += 20 * 86_400_000
    books.read()
    assert known() == (TODAY - timedelta(27), TODAY + timedelta(20))
    books.now += 40 * 86_400_000  # switched off for longer than Meta is asked back
    books.read()
    assert known() == (TODAY + timedelta(33), TODAY + timedelta(60))


REFUSED = {
    "190": "put a new token into [insights] access_token_file",
    "190_400": "put a new token into [insights] access_token_file",
    "200_permission": "give the token's user ads_read",
    "10": "give the token's user ads_read",
    "100_33": "is act_1 the right number",
    "2635": "set a newer [meta] api_version",
    "300": "tried again every hour",
}


@pytest.mark.parametrize("mode", REFUSED)
def test_what_a_person_must_mend_is_named_and_tried_hourly(books: Books, mode: str) -> None:
    books.graph.faults(mode, pixel="act_1")
    assert books.read() == HOUR_S
    assert REFUSED[mode] in str(books.fault)
    assert ("insights", "") in books.alerts._standing
    books.graph.faults(pixel="act_1")
    assert books.read() == 3 * HOUR_S
    assert books.alerts._standing == set()


def test_a_token_without_ads_read_is_told(books: Books) -> None:
    books.account.may_read = False
    books.read()
    assert "NOT grant ads_management or ads_read" in str(books.fault)
    assert "give the token's user ads_read and the account act_1" in str(books.fault)


@pytest.mark.parametrize(
    "mode", ["500", "500_empty", "502_html", "503", "code_1", "code_2", "404_html", "reset_before"]
)
def test_what_passes_by_itself_is_tried_again_ever_more_slowly_and_alarms_nobody(books: Books, mode: str) -> None:
    books.graph.faults(mode, pixel="act_1")
    assert books.read() == 30.0
    assert books.alerts._standing == set()
    assert books.read(9) == HOUR_S


def test_after_a_day_without_figures_somebody_is_told_whatever_the_fault(books: Books) -> None:
    books.read()
    books.graph.faults("503", pixel="act_1")
    books.now += 86_400_000
    books.read()
    assert books.alerts._standing == set()
    books.now += 1
    books.read()
    assert ("insights", "") in books.alerts._standing


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "77"}, 77.0),
        (
            {"X-Business-Use-Case-Usage": '{"1": [{"type": "ads_insights", "estimated_time_to_regain_access": 9}]}'},
            540.0,
        ),
        ({"X-Business-Use-Case-Usage": '{"1": [{"estimated_time_to_regain_access": 99999}]}'}, HOUR_S),
        ({}, 30.0),
    ],
)
@pytest.mark.parametrize("mode", ["429", "code_4", "code_17", "code_613", "code_80004"])
def test_throttling_waits_as_meta_asks(books: Books, mode: str, headers: dict[str, str], seconds: float) -> None:
    books.graph.faults({"name": mode, "headers": headers}, pixel="act_1")
    assert books.read() == seconds


@pytest.mark.parametrize("mode", ["200_html", "200_empty", "code_1"])
def test_an_answer_that_was_too_much_is_asked_for_in_smaller_pages(books: Books, mode: str) -> None:
    books.account.rows = a_month()
    books.graph.faults({"name": "ok", "times": 1}, {"name": mode, "times": 1}, pixel="act_1")
    assert asyncio.run(books.reading(2)) == [30.0, 3 * HOUR_S]
    assert [said["limit"] for said in books.account.asked][-1] == "125"


def test_rows_of_no_use_are_counted_and_the_rest_is_kept(books: Books) -> None:
    good = an_ad_day(TODAY, 1, "3.21")
    changes: list[dict[str, Any]] = [
        {"ad_id": "1 OR 1=1"},
        {"ad_id": None},
        {"ad_id": -5},
        {"date_start": "yesterday"},
        {"date_start": "2026-09-20"},  # a row of two days
        {"spend": "NaN"},
        {"spend": "1e300"},
        {"spend": ["1"]},
        {"spend": True},
        {"spend": "99999999999.00"},
        {"account_currency": "usd'--"},
        {"impressions": "many"},
        {"actions": [{"action_type": "purchase", "value": "∞"}]},
        {"actions": "none"},
    ]
    books.account.rows = [{**good, **change} for change in changes] + [good]
    books.read()
    assert books.spend() == {"USD": 321}
    assert books.rows("SELECT unread FROM insight_account") == [(len(changes),)]


HOSTILE = ["<script>alert(1)</script>", "'; DROP TABLE insight; --", "\x1b[2J\x00\x1f", "‮gnp.exe", "名" * 5000, ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_kept_printable_and_short(books: Books, name: str) -> None:
    books.account.rows = [an_ad_day(TODAY, 1, "1.00", ad_name=name, campaign_name=name, adset_name=name)]
    books.read()
    ((kept, campaign),) = books.rows("SELECT ad_name, campaign_name FROM insight_ad")
    assert kept == campaign == "".join(c for c in name if c.isprintable())[:120]
    assert books.spend() == {"USD": 100}


def test_a_cursor_that_leads_to_itself_ends_the_reading(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = {"data": [], "paging": {"cursors": {"after": "QQ=="}, "next": "https://graph.facebook.com/again"}}
    real = AdAccount.answer
    monkeypatch.setattr(AdAccount, "answer", lambda self, url: (200, loop) if "/insights" in url else real(self, url))
    assert books.read() == 30.0
    assert "whose body is not Meta's" in str(books.fault)


def test_no_token_is_in_a_log_or_a_fault(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    books.config = structs.replace(books.config, meta=structs.replace(books.config.meta, app_secret="app-secret-9"))
    for mode in ("190", "500", "200_html", "slow", "code_4"):
        books.graph.faults({"name": mode, "times": 1, "seconds": 0.1}, pixel="act_1")
        books.read()
    for secret in (TOKEN, "app-secret-9"):
        assert secret not in caplog.text
        assert secret not in str(books.fault)
        assert all(secret not in json.dumps(said) for said in books.account.asked)


def test_with_an_app_secret_the_proof_is_sent(books: Books) -> None:
    books.config = structs.replace(books.config, meta=structs.replace(books.config.meta, app_secret="app-secret-9"))
    books.read()
    assert len(books.account.asked[0]["appsecret_proof"]) == 64


async def test_a_new_token_is_taken_while_the_old_one_is_refused(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insights, "_LOOK_S", 0.01)
    books.account.token = "new"
    assert await books.reading() == [HOUR_S]
    books.anew = structs.replace(books.config, insights=structs.replace(books.config.insights, access_token="new"))
    async with asyncio.timeout(20):
        await books.reader._rest(HOUR_S)
    assert books.reader._target.token == "new"


@pytest.mark.parametrize("failures", [1, 8, 1_025, 100_000])
def test_the_wait_after_any_number_of_failures_is_an_hour_at_most(books: Books, failures: int) -> None:
    books.read()
    books.reader._failures = failures
    assert 0 < books.reader._wait_after(Verdict(kind=Kind.TRANSIENT, message="")) <= HOUR_S


async def test_nothing_is_asked_while_events_wait(books: Books) -> None:
    still = asyncio.Event()
    client, thread = GraphClient(books.config.meta), ThreadPoolExecutor(1)
    reader = InsightReader(books.config, books.books, client, books.alerts, lambda: NOON, thread, quiet=_waiting(still))
    reading = asyncio.create_task(reader.once())
    await asyncio.sleep(0)
    assert not books.account.asked
    still.set()
    assert await reading == 3 * HOUR_S
    assert books.account.asked
    thread.shutdown()
    await client.close()


def _waiting(still: asyncio.Event) -> Any:
    async def quiet() -> None:
        await still.wait()

    return quiet


def test_a_running_courier_delivers_first_and_reads_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Meta fails or slows a pixel's queue, the account is not asked; and it is once the queue is empty."""
    monkeypatch.setattr(insights, "_PAUSE_S", 0.02)
    with GraphSimulator() as graph:
        account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
        account.rows = [an_ad_day(datetime.now(UTC).date(), 1, "4.56")]
        config = insight_config(tmp_path, graph.url)
        graph.faults("503", pixel="111")
        with bench(config) as queued:
            queued.put(3, created=now_ms() - 60_000)
            with CourierThread(config):
                assert wait_until(lambda: graph.state.requests["111:503"] > 5)
                assert not account.asked
                graph.faults(pixel="111")
                assert wait_until(lambda: account.asked)
                assert len(graph.accepted["111"]) == 3
                assert wait_until(lambda: queued.rows("SELECT sum(spend) FROM insight") == [(45_600,)])


def test_a_pixel_that_is_never_done_keeps_nobody_from_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "_PAUSE_S", 0.02)
    turned = 0

    def later() -> int:
        nonlocal turned
        turned += 60_000
        return turned

    with GraphSimulator() as graph:
        account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
        config = insight_config(tmp_path, graph.url)
        graph.faults("503", pixel="111")
        with bench(config) as queued:
            queued.put(3, created=now_ms() - 60_000)
            with CourierThread(config, clock=lambda: now_ms() + turned):
                assert wait_until(lambda: graph.state.requests["111:503"] > 5)
                assert not account.asked
                assert wait_until(lambda: later() and account.asked)
                assert not graph.accepted


@pytest.mark.parametrize("step_ms", [30_000, -30_000])
async def test_a_wait_behind_events_has_an_end_however_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, step_ms: int
) -> None:
    now, looks = NOON, 0

    async def busy(*_: Any) -> bool:
        nonlocal now, looks
        now, looks = now + step_ms, looks + 1
        return True

    monkeypatch.setattr(insights, "_PAUSE_S", 0)
    monkeypatch.setattr(insights, "_are_busy", busy)
    nothing: Any = None
    await insights.quiet(nothing, {}, lambda: now, live=True)
    assert looks == insights._LONGEST_MS / 30_000


async def test_a_blocked_pixels_own_request_is_not_waited_for_and_another_ones_is(tmp_path: Path) -> None:
    """A blocked one sends an event now and then, to see whether it is mended."""
    with bench(config_for(tmp_path, "", "111", "222")) as queued:
        queued.put(pixel="111")
        queued.put(first=2, pixel="222")
        box = Outbox(queued.db, "courier")
        desk, numbers, later = Desk(box), box.pixels(), now_ms() + 1_000
        queues: Any = {
            name: SimpleNamespace(blocked=False, target=Target(name, token="t"), closed_for=int) for name in numbers
        }
        queues["111"].blocked = True
        for name in ("111", "222"):
            claim = box.claim_fresh(numbers[name], 1, later, 60_000)
            assert claim is not None
            assert box.is_sending(numbers[name])
            assert await insights._are_busy(desk, queues, lambda: 0) is (name == "222")
            box.land(claim.ids)
            assert not box.is_sending(numbers[name])
        desk.close()


def test_control_a_reader_that_does_not_wait_asks_before_the_events_are_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        """Waits for nothing."""

    monkeypatch.setattr(insights, "quiet", never)
    with GraphSimulator() as graph:
        account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
        config = insight_config(tmp_path, graph.url)
        graph.faults("503", pixel="111")
        with bench(config) as queued:
            queued.put(3, created=now_ms() - 60_000)
            with CourierThread(config):
                assert wait_until(lambda: account.asked)
                assert not graph.accepted


def test_a_restart_does_not_read_what_was_just_read(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
        config = insight_config(tmp_path, graph.url)
        with bench(config) as queued:
            for _ in range(2):
                with CourierThread(config):
                    assert wait_until(lambda: queued.rows("SELECT at FROM insight_account WHERE at > 0"))
        assert len(account.asked) == 1


def test_without_an_ad_account_nothing_is_asked(tmp_path: Path) -> None:
    with GraphSimulator() as graph, CourierThread(config_for(tmp_path, graph.url)) as courier:
        assert courier.courier._insights == []


# -- memory


def _most_kb(folder: str, url: str, rows: int, keep: bool) -> int:
    """The most memory (KB) that a reading takes in this process, over what it begins with."""
    kept: list[Any] = []
    if keep:
        real = InsightBook.put

        def leaking(self: InsightBook, reading: int, page: Any) -> None:
            kept.extend(page)
            real(self, reading, page)

        InsightBook.put = leaking  # type: ignore[method-assign]
    config = insight_config(Path(folder), url)
    config = structs.replace(config, storage=structs.replace(config.storage, cache_mb=2))
    db = open_database(config.storage)
    books = SqliteBooks(config)
    Path("/proc/self/clear_refs").write_text("5")

    async def read() -> None:
        client, thread = GraphClient(config.meta), ThreadPoolExecutor(1)
        alerts = Alerts(AlertsConfig())
        reader = InsightReader(config, books, client, alerts, lambda: NOON, thread, quiet=_at_once)
        assert await reader.once() == 3 * HOUR_S
        thread.shutdown()
        await client.close()

    asyncio.run(read())
    assert db.execute("SELECT count(*) FROM insight").get == rows
    books.close()
    db.close()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def growth(folder: Path, many: int, *, keep: bool = False) -> int:
    most = []
    for n in (2_800, many):
        with GraphSimulator() as graph:
            account = graph.state.accounts["act_1"] = AdAccount(TOKEN)
            account.rows = [an_ad_day(day, ad, "1.00") for day in days_back(TODAY, 28) for ad in range(n // 28)]
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                most.append(pool.submit(_most_kb, str(folder / str(n)), graph.url, n, keep).result())
    print(f"2,800 rows: {most[0]} KB, {many} rows: {most[1]} KB at most")
    return most[1] - most[0]


@pytest.mark.slow
def test_the_readings_memory_does_not_grow_with_the_account(tmp_path: Path) -> None:
    assert growth(tmp_path, 100_800) < 8 * 1024


@pytest.mark.slow
def test_control_a_reading_that_keeps_its_rows_grows(tmp_path: Path) -> None:
    assert growth(tmp_path, 50_400, keep=True) > 8 * 1024


def test_a_server_that_goes_while_the_account_becomes_ours_ends_nobody(tmp_path: Path) -> None:
    asked: list[str] = []

    def gone(what: str) -> None:
        asked.append(what)
        raise Unavailable("the connection was lost")

    own = {what: lambda *_, what=what: gone(what) for what in ("state", "begin", "failed")}
    books: Any = SimpleNamespace(takes=lambda _: True, insights=lambda _: SimpleNamespace(**own))

    async def run() -> None:
        config, thread = insight_config(tmp_path, "http://127.0.0.1:9"), ThreadPoolExecutor(1)
        client, alerts = GraphClient(config.meta), Alerts(AlertsConfig())
        reader = InsightReader(config, books, client, alerts, lambda: NOON, thread, quiet=_at_once)
        running = asyncio.ensure_future(reader.run())
        while "failed" not in asked and not running.done():
            await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        thread.shutdown()
        await client.close()

    asyncio.run(run())
    assert asked == ["state", "begin", "failed"], "it goes on, and waits"
