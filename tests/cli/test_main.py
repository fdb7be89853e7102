"""Finding the command, whom it asks, and the exit codes."""

import shlex
from pathlib import Path

import pytest

from nodestate import __version__
from nodestate.cli import main as main_module
from nodestate.cli.flags import Flags
from nodestate.cli.main import COMMANDS, main
from tests.cli.conftest import run_command
from tests.scripted_server import Answer


@pytest.mark.parametrize("words", [["version"], ["-version"], ["--version"], ["-v"]])
def test_the_version(words):
    ran = run_command(words)

    assert (ran.code, ran.out) == (0, f"nodestate v{__version__}\n")


@pytest.mark.parametrize("words", [["-h"], ["--help"]])
def test_help_lists_all_commands(words):
    ran = run_command(words)

    assert (ran.code, ran.err) == (0, "")
    for words_of_command in COMMANDS:
        assert f"\n  {words_of_command}  " in ran.out


def test_a_noun_lists_its_commands():
    ran = run_command(["node", "-h"])

    assert ran.code == 0
    assert "node drain" in ran.out
    assert "server members" not in ran.out


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [
        (["operator", "-h"], "operator snapshot save", "node drain"),
        (["operator", "raft", "-h"], "operator raft list-peers", "operator snapshot"),
    ],
)
def test_a_group_within_a_noun_lists_its_own(words, shown, hidden):
    ran = run_command(words)

    assert ran.code == 0
    assert shown in ran.out
    assert hidden not in ran.out


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["operator", "raft"], "Usage: nodestate <command> [options]"),
        (["operator", "rafting"], "No command is called 'operator rafting'"),
        (["operator", "raft", "x"], "No command is called 'operator raft x'"),
    ],
)
def test_without_all_words_of_a_command_the_group_is_listed(words, first):
    ran = run_command(words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[0] == first
    assert "operator raft transfer-leadership" in ran.err


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ([], "Usage: nodestate <command> [options]"),
        (["node"], "Usage: nodestate <command> [options]"),
        (["nod"], "No command is called 'nod'"),
        (["node", "frobnicate"], "No command is called 'node frobnicate'"),
        (["node", "-x", "status"], "No command is called 'node status'"),
    ],
)
def test_without_a_command_the_commands_are_listed(words, first):
    ran = run_command(words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[0] == first
    assert "node drain" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_every_command_has_help_with_an_example_of_itself(command, flag):
    ran = run_command([*command.split(), flag])

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: nodestate {command} [options]")
    assert f"example:\n  nodestate {command}" in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_a_usage_error(command):
    ran = run_command([*command.split(), "-frobnicate"])

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "flag provided but not defined: -frobnicate\n"
        f"For additional help try 'nodestate {command} -help'\n"
    )


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["-address", "ADDRESS"], {"NODESTATE_ADDR": "http://127.0.0.1:1"}),
        ([], {"NODESTATE_ADDR": "ADDRESS", "NOMAD_ADDR": "http://127.0.0.1:1"}),
        ([], {"NOMAD_ADDR": "ADDRESS", "NODESTATE_ADDR": ""}),
    ],
)
async def test_flags_win_over_our_variables_and_those_over_nomads(
    scripted, run, flags, environment
):
    scripted.on("/v1/nodes", Answer([]))
    flags = [scripted.address if word == "ADDRESS" else word for word in flags]
    environment = {
        name: scripted.address if value == "ADDRESS" else value
        for name, value in environment.items()
    }

    ran = await run("node", "status", *flags, environment=environment)

    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("flags", "environment", "token"),
    [
        ([], {}, None),
        ([], {"NOMAD_TOKEN": "nomads"}, "nomads"),
        ([], {"NOMAD_TOKEN": "nomads", "NODESTATE_TOKEN": "ours"}, "ours"),
        (["-token=flag"], {"NODESTATE_TOKEN": "ours"}, "flag"),
    ],
)
async def test_the_token_is_sent(scripted, run, flags, environment, token):
    scripted.on("/v1/nodes", Answer([]))

    await run("node", "status", *flags, environment=environment)

    assert scripted.asked[0].headers.get("X-Nomad-Token") == token


@pytest.mark.parametrize(
    ("flags", "environment", "query"),
    [
        ([], {}, {}),
        (["-region", "eu"], {"NOMAD_REGION": "us"}, {"region": "eu"}),
        ([], {"NOMAD_REGION": "us"}, {"region": "us"}),
        (["--namespace=dev"], {}, {"namespace": "dev"}),
        ([], {"NODESTATE_NAMESPACE": "ns"}, {"namespace": "ns"}),
    ],
)
async def test_region_and_namespace_are_sent_when_set(
    scripted, run, flags, environment, query
):
    scripted.on("/v1/nodes", Answer([]))

    await run("node", "status", *flags, environment=environment)

    assert scripted.asked[0].query == query


def test_an_address_that_is_none_is_named():
    ran = run_command(["node", "status", "-address", "ftp://x"])

    assert ran.code == 1
    assert ran.err == (
        "Error initializing client: address 'ftp://x': "
        "must be like http://127.0.0.1:4646\n"
    )


def test_a_server_that_is_not_there_is_named():
    ran = run_command(["node", "status", "-address", "http://127.0.0.1:1"])

    assert ran.code == 1
    assert ran.err == (
        "Error querying node status: no connection to http://127.0.0.1:1: "
        "Connection refused\n"
    )


def test_main_writes_to_this_process(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"nodestate v{__version__}\n"


def test_main_reads_the_arguments_of_this_process(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nodestate", "nothing"])

    assert main() == 2
    assert "No command is called 'nothing'" in capsys.readouterr().err


def test_an_interrupt_has_the_usual_exit_code(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "execute", interrupted)

    assert main(["version"]) == 130


def test_every_command_on_the_page_is_one():
    """What is documented parses: the words, the flags, and their values."""
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("nodestate ")]

    for line in lines:
        words = shlex.split(line)[1:]
        command = next(
            COMMANDS[name]
            for name in (" ".join(words[:length]) for length in (3, 2, 1))
            if name in COMMANDS
        )
        flags = Flags(command.words, command.synopsis, command.example)
        command.declare(flags)
        flags.parse(words[len(command.words.split()) :])
    assert len(lines) > 15


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda each: each.words)
def test_every_example_parses(command):
    words = shlex.split(command.example)[1 + len(command.words.split()) :]
    flags = Flags(command.words, command.synopsis, command.example)
    command.declare(flags)

    flags.parse(words)
