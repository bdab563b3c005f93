"""What the journal's own tests ask of SQLite, asked of PostgreSQL: the same bodies over both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.journal import test_journal_count, test_people, test_shop_orders, test_told_together
from tests.journal.test_people import control as control
from tests.journal.test_shop_orders import shop as shop
from tests.kit.journal_kit import NOW
from tests.kit.journal_kits import PostgresKit
from tests.kit.journal_kits import patient as patient
from tests.kit.postgres import Database

pytestmark = [pytest.mark.usefixtures("patient", "over_postgres"), pytest.mark.slow]
# What looks into SQLite's files or its writer, or asks an erasure, which has a contract of its own.
_SQLITE_ALONE = {
    "test_P2_erasure_follows_confirmed_links_always_and_claims_up_to_20",
    "test_P2_page_events_beside_many_other_values_hide_nobody_from_erasure",
    "test_names_of_the_release_before_go_on_matching",
    "test_what_is_known_of_a_visitor_is_asked_by_the_visitor",
    "test_who_was_erased_before_the_upgrade_stays_erased",
    "test_O8_names_that_a_rollback_took_are_kept_when_they_are_told_again",
    "test_O8_two_hooks_with_one_number_and_other_value_are_counted",
    "test_retention_takes_an_orders_other_names_with_it",
}
_MODULES: tuple[Any, ...] = (
    test_people,
    test_journal_count,
    test_shop_orders,
    test_told_together,
)
for module in _MODULES:
    globals().update(
        {name: body for name, body in vars(module).items() if name.startswith("test_") and name not in _SQLITE_ALONE}
    )


@pytest.fixture
def over_postgres(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever of them makes a kit makes it over the database."""

    def made(folder: Path, now: int = NOW, **more: Any) -> PostgresKit:
        return PostgresKit(database, folder, now, **more)

    for module in _MODULES:
        if hasattr(module, "Kit"):
            monkeypatch.setattr(module, "Kit", made)


@pytest.fixture
def kit(over_postgres: None, database: Database, tmp_path: Path) -> Any:
    with PostgresKit(database, tmp_path) as one:
        yield one
