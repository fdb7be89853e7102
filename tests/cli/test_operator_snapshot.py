"""`operator snapshot`."""

import base64
import errno
import hashlib
import json
import os

import pytest

from nodestate.cli.tables import size
from tests.cli.conftest import run_command
from tests.cli.test_snapshot_files import snapshot_bytes
from tests.fsm.states import full_state
from tests.scripted_server import Answer

SNAPSHOT = "/v1/operator/snapshot"
CONTENT = bytes(range(256)) * 3000


def digest_of(content: bytes) -> str:
    return f"sha-256={base64.b64encode(hashlib.sha256(content).digest()).decode()}"


def answer(content: bytes = CONTENT, digest: str | None = None) -> Answer:
    headers = {"Digest": digest_of(content) if digest is None else digest}
    return Answer(content, headers=headers)


async def test_a_snapshot_is_saved(scripted, run, tmp_path):
    scripted.on(SNAPSHOT, answer())
    path = tmp_path / "backup.snap"

    ran = await run("operator", "snapshot", "save", str(path))

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"State file written to {path}\n"
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]
    assert scripted.queries(SNAPSHOT) == [{}]


async def test_a_stale_snapshot_takes_the_place_of_an_older_file(
    scripted, run, tmp_path
):
    scripted.on(SNAPSHOT, answer())
    path = tmp_path / "backup.snap"
    path.write_bytes(b"older")

    await run("operator", "snapshot", "save", "-stale", str(path))

    assert path.read_bytes() == CONTENT
    assert scripted.queries(SNAPSHOT) == [{"stale": "true"}]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (answer(digest=digest_of(b"x")), "is not what the server says it is: sha-256="),
        (answer(digest=""), "is not what the server says it is: no digest"),
        (Answer("No cluster leader", 503), "503 (No cluster leader)"),
    ],
)
async def test_what_is_not_right_leaves_the_older_file_as_it_was(
    scripted, run, tmp_path, bad, words
):
    scripted.on(SNAPSHOT, bad)
    path = tmp_path / "backup.snap"
    path.write_bytes(b"older")

    ran = await run("operator", "snapshot", "save", str(path))

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Failed to get snapshot file: ")
    assert words in ran.err
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_file_that_is_not_on_disk_takes_no_ones_place(
    scripted, run, tmp_path, monkeypatch
):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    scripted.on(SNAPSHOT, answer())
    path = tmp_path / "backup.snap"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", fail)

    ran = await run("operator", "snapshot", "save", str(path))

    assert (ran.code, ran.err) == (1, f"Error writing {path}: Input/output error\n")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_file_that_cannot_be_written_is_named(scripted, run, tmp_path):
    path = tmp_path / "missing" / "backup.snap"

    ran = await run("operator", "snapshot", "save", str(path))

    assert ran.code == 1
    assert ran.err == f"Error writing {path}: No such file or directory\n"
    assert scripted.asked == []


@pytest.mark.parametrize("words", [[], ["a", "b"]])
async def test_saving_takes_one_file(run, words):
    ran = await run("operator", "snapshot", "save", *words)

    assert ran.code == 1
    assert ran.err.startswith("This command takes one argument: <file>")


@pytest.mark.parametrize(
    ("flags", "query"), [([], {}), (["-force"], {"force": "true"})]
)
async def test_a_snapshot_is_restored(scripted, run, tmp_path, flags, query):
    path = tmp_path / "backup.snap"
    path.write_bytes(CONTENT)
    scripted.on(SNAPSHOT, Answer(b""))

    ran = await run("operator", "snapshot", "restore", *flags, str(path))

    assert (ran.code, ran.out, ran.err) == (0, "Snapshot Restored\n", "")
    (asked,) = scripted.asked
    assert (asked.body, asked.query) == (CONTENT, query)
    assert asked.headers["Digest"] == digest_of(CONTENT)


async def test_what_is_not_restored_says_why(scripted, run, tmp_path):
    path = tmp_path / "backup.snap"
    missing = await run("operator", "snapshot", "restore", str(path))
    path.write_bytes(CONTENT)
    scripted.on(
        SNAPSHOT,
        Answer("another restore is under way", 409),
        Answer("outcome unknown", 504, headers={"X-Nodestate-Outcome": "unknown"}),
    )
    refused = await run("operator", "snapshot", "restore", str(path))
    unknown = await run("operator", "snapshot", "restore", str(path))

    assert missing.err == f"Error reading {path}: No such file or directory\n"
    assert refused.err == (
        "Failed to restore snapshot: "
        "Unexpected response code: 409 (another restore is under way)\n"
    )
    assert (missing.code, refused.code, unknown.code) == (1, 1, 3)


# Files without a server


@pytest.fixture
def backup(tmp_path):
    path = tmp_path / "backup.snap"
    path.write_bytes(snapshot_bytes(full_state()))
    return path


def test_a_file_is_inspected(backup):
    ran = run_command(["operator", "snapshot", "inspect", str(backup)])

    assert (ran.code, ran.err) == (0, "")
    above, below = ran.out.split("\n\n")
    lines = [line.split(" = ") for line in above.splitlines()]
    assert {name.strip(): text for name, text in lines} == {
        "ID": "snapshot-00000000000000000070-3.snap",
        "Size": size(backup.stat().st_size),
        "Index": "70",
        "Term": "3",
        "Cluster": "cluster",
        "Voters": "server1",
        "Learners": "server2",
    }
    rows = [line.split(maxsplit=2) for line in below.splitlines()]
    assert rows[0] == ["Table", "Count", "Size"]
    counts = {name: int(count) for name, count, _ in rows[1:]}
    total = counts.pop("Total")
    assert counts["nodes"] == len(full_state().nodes)
    assert total == sum(counts.values())


def test_what_is_found_can_be_had_as_json(backup):
    ran = run_command(["operator", "snapshot", "inspect", "-json", str(backup)])

    found = json.loads(ran.out)
    assert (found["Index"], found["Term"]) == (70, 3)
    assert found["Members"][1] == {
        "Address": "10.0.0.2:4647",
        "ID": "server2",
        "Voter": False,
    }
    (nodes,) = [table for table in found["Tables"] if table["Name"] == "nodes"]
    assert nodes["Count"] == len(full_state().nodes)
    assert nodes["Bytes"] > 0


def test_the_records_are_lines_of_json(backup):
    ran = run_command(["operator", "snapshot", "state", str(backup)])

    lines = [json.loads(line) for line in ran.out.splitlines()]
    nodes = [line for line in lines if line["Table"] == "nodes"]
    assert [line["Key"] for line in nodes] == full_state().node_keys
    assert nodes[0]["Record"]["Datacenter"] == "dc1"
    assert {line["Table"] for line in lines} > {"nodes", "jobs", "evaluations"}


@pytest.mark.parametrize("command", ["inspect", "state"])
def test_a_file_that_cannot_be_used_is_named(tmp_path, command):
    path = tmp_path / "backup.snap"
    missing = run_command(["operator", "snapshot", command, str(path)])
    path.write_bytes(b"no snapshot, and long enough to be one")
    wrong = run_command(["operator", "snapshot", command, str(path)])

    assert missing.err == f"Error reading {path}: No such file or directory\n"
    assert wrong.err == f"Error reading {path}: it does not begin as a snapshot does\n"
    assert (missing.code, wrong.code) == (1, 1)
    assert (missing.out, wrong.out) == ("", "")
