"""The parser of every command, made of the table in commands.py."""

from __future__ import annotations

import argparse
from typing import Final, TypeAlias

import collector
from collector.cli.arguments import as_json
from collector.cli.commands import COMMANDS, FILES, GROUPS, Command
from collector.cli.words import Parser

ABOUT: Final = "Collector: a self-hosted edge collector for Meta ads."  # the binary has no docstrings
Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


def build_parser() -> Parser:
    """The parser of every command."""
    parser = Parser(prog="collector", description=ABOUT, epilog="Example:\n  collector serve")
    parser.add_argument("--version", action="version", version=f"collector {collector.__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups = {name: _group(top, name, text) for name, text in GROUPS.items()}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        _add(groups[group] if group else top, name, command)
    _alone(top.choices["clock"], groups["clock"], "show")
    return parser


def _group(top: Subparsers, name: str, text: str) -> Subparsers:
    parser = top.add_parser(name, help=text, description=text, epilog=_examples(name))
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _alone(parser: argparse.ArgumentParser, commands: Subparsers, name: str) -> None:
    """Have a group without a command do as this one of its commands, options before or after the command's name."""
    commands.required = False
    for arguments in (*FILES, as_json):
        arguments(parser)
    parser.set_defaults(**{default: commands.choices[name].get_default(default) for default in ("run", "command")})
    for command in commands.choices.values():
        for action in command._actions:
            action.default = argparse.SUPPRESS  # what the group was told stays where the command is not told


def _examples(group: str) -> str:
    return "Examples:\n" + "\n".join(f"  {c.example}" for c in COMMANDS if c.name.startswith(f"{group} "))


def _add(subparsers: Subparsers, name: str, command: Command) -> None:
    parser = subparsers.add_parser(
        name,
        help=command.help,
        description=command.help[0].upper() + command.help[1:] + ".",
        epilog=f"Example:\n  {command.example}",
    )
    for arguments in command.arguments:
        arguments(parser)
    parser.set_defaults(run=command.run, command=command.name)
