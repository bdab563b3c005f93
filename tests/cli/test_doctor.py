"""`collector doctor` finds each misconfiguration that is planted, by its name and with a mend; a sound one is sound."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from collector.cli import doctor, main
from collector.cli.doctor import machine, outside
from collector.config import (
    BackupConfig,
    Config,
    EdgeConfig,
    InsightsConfig,
    MetaConfig,
    PixelConfig,
    StorageConfig,
    StoreConfig,
)
from collector.storage.ground import backup, copies, damage, pepper
from collector.storage.ground.database import load_pepper, open_database
from collector.storage.ground.schema import newest_schema
from collector.storage.reports import commands, judged
from collector.storage.reports.delivery import Heartbeat, Pixel, Waiting
from collector.storage.reports.findings import Finding
from collector.storage.reports.health import Facts, Orders
from collector.storage.reports.insights import InsightState
from collector.storage.reports.status import Clock
from collector.storage.rules.standing import Held
from tests.kit.authority import Authority
from tests.kit.journal_kit import DAY, HOUR, NOW, PIXEL, STORE, Kit, click, order
from tests.kit.simulators.graph import GraphSimulator

ADDRESSES = [f"203.0.113.{n}" for n in range(3)] + [f"8.8.8.{n}" for n in range(20)]


def sound_store(**more: Any) -> StoreConfig:
    pixel = PixelConfig(id=PIXEL, access_token="EAAtoken")
    return StoreConfig(id=STORE, currency="USD", country="US", pixel=[pixel], **{"domains": ["mystore.com"], **more})


def sound(**more: Any) -> Config:
    return Config(**{"store": [sound_store()], "edge": EdgeConfig(public_url="https://mystore.com/m"), **more})


def facts(**more: Any) -> Facts:
    """A database of a healthy installation."""
    clock = Clock(system="", trusted="", held_seconds=0, held_since=None, meta_ahead_seconds=None, advice=None)
    return Facts(
        **{
            "schema": newest_schema(),
            "held": Held("SQLite", newest_schema(), 0, 0),
            "witness": pepper.Witness(None, named=False),
            "clock": clock,
            "beats": [Heartbeat("courier", NOW - 1000, {})],
            "waiting": [],
            "pixels": [Pixel(PIXEL)],
            "successes": {PIXEL: NOW - HOUR},
            "dead": 0,
            "keys": {("secret", STORE)},
            "clicks": {STORE: NOW - HOUR},
            "orders": {STORE: Orders(NOW - HOUR, 0, 10)},
            "webhooks": {},
            "addresses": ADDRESSES,
            "bytes_a_day": 0,
            **more,
        }
    )


def bad(found: Iterator[Finding]) -> set[str]:
    """The names of what is not ok; each says a mend."""
    named = [one for one in found if one.level != "ok"]
    assert all(one.mend and one.what for one in named)
    return {one.check for one in named}


HELD = Clock(system="", trusted="", held_seconds=9, held_since=None, meta_ahead_seconds=None, advice="held")
ADS = InsightsConfig(ad_account="act_1", access_token="ads-token")
SHOPIFY = sound_store(webhook_secrets={"shopify": "s"})

IN_THE_DATABASE: dict[str, tuple[Facts, Config]] = {
    "schema": (facts(schema=newest_schema() + 1), sound()),
    "clock.heartbeat": (facts(beats=[Heartbeat("courier", NOW + HOUR, {})]), sound()),
    "clock.held": (facts(clock=HELD), sound()),
    "processes": (facts(beats=[Heartbeat("courier", NOW - HOUR, {})]), sound()),
    "queue.age": (facts(waiting=[Waiting(PIXEL, 0, 5, NOW - HOUR)]), sound()),
    "queue.expiring": (facts(pixels=[Pixel(PIXEL, deadline=NOW + HOUR)]), sound()),
    "queue.dead": (facts(dead=3), sound()),
    "pixel.state": (facts(pixels=[Pixel(PIXEL, "blocked", reason="token")]), sound()),
    "pixel.success": (facts(successes={}), sound()),
    "pixel.gone": (
        facts(pixels=[Pixel("999999")], successes={"999999": NOW}, waiting=[Waiting("999999", 0, 1, NOW)]),
        sound(),
    ),
    "proxy.address": (facts(addresses=["127.0.0.1"] * 50), sound()),
    "proxy.one_address": (facts(addresses=["8.8.8.8"] * 50), sound()),
    "store.key": (facts(keys=set()), sound()),
    "store.clicks": (facts(clicks={}), sound()),
    "store.orders": (facts(orders={STORE: Orders(NOW - 9 * DAY, 0, 9)}), sound()),
    "store.server_orders": (facts(orders={STORE: Orders(NOW, 9, 10)}), sound()),
    "webhook.never": (facts(), sound(store=[SHOPIFY])),
    "insights.never": (facts(insights=InsightState(account="act_1")), sound(insights=ADS)),
    "insights.unread": (facts(insights=InsightState(account="act_1", last_read="T", unread=3)), sound(insights=ADS)),
    "insights.fault": (
        facts(insights=InsightState(account="act_1", fault="190", fault_since="T")),
        sound(insights=ADS),
    ),
    "webhook.silent": (facts(webhooks={(STORE, "shopify"): NOW - 5 * DAY}), sound(store=[SHOPIFY])),
}


def test_a_healthy_database_has_nothing_to_mend():
    assert bad(judged.judge(facts(), sound(), NOW)) == set()


@pytest.mark.parametrize("check", IN_THE_DATABASE)
def test_what_the_database_tells(check):
    planted, config = IN_THE_DATABASE[check]
    assert bad(judged.judge(planted, config, NOW)) == {check}


@pytest.mark.parametrize("orders", [Orders(NOW, 9, 10), Orders(NOW, 10, 10)])
def test_a_store_that_believes_pages_waits_for_no_server(orders):
    config = sound(store=[sound_store(browser_purchases="send")])
    assert bad(judged.judge(facts(orders={STORE: orders}), config, NOW)) == set()


def test_the_facts_are_read_from_a_real_journal(tmp_path):
    with Kit(tmp_path) as kit:
        kit.post(click("IwARaBcDeFgHiJkLmNoPqRsTuV1", visitorId="v1"), order("1", visitorId="v1"), order("2"))
        read = commands.health(kit.config, NOW)
    assert (read.schema, read.witness.named) == (newest_schema(), True)
    assert set(read.clicks) == set(read.orders) == {STORE}
    assert read.orders[STORE].n == 2
    assert read.bytes_a_day > 0
    assert "store.clicks" not in bad(judged.judge(read, sound(), NOW))


# -- settings and files


CODE = PixelConfig(id=PIXEL, access_token="t", test_event_code="TEST1", test_event_code_expires="2099-01-01T00:00:00Z")

IN_THE_SETTINGS: dict[str, Config] = {
    "mode": sound(meta=MetaConfig(mode="dry_run")),
    "graph.version": sound(meta=MetaConfig(api_version="v2.0")),
    "pixel.test_code": sound(store=[replace(sound_store(), pixel=[CODE])]),
    "store.pixel": sound(store=[replace(sound_store(), pixel=[])]),
    "store.currency": sound(store=[replace(sound_store(), currency="")]),
    "store.country": sound(store=[replace(sound_store(), country="")]),
    "public_url": sound(edge=EdgeConfig()),
}


def test_sound_settings_have_nothing_to_mend():
    assert bad(machine.of_settings(sound())) == set()


@pytest.mark.parametrize("check", IN_THE_SETTINGS)
def test_what_the_settings_tell(check):
    assert bad(machine.of_settings(IN_THE_SETTINGS[check])) == {check}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(machine, "BACKUPS", str(tmp_path / "timers"))  # this machine may have had one installed
    config = sound(storage=StorageConfig(data_dir=str(tmp_path / "data"), reserve_mb=1))
    with closing(open_database(config.storage)) as db:
        load_pepper(db, tmp_path / "data", "")
    (tmp_path / "data").chmod(0o700)
    (tmp_path / "data/collector.db").chmod(0o600)
    return config


def test_sound_files_have_nothing_to_mend(installed):
    assert bad(machine.of_files(installed)) == set()


def test_a_data_dir_that_is_not_there(installed):
    shutil.rmtree(installed.storage.data_dir)
    assert bad(machine.of_files(installed)) == {"data_dir"}


def test_a_data_dir_open_to_others(installed):
    os.chmod(installed.storage.data_dir, 0o777)
    assert bad(machine.of_files(installed)) == {"data_dir.mode"}


def test_a_database_that_anybody_reads(installed):
    os.chmod(f"{installed.storage.data_dir}/collector.db", 0o644)
    assert bad(machine.of_files(installed)) == {"database.mode"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_database_of_another_owner(installed):
    os.chown(f"{installed.storage.data_dir}/collector.db", 12_345, 12_345)
    assert bad(machine.of_files(installed)) == {"data_dir.owner"}


def test_a_loss_that_nobody_accepted(installed):
    damage.tell(Path(installed.storage.data_dir), "rows are lost")
    assert bad(machine.of_files(installed)) == {"damage"}


def test_a_key_that_is_another_databases(installed):
    other = pepper.Witness(b"x" * 32, named=True)
    assert bad(machine.of_key(installed, other)) == {"pepper"}


def test_a_disk_that_is_nearly_full(installed, monkeypatch):
    assert bad(machine.of_disk(installed, 0)) == set()
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    assert bad(machine.of_disk(installed, 0)) == {"disk.free"}


def test_a_disk_that_will_be_full_within_days(installed):
    free = shutil.disk_usage(installed.storage.data_dir).free
    assert bad(machine.of_disk(installed, free // 3)) == {"disk.days"}
    assert bad(machine.of_disk(installed, free // 300)) == set()


def test_backups_of_the_timer_that_install_made(installed, tmp_path):
    assert bad(machine.of_backups(installed, NOW)) == {"backup"}
    (tmp_path / "timers").mkdir()
    (tmp_path / "timers" / copies.name_of(NOW)).touch()
    assert bad(machine.of_backups(installed, NOW + HOUR)) == {"backup.disk"}
    late = [one for one in machine.of_backups(installed, NOW + 3 * DAY) if one.check == "backup.age"]
    assert "journalctl -u collector-backup" in late[0].mend
    assert bad(machine.of_newest_backup(installed)) == {"backup.damaged"}  # it is empty


def test_backups_that_are_none_old_or_on_the_same_disk(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "BACKUPS", str(tmp_path / "none"))
    assert bad(machine.of_backups(installed, NOW)) == {"backup"}
    folder = tmp_path / "copies"
    folder.mkdir()
    kept = replace(installed, backup=BackupConfig(dir=str(folder)))
    assert bad(machine.of_backups(kept, NOW)) == {"backup", "backup.disk"}
    (folder / copies.name_of(NOW)).touch()
    assert bad(machine.of_backups(kept, NOW + HOUR)) == {"backup.disk"}
    assert bad(machine.of_backups(kept, NOW + 3 * DAY)) == {"backup.age", "backup.disk"}


def test_the_newest_backup_is_proven(installed, tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    kept = replace(installed, backup=BackupConfig(dir=str(folder)))
    assert list(machine.of_newest_backup(kept)) == []
    path, _ = backup.backup(kept, folder, NOW)
    (found,) = machine.of_newest_backup(kept)
    assert (found.check, found.level) == ("backup.proven", "ok")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert bad(machine.of_newest_backup(kept)) == {"backup.damaged"}
    assert [one.name for one in folder.iterdir()] == [path.name]


def test_too_few_open_files(monkeypatch):
    assert bad(machine.of_limits()) == set()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert bad(machine.of_limits()) == {"files.limit"}


# -- from outside


class Outside:
    """Shop, edge and Graph at once, on a real socket; `pages` answers by path: body, headers, status."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, dict[str, str], int]] = {}
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"outside": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.put("/", f'<script async src="/m/c.js" data-store="{STORE}"></script>')
        self.put("/m/c.js", "window.collector=1")
        self.put("/m/healthz", '{"status":"ok"}')
        self.put("/m/c.gif", "GIF", {"Set-Cookie": "_cv=; Max-Age=0; Path=/"})
        self.put("/v26.0", "{}", {"Date": formatdate(usegmt=True)})
        self.put(f"/v26.0/{PIXEL}", f'{{"id":"{PIXEL}"}}')
        self.put("/v26.0/act_1", '{"currency":"USD"}')
        self.put("/v26.0/debug_token", '{"data":{"is_valid":true,"scopes":["ads_management"]}}')

    def put(self, path: str, body: str, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.pages[path] = body.encode(), headers or {}, status

    def config(self, **edge: Any) -> Config:
        url = f"http://127.0.0.1:{self.port}"
        return sound(
            store=[sound_store(domains=[f"127.0.0.1:{self.port}"])],
            edge=EdgeConfig(**{"public_url": f"{url}/m", **edge}),
            meta=MetaConfig(graph_url=url),
            insights=ADS,
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    outside: Outside

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.outside.asked.append(self.path)
        body, headers, status = self.outside.pages.get(path, (b"", {}, 404))
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def world() -> Iterator[Outside]:
    made = Outside()
    yield made
    made.close()


def test_a_sound_installation_is_sound_from_outside(world):
    assert bad(outside.look(world.config())) == set()


Plant = Callable[[Outside], object]
ERROR = '{{"error":{{"code":{}}}}}'
SOON = int(time.time()) + 3 * 86_400

FROM_OUTSIDE: dict[str, Plant] = {
    "insights.account": lambda w: w.put("/v26.0/act_1", ERROR.format(200), status=403),
    "page": lambda w: w.put("/", "", status=503),
    "tag": lambda w: w.put("/", "<html>"),
    "tag.store": lambda w: w.put("/", '<script src="/m/c.js" data-store="store_other"></script>'),
    "tag.path": lambda w: w.put("/m/c.js", "<html>not found", status=404),
    "proxy.path": lambda w: w.put("/m/healthz", "<html>"),
    "proxy.pixel": lambda w: w.put("/m/c.gif", "", status=404),
    "cookie": lambda w: w.put("/m/c.gif", "GIF"),
    "clock.meta": lambda w: w.put("/v26.0", "{}", {"Date": formatdate(time.time() - 3600, usegmt=True)}),
    "token": lambda w: w.put(f"/v26.0/{PIXEL}", ERROR.format(190), status=400),
    "pixel": lambda w: w.put(f"/v26.0/{PIXEL}", ERROR.format(100), status=400),
    "token.permission": lambda w: w.put("/v26.0/debug_token", '{"data":{"scopes":["email"]}}'),
    "token.expiry": lambda w: w.put("/v26.0/debug_token", f'{{"data":{{"expires_at":{SOON}}}}}'),
}


def _heads(graph: GraphSimulator) -> list[Any]:
    with urllib.request.urlopen(f"{graph.url}/_sim/last", timeout=10) as answer:
        return json.load(answer)["heads"]


def test_a_pixel_is_sent_a_test_event_when_there_is_a_code(tmp_path):
    with GraphSimulator(token="EAAtoken") as graph:
        config = sound(meta=MetaConfig(graph_url=graph.url))
        (unsent,) = outside.take_a_test(config, None, int(time.time() * 1000))
        assert (unsent.level, _heads(graph)) == ("ok", [])
        (sent,) = outside.take_a_test(config, "TEST1", int(time.time() * 1000))
        assert (sent.check, sent.level) == ("pixel.event", "ok")
        assert [head["test_event_code"] for head in _heads(graph)] == ["TEST1"]
    with GraphSimulator(token="another") as graph:
        config = sound(meta=MetaConfig(graph_url=graph.url))
        assert bad(outside.take_a_test(config, "TEST1", int(time.time() * 1000))) == {"pixel.event"}


@pytest.mark.parametrize("check", FROM_OUTSIDE)
def test_what_is_seen_from_outside(world, check):
    FROM_OUTSIDE[check](world)
    assert bad(outside.look(world.config())) == {check}


def test_a_tag_that_posts_elsewhere(world):
    world.put("/other/c.js", "window.collector=1")
    world.put("/", f'<script src="/other/c.js" data-store="{STORE}"></script>')
    assert bad(outside.look(world.config())) == {"tag.public_url"}


def test_cookies_that_do_not_live_long(world):
    assert bad(outside.look(world.config(cookie_days=7))) == {"cookie.days"}


def test_a_pixel_without_a_token(world):
    config = world.config()
    store = replace(config.store[0], pixel=[PixelConfig(id=PIXEL)])
    assert bad(outside.look(replace(config, store=[store]))) == {"token.missing"}


def test_meta_that_cannot_be_reached(world):
    config = replace(world.config(), meta=MetaConfig(graph_url="http://127.0.0.1:9"))
    assert bad(outside.look(config)) == {"meta"}


def test_names_are_looked_up(world, monkeypatch):
    book = {"shop.example": {"203.0.113.1"}, "near.example": {"203.0.2.1"}, "far.example": {"198.51.100.1"}}
    monkeypatch.setattr(outside, "_addresses", lambda host: book.get(host, set()))
    halves = outside._halves
    assert bad(halves("shop.example", book["shop.example"], "near.example")) == set()
    assert bad(halves("shop.example", book["shop.example"], "far.example")) == {"domain.address"}
    assert bad(halves("shop.example", book["shop.example"], "none.example")) == {"public_url.dns"}
    config = sound(store=[sound_store(domains=["none.example"])])
    assert "domain.dns" in bad(outside._domain(outside.Web(), config, config.store[0], "none.example"))


@pytest.mark.parametrize("address", ["::1", "2001:db8::1", "fe80::1%eth0", "0.0.0.0", "255.255.255.255"])
def test_every_address_has_a_first_half(address):
    assert outside._half(address).prefixlen in (16, 64)


def test_a_host_that_is_not_passed_on(world, monkeypatch):
    monkeypatch.setattr(outside, "_scheme", lambda _: "https")
    config, web = world.config(), outside.Web()
    base = f"http://127.0.0.1:{world.port}/m"
    world.put("/m/c.gif", "GIF", {"Set-Cookie": "_cv=; Max-Age=0; Domain=.shop.example"})
    found = list(outside._cookie(web, config, config.store[0], base, "www.shop.example"))
    assert bad(iter(found)) == set()
    world.put("/m/c.gif", "GIF", {"Set-Cookie": "_cv=; Max-Age=0; Domain=internal.example"})
    assert bad(outside._cookie(web, config, config.store[0], base, "www.shop.example")) == {"proxy.host"}


def test_plain_http_before_a_real_host_and_a_port_without_tls(world, monkeypatch):
    config = replace(world.config(), edge=EdgeConfig(public_url="http://shop.example/m"))
    monkeypatch.setattr(outside.Web, "get", lambda *_, **__: None)
    assert "tls" in bad(outside._door(outside.Web(), config))
    assert bad(outside._certificate("127.0.0.1", world.port)) == {"tls"}


def stamp(days: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86_400))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(
    ("begins", "ends", "found"),
    [
        (-90, 60, set()),
        (-90, 9, {"certificate.expiry"}),
        (-90, -1, {"certificate.expiry"}),
        (1, 90, {"certificate.expiry"}),
    ],
)
def test_the_edges_own_certificate(authority, begins, ends, found):
    given = authority.give("own", begins=stamp(begins), ends=stamp(ends))
    config = sound(edge=EdgeConfig(tls_cert=str(given.cert), tls_key=str(given.key)))
    told = list(machine.of_certificate(config))
    assert bad(iter(told)) == found
    assert [one.level for one in told] == ["fail" if ends < 0 or begins > 0 else "warn" if found else "ok"]
    assert list(machine.of_certificate(sound())) == []


@pytest.mark.parametrize(("ends", "found"), [(60, set()), (9, {"tls.expiry"}), (-1, {"tls"})])
def test_the_certificate_that_visitors_meet(authority, monkeypatch, ends, found):
    given = authority.give("met", ends=stamp(ends))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.cert, given.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_shake, args=(listener, context))
        thread.start()
        assert bad(outside._certificate("localhost", listener.getsockname()[1])) == found
        thread.join(10)


def _shake(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
        pass


# -- the command


def arguments(config: Path, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"config": str(config), "data_dir": None, "json": True, "code": None, **more})


def test_faults_of_the_configuration_are_findings_and_end_with_1(tmp_path, capsys):
    path = tmp_path / "collector.toml"
    path.write_text('[edge]\nlistn = "x"\n[meta]\nmode = "loud"\n')
    assert main(["doctor", "--config", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {one["check"] for one in found} == {"config"}
    assert all(set(one) == {"check", "level", "what", "mend"} for one in found)
    assert len(found) == 2


def test_a_damaged_database_is_a_finding(installed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outside, "look", lambda _: iter(()))
    (Path(installed.storage.data_dir) / "collector.db").write_bytes(b"no database" * 1000)
    assert main(["doctor", "--data-dir", installed.storage.data_dir, "--json"]) == 1
    found = {one["check"]: one["level"] for one in json.loads(capsys.readouterr().out)}
    assert found["database"] == "fail"
    for thread in [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]:
        thread.join(10)  # of the database's connection: one that stays would keep the program from ending
        assert not thread.is_alive()


def test_warnings_alone_end_with_0(installed, capsys, monkeypatch):
    monkeypatch.setattr(outside, "look", lambda _: iter(()))
    assert main(["doctor", "--data-dir", installed.storage.data_dir]) == 0
    out = capsys.readouterr().out
    assert "WARN  backup" in out
    assert "no backups are made" in out


def test_no_token_is_in_what_it_says(world, tmp_path, capsys, monkeypatch):
    config = world.config()
    monkeypatch.setattr(doctor, "settings_of", lambda _: argparse.Namespace(config=config, warnings=[]))
    world.put(f"/v26.0/{PIXEL}", ERROR.format(190) + "EAAtoken", status=400)
    doctor.run(arguments(tmp_path))
    out = capsys.readouterr()
    assert "EAAtoken" not in out.out + out.err


def test_every_check_that_can_find_something_is_planted_here():
    """Each name that the doctor's sources give to what is not well is in a test here, or of PostgreSQL's."""
    paths = [*Path(doctor.__file__).parent.glob("*.py"), Path(judged.__file__)]
    sources = [path.read_text() for path in paths]
    names = {name for text in sources for name in re.findall(r'\b(?:fail|warn)\(\s*"([a-z_.]+)"', text)}
    assert len(names) >= 60
    over_postgres = Path(__file__).parents[1] / "postgres" / "test_commands.py"
    here = Path(__file__).read_text() + over_postgres.read_text()
    assert {name for name in names if f'"{name}"' not in here} == set()
