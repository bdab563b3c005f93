"""`collector completion`: the scripts are the shells' own language, and know every command and its options."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from collector.cli import main
from collector.cli.completion import words_of
from collector.cli.parser import COMMANDS, build_parser


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]):
    def script(shell: str) -> str:
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return script


def completed(script: str, *typed: str) -> list[str]:
    """What bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in ("collector", *typed))
    ask = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(typed)}; _collector; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    return done.stdout.split()


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
def test_bash_offers_what_may_come_next(script, typed, offered):
    assert offered <= set(completed(script("bash"), *typed))


def test_a_command_offers_no_other_commands_options(script):
    assert completed(script("bash"), "version", "--ki") == []


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
