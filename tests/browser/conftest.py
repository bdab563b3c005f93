"""A shop behind nginx and Caddy with TLS, the collector beside it, and a person's browsers: Chromium, and Firefox."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from collector.process import hardening
from tests.browser import ground, ways
from tests.browser.firefox import Firefox, firefox
from tests.browser.shop import Shop
from tests.kit.recipes import recipe

NEEDED = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "firefox-esr": "firefox-esr",
    "caddy": "caddy",
    "nginx": "nginx-light",
    "openssl": "openssl",
}

STORES = """
[[store]]
id = "store_shop"
domains = ["shop.test"]
currency = "EUR"
country = "DE"

[[store]]
id = "store_pending"
domains = ["pending.test"]
default_consent = "pending"

[[store]]
id = "store_pixel"
domains = ["pixel.test"]
pixel_mode = "pixel+server"
"""


Ports = Callable[[str], int]


class Place(NamedTuple):
    """One way to put the collector before a shop: addresses of the shop's pages and of the collector's door."""

    name: str
    port: int
    subdomain: bool

    def page(self, path: str, site: str = "shop.test") -> str:
        return f"https://www.{site}:{self.port}{path}"

    def door(self, site: str = "shop.test") -> str:
        return f"https://t.{site}:{self.port}" if self.subdomain else "/m"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"  # where Debian has nginx
    missing = sorted(package for command, package in NEEDED.items() if shutil.which(command, path=path) is None)
    if missing:
        for item in items:
            if "tests/browser" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)} from the distribution"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs in both browsers, but for those that need Chromium's own protocol."""
    if "browser" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("chromium") is not None
        names = ["chromium"] if alone else ["chromium", "firefox"]
        metafunc.parametrize("browser", names, indirect=True)


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ground.Collector]:
    made = ground.Collector(tmp_path_factory.mktemp("collector"), STORES)
    made.key("store_shop")  # before the start: a running collector sees a new key within seconds
    with made.serve():
        yield made


@pytest.fixture(scope="session")
def shop(collector: ground.Collector) -> Iterator[Shop]:
    with Shop(ground.free_port(), {}) as running:
        running.order = lambda order: collector.call("/v1/track/conversion", {"storeId": "store_shop", **order})
        yield running


@pytest.fixture(scope="session")
def proxies(tmp_path_factory: pytest.TempPathFactory, collector: ground.Collector, shop: Shop) -> Iterator[Ports]:
    """The port of each proxy, which is started when it is first asked for."""
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as running:

        def port_of(proxy: str) -> int:
            if proxy not in ports:
                if ground.binary_of(proxy) is None:
                    pytest.skip(f"needs {ground.BINARIES[proxy]}")
                folder, port = tmp_path_factory.mktemp(proxy), ground.free_port()
                running.enter_context(ways.PROXIES[proxy](folder, port, collector.port, shop.port))
                ports[proxy] = port
            return ports[proxy]

        yield port_of


def place_of(way: str, proxies: Ports) -> Place:
    proxy, _, kind = way.partition("-")
    return Place(way, proxies(proxy), kind == "subdomain")


@pytest.fixture(params=ways.WAYS)
def place(request: pytest.FixtureRequest, proxies: Ports) -> Place:
    """Every way in which edge/README.md puts the collector before a shop."""
    return place_of(request.param, proxies)


@pytest.fixture
def near(proxies: Ports) -> Place:
    """One of them, where the way makes no difference; `BEHIND=caddy-subdomain pytest …` tries that it makes none."""
    return place_of(os.environ.get("BEHIND", "nginx-path"), proxies)


@pytest.fixture
def page(shop: Shop) -> Iterator[Callable[..., None]]:
    """Put a page with the tag into the shop; taken out again after the test."""
    shop.pages.clear()
    shop.headers.clear()
    shop.posted.clear()

    def put(path: str, place: Place, *, store: str = "store_shop", site: str = "shop.test", head: str = "",
            body: str = "", tag: str | None = None, attributes: str = "") -> None:  # fmt: skip
        made = recipe("tag", {'"/m/': f'"{place.door(site)}/', "store_abc123": store}) if tag is None else tag
        made = made.replace("<script async ", f"<script async {attributes} ")
        shop.pages[path] = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>'
            f'<link rel="icon" href="data:,">{head}{made}</head><body>{body or "<h1>Shop</h1>"}</body></html>'
        )

    yield put
    shop.headers.clear()


class Chromium(webdriver.Chrome):
    """Chromium as a person uses it, with what the tests ask of it."""

    head = ""

    def js(self, script: str) -> Any:
        return self.execute_script(f"return ({script})")

    def cookies(self) -> dict[str, dict[str, Any]]:
        return {cookie["name"]: cookie for cookie in self.get_cookies()}

    def console(self) -> list[str]:
        return [f"{entry['level']} {entry['message']}" for entry in self.get_log("browser")]

    def open_tab(self) -> None:
        self.switch_to.new_window("tab")

    def forget(self) -> None:
        """As new: one empty tab, no cookies, no storage, no cache, the network as it is."""
        before = self.window_handles
        self.open_tab()
        kept = self.current_window_handle
        for handle in before:
            self.switch_to.window(handle)
            self.close()
        self.switch_to.window(kept)
        self.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.execute_cdp_cmd("Network.clearBrowserCache", {})
        for origin in self.seen:
            self.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self.seen.clear()
        self.console()

    def get(self, url: str) -> None:
        self.seen.add("/".join(url.split("/")[:3]))
        super().get(url)

    def __init__(self, **given: Any) -> None:
        self.seen = set[str]()
        super().__init__(**given)


Browser = Chromium | Firefox


@contextlib.contextmanager
def chromium(
    profile: Path, *more: str, agent: str | None = ground.PERSON, automated: bool = False
) -> Iterator[Chromium]:
    """A browser with a profile of its own; `automated` leaves it saying that a script drives it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    if not automated:
        options.add_argument("--disable-blink-features=AutomationControlled")
    for flag in (*ground.CHROMIUM_FLAGS, f"--user-data-dir={profile}", *more):
        options.add_argument(flag)
    if agent is not None:
        options.add_argument(f"--user-agent={agent}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile.mkdir(parents=True, exist_ok=True)
    log = profile / "chromedriver.log"
    # Selenium would pick among the ports that the kernel gives to outgoing connections; other tests open thousands.
    service = Service(
        shutil.which("chromedriver"),
        port=ground.free_port(),
        log_output=str(log),
        popen_kw={"preexec_fn": hardening.die_with_parent},
    )
    try:
        browser = Chromium(options=options, service=service)
    except WebDriverException as error:
        error.add_note(log.read_text()[-3000:])
        raise
    try:
        browser.set_page_load_timeout(20)
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="session")
def of_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def of_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest.fixture
def browser(request: pytest.FixtureRequest, shop: Shop) -> Iterator[Browser]:
    """One browser for all tests, as new for each."""
    running: Browser = request.getfixturevalue(f"of_{request.param}")
    shop.head = running.head
    running.forget()
    yield running
    shop.head = ""
