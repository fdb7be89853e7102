"""`agent -dev` as a real process, and a node's life through the command line."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nodestate.cli.main import main
from tests.scripted_server import NODE_ID

SECRET = "11111111-1111-4111-8111-111111111111"
STOP_S = 20


@pytest.fixture
def dev_server(tmp_path):
    """Run a server on a free port; yields the process and its address."""
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "NODESTATE_LOG_FORMAT": "json",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "nodestate", "agent", "-dev", "-port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r'"http_address":\s*"([^"]+)"', line):
                break
        else:
            pytest.fail(f"the server ended: {''.join(lines)}")
        yield process, f"http://{found[1]}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def command(dev_server, capsys):
    _, address = dev_server

    def run(*words: str) -> str:
        code = main([*words, "-address", address])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return str(captured.out)

    return run


@pytest.mark.slow
def test_the_life_of_a_node(dev_server, command, tmp_path):
    process, _ = dev_server
    secret = ("-secret-id", SECRET)

    registered = command(
        *("node", "register", "-id", NODE_ID, "-name", "web1", *secret),
        *("-attribute", "kernel.name=linux", "-cpu", "4000", "-memory", "8192"),
    )
    assert registered.startswith(f'Node "{NODE_ID}" registered\nHeartbeat TTL = ')
    assert command("node", "status").splitlines()[1].split() == (
        ["f7476465", "default", "dc1", "web1", "<none>", "false", "eligible", "ready"]
    )
    assert "heartbeat accepted" in command("node", "heartbeat", *secret, NODE_ID)

    drained = command("node", "drain", "-enable", "-yes", "-m", "new disks", "f7476465")
    assert f"Drain complete for node {NODE_ID}" in drained
    shown = command("node", "status", "f7476465")
    assert "Eligibility   = ineligible\n" in shown
    assert "Node drain complete" in shown
    assert "CPU         Memory       Disk\n0/4000 MHz  0 B/8.0 GiB  0 B/0 B\n" in shown

    opened = command("node", "eligibility", "-enable", "f7476465")
    assert opened.endswith("eligible for scheduling\n")
    assert "Nothing on it needs" in command("node", "evaluate", "f7476465")
    in_full = msgspec.json.decode(command("node", "status", "-json", "f7476465"))
    assert in_full["LastDrain"]["Meta"] == {"message": "new disks"}
    assert in_full["SchedulingEligibility"] == "eligible"

    assert " true " in command("server", "members")
    assert command("node", "purge", "-yes", "f7476465").endswith("purged\n")
    assert command("node", "status") == "No nodes registered\n"

    process.send_signal(signal.SIGINT)
    assert process.wait(STOP_S) == 0
    assert list(Path(tmp_path).glob("nodestate-dev-*")) == []
