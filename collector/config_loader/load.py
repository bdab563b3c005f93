"""What configuration is in force? Every layer read, every rule checked, every fault told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from collector.config import Config
from collector.config_loader.checks import check, warnings_of
from collector.config_loader.decode import Reading, decode
from collector.config_loader.faults import DEFAULT, FILE, Fault, Origin, Path, render
from collector.config_loader.layers import folder_of, gather, holds_secret, mistaken
from collector.config_loader.secret_files import Role
from collector.errors import ConfigError


class Settings(Struct, frozen=True, kw_only=True):
    """The configuration in force, with the origin of each key that was given, and what is doubtful in it."""

    config: Config
    origins: dict[Path, Origin]
    warnings: list[str]


def load(
    path: str | None, env: Mapping[str, str], flags: Mapping[str, str] | None = None, *, role: Role = "all"
) -> Config:
    """The configuration for one process; raises ConfigError with every fault found.

    `flags` maps dotted keys ("storage.data_dir") to their text. A role reads no secret that it may not hold.
    """
    return load_settings(path, env, flags, role=role).config


def load_settings(
    path: str | None, env: Mapping[str, str], flags: Mapping[str, str] | None = None, *, role: Role = "all"
) -> Settings:
    """As `load`, with origins and warnings, for `config check` and `config show`."""
    tree = gather(path, env, flags or {})
    reading = Reading(tree, role, folder_of(path), env)
    shared = path if path is not None and holds_secret(tree) else None
    config = decode(reading, Config, tree.values, ())
    config = _finish(config, path, reading.base, tree.origin(("storage", "data_dir")) or DEFAULT)
    faults = _once(tree.faults, check(config, role=role, env=env))
    if faults:
        raise ConfigError([render(fault, tree.origins) for fault in faults])
    return Settings(config=config, origins=tree.origins, warnings=warnings_of(config, shared) + mistaken(env))


def _finish(config: Config, path: str | None, base: str, data_dir: Origin) -> Config:
    """Paths that the file gives made absolute, by its own folder; codes in the case of their standard.

    A data directory that a flag or the environment names is meant from where the person is.
    """
    folder = os.path.expanduser(config.storage.data_dir)
    if path is not None and data_dir.rank <= FILE:
        folder = os.path.normpath(os.path.join(base, folder))
    storage = msgspec.structs.replace(config.storage, data_dir=folder)
    pepper = config.privacy.pepper_file
    privacy = msgspec.structs.replace(config.privacy, pepper_file=os.path.join(base, pepper) if pepper else "")
    tls = {name: _beside(base, getattr(config.edge, name)) for name in ("tls_cert", "tls_key")}
    edge = msgspec.structs.replace(config.edge, **tls)
    backup = msgspec.structs.replace(config.backup, dir=_beside(base, config.backup.dir))
    stores = [
        msgspec.structs.replace(store, currency=store.currency.upper(), country=store.country.upper())
        for store in config.store
    ]
    parts = {"edge": edge, "storage": storage, "privacy": privacy, "backup": backup, "store": stores}
    return msgspec.structs.replace(config, path=path, **parts)


def _beside(base: str, name: str) -> str:
    """A path that the configuration gives, seen from its own folder; nothing stays nothing."""
    return os.path.normpath(os.path.join(base, os.path.expanduser(name))) if name else ""


def _once(read: list[Fault], broken: list[Fault]) -> list[Fault]:
    """No second fault about a key that could not be read in the first place."""
    unread = {fault.path for fault in read}
    return read + [f for f in broken if f.path not in unread and (*f.path[:-1], f"{f.path[-1]}_file") not in unread]
