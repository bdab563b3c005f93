"""`collector serve`, `edge`, `keeper`, `courier`, `console`: the running of processes, each under a supervisor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from collector import __version__, certificate, telemetry
from collector.cli.settings import flags_of, settings_of
from collector.config import Config
from collector.config_loader import Role, for_role, load
from collector.supervisor import supervise

if TYPE_CHECKING:
    from collector.cli.banner import Banner

ALL: tuple[Role, ...] = ("keeper", "edge", "courier", "console")

log = telemetry.logger("supervisor")


def serve(args: argparse.Namespace) -> int:
    return _supervise(args, ALL)


def edge(args: argparse.Namespace) -> int:
    return _supervise(args, ("edge",))


def keeper(args: argparse.Namespace) -> int:
    return _supervise(args, ("keeper",))


def courier(args: argparse.Namespace) -> int:
    return _supervise(args, ("courier",))


def console(args: argparse.Namespace) -> int:
    return _supervise(args, ("console",))


def _supervise(args: argparse.Namespace, roles: tuple[Role, ...]) -> int:
    role: Role = roles[0] if len(roles) == 1 else "all"
    flags = flags_of(args)

    def read() -> Config:
        return load(args.config, os.environ, flags, role=role)

    settings = settings_of(args) if role == "all" else None
    config = settings.config if settings else read()
    if role == "all":
        _tell(_first_line(config))
    telemetry.configure(config.log, "supervisor")
    doubts = certificate.doubts(config.edge) if "edge" in roles else []
    for warning in [*(settings.warnings if settings else []), *doubts]:
        log.warning("the configuration is doubtful", reason=warning)
    banner = _banner(config) if args.config is None and "console" in roles and role == "all" else None

    def answering(urls: Mapping[Role, str]) -> None:
        _tell(" ".join(("ready", *(f"{name}={url}" for name, url in urls.items()))))
        if banner is not None:
            banner.show(urls)

    before = banner.make_keys if banner is not None else None
    return supervise(for_role(config, role), roles=roles, reload=read, before=before, on_ready=answering)


def _tell(line: str) -> None:
    """A line in one write, also where Python does not buffer: children log to the same file, and others read along."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _first_line(config: Config) -> str:
    """What is about to run, before anything is made."""
    if config.path is None:
        return f"Collector {__version__} starts a demo, since no --config is given; data in {config.storage.data_dir}"
    pixels = ", ".join(dict.fromkeys(pixel.id for store in config.store for pixel in store.pixel)) or "none"
    where = "PostgreSQL, " if config.storage.engine == "postgres" else ""
    console = f"{where}console http://{config.console.listen}"
    return f"Collector {__version__} starts with {config.path}: mode {config.meta.mode}, pixels {pixels}, {console}"


def _banner(config: Config) -> Banner:
    from collector.cli.banner import Banner  # imports apsw, which the console's process must never see

    return Banner(config)
