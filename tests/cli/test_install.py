"""`collector install`: sound and closed units, each step told, and on --dry-run nothing done."""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from collector.cli import main
from collector.cli.installing import command, program
from collector.cli.installing.units import Place, units
from collector.cli.parser import build_parser
from collector.errors import ConfigError

PLACE = Place(
    program="/usr/local/bin/collector",
    config="/srv/collector/collector.toml",
    user="collector",
    writes=("/srv/collector/collector-data", "/var/backups/collector"),
    backups="/var/backups/collector",
)
ALL = {**units(PLACE), **units(PLACE, split=True)}
SERVICES = sorted(name for name in ALL if name.endswith(".service"))


def service(name: str) -> configparser.SectionProxy:
    settings = configparser.ConfigParser(interpolation=None, strict=False)  # a filter of calls may be given twice
    settings.optionxform = str  # type: ignore[assignment,method-assign]
    settings.read_string(ALL[name])
    return settings["Service"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_starts_a_command_of_ours_with_the_configuration(name: str) -> None:
    words = service(name)["ExecStart"].split()
    assert words[0] == PLACE.program
    assert build_parser().parse_args(words[1:]).config == PLACE.config
    if "backup" not in name:
        # The supervisor, which says READY=1, is a child of the binary's bootloader.
        assert (service(name)["Type"], service(name)["NotifyAccess"]) == ("notify", "all")
        assert int(service(name)["TimeoutStopSec"]) > 10


def test_a_path_stands_for_itself_in_every_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """$ is doubled where a command is started, and only there; % everywhere; a line's end is no part of a path."""
    odd = msgspec.structs.replace(PLACE, config="/srv/a $b/50%/c.toml", writes=("/srv/a $b/50%/data",))
    unit = units(odd)["collector.service"]
    assert '--config "/srv/a $$b/50%%/c.toml"\n' in unit
    assert 'ReadWritePaths="/srv/a $b/50%%/data"\n' in unit
    for mark in "\n\r\t\x7f":
        folder = tmp_path / f"a{mark}b"
        assert main(["init", str(folder), "--yes", "--store", "s", "--domain", "shop.example"]) == 0
        assert main(["install", "--dry-run", "--config", str(folder / "collector.toml")]) == 2
        assert "a unit takes no path with a control character; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in SERVICES if "backup" not in name])
def test_the_processes_may_confine_themselves(name: str) -> None:
    """A list of allowed calls kills for any other, and @system-service has neither Landlock nor seccomp."""
    allowed = re.search(r"(?m)^SystemCallFilter=@system-service (.*)$", ALL[name])
    assert allowed is not None
    assert {*allowed[1].split()} == {
        "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp",
    }  # fmt: skip
    assert service(name)["SystemCallErrorNumber"] == "EPERM"


def test_split_the_keeper_has_no_network_and_the_edge_only_this_machine() -> None:
    keeper, edge = service("collector-keeper.service"), service("collector-edge.service")
    assert (keeper["PrivateNetwork"], keeper["RestrictAddressFamilies"]) == ("yes", "AF_UNIX")
    assert (edge["IPAddressDeny"], edge["IPAddressAllow"]) == ("any", "localhost")


def test_over_postgres_the_keeper_reaches_it_and_nothing_backs_up_a_file(tmp_path: Path) -> None:
    made = units(msgspec.structs.replace(PLACE, over_postgres=True, backups=""), split=True)
    assert set(made) == {f"collector-{part}.service" for part in ("keeper", "edge", "courier", "console")}
    assert "PrivateNetwork" not in made["collector-keeper.service"]
    assert "IPAddressDeny" not in made["collector-console.service"]
    assert "IPAddressDeny=any" in made["collector-edge.service"]
    for name, text in made.items():
        assert_closed(tmp_path, name, text)


def test_over_postgres_install_makes_no_timer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[storage]\nengine = "postgres"\ndsn = "postgresql://u@db1/d"\ndata_dir = "data"\n[meta]\nmode = "off"\n'
    (tmp_path / "collector.toml").write_text(text)
    assert main(["install", "--dry-run", "--json", "--config", str(tmp_path / "collector.toml")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["next"] == "systemctl enable --now collector.service"
    assert not any("backup" in step for step in told["did"])


def test_an_edge_without_a_proxy_may_be_reached_and_take_its_port(tmp_path: Path) -> None:
    open_to_all = msgspec.structs.replace(PLACE, public=True, low_port=True)
    split = units(open_to_all, split=True)
    assert "IPAddressDeny" not in split["collector-edge.service"]
    assert "IPAddressDeny=any" in split["collector-console.service"]
    for name, text in {**split, **units(open_to_all)}.items():
        may = "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text
        assert may == (name in ("collector.service", "collector-edge.service")), name
    for name in ("collector.service", "collector-edge.service"):
        assert_closed(tmp_path, name, {**split, **units(open_to_all)}[name])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_is_closed(name: str, tmp_path: Path) -> None:
    assert_closed(tmp_path, name, ALL[name])


def assert_closed(tmp_path: Path, name: str, text: str) -> None:
    if shutil.which("systemd-analyze") is None:
        return
    (tmp_path / name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(tmp_path / name)],
        capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= 2.5


def test_words_with_signs_of_systemds_own_stand_for_themselves() -> None:
    """systemd replaces $ in arguments alone: neither in the program's path nor in a user's name."""
    odd = Place(program="/opt/100% mi$ne/c", config='/srv/a "b"$HOME/c.toml', user="u$", writes=("/d",), backups="/b$c")
    made = units(odd)
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", made["collector.service"])
    assert line == '"/opt/100%% mi$ne/c" serve --config "/srv/a \\"b\\"$$HOME/c.toml"'
    assert '"/opt/100%% mi$ne/c" backup "/b$$c" --config' in made["collector-backup.service"]
    assert all("\nUser=u$\nGroup=u$\n" in made[name] for name in made if name.endswith(".service"))


@pytest.mark.parametrize("mark", ["'", '"', "\\"])
def test_a_program_that_systemd_would_not_start_is_refused(mark: str) -> None:
    with pytest.raises(ConfigError, match="systemd starts no program with a quote or backslash in its path"):
        units(msgspec.structs.replace(PLACE, program=f"/opt/a{mark}b/collector"))
    units(msgspec.structs.replace(PLACE, config=f"/opt/a{mark}b/c.toml"))  # an argument may have them


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder as `init` makes it, with a token."""
    folder = tmp_path / "shop"
    assert main(["init", str(folder), "--domain", "mystore.com", "--pixel", "123456789012345", "--yes"]) == 0
    with (folder / "collector.toml").open("a") as file:
        file.write('\n[alerts]\nwebhook_url_file = "hook"\n')
    (folder / "hook").write_text("https://hooks.example/x")
    (folder / "hook").chmod(0o644)
    return folder


@pytest.fixture
def install(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(command, "_BACKUPS", str(tmp_path / "backups"))
    (tmp_path / "units").mkdir()
    words = ["--config", str(shop / "collector.toml"), "--units", str(tmp_path / "units")]
    return lambda *more: main(["install", *words, *more])


def test_a_dry_run_tells_every_step_and_does_none(
    install: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((str(path), path.stat().st_mode) for path in tmp_path.rglob("*"))
    assert install("--dry-run", "--user", "nobody-yet") == 0
    said = capsys.readouterr().out
    for step in ("user nobody-yet: useradd", "folder ", "hook, mode 0600", "collector.service", "ProtectSystem=strict"):
        assert step in said, step
    assert "nothing was done" in said
    assert sorted((str(path), path.stat().st_mode) for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="installing takes root")
def test_it_writes_units_and_gives_the_user_its_files(
    install: Callable[..., int], shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert install("--user", "nobody", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["next"] == "systemctl enable --now collector.service collector-backup.timer"
    nobody = pwd.getpwnam("nobody")
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == [
        "collector-backup.service", "collector-backup.timer", "collector.service",
    ]  # fmt: skip
    for path in (shop / "collector.toml", shop / "hook", *(shop / "collector-data").iterdir(), tmp_path / "backups"):
        assert path.stat().st_uid == nobody.pw_uid, path
    assert stat.S_IMODE((shop / "hook").stat().st_mode) == 0o600
    assert (shop.stat().st_gid, stat.S_IMODE(shop.stat().st_mode)) == (nobody.pw_gid, 0o750)
    assert install("--user", "nobody", "--split") == 0  # again, and otherwise
    assert (tmp_path / "units/collector-keeper.service").exists()


def test_a_folder_build_is_put_beside_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, target = tmp_path / "dist/collector-folder", tmp_path / "usr/bin/collector"
    (built / "_internal").mkdir(parents=True)
    target.parent.mkdir(parents=True)
    running = None
    for number in range(4):
        (built / "collector").write_text(f"#!/bin/sh\necho {number}\n")
        (built / "collector").chmod(0o755)
        monkeypatch.setattr(program.release, "name", lambda number=number: f"0.{number}.0 abc+changed")
        program.put_folder(built / "collector", target)
        assert subprocess.run([target], capture_output=True, text=True, check=True).stdout == f"{number}\n"
        if running is not None:
            assert running.read_text().endswith(f"{number - 1}\n")  # still whole
        running = target.resolve()
    program.put_folder(built / "collector", target)  # the same once more
    assert sorted(path.name for path in (tmp_path / "usr/lib/collector").iterdir()) == [
        "0.2.0-abc+changed", "0.3.0-abc+changed",
    ]  # fmt: skip


def test_a_program_that_runs_is_replaced_and_not_written(tmp_path: Path) -> None:
    target = tmp_path / "collector"
    shutil.copy("/bin/sleep", target)
    with subprocess.Popen([target, "60"]) as running:
        program.put_file(Path("/bin/true"), target)
        assert running.poll() is None
        assert subprocess.run([target]).returncode == 0
        running.kill()


def test_what_cannot_be_is_one_sentence(
    install: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["install"]) == 2
    assert install("--units", "/nowhere/units", "--user", "nobody") == 1
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install() == 1
    monkeypatch.setattr(command, "_HIDDEN", ("/tmp", "/root"))
    assert install("--dry-run") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 4
    assert install("--deb", "/nowhere/collector.deb") == 1
    assert "a package is made of the binary" in capsys.readouterr().err
    assert install("--docker") == 0
    assert "ENTRYPOINT" in capsys.readouterr().out
