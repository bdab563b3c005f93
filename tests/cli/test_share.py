"""`collector share`: a link is made, listed and ended; its token is shown once and kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.cli import main
from collector.core import shares
from collector.core.keyed import KeyedHash
from collector.core.shares import PURPOSE, Share
from collector.storage.ground import audit
from tests.kit.journal_kit import Kit
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database

CONFIG = '[meta]\nmode = "off"\n[alerts]\nconsole_url = "https://console.example/"\n[[store]]\nid = "{store}"\n'
Run = Callable[..., tuple[int, str]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    folder, storage = tmp_path / "data", ""
    if request.param == "postgres":
        database: Database = request.getfixturevalue("database")
        storage = f'[storage]\nengine = "postgres"\nstandby = "none"\ndsn = "{database.dsn}"\n'
    with PostgresKit(database, folder) if storage else Kit(folder) as kit:
        store = kit.config.store[0].id
    path = tmp_path / "collector.toml"
    path.write_text(storage + CONFIG.format(store=store))
    path.chmod(0o600)

    def run(*words: str) -> tuple[int, str]:
        code = main(["share", *words, "--config", str(tmp_path / "collector.toml"), "--data-dir", str(folder)])
        out = capsys.readouterr()
        return code, out.out or out.err

    run.store, run.folder = store, folder  # type: ignore[attr-defined]
    return run


def made(run: Run, *words: str) -> tuple[dict[str, Any], Share]:
    """What `create` told, and what its token says."""
    code, out = run("create", "--store", run.store, "--json", *words)  # type: ignore[attr-defined]
    assert code == 0, out
    told = json.loads(out)
    key = KeyedHash((run.folder / "pepper.key").read_bytes()).subkey(PURPOSE)  # type: ignore[attr-defined]
    share = shares.opened(told["link"].removeprefix("https://console.example/share/"), key)
    assert share is not None
    return told, share


def test_a_link_is_made_listed_and_revoked(run: Run) -> None:
    told, share = made(run, "--range", "2026-11-01..2026-11-15", "--valid", "3")
    assert (share.id, share.first, share.last, share.event) == (
        told["id"],
        date(2026, 11, 1),
        date(2026, 11, 15),
        "Purchase",
    )
    ends = datetime.fromtimestamp(share.expires / 1000, UTC) - datetime.now(UTC)
    assert timedelta(2.9) < ends <= timedelta(3)
    (listed,) = json.loads(run("list", "--json")[1])
    assert (listed["id"], listed["from"], listed["to"], listed["revoked"]) == (told["id"], *told_days(told), None)
    assert "in force" in run("list")[1]
    assert run("revoke", told["id"]) == (0, f"{told['id']} is revoked\n")
    assert "revoked" in run("list")[1]
    code, out = run("revoke", told["id"])
    assert (code, "is in force" in out) == (1, True)


def told_days(told: dict[str, Any]) -> tuple[str, str]:
    return told["from"], told["to"]


def test_a_range_of_words_becomes_days_that_stay(run: Run) -> None:
    _, share = made(run, "--range", "28")
    assert share.last - share.first == timedelta(27)


def test_the_token_is_kept_nowhere(run: Run) -> None:
    told, _ = made(run)
    token = told["link"].rpartition("/")[2]
    for part in token.split("."):
        for path in run.folder.iterdir():  # type: ignore[attr-defined]
            assert not path.is_file() or part.encode() not in path.read_bytes(), path
    entries, _ = audit.read(run.folder)  # type: ignore[attr-defined]
    assert [(entry.action, entry.about["id"]) for entry in entries][-1] == ("share create", told["id"])


BAD = {
    ("--store", "store_other"): "--store: 'store_other' is not in the configuration",
    ("--range", "fortnight"): "--range: 'fortnight' is none of",
    ("--range", "2026-11-15..2026-11-01"): "--range:",
    ("--event", "Purchse"): "--event: 'Purchse' is no standard event",
    ("--valid", "0"): "--valid: a link lives for 1 to 365 days",
    ("--valid", "366"): "--valid: a link lives for 1 to 365 days",
}


@pytest.mark.parametrize("words", BAD)
def test_what_makes_no_sense_is_told(run: Run, words: tuple[str, str]) -> None:
    code, out = run("create", "--store", run.store, *words)  # type: ignore[attr-defined]
    assert code == 2
    assert BAD[words] in out
    assert json.loads(run("list", "--json")[1]) == []
