"""`collector completion`: the scripts are the shells' own language, and know every command and its options."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from collector.cli import main
from collector.cli.commands import COMMANDS
from collector.cli.completion import words_of
from collector.cli.parser import build_parser


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]):
    def script(shell: str) -> str:
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return script


def words_in_bash(line: str, at: int) -> str:
    return f"COMP_WORDS=({line}); COMP_CWORD={at}; _collector; printf '%s\\n' \"${{COMPREPLY[@]}}\""


# How each shell is asked, and what it loads before; zsh calls bash's function by its own bridge, with these options.
ASKED = {
    "bash": (["bash", "-c"], "{script}", words_in_bash),
    "zsh": (
        ["zsh", "-f", "-c"],
        "autoload -U compinit && compinit -u -D\n{script}\n[[ $_comps[collector] == *_collector ]] || exit 9\n"
        "setopt KSH_ARRAYS BASH_REMATCH",
        words_in_bash,
    ),
    "fish": (["fish", "--no-config", "-c"], "{script}", lambda line, at: f'complete -C "{line}"'),
}


def completed(shell: str, script: str, *typed: str) -> list[str]:
    """What the shell offers for the last of the words."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    start, before, ask = ASKED[shell]
    line = " ".join(("collector", *(word if shell == "fish" else f"'{word}'" for word in typed)))
    program = f"{before.format(script=script)}\n{ask(line, len(typed))}"
    done = subprocess.run([*start, program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [word for word in done.stdout.split() if word.startswith(typed[-1])]  # zsh leaves this to its own compadd


@pytest.mark.parametrize("shell", ASKED)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["keys", ""], {"create", "list", "revoke"}),
        (["ser"], {"serve"}),
        (["keys", "create", "--ki"], {"--kind"}),
        (["export", "cl"], {"clicks"}),
        (["serve", "--con"], {"--config"}),
        (["clock", "acc"], {"accept"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_a_shell_offers_what_may_come_next(script, shell, typed, offered):
    assert offered <= set(completed(shell, script(shell), *typed))


@pytest.mark.parametrize("shell", ASKED)
def test_a_command_offers_no_other_commands_options(script, shell):
    assert completed(shell, script(shell), "version", "--ki") == []


def test_every_command_has_its_words():
    words = words_of(build_parser())
    assert {command.name for command in COMMANDS} <= set(words)
    assert all("--help" in next_ for next_ in words.values())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own_language(script, shell):
    text = script(shell)
    assert all(command.name.split()[0] in text for command in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    check = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, timeout=20)
    assert (check.returncode, check.stderr) == (0, "")
