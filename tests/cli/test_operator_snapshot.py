"""`operator snapshot`."""

import base64
import hashlib

import pytest

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
