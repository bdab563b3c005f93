"""What the commands say of a collector over PostgreSQL; those that cannot ask it yet say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from collector import cli
from collector.cli.commands import COMMANDS
from collector.config_loader import load
from collector.exchange.clock import Clock
from collector.storage.ground.schema import scripts
from collector.storage.postgres.keeping import Keeping
from collector.storage.postgres.migrating import FOLDER
from tests.kit import postgres, typed
from tests.kit.program import free_port

# What opens no database, or PostgreSQL's; `serve` and its parts are asked for in cli/test_config_engines.py.
ABLE = (
    *("migrate", "audit", "keys create", "keys list", "keys revoke", "status", "doctor", "config check", "config show"),
    *("replay", "import", "install"),
    *("serve", "edge", "keeper", "courier", "console"),
    *("erase", "export-person", "explain", "export", "report attribution", "tail", "learn"),
    *("report reconcile", "report weekly", "share create", "share list", "share revoke"),
    *("requests list", "requests run", "requests dismiss", "reconcile"),
    *("clock show", "clock accept", "send-test"),
)
ASKING = sorted(
    command.name
    for command in COMMANDS
    if command.name not in ABLE and typed.takes_configuration(typed.parsers()[command.name])
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path, database: postgres.Database) -> str:
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[storage]\nengine = "postgres"\ndsn = "{database.dsn}"\nstandby = "none"\ndata_dir = "data"\n'
        '[meta]\nmode = "off"\n[[store]]\nid = "shop"\n[[store.pixel]]\nid = "123456789012345"\n'
    )
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def run(config: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--config", config])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def kept(config: str) -> Keeping:
    return Keeping(load(config, {}), Clock())


def test_keys_are_made_listed_and_revoked_and_a_keeper_learns_of_them(run: Run, config: str) -> None:
    code, out, _ = run("keys", "create", "--store", "shop", "--kind", "secret", "--json")
    made = json.loads(out)
    assert code == 0
    assert made["key"].startswith("sk_")
    keeper = kept(config)
    assert [key.id for key in keeper.keys.values()] == [made["id"]]
    assert run("keys", "revoke", made["id"])[:2] == (0, f"{made['id']} is revoked\n")
    keeper._learn_at = 0.0
    keeper._run(keeper.keep_up())
    assert keeper.keys == {}
    keeper.close()
    code, out, _ = run("keys", "list", "--json")
    assert [(key["id"], key["revoked"] is not None) for key in json.loads(out)] == [(made["id"], True)]
    assert run("keys", "revoke", made["id"])[0] == 1
    assert [entry["action"] for entry in json.loads(run("audit", "--json")[1])] == ["keys create", *["keys revoke"] * 2]


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "--store", "shop", "--kind", "secret"),
        ("keys", "revoke", "key_0"),
        ("share", "create", "--store", "shop", "--range", "7"),
        ("share", "revoke", "share_0"),
        ("erase", "--email", "jo@example.com", "--yes"),
        ("replay", "--since", "2d"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_without_a_standby_what_nobody_would_confirm_is_not_begun(
    run: Run, config: str, words: tuple[str, ...]
) -> None:
    """It was done on the one disk, and said to have failed: a key that nobody has seen."""
    path = Path(config)
    kept(config).close()
    alone = path.read_text()
    path.write_text(alone.replace('standby = "none"\n', ""))
    code, _, err = run(*words)
    assert (code, "no synchronous standby is attached" in err) == (3, True), err
    assert run("keys", "list", "--json")[:2] == (0, "[]\n"), "what is only asked is answered"


def test_a_person_accepts_this_machines_clock(run: Run, config: str, database: postgres.Database) -> None:
    kept(config).close()
    database.sql("INSERT INTO clock VALUES ('another', convert_to('{}', 'UTF8'))")
    assert run("clock", "show")[0] == 0
    code, out, _ = run("clock", "accept", "--json")
    assert (code, list(json.loads(out))) == (0, ["accepted"])
    assert json.loads(run("clock", "show", "--json")[1])["heldSeconds"] == 0
    assert database.sql("SELECT count(*) FROM clock") == "2", "another machine has its own"


def test_status_of_an_empty_database_makes_nothing_in_it(run: Run, database: postgres.Database) -> None:
    code, out, _ = run("status")
    assert code == 0
    assert f"at 127.0.0.1:{database.node.port}" in out.splitlines()[0]
    assert out.splitlines()[0].endswith("empty")
    assert database.sql("SELECT count(*) FROM pg_class WHERE relname = 'click'") == "0"


def test_status_names_engine_primary_and_the_edges_at_work(run: Run, config: str) -> None:
    keeper = kept(config)
    seen = json.loads(run("status", "--json")[1])
    assert (seen["engine"], seen["schema"], seen["standbys"]) == ("postgres", len(scripts(FOLDER)), [])
    assert [(edge["number"], edge["owner"], edge["over"]) for edge in seen["edges"]] == [
        (keeper.edge.number, keeper.edge.owner, False)
    ]
    assert keeper.edge.owner in run("status")[1]
    assert (seen["days7"]["purchases"], seen["confidence"]["labels"]) == (0, 0)
    assert "purchases" in run("status")[1]
    keeper.close()
    assert json.loads(run("status", "--json")[1])["edges"] == []


def test_an_edge_that_ended_without_a_word_is_told(run: Run, config: str, database: postgres.Database) -> None:
    keeper = kept(config)
    keeper._run(keeper._database.close())
    database.sql("UPDATE edge SET until = now_ms() - 1 WHERE open")
    (seen,) = json.loads(run("status", "--json")[1])["edges"]
    assert seen["over"]
    out = run("doctor", "--json")[1]
    (told,) = [one["what"] for one in json.loads(out) if one["check"] == "edge"]
    assert "ended without a word" in told


def test_doctor_tells_of_another_key(run: Run, config: str) -> None:
    kept(config).close()
    found = {one["check"]: one for one in json.loads(run("doctor", "--json")[1])}
    assert found["database"]["level"] == found["pepper"]["level"] == found["server"]["level"] == "ok"
    (Path(config).parent / "data" / "pepper.key").write_bytes(b"x" * 32)
    found = {one["check"]: one for one in json.loads(run("doctor", "--json")[1])}
    assert found["pepper"]["level"] == "fail"
    assert "copy it from another of them" in found["pepper"]["what"]
    with pytest.raises(Exception, match="is not the key by which this database's rows are named"):
        kept(config)


def test_doctor_says_what_of_the_server_is_doubtful(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(config).close()
    monkeypatch.setattr("collector.storage.postgres.examining.clocks_apart", lambda _: "the clocks are apart")
    found = {one["check"]: one for one in json.loads(run("doctor", "--json")[1])}
    assert (found["server"]["level"], found["server"]["what"]) == ("warn", "the clocks are apart")


def test_status_and_doctor_say_where_the_console_reads(run: Run, config: str, database: postgres.Database) -> None:
    kept(config).close()
    assert "console reads" not in run("status")[1]
    text = Path(config).read_text()
    Path(config).write_text(text.replace("data_dir", f'read_dsn = "{database.dsn}"\ndata_dir', 1))
    here = f"127.0.0.1:{database.node.port}"
    assert f"at {here}, no standby, 0 s behind" in run("status")[1]
    found = {one["check"]: one for one in json.loads(run("doctor", "--json")[1])}
    assert found["server.reads"]["what"] == f"the console reads at {here}, no standby, 0 s behind"
    nobody = f"127.0.0.1:{free_port()}"
    text = (
        Path(config)
        .read_text()
        .replace(f'read_dsn = "{database.dsn}"', f'read_dsn = "postgresql://u:hidden@{nobody}/d"')
    )
    Path(config).write_text(text)
    problem = f"[storage] read_dsn: {nobody} cannot be reached: Connection refused"
    assert f"at dsn, since {nobody} cannot be asked: {problem}" in run("status")[1]
    out = run("doctor", "--json")[1]
    found = {one["check"]: one for one in json.loads(out)}
    assert (found["server.reads"]["level"], problem in found["server.reads"]["what"]) == ("warn", True)
    assert "hidden" not in out


def test_a_machine_without_the_key_of_the_others_is_refused(config: str) -> None:
    kept(config).close()
    (Path(config).parent / "data" / "pepper.key").unlink()
    with pytest.raises(Exception, match=r"pepper_file: there is no .*pepper\.key"):
        kept(config)


@pytest.mark.parametrize("command", ["status", "doctor", "keys list"])
def test_a_server_that_is_away_is_a_sentence(run: Run, config: str, database: postgres.Database, command: str) -> None:
    free = free_port()
    text = Path(config).read_text().replace(f":{database.node.port}/", f":{free}/")
    Path(config).write_text(text)
    code, out, err = run(*command.split())
    assert code == (1 if command == "doctor" else 3)
    assert f"127.0.0.1:{free} cannot be reached: Connection refused" in (out if command == "doctor" else err)


@pytest.mark.parametrize("name", ASKING)
def test_what_cannot_ask_it_yet_says_so_in_one_sentence(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    assert cli.main(typed.words(name, typed.parsers()[name], tmp_path)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    instead = 'cannot ask "postgres" in this release'
    if name.startswith(("backup", "restore", "damage")):
        instead = "is for SQLite; PostgreSQL"
    assert said.startswith(f"[storage] engine: `collector {name}` {instead}")
