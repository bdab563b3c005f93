"""`collector install`: user, folders, rights and hardened units, each step printed, and with --dry-run only printed."""

from __future__ import annotations

import argparse
import os
import pwd
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from collector.cli.installing import package, program
from collector.cli.installing.units import BACKUPS, Place, text, units
from collector.cli.output import print_json
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.config_loader.checks import is_loopback, parse_listen
from collector.config_loader.layers import files_named, text_of
from collector.errors import CollectorError, ConfigError, why
from collector.process.unpacked import foreign_environment

_HIDDEN: Final = ("/home", "/root", "/run/user")  # ProtectHome= hides them from the service
_FIRST_FREE_PORT: Final = 1024  # below it root alone may listen
_BACKUPS: Final = BACKUPS
_SHARED: Final = frozenset(map(Path, ("/", "/etc", "/opt", "/srv", "/usr", "/usr/local", "/var", "/var/lib", "/tmp")))  # noqa: S108


class Step(NamedTuple):
    """One thing to be done: what is printed of it, and how it is done."""

    says: str
    does: Callable[[], object]


def run(args: argparse.Namespace) -> int:
    if args.docker:
        print(f"# Dockerfile\n{text('Dockerfile')}\n# compose.yaml\n{text('compose.yaml')}", end="")
        return 0
    if args.deb:
        package.build(Path(args.deb))
        print(args.deb)
        return 0
    if not args.config:
        raise ConfigError(["--config: which configuration is to run? `collector init /srv/collector` makes one"])
    config = config_of(args, engines=BOTH)
    place = _place(args, config)
    if os.geteuid() != 0 and not args.dry_run:
        raise CollectorError("this makes a user and writes units: run it as root, or look with --dry-run")
    done = list(_do(_steps(args, config, place), dry_run=args.dry_run))
    _show(args, place, done)
    return 0


def _place(args: argparse.Namespace, config: Config) -> Place:
    path = Path(args.config).resolve()
    data = Path(config.storage.data_dir).resolve()
    for one in (path, data):
        if str(one).startswith(_HIDDEN):
            raise ConfigError([f"{one}: a service does not see {_HIDDEN[0]} and {_HIDDEN[1]}; use /srv/collector"])
    over_postgres = config.storage.engine == "postgres"  # whose backups are its own
    backups = "" if config.backup.dir or over_postgres else _BACKUPS
    host, port = parse_listen(config.edge.listen)
    return Place(
        program=args.program or program.own_place() if program.is_binary() else str(Path(sys.argv[0]).resolve()),
        config=str(path),
        user=args.user,
        writes=tuple(filter(None, (str(data), config.backup.dir or backups))),
        backups=backups,
        public=not is_loopback(host),
        over_postgres=over_postgres,
        low_port=0 < port < _FIRST_FREE_PORT,
    )


def _do(steps: Iterator[Step], *, dry_run: bool) -> Iterator[str]:
    for step in steps:
        if not dry_run:
            try:
                step.does()
            except (OSError, subprocess.CalledProcessError) as error:
                fault = why(error, error.filename) if isinstance(error, OSError) else f"exit {error.returncode}"
                raise CollectorError(f"{step.says}: {fault}; mend it and run this again, which does the rest") from None
        yield step.says


def _steps(args: argparse.Namespace, config: Config, place: Place) -> Iterator[Step]:
    user = place.user
    if not _exists(user):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", user]
        yield Step(f"user {user}: {' '.join(command)}", lambda: _run(command))
    if program.is_binary() and not program.is_there(place.program):
        yield Step(f"program {place.program}", lambda: program.put(place.program))
    for folder in place.writes:
        yield Step(f"folder {folder}, mode 0700, of {user}", lambda folder=folder: _own_folder(folder, user))  # type: ignore[misc]
    parent = Path(place.config).parent
    if parent not in _SHARED:
        yield Step(f"folder {parent}, mode 0750, of the group {user}", lambda: _open_folder(parent, user))
    for path in (place.config, *_secret_files(Path(place.config))):
        yield Step(f"file {path}, mode 0600, of {user}", lambda path=path: _own_file(path, user))  # type: ignore[misc]
    for name, content in units(place, split=args.split).items():
        target = Path(args.units) / name
        yield Step(f"unit {target}", lambda target=target, content=content: _write(target, content))  # type: ignore[misc]
    if os.path.isdir("/run/systemd/system"):
        yield Step("systemctl daemon-reload", lambda: _run(["systemctl", "daemon-reload"]))


def _run(words: list[str]) -> None:
    """A program of the system's, with the system's own libraries and not those that the binary unpacked."""
    subprocess.run(words, check=True, env=foreign_environment())


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _own_folder(folder: str, user: str) -> None:
    """The folder and all in it; links are left alone, which could lead to anything."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(user)
    for here, folders, files in os.walk(folder):
        for path in (here, *(os.path.join(here, name) for name in (*folders, *files))):
            if not os.path.islink(path):
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    os.chmod(folder, 0o700)


def _open_folder(folder: Path, user: str) -> None:
    os.chown(folder, -1, pwd.getpwnam(user).pw_gid)
    os.chmod(folder, 0o750)  # noqa: S103  its group reads it


def _own_file(path: str, user: str) -> None:
    owner = pwd.getpwnam(user)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    os.chmod(path, 0o600)


def _secret_files(config: Path) -> Iterator[str]:
    """What the configuration reads its secrets from; a certificate's key where it lies beside the configuration."""
    found = set(map(Path, files_named(str(config), {})))
    key = config.parent / tomllib.loads(text_of(str(config))).get("edge", {}).get("tls_key", "")
    if key.resolve().is_relative_to(config.parent.resolve()):  # another's is not ours to give away
        found.add(key)
    return (str(path.resolve()) for path in sorted(found) if path.is_file())


def _write(target: Path, content: str) -> None:
    partial = target.with_name(f"{target.name}.new")
    partial.write_text(content, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(target)


def _show(args: argparse.Namespace, place: Place, done: list[str]) -> None:
    names = [name for name in units(place, split=args.split) if not name.endswith("backup.service")]
    start = f"systemctl enable --now {' '.join(names)}"
    if args.json:
        print_json({"dryRun": args.dry_run, "did": done, "next": start})
        return
    for line in done:
        print(line)
    if args.dry_run:
        for name, content in units(place, split=args.split).items():
            print(f"\n# {args.units}/{name}\n{content}", end="")
    print(f"\n{'nothing was done: --dry-run' if args.dry_run else f'Start it: {start}'}")
