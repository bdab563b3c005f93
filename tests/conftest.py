"""How the suite runs: all of it on several processes at once, as most tests wait for others; a few files in one."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.kit import far_sqlite, postgres

far_sqlite.install()
# Programs under test start from compiled files, as installed ones do: compiling cost each start half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
settings.register_profile("untimed", deadline=None)  # a busy machine is no finding
settings.load_profile("untimed")
MOST_WORKERS = 8
BROWSER = Path(__file__).parent / "browser"
# Tests that share nothing with the rest of their file and take long: each goes to the next idle process.
SINGLY = (
    "tests/matching/test_matching_truth.py::test_sweep",
    "tests/matching/test_matching_truth.py::test_short_sweep",
    "tests/matching/test_matching_truth.py::test_the_sweeps_corner",
    "tests/journal/test_journal_order.py::test_a_thousand_delays",
    "tests/matching/test_matching_truth.py::test_calibration",
    "tests/courier/test_courier_faults.py::test_the_whole_matrix",
    "tests/courier/test_courier_faults.py::test_many_kills",
    "tests/process/test_kill9.py::test_a_hundred_kills",
    "tests/process/test_binary.py::test_two_builds",
    "tests/guard/test_hostile.py::test_ten_thousand",
    "tests/edge/test_openapi.py::test_two_thousand",
    "tests/edge/test_hostile_edge.py::test_idle_and_slow",
    "tests/postgres/test_faults_processes.py::test_a_keeper_stands_still",
)
# Begun first, or one process would still be at them when the others are done.
FIRST = (
    *("test_matching_truth", "test_courier_faults", "test_serve", "test_kill9", "test_bench", "test_binary"),
    *("test_bad_conditions", "test_journal_generated", "test_journal_order", "test_shop_pull", "test_hostile_"),
    *("test_keeper", "test_matching_rows", "test_case_inputs"),
)


class Schedule(LoadFileScheduling):
    """A file's tests stay together, as they share what its fixtures start."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SINGLY) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    return Schedule(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no browser is asked for, its tests are not even read: Selenium takes each process half a second."""
    return True if collection_path == BROWSER and "not browser" in config.option.markexpr else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is there once all tests are read stays to the end: the collector of garbage never looks at it."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.stem.startswith(FIRST))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Twice the cores, as tests mostly wait; none for files named, -s or a debugger, which want this process."""
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if named or config.option.usepdb or config.option.capture == "no":
        return 0
    return min(MOST_WORKERS, 2 * (os.cpu_count() or 1))


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the programs under test leave behind when they are killed lies, and goes, with the tests' own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)  # read again at the next use
        yield


@pytest.fixture(autouse=True)
def umask_as_it_was() -> Iterator[None]:
    """A command run in this process makes its files private, and so would every test after it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Node]:
    """A PostgreSQL server, one for each process of the suite. Who breaks it makes another one."""
    with postgres.server() as node:
        yield node


_numbers = itertools.count(1)


@pytest.fixture
def database(postgres_server: postgres.Node) -> Iterator[postgres.Database]:
    """An empty database in it."""
    made = postgres.make_database(postgres_server, f"test_{next(_numbers)}")
    yield made
    postgres_server.sql(f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture(scope="module")
def postgres_pair() -> Iterator[postgres.Pair]:
    """A primary and its synchronous standby."""
    with postgres.pair() as both:
        yield both
