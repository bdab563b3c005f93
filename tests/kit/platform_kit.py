"""Shops of PHP and Node, each a program per request, and a door before the edge that notes what they tell."""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from tests.browser.ground import FBCLID, PERSON, Collector
from tests.kit.recipes import recipe

STORE = """
[[store]]
id = "store_abc123"
domains = ["shop.example"]
currency = "EUR"
country = "DE"
"""
needs_php = pytest.mark.skipif(
    shutil.which("php") is None
    or not all(list(Path("/etc/php").glob(f"*/cli/conf.d/*{part}.ini")) for part in ("pdo_sqlite", "simplexml")),
    reason="needs php-cli, php-sqlite3 and php-xml from the distribution",
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
STANDS_IN = Path(__file__).parent / "platforms"
# The customer, an admin in the back office, a payment service's webhook: only the first one's device is the order's.
CUSTOMER = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1"
ADMIN = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
CUSTOMERS_ADDRESS, ADMINS_ADDRESS = "8.8.4.4", "9.9.9.9"
ADMINS_COOKIES = {"_cv": "admin" * 6, "_fbp": "fb.1.1700000000000.99", "wp_consent_marketing": "allow"}


class Telling(NamedTuple):
    """What a shop posted, and what the edge answered."""

    raw: str
    body: dict[str, Any]
    status: int
    answer: dict[str, Any]
    ignored: str | None


class Door(ThreadingHTTPServer):
    """Passes each post on to the edge and keeps both; `down`: answers 503, as an edge whose disk is full."""

    daemon_threads = True

    def __init__(self, edge_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.edge_port, self.down, self.refused = edge_port, False, 0
        self.told: list[Telling] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    server: Door

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.down:
            self.server.refused += 1
            return self._answer(503, b'{"success": false}')
        edge = http.client.HTTPConnection("127.0.0.1", self.server.edge_port, timeout=10)
        names = ("Authorization", "Content-Type")
        edge.request("POST", self.path, raw, {name: self.headers[name] for name in names})
        got = edge.getresponse()
        answer = got.read()
        ignored = got.headers["Collector-Ignored-Fields"]
        self.server.told.append(Telling(raw.decode(), json.loads(raw), got.status, json.loads(answer), ignored))
        edge.close()
        return self._answer(got.status, answer)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def asked(
    cookies: dict[str, str], agent: str = CUSTOMER, address: str = CUSTOMERS_ADDRESS, **more: Any
) -> dict[str, Any]:
    """A request of the customer's browser, unless it says otherwise."""
    return {"cookies": cookies, "agent": agent, "address": address, "admin": False, **more}


BY_ADMIN = asked(ADMINS_COOKIES, ADMIN, ADMINS_ADDRESS, admin=True, area="adminhtml")
BY_SERVICE = asked({}, "Stripe/1.0 (+https://stripe.com/docs/webhooks)", "54.187.174.169", area="frontend")


class PhpShop:
    """One shop in its folder: each request is a PHP process that loads the platform's stand-in and the recipe."""

    def __init__(self, folder: Path, door: Door, key: str) -> None:
        self.folder, self.door = folder, door
        (folder / "key").write_text(key)
        own = {
            "http://127.0.0.1:8080": f"http://127.0.0.1:{door.server_port}",
            "/etc/collector/shop.key": f"{folder}/key",
        }
        self.client = recipe("php", own)
        for name in ("request", *(path.stem for path in STANDS_IN.glob("*.php"))):
            shutil.copy(STANDS_IN / f"{name}.php", folder)

    def put(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def start(self, platform: str, *load: str) -> None:
        """Write the program that every request runs."""
        lines = [f"require __DIR__ . '/{name}';" for name in (f"{platform}.php", *load)]
        self.put("program.php", "<?php\n" + "\n".join(lines) + "\nstep(...array_slice($argv, 1));\n")

    def ask(self, request: dict[str, Any], *step: str, ini: str = "serialize_precision=-1") -> str:
        """Run one step in one request; what it printed. A PHP warning ends it."""
        command = ["php", "-d", ini, "-d", "display_errors=stderr", str(self.folder / "program.php"), *step]
        env = {"PATH": "/usr/bin:/bin", "REQUEST": json.dumps(request)}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def woocommerce(folder: Path, door: Door, key: str, exchange: dict[str, str] | None = None) -> PhpShop:
    shop = PhpShop(folder, door, key)
    shop.put("mu-plugins/collector/collector.php", shop.client)
    shop.put("mu-plugins/collector-woocommerce.php", recipe("woocommerce", exchange))
    shop.start("wordpress", "mu-plugins/collector-woocommerce.php")
    return shop


def prestashop(folder: Path, door: Door, key: str) -> PhpShop:
    shop = PhpShop(folder, door, key)
    shop.put("modules/collectortag/Collector.php", shop.client)
    shop.put("modules/collectortag/collectortag.php", recipe("prestashop"))
    shop.put("config/config.inc.php", "<?php\nrequire_once dirname(__DIR__) . '/prestashop.php';\n"
             "require_once dirname(__DIR__) . '/modules/collectortag/collectortag.php';\n")  # fmt: skip
    shop.put("modules/collectortag/tell.php", recipe("prestashop-cron"))
    shop.start("prestashop", "modules/collectortag/collectortag.php")
    shop.ask(asked({}), "install", "0")
    return shop


def magento(folder: Path, door: Door, key: str) -> PhpShop:
    shop = PhpShop(folder, door, key)
    shop.put("app/Collector.php", shop.client.replace("<?php", "<?php\nnamespace Shop\\Collector;", 1))
    for name in ("registration", "module", "schema", "events", "crontab", "layout", "device", "note", "tell", "areas"):
        text = recipe(f"magento-{name}")
        words = text.split("\n", 1)[0].replace("<?php //", "").replace("<!--", "").replace("-->", "").replace(",", " ")
        for path in [word for word in words.split() if word.endswith((".php", ".xml"))]:
            shop.put(f"app/{path}", text)
    shop.start("magento")
    shop.ask(asked({}, area="crontab"), "setup", "0")
    return shop


class Medusa:
    """A Medusa application: one Node process that runs the steps in turn."""

    def __init__(self, folder: Path, door: Door, key: str) -> None:
        self.folder = folder
        self.env = {
            "COLLECTOR_URL": f"http://127.0.0.1:{door.server_port}",
            "COLLECTOR_STORE": "store_abc123",
            "COLLECTOR_KEY": key,
        }
        shutil.copy(STANDS_IN / "medusa.mjs", folder)
        lib = {"'../lib/collector'": "'./collector.mjs'"}
        for name, file, exchange in [
            ("medusa", "collector", None),
            ("medusa-subscriber", "subscriber", lib),
            ("medusa-job", "job", lib),
            ("medusa-storefront", "storefront", None),
        ]:
            (folder / f"{file}.mjs").write_text(recipe(name, exchange))

    def run(self, cookies: dict[str, str], *steps: list[Any]) -> list[str]:
        """Run the steps; the lines of the application's error log."""
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        given = {"steps": steps, "cookie": cookie, "agent": CUSTOMER, "address": CUSTOMERS_ADDRESS}
        done = subprocess.run(
            ["node", str(self.folder / "medusa.mjs")], input=json.dumps(given), capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", **self.env}, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))


_orders = itertools.count(5001)


def order_number() -> str:
    return str(next(_orders))


class Visitor(NamedTuple):
    """Somebody who came from an ad: the click id, and the cookies that the collector set."""

    fbclid: str
    cookies: dict[str, str]

    @property
    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())


@pytest.fixture(scope="module", name="collector")
def the_collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"), STORE)
    made.key("store_abc123")
    with made.serve():
        yield made


@pytest.fixture(name="visitor")
def a_visitor(collector: Collector) -> Visitor:
    click = FBCLID[:-8] + secrets.token_hex(4)
    request = urllib.request.Request(
        f"http://127.0.0.1:{collector.port}/c.gif?s=store_abc123",
        headers={
            "Referer": f"https://www.shop.example/?fbclid={click}",
            "User-Agent": PERSON,
            "Host": "www.shop.example",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        pairs = [line.split(";")[0].partition("=") for line in answer.headers.get_all("Set-Cookie")]
    return Visitor(click, {name: value for name, _, value in pairs})


@pytest.fixture(name="door")
def a_door(collector: Collector) -> Iterator[Door]:
    with Door(collector.port) as door:
        yield door


@pytest.fixture(name="key")
def the_key(collector: Collector) -> str:
    return collector.key("store_abc123")


def check(answer: dict[str, Any], visitor: Visitor) -> None:
    assert answer["success"], answer
    found = answer["data"]["attributedTo"]
    assert found["fbclid"] == visitor.fbclid
    assert found["confidenceScore"] >= 98


def check_told(door: Door, visitor: Visitor, *statuses: str) -> list[dict[str, Any]]:
    """Told with these statuses in turn, every field understood, each time with the customer's own device and click."""
    assert [told.status for told in door.told] == [200] * len(statuses), door.told
    assert [told.body["orderStatus"] for told in door.told] == list(statuses)
    for told in door.told:
        assert told.ignored is None
        check(told.answer, visitor)
        device = {name: told.body[name] for name in ("visitorId", "fbc", "fbp", "userAgent", "ipAddress")}
        cookies = (visitor.cookies["_cv"], visitor.cookies["_fbc"], visitor.cookies["_fbp"])
        assert tuple(device.values()) == (*cookies, CUSTOMER, CUSTOMERS_ADDRESS)
    bodies = [told.body for told in door.told]
    assert len({body["orderId"] for body in bodies}) == 1
    times = [datetime.fromisoformat(body["statusAt"]) for body in bodies]
    assert all(abs(time.time() - at.timestamp()) < 600 for at in times), times
    door.told.clear()
    return bodies
