"""Which values are secrets, which process may hold them, and how a secret's file is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from collector.config import Config
from collector.config_loader.faults import Path, names
from collector.errors import why

# "all": the supervisor while it validates, `config check` and `config show`. "none": a command, which needs no secret
# but the database's.
Role = Literal["all", "none", "edge", "keeper", "courier", "console"]

# Edge is what the world reaches, so it never holds a Meta token; only the courier talks to Meta and to the alert hook.
HOLDERS: Final[dict[tuple[str, ...], tuple[Role, ...]]] = {
    ("storage", "dsn"): ("none", "keeper", "courier", "console"),
    ("storage", "read_dsn"): ("none", "console"),
    ("console", "password_hash"): ("console",),
    ("meta", "app_secret"): ("courier",),
    ("alerts", "webhook_url"): ("courier",),
    ("alerts", "revisions_url"): ("courier",),
    ("alerts", "smtp_url"): ("courier",),
    ("insights", "access_token"): ("courier",),
    ("store", "webhook_secrets"): ("edge",),
    ("store", "webhook", "secret"): ("edge",),
    ("store", "pixel", "access_token"): ("courier",),
    ("store", "shop", "client_secret"): ("courier",),
    ("store", "shop", "access_token"): ("courier",),
    ("store", "shop", "consumer_key"): ("courier",),
    ("store", "shop", "consumer_secret"): ("courier",),
    ("store", "shop", "restricted_key"): ("courier",),
}
LARGEST_SECRET = 64 * 1024  # bytes; a token has a few hundred

S = TypeVar("S", bound=Struct)


def is_secret(path: Path) -> bool:
    parts = names(path)
    return any(parts[: len(secret)] == secret for secret in HOLDERS)


def may_hold(role: Role, path: Path) -> bool:
    """True when this process may read and keep the value."""
    parts = names(path)
    return role == "all" or all(
        role in holders for secret, holders in HOLDERS.items() if parts[: len(secret)] == secret
    )


def for_role(config: Config, role: Role) -> Config:
    """The configuration without the secrets that this process may not hold; what has one is still named."""
    return _without(config, role, ())


def _without(struct: S, role: Role, path: Path) -> S:
    changes: dict[str, Any] = {}
    for info in msgspec.structs.fields(struct):
        value, here = getattr(struct, info.name), (*path, info.name)
        if not may_hold(role, here):
            changes[info.name] = dict.fromkeys(value, "") if isinstance(value, dict) else type(value)()
        elif isinstance(value, Struct):
            changes[info.name] = _without(value, role, here)
        elif isinstance(value, list):
            changes[info.name] = [_without(v, role, here) if isinstance(v, Struct) else v for v in value]
    return msgspec.structs.replace(struct, **changes)


def read_secret(name: str, base: str, env: Mapping[str, str], instead: str) -> str:
    """The secret in a file; ValueError says in one sentence why it cannot be used, and what to do.

    `name` is relative to `base`, the folder of the config file. `instead` names the other way to give the secret.
    """
    path = os.path.join(base, name)
    try:
        with open(path, encoding="utf-8") as file:
            _make_private(name, path, file.fileno(), env)
            text = file.read(LARGEST_SECRET + 2).removeprefix("\ufeff").strip()  # the mark of Windows' editor
    except FileNotFoundError:
        raise ValueError(f"no such file '{name}'; create it or set {instead}") from None
    except OSError as error:
        raise ValueError(f"cannot read '{name}': {why(error, path)}") from None
    except UnicodeDecodeError:
        raise ValueError(f"'{name}' is not text") from None
    if not text or len(text) > LARGEST_SECRET or not text.isprintable():
        raise ValueError(f"'{name}' must hold one line of text, the secret alone")
    return text


def _make_private(name: str, path: str, fd: int, env: Mapping[str, str]) -> None:
    """Close a secret's file to everybody but its owner; refuse it where that is not ours to do.

    Refusing every such file would stop a merchant's first start over what one call mends.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"'{name}' is not a file")
    credentials = env.get("CREDENTIALS_DIRECTORY")  # systemd's own, guarded by its directory
    if credentials and os.path.realpath(path).startswith(os.path.realpath(credentials) + os.sep):
        return
    if status.st_mode & 0o077:
        try:
            os.fchmod(fd, 0o600)
        except OSError:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(f"'{name}' can be read by others (mode {mode:04o}); run: chmod 600 {path}") from None
