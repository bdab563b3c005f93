"""[storage] engine and dsn: they go together, and the dsn is shown to nobody who does not open the database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collector import cli
from collector.config import Config
from collector.config_loader import for_role, load, load_settings
from collector.config_loader.changes import changed
from collector.config_loader.engines import hosts_of
from collector.config_loader.show import rows
from collector.errors import ConfigError
from tests.kit.program import ROOT

DSN = "postgresql://collector:pass-word@db1,db2:6432/shop?sslmode=verify-full"
EXAMPLE = "postgresql://collector@db1,db2/collector?sslmode=verify-full"
BOTH = f'[storage]\nengine = "postgres"\ndsn = "{DSN}"\n'
META_OFF = '[meta]\nmode = "off"\n'


def written(folder: Path, text: str) -> str:
    path = folder / "collector.toml"
    path.write_text(text + META_OFF)
    path.chmod(0o600)
    return str(path)


def faults_of(folder: Path, text: str, **env: Any) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as refused:
        load(path, env)
    assert "pass-word" not in str(refused.value)
    return [fault.replace(path, "F") for fault in refused.value.faults]


def test_a_dsn_without_the_engine_names_both_lines(tmp_path: Path) -> None:
    assert faults_of(tmp_path, f'[storage]\nengine = "sqlite"\ndsn = "{DSN}"\n') == [
        'F:3: [storage] dsn: names a database, and engine is "sqlite"; set engine = "postgres"',
        'F:2: [storage] engine: "sqlite" keeps all in data_dir; set "postgres", or take dsn out',
    ]


def test_the_engine_without_a_dsn_names_both_lines(tmp_path: Path) -> None:
    assert faults_of(tmp_path, '[storage]\nengine = "postgres"\ndsn = ""\n') == [
        'F:2: [storage] engine: "postgres" needs a database, and dsn names none',
        f"F:3: [storage] dsn: missing; give dsn_file, or COLLECTOR_STORAGE__DSN: {EXAMPLE}",
    ]


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://u:pass-word@h/d",
        "postgresql://h/d?password=pass-word",
        "postgresql://u:pass-word@h",
        "postgresql://u:pass-word@h/",
        "postgresql://u:pass-word@/d",
        "postgresql://u:pass-word@h:x/d",
        "postgresql://u:pass-word@h:99999/d",
        "postgresql://u:pass-word@h:0/d",
        "postgresql://u:pass-word@h,/d",
        "postgresql://u:pass-word@[::1/d",
        "pass-word",
    ],
)
def test_a_dsn_that_is_none_is_not_repeated(tmp_path: Path, dsn: str) -> None:
    (fault,) = faults_of(tmp_path, f'[storage]\nengine = "postgres"\ndsn = "{dsn}"\n')
    assert fault == f"F:3: [storage] dsn: expected user, hosts and database, as in {EXAMPLE}"


def test_backups_are_the_servers_own(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, BOTH + '[backup]\ndir = "backups"\n')
    assert fault.endswith("[backup] dir: PostgreSQL's backups are its own (pg_basebackup); take it out")


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u@db1/d", [("db1", 5432)]),
        ("postgresql://u:p%40@db1:1,db2,[::1],[::2]:7/d", [("db1", 1), ("db2", 5432), ("::1", 5432), ("::2", 7)]),
        ("postgres://u@/d?host=/run/postgresql&port=5433", [("/run/postgresql", 5433)]),
        ("postgres://u@/d?host=a,b&port=1,2", [("a", 1), ("b", 2)]),
    ],
)
def test_the_hosts_of_a_dsn(dsn: str, hosts: list[tuple[str, int]]) -> None:
    assert hosts_of(dsn) == hosts


def test_the_dsn_comes_by_a_file_or_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(f"{DSN}\n")
    by_file = load(written(tmp_path, '[storage]\nengine = "postgres"\ndsn_file = "dsn"\n'), {})
    bare = written(tmp_path, '[storage]\nengine = "postgres"\n')
    assert by_file.storage.dsn == load(bare, {"COLLECTOR_STORAGE__DSN": DSN}).storage.dsn == DSN
    assert (tmp_path / "dsn").stat().st_mode & 0o077 == 0


def test_the_edge_neither_reads_nor_holds_the_dsn(tmp_path: Path) -> None:
    path = written(tmp_path, BOTH)
    whole = load(path, {})
    assert load(path, {}, role="edge").storage.dsn == for_role(whole, "edge").storage.dsn == ""
    for role in ("keeper", "courier", "console", "none"):
        assert load(path, {}, role=role).storage.dsn == for_role(whole, role).storage.dsn == DSN


def test_a_child_that_reads_again_asks_for_no_dsn_of_its_supervisors_environment(tmp_path: Path) -> None:
    path = written(tmp_path, '[storage]\nengine = "postgres"\n')
    assert load(path, {"COLLECTOR_CONFIG_FD": "9"}, role="courier").storage.engine == "postgres"


def test_the_dsn_is_masked_wherever_settings_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, BOTH)
    settings = load_settings(path, {})
    (shown,) = [row.value for row in rows(settings.config, settings.origins) if row.key == "storage.dsn"]
    assert shown == "********"
    assert cli.main(["config", "show", "--config", path]) == 0
    assert "pass-word" not in capsys.readouterr().out
    assert changed(Config(), settings.config)[:2] == ["storage.engine", "storage.dsn"]
    os.chmod(path, 0o644)
    assert any("holds secrets" in warning for warning in load_settings(path, {}).warnings)


def test_where_the_console_reads_is_as_secret_as_the_dsn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aside").write_text(DSN)
    path = written(tmp_path, BOTH + 'read_dsn_file = "aside"\n')
    whole = load(path, {})
    assert (
        whole.storage.read_dsn == load(written(tmp_path, BOTH), {"COLLECTOR_STORAGE__READ_DSN": DSN}).storage.read_dsn
    )
    for role, held in {"edge": "", "keeper": "", "courier": "", "console": DSN, "none": DSN}.items():
        assert for_role(whole, role).storage.read_dsn == held  # type: ignore[arg-type]
    path = written(tmp_path, BOTH + f'read_dsn = "{DSN}"\n')
    assert cli.main(["config", "show", "--config", path]) == 0
    assert "pass-word" not in capsys.readouterr().out


def test_a_place_to_read_at_goes_with_the_engine_and_is_whole(tmp_path: Path) -> None:
    assert faults_of(tmp_path, f'[storage]\nread_dsn = "{DSN}"\n') == [
        'F:2: [storage] read_dsn: names a database, and engine is "sqlite"; set engine = "postgres"'
    ]
    assert faults_of(tmp_path, BOTH + 'read_dsn = "pass-word"\n') == [
        f"F:4: [storage] read_dsn: expected user, hosts and database, as in {EXAMPLE}"
    ]


LOADS = """
import pkgutil, sys
ITS_OWN = (
    *("collector.storage.postgres", "collector.storage.moving", "collector.cli.migrate"),
    *("collector.bench.postgres", "collector.cli.bench_postgres"),
)
from importlib import import_module
import collector
for module in pkgutil.walk_packages(collector.__path__, "collector."):
    if not module.name.startswith(ITS_OWN):
        import_module(module.name)
print("asyncpg" in sys.modules)
"""


def test_where_sqlite_is_the_engine_nobody_loads_the_others_driver() -> None:
    """All modules but its room's own and the command that moves into it: what an engine is chosen by loads neither."""
    code = [sys.executable, "-c", LOADS]
    done = subprocess.run(code, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split()[-1] == "False", done.stdout
