"""How stalls, snapshots and restarts are read off a server, here one of a few lines."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typing_extensions import override

from cluster import bench_scale
from cluster.servers import ServerFiles

SNAPSHOT = b"s" * 3_000_000


class Handler(BaseHTTPRequestHandler):
    """Answers what is asked for; a snapshot holds everything up for a moment."""

    protocol_version = "HTTP/1.1"
    has_snapshots = True
    stall_s = 0.05
    one_at_a_time = threading.Lock()

    def do_GET(self) -> None:
        with self.one_at_a_time:
            status, body = self.answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self) -> tuple[int, bytes]:
        if self.path.startswith("/v1/metrics"):
            sample = {"Name": bench_scale.LOOP_LAG, "Max": 0.0125}
            return 200, json.dumps({"Samples": [sample]}).encode()
        if self.path.startswith(bench_scale.SNAPSHOT_PATH):
            if not self.has_snapshots:
                return 404, b""
            time.sleep(self.stall_s)
            return 200, SNAPSHOT
        return 200, b'"leader"'

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path, monkeypatch) -> Iterator[ServerFiles]:
    monkeypatch.setattr(bench_scale, "WATCHED_S", 0.4)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host, port = server.server_address[:2]
    yield ServerFiles(
        name="server1",
        http=f"{host!s}:{port}",
        peer="",
        config_path=tmp_path,
        data_dir=tmp_path,
        log_path=tmp_path,
        directory=tmp_path,
    )
    server.shutdown()
    server.server_close()
    thread.join()


def measured(files: ServerFiles) -> dict[str, float]:
    figures = bench_scale._measure_snapshot(files, 1000, "leader")
    return {figure.name: figure.value for figure in figures}


def test_a_stall_by_a_snapshot_is_seen_by_a_client(files):
    found = measured(files)

    assert found["scale_snapshot_stall_seen"] >= Handler.stall_s * 1e3 * 0.9
    assert found["scale_rest_stall_seen"] > 0
    assert found["scale_snapshot_loop_lag"] == pytest.approx(12.5)
    assert found["scale_snapshot_size"] == pytest.approx(len(SNAPSHOT) / (1 << 20))
    assert found["scale_snapshot_time"] >= Handler.stall_s


def test_a_server_without_snapshots_is_said_to_have_none(files, monkeypatch, capsys):
    monkeypatch.setattr(Handler, "has_snapshots", False)

    found = measured(files)

    assert "scale_snapshot_size" not in found
    assert "no snapshot: server1" in capsys.readouterr().out
