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

import pytest

from collector.cli import main
from collector.cli.installing import command
from collector.cli.installing.units import Place, units
from collector.cli.parser import build_parser

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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_is_closed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(ALL[name])
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(tmp_path / name)],
        capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= 2.5


def test_words_with_signs_of_systemds_own_stand_for_themselves() -> None:
    odd = Place(program="/opt/100% mine/c", config='/srv/a "b"$HOME/c.toml', user="u", writes=("/d",))
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", units(odd)["collector.service"])
    assert line == '"/opt/100%% mine/c" serve --config "/srv/a \\"b\\"$$HOME/c.toml"'


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
    assert install("--docker") == 0
    assert "ENTRYPOINT" in capsys.readouterr().out
