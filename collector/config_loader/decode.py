"""Which of the values are of the right name and type? The tree becomes Structs; what does not fit becomes faults."""

from __future__ import annotations

import datetime
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct, ValidationError
from msgspec.structs import FieldInfo

from collector.config_loader.faults import DEFAULT, ENVIRONMENT, Fault, Path, names
from collector.config_loader.layers import TOKEN_VARIABLE, Tree
from collector.config_loader.secret_files import Role, is_secret, may_hold, read_secret

S = TypeVar("S", bound=Struct)
NOT_KEYS = {"path"}  # Config.path is not a key of the file


class Reading(NamedTuple):
    """What decoding needs besides the values."""

    tree: Tree
    role: Role
    base: str
    env: Mapping[str, str]

    def fault(self, path: Path, message: str) -> None:
        self.tree.faults.append(Fault(path, message))


def decode(reading: Reading, type_: type[S], table: Any, path: Path) -> S:
    """The Struct. What is at fault keeps its default, or "" when required, so that all the rest is checked too."""
    if not isinstance(table, dict):
        reading.fault(path, "expected a table")
        table = {}
    fields = {info.name: info for info in msgspec.structs.fields(type_) if info.name not in NOT_KEYS}
    _take_secret_files(reading, table, path)
    _name_unknown_keys(reading, table, fields, path)
    values = {
        name: _decode_field(reading, info, table[name], (*path, name)) for name, info in fields.items() if name in table
    }
    given = {name: value for name, value in values.items() if value is not NODEFAULT}
    required = [name for name, info in fields.items() if info.required]
    for name in required:
        if name not in table:
            reading.fault(path, f"'{name}' is missing")
    return type_(**{**dict.fromkeys(required, ""), **given})


def _decode_field(reading: Reading, info: FieldInfo, value: Any, path: Path) -> Any:
    """The value; NODEFAULT (leave it out) when it is at fault or not for this process."""
    if not may_hold(reading.role, path):
        return _names_alone(value) if path[-1] == "webhook_secrets" else NODEFAULT
    if isinstance(info.type, type) and issubclass(info.type, Struct):
        return decode(reading, info.type, _from_toml(value) if isinstance(value, str) else value, path)
    (item,) = typing.get_args(info.type) if typing.get_origin(info.type) is list else (None,)
    if isinstance(item, type) and issubclass(item, Struct):
        return _decode_tables(reading, item, value, path)
    if path[-1] == "webhook_secrets":
        _take_named_files(reading, value, path)
    return _convert(reading, value, info, path)


def _names_alone(value: Any) -> Any:
    """Which platforms have a secret, for a process that may know of it and not hold it."""
    if not isinstance(value, dict):
        return NODEFAULT
    return {name.removesuffix("_file"): "" for name in value if isinstance(name, str)}


def _decode_tables(reading: Reading, item: type[Struct], value: Any, path: Path) -> Any:
    if not isinstance(value, list):
        reading.fault(path, f"expected [[{'.'.join(names(path))}]], an array of tables")
        return NODEFAULT
    return [decode(reading, item, table, (*path, index)) for index, table in enumerate(value)]


def _convert(reading: Reading, value: Any, info: FieldInfo, path: Path) -> Any:
    origin = reading.tree.origin(path) or DEFAULT
    as_text = origin.rank >= ENVIRONMENT and isinstance(value, str)
    if as_text:
        value = _from_text(value, info.type)
    elif isinstance(value, datetime.datetime) and info.type is str:
        value = value.isoformat()  # TOML has a date type of its own
    try:
        return msgspec.convert(value, type=info.type, strict=not as_text)
    except ValidationError as error:
        words = [f"'{word}'" for word in typing.get_args(info.type)] if _is_choice(info.type) else []
        reading.fault(path, f"expected {', '.join(words)}" if words else _plain(str(error), path))
        return NODEFAULT


def _is_choice(type_: Any) -> bool:
    """Whether only certain words are values of the type."""
    return typing.get_origin(type_) is typing.Literal


def _plain(message: str, path: Path) -> str:
    """msgspec's sentence, in lower case; it names types, never the value."""
    return message[:1].lower() + message[1:].replace(" - at `$", f" - at `{path[-1]}")


def _from_text(text: str, type_: Any) -> Any:
    """A list in the environment is TOML (`["a", "b"]`) or comma separated; a table is TOML."""
    container = typing.get_origin(type_)
    if container is list and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if container in (list, dict):
        return _from_toml(text)
    return text


def _from_toml(text: str) -> Any:
    import tomllib  # only for a list or table in the environment

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _name_unknown_keys(reading: Reading, table: dict[str, Any], fields: Mapping[str, Any], path: Path) -> None:
    known = [*fields, *(f"{name}_file" for name in fields if is_secret((*path, name)))]
    for key in table:
        if key not in fields:
            reading.fault((*path, key), f"unknown key{_suggestion(str(key), known)}")


def _suggestion(key: str, known: list[str]) -> str:
    import difflib  # only when there is something to suggest

    close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"; did you mean '{close[0]}'?" if close else ""


def _take_secret_files(reading: Reading, table: dict[str, Any], path: Path) -> None:
    """Replace each `NAME_file` of a secret by NAME with what the file holds."""
    for key in [key for key in table if isinstance(key, str) and key.endswith("_file")]:
        name = key.removesuffix("_file")
        if name != "webhook_secrets" and is_secret((*path, name)):
            _take_one_file(reading, table, path, name)


def _take_one_file(reading: Reading, table: dict[str, Any], path: Path, name: str) -> None:
    key = f"{name}_file"
    file, here, there = table.pop(key), (*path, name), (*path, key)
    if not may_hold(reading.role, here):
        return
    origins = reading.tree.origins
    of_value, of_file = origins.get(here, DEFAULT), reading.tree.origin(there) or DEFAULT
    if name in table and of_value.rank > of_file.rank:
        return
    if name in table and of_value.rank == of_file.rank:
        reading.fault(there, f"'{name}' and '{key}' are both given; keep one")
        return
    origins[here] = of_file
    try:
        table[name] = _read_files(reading, file, here)
    except ValueError as error:
        table.pop(name, None)
        reading.fault(there, str(error))


def _read_files(reading: Reading, file: Any, path: Path) -> str | list[str]:
    """What the file holds; of several what each does, where a secret may be several."""
    if isinstance(file, list) and path[-2:-1] != ("pixel",) and "store" in path:
        return [read_secret(str(one), reading.base, reading.env, _variable(path)) for one in file]
    return read_secret(str(file), reading.base, reading.env, _variable(path))


def _take_named_files(reading: Reading, table: Any, path: Path) -> None:
    """The same inside a table of secrets: `shopify_file = "…"`."""
    for key in [key for key in table if key.endswith("_file")] if isinstance(table, dict) else []:
        _take_one_file(reading, table, path, key.removesuffix("_file"))


def _variable(path: Path) -> str:
    """The environment variable that gives the same secret."""
    if path[-1] == "access_token" and "pixel" in path:
        return TOKEN_VARIABLE
    return "COLLECTOR_" + "__".join(str(part).upper() for part in path)
