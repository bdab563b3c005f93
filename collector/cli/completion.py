"""`collector completion bash|zsh|fish`: a script for the shell, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

from collector.cli.parser import build_parser

Words = Mapping[str, list[str]]  # after a command ("" alone, "keys", "keys create"): what may come next

_BASH: Final = """\
# eval "$(collector completion bash)"
_collector() {
    local word="${COMP_WORDS[COMP_CWORD]}" command="" next i
    for ((i = 1; i < COMP_CWORD; i++)); do
        next="${COMP_WORDS[i]}"
        [[ "$next" == -* ]] && break
        case "${command:+$command }$next" in
            %(commands)s) command="${command:+$command }$next" ;;
            *) break ;;
        esac
    done
    local words=""
    case "$command" in
%(cases)s
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ -z "${COMPREPLY[*]}" && "$word" != -* ]] && COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _collector collector
"""


def run(args: argparse.Namespace) -> int:
    words = words_of(build_parser())
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](words), end="")
    return 0


def words_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Every command with the commands, options and choices that may follow it."""
    return dict(_walk(parser, ""))


def _walk(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, list[str]]]:
    words: list[str] = []
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            below = action.choices
        elif action.choices is not None and not action.option_strings:
            words += map(str, action.choices)
    yield name, [*below, *words]
    for word, inner in below.items():
        yield from _walk(inner, f"{name} {word}".strip())


def bash(words: Words) -> str:
    commands = "|".join(f'"{name}"' for name in words if name)
    cases = "\n".join(f'        "{name}") words="{" ".join(next_)}" ;;' for name, next_ in words.items())
    return _BASH % {"commands": commands, "cases": cases}


def zsh(words: Words) -> str:
    """zsh reads bash's by its own bridge."""
    head = '#compdef collector\n# eval "$(collector completion zsh)"\nautoload -U +X bashcompinit && bashcompinit\n'
    return head + bash(words)


def fish(words: Words) -> str:
    """One line for each word, on the condition that its command has been typed."""
    lines = ["# collector completion fish | source"]
    for name, next_ in words.items():
        inner = [word for word in next_ if not word.startswith("-")]
        seen = "".join(f"; and __fish_seen_subcommand_from {part}" for part in name.split())
        unseen = f"; and not __fish_seen_subcommand_from {' '.join(inner)}" if inner else ""
        for word in next_:
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c collector -n 'true{seen}{unseen}' {what}")
    return "\n".join(lines) + "\n"
