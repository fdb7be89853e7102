"""`operator journal`."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.replication.disk import LOCK_NAME, SystemDisk
from nodestate.replication.entries import NOOP_BODY
from nodestate.replication.recovery import segment_name
from tests.cli.conftest import Ran, run_command
from tests.replication.journals import entries, written

FIRST = segment_name(1)


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A server's, which was stopped after three entries."""
    made = MemoryDisk()
    await written(made, entries(1, 3, body=NOOP_BODY))
    (tmp_path / "data").mkdir()
    for name in (*made.names(), LOCK_NAME):
        (tmp_path / "data" / name).write_bytes(made.read_file(name) or b"")
    return tmp_path / "data"


def run_journal(*arguments: str) -> Ran:
    return run_command(["operator", "journal", *arguments])


@contextmanager
def unchanged(directory: Path) -> Iterator[None]:
    def contents() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in directory.iterdir()}

    before = contents()
    yield
    assert contents() == before


async def test_entries_are_lines_of_json(directory):
    with unchanged(directory):
        ran = run_journal(str(directory))

    assert (ran.code, ran.err) == (0, "")
    shown = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["Index"] for line in shown] == [1, 2, 3]
    assert shown[0] == {
        "Index": 1,
        "Term": 1,
        "Position": 1,
        "Kind": "noop",
        "BodyBytes": 1,
    }


async def test_damage_is_the_last_line_and_an_error(directory):
    path = directory / FIRST
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)

    with unchanged(directory):
        ran = run_journal(str(directory))

    assert ran.code == 1
    last = json.loads(ran.out.splitlines()[-1])
    assert (last["File"], last["WasDurable"]) == (FIRST, True)
    assert ran.err.startswith(f"{FIRST}, byte {last['Offset']}: {last['Reason']}; ")


async def test_a_torn_tail_is_the_last_line_and_no_error(directory):
    path = directory / FIRST
    data = path.read_bytes()
    mark = data.rindex(b"\xf1nsR")
    path.write_bytes(data[: mark + 9].ljust(len(data), b"\0"))

    ran = run_journal(str(directory))

    assert (ran.code, ran.err) == (0, "")
    last = json.loads(ran.out.splitlines()[-1])
    assert last == {
        "File": FIRST,
        "Offset": mark,
        "Reason": last["Reason"],
        "WasDurable": False,
    }


async def test_a_running_server_is_left_alone(directory):
    with closing(SystemDisk(directory)) as disk:
        disk.lock()
        ran = run_journal(str(directory))

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"Error reading {directory}: data directory {directory} is in use by a server: "
        "stop it first\n"
    )


async def test_a_directory_without_a_journal_is_an_error(tmp_path):
    ran = run_journal(str(tmp_path))

    assert (ran.code, ran.err) == (
        1,
        f"Error reading {tmp_path}: there is no journal\n",
    )
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_that_is_not_there_is_an_error(tmp_path):
    ran = run_journal(str(tmp_path / "none"))

    assert ran.code == 1
    assert "Not a directory" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
async def test_one_directory_is_wanted(arguments):
    ran = run_journal(*arguments)

    assert ran.code == 1
    assert "one argument: <data directory>" in ran.err


async def test_the_lock_is_let_go(directory):
    run_journal(str(directory))

    with closing(SystemDisk(directory)) as disk:
        disk.lock()
