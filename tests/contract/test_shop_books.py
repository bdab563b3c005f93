"""What the tests of pull, watch and erasures ask over SQLite, asked of PostgreSQL: the same bodies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.config import Config
from collector.exchange.shops import Waiting
from collector.storage.forgetting import erase_person
from collector.storage.postgres.books import PostgresBooks
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.threaded import Threaded
from tests.courier import test_shop_pull, test_shop_watch
from tests.courier.test_shop_pull import Pull
from tests.courier.test_shop_pull import make as make
from tests.courier.test_shop_pull import server as server
from tests.courier.test_shop_watch import Watched
from tests.courier.test_shop_watch import watched as watched
from tests.journal import test_shop_erasure, test_shop_orders
from tests.journal.test_shop_erasure import shop as shop
from tests.kit.journal_kit import NOW
from tests.kit.journal_kits import PostgresKit
from tests.kit.journal_kits import patient as patient
from tests.kit.postgres import Database
from tests.shops import test_shop_reconcile

pytestmark = [pytest.mark.usefixtures("patient", "over_postgres"), pytest.mark.slow]
# What writes into SQLite's file beside the books, or gives a command a configuration of its own.
_SQLITE_ALONE = {
    "test_L5_a_shop_that_gives_one_page_for_ever_is_a_failure_and_no_loop",
    "test_C7_orders_that_the_pull_alone_found_are_told",
    "test_C7_wrong_signatures_are_told_when_they_are_many",
    "test_C7_orders_without_a_person_are_told",
    "test_C7_poor_accuracy_is_told_and_cleared",
    "test_O8_a_page_that_tells_another_number_is_an_alert_where_its_pixel_does_too",
    "test_P2_what_is_held_of_a_customer_is_written_for_the_owner_alone_and_goes_with_the_request",
    "test_P2_control_of_nobody_nothing_is_written_but_an_empty_answer",
    "test_requests_are_listed_run_and_dismissed",
}
_FILES = SimpleNamespace(
    **{
        name: body
        for name, body in vars(test_shop_reconcile).items()
        if name.startswith(("test_C5_a_file", "test_C5_an_order", "test_C5_what_a", "test_C3_another", "test_C5_nd"))
        or name in ("test_C6_files_as_spreadsheets_write_them", "test_C6_nothing_of_a_person_is_kept")
    }
)
for _module in (test_shop_pull, test_shop_watch, test_shop_erasure, _FILES):
    globals().update(
        {name: body for name, body in vars(_module).items() if name.startswith("test_") and name not in _SQLITE_ALONE}
    )


class Books(PostgresBooks):
    """With connections of their own."""

    _db = None

    def __init__(self, config: Config) -> None:
        self._own = Threaded(config.storage, "test")
        super().__init__(self._own, Duties(self._own, "test"))

    def close(self) -> None:
        self._own.close()


def _one(self: Pull, row: Waiting) -> Any:
    """As `Pull._one`; the keeper has a loop of its own, which runs in another thread."""
    found: list[Any] = []

    async def submit(operations: Any) -> list[Any]:
        found.extend(await asyncio.to_thread(self.shop.kit.submit, list(operations)))
        return found

    webhooks = self.shop.webhooks
    webhooks._keeper.submit = submit  # type: ignore[method-assign]
    asyncio.run(webhooks._found(row))
    return found[-1]


def _erase(shop: test_shop_orders.Shop, erase: Any = test_shop_erasure.erase, **who: str) -> int:
    gone: int = erase(shop, **who)
    shop.kit.journal._learn_at = 0.0
    shop.kit.match_again()
    return gone


def _storage_of(shop: test_shop_orders.Shop) -> str:
    storage = shop.kit.config.storage
    own = f'engine = "postgres"\ndsn = "{storage.dsn}"\nstandby = "none"\ndata_dir = "{storage.data_dir}"\n'
    return f'[storage]\n{own}[privacy]\npepper_file = "{storage.data_dir}/pepper.key"\n'


def _look(self: Watched, look: Any = Watched.look) -> list[str]:
    """As `Watched.look`; what the courier has erased the keeper learns within a second."""
    found: list[str] = look(self)
    self.shop.kit.journal._learn_at = 0.0
    self.shop.kit.match_again()
    return found


@pytest.fixture
def over_postgres(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever of them makes a kit or books makes them over the database."""

    def made(folder: Path, now: int = NOW, **more: Any) -> PostgresKit:
        return PostgresKit(database, folder, now, **more)

    monkeypatch.setattr(test_shop_orders, "Kit", made)
    monkeypatch.setattr(test_shop_erasure, "erase", _erase)
    monkeypatch.setattr(test_shop_erasure, "erase_person", erase_person)
    monkeypatch.setattr("collector.storage.postgres.erasing._HEARD_S", 0.0)
    monkeypatch.setattr(Pull, "_one", _one)
    monkeypatch.setattr(test_shop_reconcile, "storage_of", _storage_of)
    monkeypatch.setattr(Watched, "look", _look)
    for module in (test_shop_pull, test_shop_watch):
        monkeypatch.setattr(module, "SqliteBooks", Books)
