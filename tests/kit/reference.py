"""collector/REFERENCE.md, made from the code: `python -m tests.kit.reference` writes it, a test holds it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from collector.cli.commands import COMMANDS, Command
from collector.config import EdgeConfig
from collector.console.metrics import METRICS
from collector.edge import openapi
from collector.errors import STATUS_OF

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "collector" / "REFERENCE.md"
_SETTING = re.compile(r"^(?:# )?([a-z_]+) = (.*?) +# (.+)$")
_SECTION = re.compile(r"^(?:# )?(\[+[a-z_.]+\]+)")


def reference() -> str:
    """Commands, settings, metrics and the API's codes."""
    head = "# Reference\n\nMade from the code by `python -m tests.kit.reference`; a test holds it to the code."
    return "\n".join((head, *_commands(), *_settings(), *_metrics(), *_api())) + "\n"


def _commands() -> Iterator[str]:
    yield "\n## Commands\n"
    for command in COMMANDS:
        yield f"### `collector {command.name}`\n\n{command.help[0].upper()}{command.help[1:]}.\n"
        yield from _options(command)
        yield f"\n```sh\n{command.example.replace(chr(10) + '  ', chr(10))}\n```\n"


def _options(command: Command) -> Iterator[str]:
    parser = argparse.ArgumentParser(add_help=False)
    for arguments in command.arguments:
        arguments(parser)
    for action in parser._actions:
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        takes = "" if not action.option_strings or action.nargs == 0 else f" {action.metavar or '…'}"
        choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
        yield f"- `{names}{takes}`: {action.help or 'one of these'}{choices}"


def _settings() -> Iterator[str]:
    yield "\n## Settings\n\nEach with its default.\n"
    for line in (ROOT / "config.example.toml").read_text().splitlines():
        if section := _SECTION.match(line):
            yield f"\n**{section[1]}**\n"
        elif setting := _SETTING.match(line):
            yield f"- `{setting[1]} = {setting[2]}`: {setting[3]}"


def _metrics() -> Iterator[str]:
    yield "\n## Metrics\n\n| name | type | is |\n|---|---|---|"
    for name, (kind, text) in METRICS.items():
        yield f"| `{name}` | {kind} | {text} |"


def _api() -> Iterator[str]:
    yield "\n## The API\n\n`GET /openapi.json` of the edge has every field.\n"
    for path, item in json.loads(openapi.document(EdgeConfig()))["paths"].items():
        for verb, operation in item.items():
            yield f"- `{verb.upper()} {path}`: {operation.get('summary', '')}".rstrip(": ")
    yield "\n| error code | HTTP status |\n|---|---|"
    for code, status in STATUS_OF.items():
        yield f"| `{code}` | {status} |"


if __name__ == "__main__":
    TARGET.write_text(reference())
