"""A world of the console's, as it is, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import structs

from collector.config import Config
from collector.storage.moving.move import move
from collector.storage.postgres.threaded import Threaded
from collector.storage.postgres.upkeep import PostgresUpkeep
from tests.kit import postgres
from tests.kit.console_world import World

_LABELS = "SELECT store, day, purchase = 1, label, n FROM truth_sum"  # the world's are of no rows


@contextmanager
def in_postgres(world: World, node: postgres.Node, name: str) -> Iterator[Config]:
    """The same rows with the same ids, in a database of this name; some of its sums are folded. The file is closed."""
    world.db.execute("UPDATE click SET fbclid_k = id << 20, visitor_k = id << 21")  # each is somebody's
    labels = [(*row[:2], bool(row[2]), *row[3:]) for row in world.db.execute(_LABELS).fetchall()]
    beats = world.db.execute("SELECT process, at, body FROM heartbeat").fetchall()
    world.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    world.db.close()
    made = postgres.make_database(node, name)
    try:
        storage = structs.replace(world.config.storage, engine="postgres", dsn=made.dsn, standby="none")
        config = structs.replace(world.config, storage=storage)
        move(config, resume=False, dry_run=False)
        with Threaded(storage, "test") as side:
            side.ask(lambda c: c.copy_records_to_table("truth_new", records=labels))
            side.ask(lambda c: c.copy_records_to_table("heartbeat", records=beats))
            PostgresUpkeep(side).checkpoint()
            side.ask(lambda c: c.execute("UPDATE conversion SET units = units + 1 WHERE store = 1"))
            side.ask(lambda c: c.execute("UPDATE conversion SET units = units - 1 WHERE store = 1"))
        yield config
    finally:
        node.sql(f"DROP DATABASE {name} WITH (FORCE)")
