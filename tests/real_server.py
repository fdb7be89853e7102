"""A server as its users have it: a process of its own, asked over a socket.

Nothing here looks inside a server. It is started with a configuration file, found by
the line that says where it listens, asked in HTTP, and stopped with a signal.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

START_S: Final = 30.0
STOP_S: Final = 10.0
POLL_S: Final = 0.02
ANSWER_S: Final = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case, the body as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes
    elapsed_s: float

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def index(self) -> int:
        return int(self.headers["x-nomad-index"])


class HttpClient:
    """Sends exactly what it is told to one address, on a fresh connection each time."""

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._endpoint = (host, int(port))

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body that is no text and no bytes goes as JSON."""
        connection = http.client.HTTPConnection(*self._endpoint, timeout=ANSWER_S)
        with closing(connection):
            started = time.monotonic()
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            payload = encode_body(body)
            if payload is not None:
                connection.putheader("Content-Length", str(len(payload)))
            connection.endheaders(payload)
            response = connection.getresponse()
            content = response.read()
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=content,
                elapsed_s=time.monotonic() - started,
            )

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def put(self, path: str, body: object = None) -> Answer:
        return self.ask("PUT", path, body)

    def post(self, path: str, body: object = None) -> Answer:
        return self.ask("POST", path, body)

    def exchange_bytes(self, sent: bytes, *, quiet_s: float = 5.0) -> bytes:
        """Send bytes as they are; return what comes until the end, or until it is quiet."""
        with socket.create_connection(self._endpoint, timeout=quiet_s) as connection:
            received = bytearray()
            try:
                connection.sendall(sent)
                while piece := connection.recv(1 << 16):
                    received += piece
            except (ConnectionError, TimeoutError):
                # The server may close on us in the middle; what it said still counts.
                pass
            return bytes(received)


def encode_body(body: object) -> bytes | None:
    """Return the bytes of a body: text as it stands, everything else as JSON."""
    if body is None or isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


class RealServer(HttpClient):
    """A running process; `settings` are lines of its configuration file."""

    def __init__(self, directory: Path, **settings: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._log_path = directory / "server.log"
        config_path = directory / "server.toml"
        config_path.write_text(
            write_config({"data_dir": str(directory / "data"), **DEFAULTS, **settings})
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NODESTATE_", "NOMAD_"))
        }
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nodestate", "agent", "--config", config_path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            super().__init__(self._wait_for_address())
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """End the process and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """End the process as a power cut does: it gets to finish nothing."""
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Return what the process wrote."""
        return self._log_path.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until_serving(self) -> Self:
        """Return once there is a leader."""
        for _ in attempts(START_S):
            if self.get("/v1/status/leader").body not in (b"", b'""'):
                return self
        raise AssertionError(f"no leader after {START_S} s:\n{self.log()}")

    def _wait_for_address(self) -> str:
        for _ in attempts(START_S):
            for line in self.log().splitlines():
                if '"server started"' in line:
                    return str(json.loads(line)["http_address"])
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.log()}")
        raise AssertionError(f"not started after {START_S} s:\n{self.log()}")


DEFAULTS: Final[dict[str, object]] = {
    "name": "server1",
    "http": "127.0.0.1:0",
    "peer": "127.0.0.1:0",
    "log_format": "json",
    "heartbeat_grace_s": 3600,
    # A journal that takes no time to make.
    "segment_bytes": 1 << 20,
}


@contextmanager
def running_server(directory: Path, **settings: object) -> Iterator[RealServer]:
    """Run a server that has a leader for as long as the block lasts."""
    with RealServer(directory, **settings) as server:
        yield server.wait_until_serving()


def write_config(settings: Mapping[str, object]) -> str:
    """Return the file's text; JSON's scalars, lists and quoting are TOML's as well."""
    lines = [
        f"{name} = {_toml(value)}"
        for name, value in settings.items()
        if not _is_table_list(value)
    ]
    for name, value in settings.items():
        if _is_table_list(value):
            assert isinstance(value, list)
            for table in value:
                lines += [
                    f"[[{name}]]",
                    *(f"{k} = {_toml(v)}" for k, v in table.items()),
                ]
    return "\n".join(lines) + "\n"


def _is_table_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items())
        return f"{{ {pairs} }}"
    return json.dumps(value)


def attempts(limit_s: float) -> Iterator[None]:
    """Come round until the time is up, with a short pause between."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        yield
        time.sleep(POLL_S)
