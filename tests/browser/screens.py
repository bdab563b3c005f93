"""Screens of every page of the console: `python -m tests.browser.screens FOLDER [STATE …]`.

Each page at 1440 and 390 pixels, light and dark, in three states: `empty` (nothing has come yet), `month` (three shops
after a month) and `trouble` (a token refused, a queue that will expire, a silent process). For people to look at.
"""

from __future__ import annotations

import base64
import html
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.browser.conftest import Chromium, chromium
from tests.kit import console_world
from tests.kit.console_process import ConsoleProcess
from tests.kit.console_world import World

STATES: Final[dict[str, Callable[..., World]]] = {
    "empty": console_world.empty,
    "month": console_world.month,
    "trouble": console_world.trouble,
}
WIDTHS: Final = (1440, 390)
THEMES: Final = ("light", "dark")


class Look(NamedTuple):
    """How a page is looked at."""

    width: int
    theme: str


LOOKS: Final = [Look(width, theme) for width in WIDTHS for theme in THEMES]


@contextmanager
def console(state: str, folder: Path, evil: str = "", clicks: int = 1800) -> Iterator[tuple[ConsoleProcess, World]]:
    """A running console over one of the three states."""
    world = STATES[state](folder, int(time.time() * 1000), clicks=clicks, evil=evil)
    with ConsoleProcess(world.config) as running:
        yield running, world


def pages_of(running: ConsoleProcess) -> dict[str, str]:
    """Every page's address, one order, one click, an ad set, a shared link and a page that is not there among them."""
    more = dict(console_world.DEEPER)
    for name, place, link in (
        ("order", "/orders?range=28", r"/conversions/conv_\w+"),
        ("click", "", r"/clicks/click_\w+"),
        ("ad-sets", "/campaigns?range=28", r"/campaigns\?[^\"]*under=[^\"]+"),
    ):
        if found := re.search(link, running.get(place or more.get("order", "/nothing")).text):
            more[name] = html.unescape(found[0])
    ranged = {path.strip("/") or "today": f"{path}?range=28" for path in console_world.PAGES}
    links = console_world.shared_links(Path(running.config.storage.data_dir))
    return ranged | more | {f"shared-{n}": link for n, link in enumerate(links)} | {"nothing": "/nothing"}


def look_at(browser: Chromium, url: str, look: Look) -> None:
    """Open a page as it is seen on a screen of this width and theme."""
    features = [{"name": "prefers-color-scheme", "value": look.theme}]
    size = {"width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)


def picture(browser: Chromium) -> bytes:
    """The whole page as PNG."""
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    return base64.b64decode(shot["data"])


def main(folder: str, *states: str) -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = stack.enter_context(chromium(work / "profile"))
        for state in states or STATES:
            with console(state, work / state) as (running, _):
                for name, path in pages_of(running).items():
                    for look in LOOKS:
                        look_at(browser, running.url(path), look)
                        (out / f"{name}-{state}-{look.width}-{look.theme}.png").write_bytes(picture(browser))


if __name__ == "__main__":
    main(*sys.argv[1:])
