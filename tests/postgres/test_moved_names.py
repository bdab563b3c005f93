"""What release 0.2 called people's values still leads to them in an installation that was moved."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from collector.storage.ground.database import open_database
from collector.storage.moving.move import move
from tests.journal.test_people import clicked, digest, ordered
from tests.kit.journal_kit import HOUR, NOW, STORE, Kit, config_for
from tests.kit.journal_kits import PostgresKit, config_over
from tests.kit.postgres import Database


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "control: nobody knows of the former names"])
def test_an_order_finds_its_click_by_a_former_name(noted: bool, database: Database, tmp_path: Path) -> None:
    there = config_over(database, tmp_path)
    here = structs.replace(there, storage=config_for(tmp_path / "file").storage)
    with Kit(tmp_path / "file", config=here) as kit:
        own = clicked(kit, "jane", NOW - 3 * HOUR)
        ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane")
        names, store = kit.journal.names, kit.journal.stores[STORE].number
    with closing(open_database(here.storage)) as db:
        for kind in ("email", "email_weak"):
            now = names.name(store, kind, f"sha256:{digest('jane@example.com')}")
            before = names.name(store, kind, "jane@example.com")
            for table in ("identity_link", "conversion_identity"):
                db.execute(f"UPDATE {table} SET key = ? WHERE key = ?", (before, now))
        if noted:
            db.execute("INSERT INTO renamed VALUES (1, 1)")
    storage = structs.replace(there.storage, data_dir=here.storage.data_dir)
    move(structs.replace(there, storage=storage), resume=False, dry_run=False)
    with PostgresKit(database, tmp_path) as kit:
        assert ordered(kit, "2").click == (own if noted else None)
