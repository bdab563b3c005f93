"""Every kind of page that the console's links lead to says the same of one world over both engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

from collector.config import Config
from tests.kit import postgres
from tests.kit.console_process import ConsoleProcess
from tests.kit.console_store import NOW
from tests.kit.console_world import DEEPER, PAGES, shared_links, trouble
from tests.kit.moved import in_postgres

AT_ITS_TIME = f"""
from collector.console import app
from collector.storage.postgres.told import SQL
SQL.update({{name: sql.replace("seen_ms()", str((1 << 41) - 1)) for name, sql in SQL.items()}})
app.open_desk.__kwdefaults__["clock"] = lambda: {NOW}
"""
OF_AN_ENGINE = ("/system", "/live", "/static")  # they tell of the database itself, or go on
Kinds = dict[str, requests.Response]


def followed(config: Config, begin: list[str]) -> Kinds:
    with ConsoleProcess(config, AT_ITS_TIME) as console:
        return console.kinds(begin)


def plain(answer: requests.Response) -> str:
    """Line by line, without what is made anew for each answer."""
    return re.sub(r'name="form" value="[^"]+"', "", answer.text)


@pytest.mark.slow
def test_every_kind_of_page_says_the_same(postgres_server: postgres.Node, tmp_path: Path) -> None:
    world = trouble(tmp_path, NOW, clicks=300)
    begin = [*(f"{path}?range=28" for path in PAGES), *DEEPER.values(), *shared_links(world.folder), "/find?id=1001"]
    with in_postgres(world, postgres_server, "pages_alike") as moved:
        wanted = followed(world.config, begin)
        found = followed(moved, begin)
    told = [address for address in wanted if not address.startswith(OF_AN_ENGINE)]
    paths = {"/" + address.split("?")[0].split("/")[1] for address in told}
    assert paths >= {*PAGES, "/share", "/conversions", "/clicks"} - {*OF_AN_ENGINE}
    for address in told:
        assert found[address].status_code == wanted[address].status_code, address
        assert plain(found[address]).splitlines() == plain(wanted[address]).splitlines(), address
