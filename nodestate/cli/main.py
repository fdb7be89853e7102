"""Find the command, run it, and turn what it raises into text and an exit code."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from nodestate import __version__
from nodestate.cli import (
    acl_policies,
    acl_roles,
    acl_tokens,
    agent,
    alloc_status,
    drains,
    eval_status,
    job_plan,
    job_run,
    job_status,
    job_stop,
    node_status,
    nodes,
    operator_journal,
    operator_raft,
    operator_snapshot,
    registrations,
    servers,
    simulate_agents,
    system,
    tls,
)
from nodestate.cli.flags import Flags, HelpWantedError, UsageError
from nodestate.cli.session import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    Command,
    CommandError,
    Console,
    Session,
)
from nodestate.clock import SystemClock, SystemIdSource

EXIT_INTERRUPTED: Final = 130
WORDS_MAX: Final = 3
"""Words that a command's name has at most."""


def _show_version(session: Session) -> int:
    session.console.output(f"nodestate v{__version__}")
    return EXIT_OK


def _declare_nothing(flags: Flags) -> None:
    flags.arguments("")


VERSION: Final = Command(
    words="version",
    synopsis="Show the version.",
    example="nodestate version",
    declare=_declare_nothing,
    run=_show_version,
)
COMMANDS: Final = {
    command.words: command
    for command in (
        *agent.COMMANDS,
        *node_status.COMMANDS,
        *registrations.COMMANDS,
        *drains.COMMANDS,
        *nodes.COMMANDS,
        *job_run.COMMANDS,
        *job_status.COMMANDS,
        *job_stop.COMMANDS,
        *job_plan.COMMANDS,
        *alloc_status.COMMANDS,
        *eval_status.COMMANDS,
        *acl_tokens.COMMANDS,
        *acl_policies.COMMANDS,
        *acl_roles.COMMANDS,
        *servers.COMMANDS,
        *system.COMMANDS,
        *operator_journal.COMMANDS,
        *operator_raft.COMMANDS,
        *operator_snapshot.COMMANDS,
        *tls.COMMANDS,
        *simulate_agents.COMMANDS,
        VERSION,
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of this process, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    is_bold = is_bold and "-no-color" not in arguments
    session = Session(
        console=Console(sys.stdout, sys.stderr, sys.stdin, is_bold=is_bold),
        environment=os.environ,
        clock=SystemClock(),
        ids=SystemIdSource(),
    )
    try:
        return execute(arguments, session)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def execute(arguments: Sequence[str], session: Session) -> int:
    """Run the command that the first words name, and return its exit code."""
    command, rest = _find(arguments)
    console = session.console
    if command is None:
        return _without_command(arguments, console)
    flags = Flags(command.words, command.synopsis, command.example)
    command.declare(flags)
    session = msgspec.structs.replace(session, command=command.words)
    try:
        args = flags.parse(rest)
        outcome = command.run(msgspec.structs.replace(session, args=args))
        return outcome if isinstance(outcome, int) else asyncio.run(outcome)
    except HelpWantedError:
        console.output(flags.help())
        return EXIT_OK
    except UsageError as error:
        console.error(f"{error}\n{session.usage_hint()}")
        return EXIT_USAGE
    except CommandError as error:
        console.error(str(error))
        return error.exit_code


def _find(arguments: Sequence[str]) -> tuple[Command | None, Sequence[str]]:
    for length in range(WORDS_MAX, 0, -1):
        command = COMMANDS.get(" ".join(arguments[:length]))
        if command is not None:
            return command, arguments[length:]
    return None, arguments


def _named_so_far(words: Sequence[str]) -> list[str]:
    """Return the commands that begin with as many of the words as any does."""
    for length in range(len(words), 0, -1):
        noun = " ".join(words[:length])
        listed = [name for name in COMMANDS if name.startswith(f"{noun} ")]
        if listed:
            return listed
    return list(COMMANDS)


def _without_command(arguments: Sequence[str], console: Console) -> int:
    words = [word for word in arguments if not word.startswith("-")]
    flags = {word.lstrip("-") for word in arguments if word.startswith("-")}
    if not words and flags & {"v", "version"}:
        console.output(f"nodestate v{__version__}")
        return EXIT_OK
    listed = _named_so_far(words)
    width = max(map(len, listed))
    text = "\n".join(
        f"  {name.ljust(width)}  {COMMANDS[name].synopsis}" for name in listed
    )
    usage = f"Usage: nodestate <command> [options]\n\nCommands:\n{text}"
    if flags & {"h", "help"} and (not words or len(listed) < len(COMMANDS)):
        console.output(usage)
        return EXIT_OK
    if words and not listed[0].startswith(f"{' '.join(words)} "):
        console.error(f"No command is called '{' '.join(words[:WORDS_MAX])}'\n")
    console.error(usage)
    return EXIT_USAGE
