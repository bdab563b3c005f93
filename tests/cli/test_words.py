"""A wrong word is one sentence with the nearest right one, and 2; no word is the help, and 0."""

from __future__ import annotations

import pytest

from collector.cli import main
from collector.cli.commands import COMMANDS, GROUPS
from collector.cli.parser import build_parser
from collector.cli.words import nearest

WRONG = {
    "serv": "collector: no command 'serv'; did you mean 'serve'? See collector --help",
    "sevre": "collector: no command 'sevre'; did you mean 'serve'? See collector --help",
    "Status": "collector: no command 'Status'; did you mean 'status'? See collector --help",
    "hash-password": "collector: no command 'hash-password'; did you mean 'config hash-password'? See collector --help",
    "frobnicate": "collector: no command 'frobnicate'; see collector --help",
    "keys creat": "collector keys: no command 'creat'; did you mean 'create'? See collector keys --help",
    "config chek": "collector config: no command 'chek'; did you mean 'check'? See collector config --help",
    "clock acept": "collector clock: no command 'acept'; did you mean 'accept'? See collector clock --help",
    "status --jsn": "collector status: no option --jsn; did you mean '--json'? See collector status --help",
    "status --jso": "collector status: no option --jso; did you mean '--json'? See collector status --help",
    "status --confg=x": "collector status: no option --confg; did you mean '--config'? See collector status --help",
    "export clicks --formt csv": "collector export: no option --formt; did you mean '--format'? "
    "See collector export --help",
    "export clicks --format cvs": "collector export: --format: 'cvs' is none of ndjson, csv; did you mean 'csv'? "
    "See collector export --help",
    "doctor x": "collector doctor: 'x' is one word too many; see collector doctor --help",
    "import": "collector import: the following arguments are required: FILE; see collector import --help",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_is_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err) == (2, "", WRONG[words] + "\n")


@pytest.mark.parametrize("group", ["", *(name for name in GROUPS if name != "clock")])
def test_alone_it_prints_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(group.split())
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    for command in COMMANDS:
        outer, _, name = command.name.rpartition(" ")
        if outer == group:
            assert f"    {name} " in said.out or f"    {name}\n" in said.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_example_is_a_line_that_parses(command) -> None:
    for line in command.example.splitlines():
        words = line.rpartition("| ")[2].partition(" > ")[0].partition(" (")[0].split()
        assert words[0] == "collector"
        assert build_parser().parse_args(words[1:]).run


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_a_slip_in_any_name_leads_back_to_it(name: str) -> None:
    """A letter less, a letter twice, two exchanged."""
    at = len(name) // 2
    known = [command.name for command in COMMANDS]
    for slip in (name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], name[:-2] + name[-1] + name[-2]):
        assert slip in known or f"'{name}'" in nearest(slip, known), slip


def test_bytes_that_are_no_text_are_named_and_not_shown(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["erase", "--email", "jo@example.com\udcff"])
    assert capsys.readouterr().err == "collector: word 3 is no text of UTF-8; see collector --help\n"
    monkeypatch.setenv("COLLECTOR_META_TOKEN", "EAA\udcff")
    with pytest.raises(SystemExit) as ended:
        main(["version"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "COLLECTOR_META_TOKEN" in err
    assert "EAA" not in err
