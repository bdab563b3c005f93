"""Every kind of page that the console's links lead to, found by following them: none added later is forgotten."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from tests.kit import console_world
from tests.kit.console_process import ConsoleProcess, kind_of
from tests.kit.console_world import DEEPER, PAGES, World, shared_links

BUDGET_BYTES = 60_000
RUN = "document.title='owned'"
EVIL = f"\"'><script>{RUN}</script><img src=x onerror={RUN}><svg onload={RUN}>"
Kinds = dict[str, requests.Response]


def followed(world: World) -> Kinds:
    begin = [*(f"{path}?range=28" for path in PAGES), *DEEPER.values(), *shared_links(world.folder), "/find?id=1001"]
    with ConsoleProcess(world.config) as running:
        return running.kinds([*begin, "/nothing"])


@pytest.fixture(scope="module", params=["plain", "hostile"])
def kinds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinds]:
    """In trouble; once with what a hostile caller wrote in every field."""
    evil = EVIL if request.param == "hostile" else ""
    world = console_world.trouble(tmp_path_factory.mktemp("kinds"), int(time.time() * 1000), clicks=150, evil=evil)
    yield followed(world)
    world.db.close()


def test_links_lead_to_every_kind_of_page(kinds: Kinds) -> None:
    found = {kind_of(address) for address in kinds}
    wanted = {*PAGES, *DEEPER.values(), "/conversions/conv_x", "/clicks/click_x", "/share/x", "/orders.csv"}
    wanted |= {
        "/campaigns?under=x",
        "/campaigns?by=x&model=x&window=x",
        "/reconcile?pixel=x&day=x",
        "/orders?campaign=x",
    }
    assert {kind_of(address) for address in wanted} - found == set()


def test_every_link_leads_to_a_page(kinds: Kinds) -> None:
    """None of ours is broken; the addresses that make no sense are those that were put in."""
    broken = {address for address, answer in kinds.items() if answer.status_code != 200} - {"/find?id=1001"}
    assert broken == {"/nothing", DEEPER["no-sense"]}


def test_every_kind_is_light_safe_and_without_markup_of_others(kinds: Kinds) -> None:
    for address, answer in kinds.items():
        assert "default-src 'none'" in answer.headers["content-security-policy"], address
        if "text/html" in answer.headers["content-type"]:
            assert len(answer.content) < BUDGET_BYTES, address
            assert not re.search(r"<script(?![^>]*src=)|<img|<svg onload|\sstyle=", answer.text), address


def test_every_column_of_figures_of_every_kind_has_a_title(kinds: Kinds) -> None:
    bare = {
        (urlsplit(address).path, head)
        for address, answer in kinds.items()
        for head in re.findall(r'<th class="n[^"]*"(?! title="[^"]{5,})[^>]*>[^<]*', answer.text)
        if "/share/" not in address
    }
    assert bare == set()
