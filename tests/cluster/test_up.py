"""`python -m cluster up`, as a person or a script has it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.down import find_servers
from cluster.fleet import make_node
from cluster.servers import ServerFiles, is_port_free, lay_out
from nodestate.config import split_address
from tests.cluster.running import QUICK
from tests.real_server import HttpClient

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

ROOT = Path(__file__).parent.parent.parent
DONE_S = 60.0
POLL_S = 0.05


class Terminal:
    """A place to type commands in, with a cluster of its own on free ports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers = lay_out(directory, settings=QUICK)
        self._output = directory / "up.txt"
        self._up: subprocess.Popen[bytes] | None = None

    def command(self, name: str, *flags: str) -> list[str]:
        configs = [f"--config={files.config_path}" for files in self.servers]
        return [sys.executable, "-m", "cluster", name, *configs, *flags]

    def environment(self) -> dict[str, str]:
        paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def type(self, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(name, *flags),
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=DONE_S,
            check=False,
        )

    def start_up(self, *flags: str) -> subprocess.Popen[bytes]:
        """Run `up` in the background, and return once it says that it is ready."""
        with self._output.open("wb") as output:
            self._up = subprocess.Popen(
                self.command("up", *flags),
                cwd=self.directory,
                env=self.environment(),
                stdout=output,
                stderr=output,
            )
        self.wait_for("ready")
        return self._up

    def down(self) -> None:
        """Stop what `start_up` started, as from a second terminal."""
        assert self._up is not None
        assert self.type("down").returncode == 0
        assert self._up.wait(DONE_S) == 0

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + DONE_S
        while text not in self.output():
            assert time.monotonic() < end, f"no {text!r} in {self.output()}"
            assert self._up is not None
            assert self._up.poll() is None, self.output()
            time.sleep(POLL_S)

    def close(self) -> None:
        if self._up is not None and self._up.poll() is None:
            self._up.terminate()
            self._up.wait(DONE_S)
        self.type("down")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


def occupy(address: str) -> socket.socket:
    return socket.create_server(split_address(address))


def test_ready_is_said_once_and_ctrl_c_stops_all(terminal: Terminal) -> None:
    up = terminal.start_up()
    status = terminal.type("status")

    up.send_signal(signal.SIGINT)

    assert up.wait(DONE_S) == 0
    assert status.returncode == 0, status.stdout
    assert status.stdout.count("leads") == 1
    before, _, _ = terminal.output().partition("ready")
    assert before.endswith("\n")
    assert terminal.output().splitlines().count("ready") == 1
    for files in terminal.servers:
        assert files.url in terminal.output()
        assert is_port_free(files.http)
        assert is_port_free(files.peer)


def test_a_second_up_says_that_the_cluster_is_running(terminal: Terminal) -> None:
    up = terminal.start_up()

    second = terminal.type("up")

    assert second.returncode == 1
    assert "already running" in second.stderr
    assert "ready" not in second.stdout
    assert up.poll() is None


def test_down_stops_what_up_started(terminal: Terminal) -> None:
    up = terminal.start_up()

    down = terminal.type("down")

    assert down.returncode == 0, down.stdout
    assert up.wait(DONE_S) == 0
    assert terminal.type("status").returncode == 1


def test_data_outlives_a_restart_unless_it_is_to_be_fresh(terminal: Terminal) -> None:
    clients = [HttpClient(files.http) for files in terminal.servers]
    terminal.start_up()
    assert clients[0].put("/v1/nodes", {"Node": make_node(1)}).status == 200
    terminal.down()

    terminal.start_up()
    kept = [len(client.get("/v1/nodes").json) for client in clients]
    terminal.down()
    terminal.start_up("--fresh")
    fresh = [len(client.get("/v1/nodes").json) for client in clients]

    assert kept == [1, 1, 1]
    assert fresh == [0, 0, 0]


@pytest.mark.parametrize("use", ["http", "peer"])
def test_a_port_in_use_is_named(terminal: Terminal, use: str) -> None:
    address = getattr(terminal.servers[1], use)
    with occupy(address):
        up = terminal.type("up")

    assert up.returncode == 1
    assert f"port in use: {address}" in up.stderr
    assert "server2" in up.stderr
    assert "ready" not in up.stdout


def test_a_server_that_does_not_start_is_reported_with_its_last_words(
    terminal: Terminal,
) -> None:
    path = terminal.servers[2].config_path
    text = path.read_text(encoding="utf-8")
    path.write_text("propose_timeout_s = 99\n" + text, encoding="utf-8")

    up = terminal.type("up")

    assert up.returncode == 1
    assert "server3 ended" in up.stderr
    assert "propose_timeout_s" in up.stderr
    assert find_servers(terminal.servers) == {}


def test_a_killed_server_is_reported_and_the_others_go_on(terminal: Terminal) -> None:
    up = terminal.start_up()
    victim = terminal.servers[1]

    os.kill(find_servers(terminal.servers)[victim.name], signal.SIGKILL)
    terminal.wait_for("server2 was killed by SIGKILL")
    terminal.wait_for("to start it again")
    command = start_again_command(terminal, victim)
    with subprocess.Popen(
        command,
        cwd=terminal.directory,
        env=terminal.environment(),
        stderr=subprocess.DEVNULL,
    ) as again:
        terminal.wait_for("server2 serves again")
        again.terminate()

    assert up.poll() is None


def test_down_also_stops_a_server_that_was_started_again_by_hand(
    terminal: Terminal,
) -> None:
    up = terminal.start_up()
    victim = terminal.servers[1]
    os.kill(find_servers(terminal.servers)[victim.name], signal.SIGKILL)
    terminal.wait_for("to start it again")
    with subprocess.Popen(
        start_again_command(terminal, victim),
        cwd=terminal.directory,
        env=terminal.environment(),
        stderr=subprocess.DEVNULL,
    ) as again:
        terminal.wait_for("server2 serves again")

        down = terminal.type("down")

        is_left = again.poll() is None and bool(find_servers(terminal.servers))
        again.kill()
    assert down.returncode == 0, down.stdout
    assert not is_left
    assert up.wait(DONE_S) == 0


def start_again_command(terminal: Terminal, files: ServerFiles) -> list[str]:
    """Return what `up` told the person to type."""
    line = next(
        line for line in terminal.output().splitlines() if "start it again" in line
    )
    command = line.split(": ", 1)[1].split()
    assert command[-1] == files.config_path.name
    return command


def test_servers_left_behind_are_stopped_by_down(terminal: Terminal) -> None:
    up = terminal.start_up()
    up.kill()
    up.wait()

    refused = terminal.type("up")
    down = terminal.type("down")

    assert refused.returncode == 1
    assert "port in use" in refused.stderr
    assert "left behind" in down.stdout
    assert find_servers(terminal.servers) == {}
