"""The shop is told of answers that changed after they were given, until it takes the word; once it has, no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from collector.config import AlertsConfig, Config
from collector.courier import housekeeping, revisions
from collector.storage.ground import kept
from collector.storage.outbox.notices import Notices
from tests.kit.courier_kit import CourierThread, now_ms, wait_until
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, config_for, order


class Hook:
    """A shop's own address: answers with `status`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 204

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                raw = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.received.append(msgspec.json.decode(raw))
                handler.send_response(self.status)
                handler.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/changed"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def told(self) -> list[tuple[str, int]]:
        """Order and revision of everything that came, in order."""
        return [(one["orderId"], one["revision"]) for post in self.received for one in post["conversions"]]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(housekeeping, "_TELL_S", 0.05)
    monkeypatch.setattr(revisions, "_REST_MS", 50)
    with closing(Hook()) as hook:
        yield hook


def telling(folder: Path, url: str) -> Config:
    return msgspec.structs.replace(config_for(folder), alerts=AlertsConfig(revisions_url=url))


@contextmanager
def changed(config: Config) -> Iterator[tuple[Kit, int]]:
    """A journal in which an order's answer has changed: its click came late."""
    with Kit(Path(config.storage.data_dir), config=config) as kit:
        buyer = {"email": "jo@example.com", "phone": "+14155550100"}
        line = {"ipAddress": "93.184.216.34", "visitorId": "visitor-1"}
        (first,) = kit.post(order("1", NOW - HOUR, customerData=buyer, **line))
        kit.post(order("2", NOW - HOUR, visitorId="visitor-2"))
        kit.post(click("IwARlate00000", NOW - 2 * HOUR, **line))
        yield kit, first.state.row.id


def courier(config: Config) -> CourierThread:
    """A courier that takes the journal's time for today's."""
    began = now_ms()
    return CourierThread(config, clock=lambda: NOW + now_ms() - began)


def waiting(kit: Kit) -> list[tuple[int, int]]:
    return [tuple(row) for row in kit.rows("SELECT conversion, revision FROM notice")]


def test_a_late_click_is_told_without_personal_data(tmp_path: Path, hook: Hook) -> None:
    config = telling(tmp_path, hook.url)
    with changed(config) as (kit, row_id), courier(config):
        assert wait_until(lambda: not waiting(kit))
        (post,) = hook.received
        public = kit.journal.public
        assert post == {
            "kind": "revisions",
            "conversions": [
                {
                    "conversionId": public.public("conv", row_id),
                    "storeId": "store_abc123",
                    "eventType": "Purchase",
                    "orderId": "1",
                    "revision": 1,
                    "attributed": True,
                    "clickId": public.public("click", 1),
                    "confidenceScore": 98,
                    "method": "visitor_id",
                }
            ],
        }


def test_it_is_told_again_until_it_is_taken(tmp_path: Path, hook: Hook) -> None:
    config = telling(tmp_path, hook.url)
    hook.status = 503
    with changed(config) as (kit, row_id), courier(config):
        assert wait_until(lambda: len(hook.received) >= 3)
        assert waiting(kit) == [(row_id, 1)]
        hook.status = 200
        assert wait_until(lambda: not waiting(kit))
    assert set(hook.told) == {("1", 1)}


def test_an_answer_that_changes_again_meanwhile_is_told_again(tmp_path: Path, hook: Hook) -> None:
    config = telling(tmp_path, hook.url)
    with changed(config) as (kit, row_id):
        db = kept.know(apsw.Connection(str(tmp_path / "collector.db")))
        db.set_busy_timeout(5000)
        noted = Notices(db, config).pending(NOW, 10)
        kit.post(click("IwARlater0000", NOW - HOUR - 1000, visitorId="visitor-1"))
        Notices(db, config).told(noted)  # the word of before was taken
        assert waiting(kit) == [(row_id, 2)]
        db.close()
        with courier(config):
            assert wait_until(lambda: not waiting(kit))
    assert hook.told == [("1", 2)]


def test_what_cannot_be_told_for_a_week_is_let_go(tmp_path: Path, hook: Hook) -> None:
    config = telling(tmp_path, hook.url)
    with changed(config) as (kit, row_id):
        db = kept.know(apsw.Connection(str(tmp_path / "collector.db")))
        db.set_busy_timeout(5000)
        Notices(db, config).pending(NOW + 7 * DAY, 10)
        assert waiting(kit) == [(row_id, 1)]
        Notices(db, config).pending(NOW + 7 * DAY + 1, 10)
        assert waiting(kit) == []
        db.close()


def test_where_nobody_asked_to_be_told_nothing_is_kept(tmp_path: Path, hook: Hook) -> None:
    config = telling(tmp_path, "")
    with changed(config) as (kit, row_id):
        assert waiting(kit) == [(row_id, 1)]
        with courier(config):
            assert wait_until(lambda: not waiting(kit))
    assert hook.received == []


def test_without_the_key_of_names_the_courier_goes_on_and_tells_nothing(tmp_path: Path, hook: Hook) -> None:
    """`collector courier` on a directory whose key is lost still delivers what waits."""
    config = telling(tmp_path, hook.url)
    with changed(config) as (kit, row_id):
        (tmp_path / "pepper.key").rename(tmp_path / "elsewhere")
        with courier(config) as running:
            deliveries = "SELECT count(*) FROM heartbeat WHERE process = 'courier'"
            assert wait_until(lambda: kit.rows(deliveries) == [(1,)])
            time.sleep(0.3)  # several times its turn to tell
            assert running._thread.is_alive()
        assert waiting(kit) == [(row_id, 1)]
    assert hook.received == []


@pytest.mark.parametrize("url", ["https://ex\u00e4mple..com/x", "https://xn--a/", "http://127.0.0.1:1/x"])
def test_an_address_that_is_none_does_not_stop_the_courier(tmp_path: Path, hook: Hook, url: str) -> None:
    with changed(telling(tmp_path, url)) as (kit, row_id), courier(telling(tmp_path, url)) as running:
        time.sleep(0.5)  # several tries
        assert running._thread.is_alive()
        assert waiting(kit) == [(row_id, 1)]


def test_the_address_is_a_secret_that_the_courier_alone_holds(tmp_path: Path) -> None:
    from collector.config_loader.secret_files import for_role

    config = telling(tmp_path, "https://shop.example/hook?key=1")
    assert for_role(config, "edge").alerts.revisions_url == ""
    assert for_role(config, "courier").alerts.revisions_url
