"""What every command is handed: where to write, whom to ask, which server, what time."""

import argparse
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, TextIO

import msgspec

from nodestate.cli.flags import TRUE_WORDS, Flags
from nodestate.cli.tables import point_in_time
from nodestate.client import DEFAULT_ADDRESS
from nodestate.client_acl import AclClient
from nodestate.client_tls import client_context
from nodestate.clock import Clock, IdSource
from nodestate.errors import NodestateError, OutcomeUnknownError, ResponseError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNKNOWN: Final = 3
"""A write whose outcome nobody knows: it failed, or it did not."""


class CommandError(Exception):
    """A command cannot go on: the text for a person, and the exit code."""

    def __init__(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Console:
    """The terminal, or the files in its place."""

    def __init__(
        self, out: TextIO, err: TextIO, source: TextIO, *, is_bold: bool = False
    ) -> None:
        self._out = out
        self._err = err
        self._source = source
        self._is_bold = is_bold

    def output(self, text: str) -> None:
        """Write what was asked for."""
        print(text, file=self._out, flush=True)

    def error(self, text: str) -> None:
        """Write what went wrong."""
        print(text, file=self._err, flush=True)

    def heading(self, text: str) -> None:
        """Write the title of a part, below an empty line."""
        self.output(f"\n\x1b[1m{text}\x1b[0m" if self._is_bold else f"\n{text}")

    def ask(self, question: str) -> str:
        """Return a line that a person typed."""
        print(f"{question} ", file=self._out, end="", flush=True)
        return self._source.readline().strip()

    def read_all(self) -> str:
        """Return everything that is piped in."""
        return self._source.read()


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one command."""

    console: Console
    environment: Mapping[str, str]
    clock: Clock
    ids: IdSource
    command: str = ""
    args: argparse.Namespace = argparse.Namespace()

    def now(self) -> str:
        """Return the time, as the lines of a monitor begin."""
        return point_in_time(self.clock.now_ns())

    def usage_hint(self) -> str:
        """Say where help is to be found."""
        return f"For additional help try 'nodestate {self.command} -help'"

    def refuse(self, text: str) -> CommandError:
        """Return the error for flags that do not go together."""
        return CommandError(f"{text}\n{self.usage_hint()}")

    def client(self) -> AclClient:
        """Return a client for the server that flags or environment name."""
        address = self._setting("address", "ADDR", DEFAULT_ADDRESS)
        with failing("Error initializing client"):
            return AclClient(
                address,
                token=self._setting("token", "TOKEN"),
                region=self._setting("region", "REGION"),
                namespace=self._setting("namespace", "NAMESPACE"),
                accept_gzip=True,
                tls=self._tls() if address.startswith("https://") else None,
                tls_server_name=self._setting("tls_server_name", "TLS_SERVER_NAME"),
            )

    def _tls(self) -> ssl.SSLContext:
        return client_context(
            ca_cert=self._setting("ca_cert", "CACERT"),
            ca_path=self._setting("ca_path", "CAPATH"),
            client_cert=self._setting("client_cert", "CLIENT_CERT"),
            client_key=self._setting("client_key", "CLIENT_KEY"),
            skip_verify=self._is_set("tls_skip_verify", "SKIP_VERIFY"),
        )

    def _is_set(self, flag: str, variable: str) -> bool:
        """Say so of a switch, whose variable is read as Go reads it."""
        is_given = bool(getattr(self.args, flag, False))
        return is_given or self._setting("", variable) in TRUE_WORDS

    def _setting(self, flag: str, variable: str, default: str = "") -> str:
        """Prefer the flag, then our own variable, then Nomad's."""
        return (
            getattr(self.args, flag, "")
            or self.environment.get(f"NODESTATE_{variable}")
            or self.environment.get(f"NOMAD_{variable}")
            or default
        )


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command: its words, what its help says, its flags, and what it does.

    `run` is a coroutine function, or a plain one if it needs no loop.
    """

    words: str
    synopsis: str
    example: str
    declare: Callable[[Flags], None]
    run: Callable[[Session], Coroutine[Any, Any, int] | int]


def declare_connection(flags: Flags) -> None:
    """Declare the flags of every command that talks to a server."""
    flags.value(
        "address",
        "<url>",
        f"server to ask; else NODESTATE_ADDR, NOMAD_ADDR, {DEFAULT_ADDRESS}",
    )
    flags.value("token", "<secret>", "token; else NODESTATE_TOKEN, NOMAD_TOKEN")
    flags.value("region", "<name>", "region to ask for")
    flags.value("namespace", "<name>", "accepted, and without effect on nodes")
    flags.value("ca-cert", "<file>", "with https: CA of the server; else NOMAD_CACERT")
    flags.value("ca-path", "<dir>", "directory with CAs; else NOMAD_CAPATH")
    flags.value("client-cert", "<file>", "certificate to show; else NOMAD_CLIENT_CERT")
    flags.value("client-key", "<file>", "its key; else NOMAD_CLIENT_KEY")
    flags.value(
        "tls-server-name", "<name>", "who it must be; else NOMAD_TLS_SERVER_NAME"
    )
    flags.switch("tls-skip-verify", "do not check who it is; else NOMAD_SKIP_VERIFY")
    flags.switch("no-color", "write no bold headings")


@contextlib.contextmanager
def failing(doing: str) -> Iterator[None]:
    """Turn what a server or a client complains of into the command's error."""
    try:
        yield
    except NodestateError as error:
        is_unknown = isinstance(error, OutcomeUnknownError) or (
            isinstance(error, ResponseError) and error.outcome == "unknown"
        )
        code = EXIT_UNKNOWN if is_unknown else EXIT_FAILED
        raise CommandError(f"{doing}: {error}", code) from error


def as_json(body: bytes) -> str:
    """Return JSON for a person: indented by four, as Nomad does."""
    return msgspec.json.format(body, indent=4).decode()
