"""Real server processes: laid out in a directory, started, stopped, killed, frozen.

A server is known here by its configuration file alone and is only ever touched from
outside: by signals, by its files while it is down, and by HTTP (`cluster.probe`).
"""

import fcntl
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from nodestate.config import split_address

STOP_S: Final = 10.0
LOG_TAIL_LINES: Final = 12
LOG_TAIL_BYTES: Final = 32 << 10
# Below the range from which the system takes the near end of outgoing connections: a
# client must not sit on the port of a server that is being restarted.
FREE_PORTS: Final = range(20_000, 32_000)
FREE_PORT_TRIES: Final = 1000
CLAIMS: Final = Path(tempfile.gettempdir()) / f"nodestate-ports-{os.getuid()}"
# Open for as long as this process lives; the system lets go of the locks.
_CLAIMED_PORTS: Final[dict[int, int]] = {}

Setting = str | int | float | bool


class ServerFiles(msgspec.Struct, frozen=True):
    """Where a server is described, keeps its data and is reached."""

    name: str
    http: str
    peer: str
    config_path: Path
    data_dir: Path
    log_path: Path
    directory: Path
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Return the root of its HTTP API."""
        return f"{self.scheme}://{self.http}"

    @property
    def command(self) -> list[str]:
        """Return what starts it, when run in `directory`."""
        config = os.path.relpath(self.config_path, self.directory)
        return [sys.executable, "-m", "nodestate", "agent", "--config", config]

    @property
    def command_text(self) -> str:
        """Return the same for a person to type."""
        python, *arguments = self.command
        return shlex.join([self.shown(Path(python)), *arguments])

    def shown(self, path: Path) -> str:
        """Return a path as a person in `directory` would type it."""
        if path.is_relative_to(self.directory):
            return str(path.relative_to(self.directory))
        return str(path)


def read_server_files(config_path: Path, *, directory: Path) -> ServerFiles:
    """Read what a configuration file says; its paths are relative to `directory`."""
    settings = tomllib.loads(config_path.read_text(encoding="utf-8"))
    own = next(
        entry for entry in settings["servers"] if entry["name"] == settings["name"]
    )
    data_dir = directory / settings["data_dir"]
    return ServerFiles(
        name=own["name"],
        http=own["http"],
        peer=own["peer"],
        config_path=config_path,
        data_dir=data_dir,
        log_path=data_dir.with_name(f"{data_dir.name}.log"),
        directory=directory,
        scheme="https" if "http_tls_cert" in settings else "http",
    )


def lay_out(
    directory: Path, *, count: int = 3, settings: Mapping[str, Setting] | None = None
) -> list[ServerFiles]:
    """Write the configuration of `count` servers on free ports, data under `directory`."""
    ports = take_free_ports(2 * count)
    entries = [
        {
            "name": f"server{number}",
            "http": f"127.0.0.1:{ports.pop()}",
            "peer": f"127.0.0.1:{ports.pop()}",
        }
        for number in range(1, count + 1)
    ]
    return [
        read_server_files(
            _write_config(directory, entry["name"], entries, settings or {}),
            directory=directory,
        )
        for entry in entries
    ]


def _write_config(
    directory: Path,
    name: str,
    entries: Sequence[Mapping[str, str]],
    settings: Mapping[str, Setting],
) -> Path:
    own: dict[str, Setting] = {"name": name, "data_dir": f"data/{name}", **settings}
    lines = list(_toml_lines(own))
    for entry in entries:
        lines += ["", "[[servers]]", *_toml_lines(entry)]
    path = directory / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml_lines(values: Mapping[str, Setting]) -> Iterable[str]:
    """TOML writes plain texts, numbers and booleans as JSON does."""
    return (f"{key} = {json.dumps(value)}" for key, value in values.items())


def is_port_free(address: str) -> bool:
    """Say whether a server could listen there now."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: connections that linger after a stop are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def take_free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at, and that no other run takes.

    A server that is down for a while still needs its ports: they are this process's
    until it ends.
    """
    chosen: list[int] = []
    for _ in range(FREE_PORT_TRIES):
        if len(chosen) == count:
            return sorted(chosen)
        port = random.SystemRandom().choice(FREE_PORTS)
        if _claim_port(port):
            chosen.append(port)
    raise OSError(f"no {count} free ports from {FREE_PORTS.start} to {FREE_PORTS.stop}")


def _claim_port(port: int) -> bool:
    """Lock a file that stands for the port, if that and the port are free."""
    if port in _CLAIMED_PORTS or not is_port_free(f"127.0.0.1:{port}"):
        return False
    CLAIMS.mkdir(exist_ok=True)
    claim = os.open(CLAIMS / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        return False
    _CLAIMED_PORTS[port] = claim
    return True


class ServerProcess:
    """One server: at most one process at a time, which can be started again."""

    def __init__(self, files: ServerFiles) -> None:
        self.files = files
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the server, which must have been started."""
        assert self._process is not None, f"{self.files.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Say whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return how the process ended, negative by a signal; `None` if it has not."""
        return None if self._process is None else self._process.poll()

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, and return at once; what it writes is added to its log file."""
        assert not self.is_running, f"{self.files.name} is running"
        self.files.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.files.log_path.open("ab") as log:
            self._process = self._spawn(log, environment or {})

    def _spawn(
        self, log: IO[bytes], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.files.command,
            cwd=self.files.directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in a terminal reaches its whole group, and stopping is our doing.
            process_group=0,
        )

    def terminate(self) -> None:
        """Ask it to stop; harmless if it is gone."""
        if self.is_running:
            os.kill(self.pid, signal.SIGTERM)

    def stop(self, *, within_s: float = STOP_S) -> int:
        """Ask it to stop, kill it if it does not, and return its exit code."""
        self.terminate()
        assert self._process is not None, f"{self.files.name} was never started"
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it as a power cut would, seen from the process, and return its exit code."""
        assert self._process is not None, f"{self.files.name} was never started"
        self._process.kill()
        return self._process.wait()

    def freeze(self) -> None:
        """Stop it in its tracks, as a sleeping laptop does."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, *, within_s: float) -> int:
        """Return its exit code once it has ended by itself."""
        assert self._process is not None, f"{self.files.name} was never started"
        return self._process.wait(within_s)

    def log_text(self) -> str:
        """Return everything it has written."""
        return self.files.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        """Return the last lines that it has written."""
        with self.files.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


def stop_all(servers: Sequence[ServerProcess], *, within_s: float = STOP_S) -> None:
    """Stop all of them side by side; none is left behind."""
    end = time.monotonic() + within_s
    for server in servers:
        server.terminate()
    for server in servers:
        if server.is_running:
            server.stop(within_s=max(0.0, end - time.monotonic()))
