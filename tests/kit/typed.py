"""What may be typed after `collector`, taken from its own parser: a new command, option or choice is in it at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collector.cli.commands import COMMANDS
from collector.cli.parser import build_parser

# What an argument is told, by command and name, by name, or by what `--help` calls it; {folder} is the case's own.
VALUES: Final = {
    "store": "store_abc123",
    "restore file": "{folder}/backup.tar",
    "FILE": "{folder}/orders.csv",
    "FILE|DIR": "{folder}/copy.tar",
    "DIR": "{folder}/new",
    "ID": "none_0123456789abcdef",
    "CONVERSION_ID": "1001",
    "E": "jo@example.com",
}
# What else a command is told, so that it does something here and nothing to this machine.
ALWAYS: Final = {
    "init": "{folder}/new --domain mystore.com",
    "install": "--dry-run",
    "restore": "--data-dir {folder}/restored",
    "bench": "--quick --only payloads",
    "reconcile": "--columns order=orderId,date=timestamp,total=eventValue,currency=currency",
}
RUN_ON: Final = frozenset({"serve", "edge", "keeper", "courier", "console", "tail"})  # until they are told to end


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's own parser, by its name; a group that does something alone (`clock`) is one too."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, name: str) -> None:
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if name and (not below or not below[0].required):
            found[name] = parser
        for inner, one in (below[0].choices if below else {}).items():
            walk(one, f"{name} {inner}".strip())

    walk(build_parser(), "")
    assert found.keys() >= {command.name for command in COMMANDS}
    return found


def words(name: str, parser: argparse.ArgumentParser, folder: Path) -> list[str]:
    """The command as somebody types it who tells all that it demands; `--yes` where nobody is there to be asked."""
    asked = [action for action in parser._actions if action.required and action.help != argparse.SUPPRESS]
    asked += [group._group_actions[0] for group in parser._mutually_exclusive_groups if group.required]
    told = [word for action in asked for word in _told(name, action)] + ALWAYS.get(name, "").split()
    told += ["--yes"] * any("--yes" in action.option_strings for action in parser._actions)
    told += ["--config", "{folder}/collector.toml"] * takes_configuration(parser)
    return [*name.split(), *(word.format(folder=folder) for word in told)]


def takes_configuration(parser: argparse.ArgumentParser) -> bool:
    return any("--config" in action.option_strings for action in parser._actions)


def takes_a_file(parser: argparse.ArgumentParser) -> bool:
    return any(
        action.dest != "config" and action.metavar in ("F", "FILE", "FILE|DIR", "DIR") for action in parser._actions
    )


def valued(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments that take a value of any kind."""
    for action in parser._actions:
        if action.nargs != 0 and not isinstance(action, argparse._SubParsersAction) and action.choices is None:
            yield action


def _told(command: str, action: argparse.Action) -> Iterator[str]:
    if action.option_strings:
        yield action.option_strings[0]
    if action.nargs == 0 or isinstance(action, argparse._SubParsersAction):
        return
    if action.choices is not None:
        yield str(next(iter(action.choices)))
    else:
        named = VALUES.get(f"{command} {action.dest}") or VALUES.get(action.dest)
        yield named or VALUES[str(action.metavar)]  # a new kind of value: name one in VALUES
