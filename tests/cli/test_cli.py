"""The command line: answers on stdout, exit codes, an example in every --help, secrets never shown."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import collector
from collector.cli import exit_code, main
from collector.cli.commands import COMMANDS, GROUPS
from collector.config import StorageConfig
from collector.console.auth import verify_password
from collector.errors import ApiError, ConfigError, SchemaTooNew, StorageError
from collector.process.endings import ended
from collector.storage.ground.database import open_database

CONFIG = '[storage]\ndata_dir = "{data}"\n[meta]\nmode = "live"\n[[store]]\nid = "store_abc123"\n' + (
    '[[store.pixel]]\nid = "12345"\naccess_token = "EAAtoken"\n'
)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "collector.toml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*argv: str) -> tuple[int, str, str]:
        try:
            code = main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.mark.parametrize("name", [*(command.name for command in COMMANDS), *GROUPS, ""])
def test_every_help_has_an_example(run, name):
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    assert re.search(rf"Examples?:\n  collector {name}", out)


def test_the_binary_says_what_it_is_though_it_has_no_docstrings():
    command = [sys.executable, "-OO", "-m", "collector", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "a self-hosted edge collector" in done.stdout


def test_exit_codes_tell_what_failed():
    assert exit_code(ConfigError(["x"])) == 2
    assert exit_code(StorageError("x")) == exit_code(SchemaTooNew("x")) == 3
    assert exit_code(ApiError("invalid_field", "x")) == 1


def test_usage_faults_exit_with_2(run):
    assert run("nonsense")[0] == 2
    assert run("keys", "create")[0] == 2
    assert run("keys", "--json")[0] == 2


def test_version_in_json(run):
    code, out, _ = run("version", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["version"] == collector.__version__
    assert tuple(map(int, facts["sqlite"].split("."))) >= (3, 51, 3)
    assert set(facts) == {"version", "revision", "sqlite", "python"}


def test_config_check_tells_every_fault_and_exits_with_2(run, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[edge]\nlistn = "x"\nworkers = 0\n[[store]]\nid = "s"\n')
    code, out, err = run("config", "check", "--config", str(path))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{path}:2: [edge] listn: unknown key; did you mean 'listen'?",
        f"{path}:3: [edge] workers: expected `int` >= 1",
    ]
    code, out, _ = run("config", "check", "--config", str(path), "--json")
    assert code == 2
    assert [json.loads(out)["ok"], len(json.loads(out)["faults"])] == [False, 2]


def test_config_check_of_a_good_file(run, config):
    assert run("config", "check", "--config", config)[:2] == (0, f"{config}: ok\n")
    assert json.loads(run("config", "check", "--json")[1]) == {"ok": True, "faults": [], "warnings": []}


def test_config_show_says_where_each_value_came_from_and_hides_tokens(run, config, monkeypatch):
    monkeypatch.setenv("COLLECTOR_EDGE__WORKERS", "2")
    code, out, _ = run("config", "show", "--origin", "--config", config, "--data-dir", "elsewhere")
    assert code == 0
    assert re.search(r"(?m)^edge.workers = 2 +# COLLECTOR_EDGE__WORKERS$", out)
    assert re.search(r'(?m)^storage.data_dir = "elsewhere" +# flag --data-dir$', out)
    assert re.search(rf'(?m)^store.0.pixel.0.access_token = "\*{{8}}" +# {re.escape(config)}:9$', out)
    assert "EAAtoken" not in out
    rows = {row["key"]: row for row in json.loads(run("config", "show", "--json", "--config", config)[1])}
    assert rows["meta.mode"] == {"key": "meta.mode", "value": "live", "origin": f"{config}:4"}
    assert rows["matching.threshold"]["origin"] == "default"


def test_a_password_becomes_a_hash_that_the_configuration_takes(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    code, out, _ = run("config", "hash-password")
    assert code == 0
    assert verify_password("correct horse battery", out.strip())
    path = tmp_path / "collector.toml"
    path.write_text(f'[console]\nlisten = "0.0.0.0:8081"\npassword_hash = "{out.strip()}"\n[[store]]\nid = "s"\n')
    assert run("config", "check", "--config", str(path))[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert run("config", "hash-password")[0] == 2


def test_a_key_is_shown_once_listed_without_itself_and_revoked(run, config):
    code, out, _ = run("keys", "create", "--config", config, "--store", "store_abc123", "--kind", "secret", "--json")
    made = json.loads(out)
    assert code == 0
    assert set(made) == {"id", "key", "kind", "store"}
    assert (made["kind"], made["store"], made["key"][:3]) == ("secret", "store_abc123", "sk_")
    listed = json.loads(run("keys", "list", "--config", config, "--json")[1])
    assert [(key["id"], key["revoked"]) for key in listed] == [(made["id"], None)]
    assert made["key"] not in run("keys", "list", "--config", config)[1]
    assert run("keys", "revoke", made["id"], "--config", config)[0] == 0
    assert json.loads(run("keys", "list", "--config", config, "--json")[1])[0]["revoked"]
    code, _, err = run("keys", "revoke", made["id"], "--config", config)
    assert code == 1
    assert "no key with the id" in err


def test_the_data_directory_of_a_command_is_private(run, config, tmp_path):
    old = os.umask(0o022)
    try:
        run("keys", "create", "--config", config, "--kind", "secret")
    finally:
        os.umask(old)
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in data.iterdir()} == {0}


def test_a_key_for_an_unknown_store_is_refused(run, config):
    code, out, err = run("keys", "create", "--config", config, "--store", "other", "--kind", "secret")
    assert (code, out) == (2, "")
    assert "'other' is not in the configuration; it has store_abc123" in err
    assert run("keys", "create", "--config", config, "--kind", "publishable")[0] == 2


def test_a_command_works_without_the_meta_token(run, config):
    """Making a key on another machine account must not need what only the courier may read."""
    Path(config).write_text(Path(config).read_text().replace('access_token = "EAAtoken"', 'access_token_file = "none"'))
    assert run("keys", "create", "--kind", "secret", "--config", config)[0] == 0


@pytest.mark.parametrize("command", ["keys list", "keys revoke key_1", "replay"])
def test_a_command_that_makes_nothing_leaves_no_database_in_a_mistyped_directory(run, config, tmp_path, command):
    code, out, err = run(*command.split(), "--config", config, "--data-dir", str(tmp_path / "typo"))
    assert (code, out) == (3, "")
    assert "no database at" in err
    assert not (tmp_path / "typo").exists()


def test_a_report_that_would_end_before_it_begins_is_refused(run, config):
    code, out, err = run("report", "attribution", "--since", "1h", "--until", "1d", "--config", config)
    assert (code, out) == (2, "")
    assert "--since" in err


def test_a_data_directory_that_cannot_be_used_exits_with_3(run, config, tmp_path):
    (tmp_path / "data").write_text("a file")
    code, _, err = run("keys", "list", "--config", config)
    assert code == 3
    assert "data_dir" in err


def test_an_unexpected_failure_says_its_type_and_place_but_not_its_text(run, monkeypatch):
    def broken(_: object) -> int:
        raise ValueError("@".join(["jo", "example.com"]))

    monkeypatch.setattr("collector.cli.version.version", broken)
    code, out, err = run("version")
    assert (code, out) == (1, "")
    assert "ValueError" in err
    assert "jo@example.com" not in err


def test_a_closed_pipe_is_no_crash(config):
    command = f"{sys.executable} -m collector config show --config {config} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20)
    assert "Traceback" not in ended.stderr


def test_the_supervisor_and_the_commands_import_neither_framework_nor_driver():
    """What `serve` imports before its children start decides how soon the binary answers."""
    code = "import sys, collector.cli.serve; print([m for m in sys.modules if m.split('.')[0] in names])"
    names = "names = {'litestar', 'apsw', 'aiosqlite', 'sqlite3', 'httpx', 'asyncio', 'uvicorn'}; "
    out = subprocess.run([sys.executable, "-c", names + code], capture_output=True, text=True, timeout=20, check=True)
    assert out.stdout.strip() == "[]"


def test_erase_asks_or_is_told_yes(run, config, monkeypatch):
    """Without a terminal nobody can be asked; a value of "-" is read where no list of processes shows it."""
    assert run("keys", "create", "--config", config, "--kind", "secret")[0] == 0  # makes the database
    with closing(open_database(StorageConfig(data_dir=str(Path(config).parent / "data")))) as db:
        db.execute("INSERT INTO store (name) VALUES ('store_abc123')")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = run("erase", "--config", config, "--email", "jo@example.com")
    assert (code, "--yes" in err) == (2, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("jo@example.com\n"))
    code, out, err = run("erase", "--config", config, "--email", "-", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["receipts"][0]["conversions"] == 0
    code, _, err = run("erase", "--config", config, "--email", "test@test.com", "--yes")
    assert (code, "--order" in err) == (1, True)
    assert run("erase", "--config", config, "--email", "a@b.example", "--store", "nobody", "--yes")[0] == 2
    assert run("erase", "--config", config)[0] == 2


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_erase_on_a_terminal_does_what_it_is_told(config, tmp_path, said, code):
    """A real terminal: a pseudo-terminal's other end types the answer."""
    storage = StorageConfig(data_dir=str(tmp_path / "data"))
    with closing(open_database(storage)) as db:
        db.execute("INSERT INTO store (name) VALUES ('store_abc123')")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "collector", "erase", "--config", config, "--email", "jo@example.com"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        os.write(ours, said.encode())
        out, err = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == code, err
    assert ("erased at" in out) is (code == 0)
    with closing(open_database(storage)) as db:
        assert (db.execute("SELECT count(*) FROM erased").get > 0) is (code == 0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/srv/x"), "/srv/x: No such file or directory\n"),
        (OSError(errno.EMFILE, "Too many open files"), "the system refuses: Too many open files\n"),
        (OSError(errno.EBADF, "Bad file descriptor"), None),  # ours
        (KeyError("jo@example.com"), None),
    ],
)
def test_what_the_system_refuses_is_a_sentence_and_what_is_our_fault_is_told_as_one(error, said, capsys):
    def run() -> int:
        raise error

    assert ended(run, again=False) == 1
    err = capsys.readouterr().err
    assert err == said if said else ("fault of the collector" in err and "jo@" not in err)
