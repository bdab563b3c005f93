"""The console in Chromium, as it is used: clicks, keys, a phone, the dark, print; and axe-core finds nothing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from collector.config import ConsoleConfig
from collector.core import weekly
from collector.core.weeks import week_before
from collector.storage.ground import audit
from collector.storage.reports.reader import Reader
from collector.storage.reports.weekly import weekly as of_a_week
from tests.browser.conftest import Chromium, chromium
from tests.browser.screens import LOOKS, Look, console, look_at, pages_of
from tests.console.test_console_auth import CHEAP
from tests.kit.console_process import ConsoleProcess
from tests.kit.console_world import NAMES, World

pytestmark = [pytest.mark.browser, pytest.mark.chromium]
AXE = "axe-core@4.11.0"
AXE_SHA256 = "e9e5863c33a874f09bc01acd9234b7e3c871479f5eef8802fa582544465e6d01"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "document.title='owned'"
EVIL = f"\"'><script>{RUN}</script><img src=x onerror={RUN}><svg onload={RUN}>"
Running = tuple[ConsoleProcess, World]


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, by its name in npm and the hash of its file: it is never committed."""
    if shutil.which("npm") is None:
        pytest.skip("axe-core comes by npm")
    folder = tmp_path_factory.mktemp("axe")
    install = ["npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", str(folder), AXE]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    made = (folder / "node_modules/axe-core/axe.min.js").read_bytes()
    assert hashlib.sha256(made).hexdigest() == AXE_SHA256
    return made.decode()


def _opened(tmp: pytest.TempPathFactory, state: str, evil: str = "") -> Iterator[Running]:
    with console(state, tmp.mktemp(state), evil, clicks=300) as (running, world):
        if evil:
            audit.note(world.folder, evil, world.now, settings=evil)
        yield running, world


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from _opened(tmp_path_factory, "month")


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from _opened(tmp_path_factory, "trouble")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from _opened(tmp_path_factory, "empty")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from _opened(tmp_path_factory, "trouble", EVIL)


def violations(browser: Chromium, axe: str) -> list[str]:
    browser.execute_script(axe)
    ask = "const done = arguments[arguments.length - 1];" \
          "axe.run(document, {runOnly: arguments[0], resultTypes: ['violations']}).then(done)"  # fmt: skip
    found: dict[str, Any] = browser.execute_async_script(ask, RULES)
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]} ({len(one['nodes'])})" for one in found["violations"]]


def is_told(name: str, said: str) -> bool:
    """That a page which is none answers 404 or 400 is what the browser should say."""
    return {"nothing": "404", "no-sense": "400"}.get(name, "\0") in said


def opened_up(browser: Chromium) -> None:
    """What is folded away is looked at as well; the choice of days lies over the page, and so over what is below it."""
    browser.execute_script("for (const one of document.querySelectorAll('main details:not(.dates)')) one.open = true")


WAYS = [*(("month", look) for look in LOOKS), ("trouble", LOOKS[3]), ("empty", LOOKS[0])]


@pytest.mark.parametrize(("state", "look"), WAYS, ids=[f"{state}-{look.width}-{look.theme}" for state, look in WAYS])
def test_axe_finds_nothing_on_any_page(
    request: pytest.FixtureRequest, looking: Chromium, axe: str, state: str, look: Look
) -> None:
    running, _ = request.getfixturevalue(state)
    looking.console()
    found = []
    for name, path in pages_of(running).items():
        look_at(looking, running.url(path), look)
        opened_up(looking)
        found += [f"{name}: {one}" for one in violations(looking, axe)]
        wide = looking.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found += [f"{name}: {wide} pixels too wide"] if wide > 0 else []
        found += [f"{name}: {said}" for said in looking.console() if not is_told(name, said)]
    assert "\n".join(found) == ""


@pytest.mark.parametrize("look", LOOKS, ids=[f"{look.width}-{look.theme}" for look in LOOKS])
def test_axe_finds_nothing_where_one_logs_in(empty: Running, looking: Chromium, axe: str, look: Look) -> None:
    config = structs.replace(empty[0].config, console=ConsoleConfig(password_hash=CHEAP))
    looking.console()
    with ConsoleProcess(config) as locked:
        look_at(looking, locked.url("/orders"), look)
        assert looking.current_url.endswith("/login")
        assert violations(looking, axe) == []
        assert looking.console() == []


def test_the_control_axe_sees_what_is_wrong(month: Running, looking: Chromium, axe: str) -> None:
    look_at(looking, month[0].url("/trust"), LOOKS[0])
    looking.execute_script(
        "document.querySelector('h1').after(document.createElement('h4'), document.createElement('img'))"
    )
    assert [one for one in violations(looking, axe) if one.startswith("image-alt")]


def test_what_callers_wrote_runs_on_no_kind_of_page(hostile: Running, looking: Chromium) -> None:
    """Of every kind that the links lead to."""
    running, _ = hostile
    looking.console()
    kinds, shown = running.kinds(pages_of(running).values()), 0
    pages = {address: answer for address, answer in kinds.items() if "text/html" in answer.headers["content-type"]}
    for address, answer in pages.items():
        look_at(looking, running.url(address), LOOKS[0])
        opened_up(looking)
        assert looking.title != "owned", address
        assert looking.js("document.querySelectorAll('main img, main script').length") == 0, address
        unwanted = [said for said in looking.console() if answer.ok or str(answer.status_code) not in said]
        assert unwanted == [], address
        shown += RUN in looking.find_element(By.TAG_NAME, "main").text
    assert len(pages) > 30
    assert (
        shown >= 9
    )  # as text: orders, campaigns, credit, causes, live, the audit, one order, one click, what is shared


def test_what_callers_wrote_does_not_run_in_the_weekly_letter(
    hostile: Running, looking: Chromium, tmp_path: Path
) -> None:
    async def letter() -> str:
        async with Reader(hostile[1].folder / "collector.db") as reader:
            return weekly.html(await of_a_week(reader, hostile[1].config, week_before(datetime.now(UTC).date())))

    (tmp_path / "weekly.html").write_text(asyncio.run(letter()), encoding="utf-8")
    looking.console()
    looking.get((tmp_path / "weekly.html").as_uri())
    assert looking.title != "owned"
    assert looking.js("document.querySelectorAll('img, script, svg, a').length") == 0
    assert "title='owned'‹/script›" in looking.find_element(By.TAG_NAME, "body").text  # a name, as text
    assert looking.console() == []


def test_what_happens_appears_on_the_live_page_as_text_and_pause_holds_it(hostile: Running, looking: Chromium) -> None:
    running, world = hostile
    look_at(looking, running.url("/live"), LOOKS[0])
    wait = WebDriverWait(looking, 20)
    wait.until(lambda b: "by themselves" in b.find_element(By.CSS_SELECTOR, "[data-live-state]").text)
    audit.note(world.folder, f"reload {EVIL}", world.now + 60_000)
    wait.until(lambda b: "reload" in b.find_element(By.CSS_SELECTOR, ".live li").text)
    assert RUN in looking.find_element(By.CSS_SELECTOR, ".live li").text
    looking.find_element(By.CSS_SELECTOR, "[data-pause]").click()
    audit.note(world.folder, "reload held back", world.now + 61_000)
    wait.until(lambda b: "1 wait" in b.find_element(By.CSS_SELECTOR, "[data-live-state]").text)
    assert "held back" not in looking.find_element(By.CSS_SELECTOR, ".live").text
    looking.find_element(By.CSS_SELECTOR, "[data-pause]").click()
    wait.until(lambda b: "held back" in b.find_element(By.CSS_SELECTOR, ".live li").text)
    assert looking.title != "owned"
    assert looking.console() == []


def nav(name: str) -> tuple[str, str]:
    return By.XPATH, f"//nav//a[.='{name}']"


# Each question of the trade: the clicks from Today, and what then stands on the page.
QUESTIONS: list[tuple[str, list[tuple[str, str]], list[str]]] = [
    ("Is it working, what did it sell, what must I do now?", [], ["All is well|Look:|Act:", "Orders", "Revenue"]),
    ("Which campaign sold what, this week against last?", [nav("Campaigns")], ["retargeting", "CHANGE|Change"]),
    (
        "Which orders did not reach Meta, and why?",
        [(By.CSS_SELECTOR, ".legend a[href*='state=refused']")],
        ["refused", "the currency is not valid"],
    ),
    ("Why does Meta show another number?", [nav("Reconcile")], ["attributed here", "view-through"]),
    (
        "What happened at 14:00?",
        [(By.CSS_SELECTOR, "svg.columns a:nth-of-type(5)"), (By.CSS_SELECTOR, "svg.columns a[href*='hour=14']")],
        ["14:00 – 14:59"],
    ),
    (
        "Which order is this, was it sent, why this click?",
        [nav("Orders"), (By.CSS_SELECTOR, "table a[href^='/conversions/']")],
        ["Time line", "Why this click", "What Meta g"],
    ),
    ("Can I trust the score, what should I send as well?", [nav("Trust")], ["proven", "What to send as well"]),
    ("Who was left out?", [nav("Left out")], ["Not people", "Consent"]),
    ("What is coming in right now?", [nav("Live")], ["newest 200 happenings", "order"]),
    ("Is the machine well?", [nav("System")], ["Doctor", "Full in", "Newest backup"]),
]


@pytest.mark.parametrize(("question", "clicks", "seen"), QUESTIONS, ids=[q for q, *_ in QUESTIONS])
def test_each_question_is_answered_in_two_clicks_from_today(
    month: Running, looking: Chromium, question: str, clicks: list[tuple[str, str]], seen: list[str]
) -> None:
    assert len(clicks) <= 2
    look_at(looking, month[0].url("/?range=28"), LOOKS[0])  # an order of every fate, whatever the hour
    for by, what in clicks:
        before = looking.current_url
        target = looking.find_element(by, what)
        ActionChains(looking).move_to_element(target).click().perform()
        WebDriverWait(looking, 20).until(lambda b, before=before: b.current_url != before)
    text = looking.find_element(By.TAG_NAME, "main").text
    for words in seen:
        assert any(word in text for word in words.split("|")), (question, words)


# What a click would meet at the corners and the middle of each column, and on each point of the lines over them.
_COVERED = """
const covered = [];
for (const link of document.querySelectorAll('svg.columns a')) {
  link.scrollIntoView({block: 'center'});
  const box = link.querySelector('.hit').getBoundingClientRect();
  for (const x of [.05, .5, .95]) for (let y = .01; y < 1; y += .02) {
    const met = document.elementFromPoint(box.x + x * box.width, box.y + y * box.height);
    if (!met || met.closest('a') !== link) { covered.push(link.getAttribute('href')); break; }
  }
}
return covered"""


@pytest.mark.parametrize("path", ["/?range=yesterday", "/?range=28", "/delivery?range=28"])
def test_a_click_on_any_point_of_a_column_is_its_links(trouble: Running, looking: Chromium, path: str) -> None:
    """Also where the comparison's line, a mark or the grid crosses it."""
    look_at(looking, trouble[0].url(path), LOOKS[0])
    assert looking.js("document.querySelectorAll('svg.columns a').length") >= 24
    assert looking.execute_script(_COVERED) == []


def test_the_control_a_line_that_takes_clicks_covers_columns(trouble: Running, looking: Chromium) -> None:
    look_at(looking, trouble[0].url("/?range=28"), LOOKS[0])
    looking.execute_script("document.querySelector('svg.columns g[pointer-events]').removeAttribute('pointer-events')")
    assert looking.execute_script(_COVERED)


def test_no_page_reloads_itself_under_a_hand(month: Running, looking: Chromium) -> None:
    """Its click would be lost."""
    look_at(looking, month[0].url("/"), LOOKS[0])
    may = "mayReload(performance.now() + arguments[0])"
    assert looking.js("Number(document.body.dataset.refresh)") > 0
    assert looking.execute_script(f"return {may}", 60_000)  # the control: nobody's hand has been here for a minute
    heading = looking.find_element(By.TAG_NAME, "h1")
    for hand in (ActionChains(looking).move_to_element(heading), ActionChains(looking).send_keys(Keys.SHIFT)):
        looking.execute_script("handAt = -Infinity")
        hand.perform()
        assert looking.js("handAt > 0 && !mayReload(handAt + 4999) && mayReload(handAt + 5000)")


def pressed(browser: Chromium, key: str) -> None:
    ActionChains(browser).send_keys(key).perform()


def test_keys_change_the_address_and_nothing_else(month: Running, looking: Chromium) -> None:
    look_at(looking, month[0].url("/campaigns?shop=store_zurich"), LOOKS[0])
    wait = WebDriverWait(looking, 20)
    for key, said in (
        ("t", "range=today"),
        ("m", "range=28"),
        ("w", "range=7"),
        ("x", "compare=none"),
        ("x", "compare=previous"),
    ):
        pressed(looking, key)
        wait.until(lambda b, said=said: said in b.current_url)
        assert "shop=store_zurich" in looking.current_url
        assert "/campaigns" in looking.current_url
    looking.back()  # the state is the address
    wait.until(lambda b: "compare=none" in b.current_url)
    pressed(looking, "?")
    keys = looking.find_element(By.ID, "keys")
    assert keys.is_displayed()
    pressed(looking, Keys.ESCAPE)
    assert not keys.is_displayed()
    pressed(looking, "/")
    wait.until(lambda b: "/orders" in b.current_url)
    pressed(looking, "/")
    find = looking.find_element(By.CSS_SELECTOR, "[data-find]")
    assert looking.switch_to.active_element == find
    find.send_keys("t")  # a letter in a field is a letter
    assert "/orders" in looking.current_url
    assert find.get_attribute("value") == "t"


def test_a_page_prints_without_its_bars_and_with_its_figures(month: Running, looking: Chromium) -> None:
    look_at(looking, month[0].url("/?range=28"), LOOKS[0])
    looking.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})

    def shown(what: str) -> str:
        return str(looking.js(f"getComputedStyle(document.querySelector('{what}')).display"))

    try:
        assert [shown(what) for what in ("header.top", ".filters")] == ["none", "none"]
        assert shown("svg.orderbar") == "block"
        assert looking.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        printed = looking.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        assert len(printed["data"]) > 10_000
    finally:
        looking.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_pages_name_shops_by_their_names(month: Running, looking: Chromium) -> None:
    for path in ("/", "/orders?range=28", "/delivery?range=28", "/reconcile?range=28"):
        look_at(looking, month[0].url(path), LOOKS[0])
        text = looking.find_element(By.TAG_NAME, "main").text
        assert "store_demo" not in text, path
        assert next(iter(NAMES.values())) in text, path


def test_pictures_are_made_of_every_page(tmp_path: Path, looking: Chromium, empty: Running) -> None:
    from tests.browser.screens import picture

    look_at(looking, empty[0].url("/"), LOOKS[3])
    (tmp_path / "today.png").write_bytes(shot := picture(looking))
    assert shot.startswith(b"\x89PNG")
