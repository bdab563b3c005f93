"""What do the file, the environment and the flags say together? One tree of plain values, and each value's origin."""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from collector.config_loader.faults import ENVIRONMENT, FILE, FLAG, Fault, Origin, Path, nearest
from collector.config_loader.secret_files import is_secret
from collector.config_loader.toml_lines import line_numbers
from collector.errors import ConfigError, why

PREFIX = "COLLECTOR_"
_INDEX: Final = re.compile(r"[0-9]{1,6}")
TOKEN_VARIABLE = "COLLECTOR_META_TOKEN"  # COLLECTOR_META_TOKEN_<pixel> wins over it

# What `serve` runs on when no file is given: nothing leaves the machine.
DEMO: Final[dict[str, Any]] = {
    "meta": {"mode": "dry_run"},
    "store": [
        {
            "id": "store_demo",
            "name": "Demo store",
            "domains": ["localhost", "127.0.0.1"],
            "pixel": [{"id": "100000000000000"}],
        }
    ],
}


class Tree:
    """Plain values as the layers left them. `origins` knows every key that is not at its default."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[Path, Origin] = {}
        self.faults: list[Fault] = []

    def origin(self, path: Path) -> Origin | None:
        return nearest(path, self.origins)

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Lay a value over what is there; an index one past the end appends a table."""
        node: Any = self.values
        for part, following in itertools.pairwise(path):
            node = _step(node, part, following)
            if node is None:
                self.origins[path] = origin
                self.faults.append(Fault(path, "there is no such table to put it in"))
                return
        node[path[-1]] = value
        self.origins[path] = origin


def _step(node: Any, part: str | int, following: str | int) -> Any:
    """The table or array at `part`, made when it is missing; None where none can be."""
    if isinstance(part, int):
        if not isinstance(node, list) or part > len(node):
            return None
        if part == len(node):
            node.append({})
        found = node[part]
    else:
        found = node.setdefault(part, [] if isinstance(following, int) else {})
    return found if isinstance(found, list if isinstance(following, int) else dict) else None


def gather(path: str | None, env: Mapping[str, str], flags: Mapping[str, str]) -> Tree:
    """Flag over environment over file; the demo's values where no file is given."""
    tree = Tree()
    _lay_file(tree, path)
    _lay_environment(tree, env)
    for dotted, value in flags.items():
        tree.put(tuple(dotted.split(".")), value, Origin(FLAG, f"flag --{dotted.split('.')[-1].replace('_', '-')}"))
    return tree


def _lay_file(tree: Tree, path: str | None) -> None:
    if path is None:
        tree.values = _copy(DEMO)
        tree.origins = dict.fromkeys(_leaves(DEMO, ()), Origin(FILE, "demo"))
        return
    text = text_of(path)
    try:
        tree.values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None
    for key, line in line_numbers(text).items():
        tree.origins[key] = Origin(FILE, f"{path}:{line}")


def text_of(path: str) -> str:
    """The configuration as it was written."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().removeprefix("\ufeff")  # Windows' editor begins a file with a mark (BOM)
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the configuration: {why(error, path)}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: the configuration must be UTF-8 text"]) from None


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _leaves(item, (*path, key))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _lay_environment(tree: Tree, env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if name.startswith(PREFIX) and "__" in name:
            parts = name.removeprefix(PREFIX).lower().split("__")
            path = tuple(int(part) if _INDEX.fullmatch(part) else part for part in parts)
            tree.put(path, env[name], Origin(ENVIRONMENT, name))
    _lay_tokens(tree, env)


def _lay_tokens(tree: Tree, env: Mapping[str, str]) -> None:
    """COLLECTOR_META_TOKEN is every pixel's token, COLLECTOR_META_TOKEN_<id> one pixel's."""
    for s, store in enumerate(_tables(tree.values.get("store"))):
        for p, pixel in enumerate(_tables(store.get("pixel"))):
            for name in (f"{TOKEN_VARIABLE}_{pixel.get('id')}", TOKEN_VARIABLE):
                if env.get(name):
                    tree.put(("store", s, "pixel", p, "access_token"), env[name], Origin(ENVIRONMENT, name))
                    break


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def mistaken(env: Mapping[str, str]) -> list[str]:
    """Variables that look like ours and are not read."""
    known = {f"{PREFIX}CONFIG", TOKEN_VARIABLE}
    ignored = [n for n in sorted(env) if n.startswith(PREFIX) and "__" not in n and n not in known]
    return [
        f"{name} is not read; a setting is named COLLECTOR_SECTION__KEY, with two underscores"
        for name in ignored
        if not name.startswith(f"{TOKEN_VARIABLE}_")
    ]


def holds_secret(tree: Tree) -> bool:
    """True when a secret itself, not the name of its file, stands in the config file."""
    secrets = [key for key, origin in tree.origins.items() if origin.rank == FILE and is_secret(key)]
    return any(isinstance(_at(tree.values, key), str) and not str(key[-1]).endswith("_file") for key in secrets)


def _at(node: Any, path: Path) -> Any:
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node or None


def files_named(path: str | None, env: Mapping[str, str]) -> Iterator[str]:
    """The files that `*_file` settings name, whoever may read them."""
    base = folder_of(path)
    return (os.path.join(base, name) for name in _named(gather(path, env, {}).values))


def _named(tree: Any) -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if isinstance(key, str) and key.endswith("_file"):
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))
        yield from _named(value)


def folder_of(path: str | None) -> str:
    """The folder that `*_file` values are relative to."""
    try:
        return os.path.dirname(os.path.abspath(path)) if path is not None else os.getcwd()
    except FileNotFoundError:
        raise ConfigError(["the current folder has been deleted; change into another one"]) from None
