"""One body, both engines: `engine` is an installation on each in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import engines
from tests.kit.engines import Engine
from tests.kit.postgres import Database


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        with engines.sqlite(tmp_path) as made:
            yield made
    else:
        database: Database = request.getfixturevalue("database")
        with engines.postgres(tmp_path, database) as made:
            yield made
