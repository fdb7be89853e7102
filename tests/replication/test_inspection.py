import json

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError
from nodestate.model.command import UpdateNodeStatus
from nodestate.model.encoding import encode_json
from nodestate.model.node import NodeKey, NodeStatus
from nodestate.model.request import IdempotencyKey, Origin
from nodestate.replication import entries as bodies
from nodestate.replication.configuration import Configuration, MemberEntry
from nodestate.replication.frames import Formation
from nodestate.replication.inspection import (
    EntryFound,
    FaultFound,
    read_entries,
    redacted,
)
from nodestate.replication.records import Entry, LogBase
from nodestate.replication.recovery import segment_name
from tests.replication.journals import (
    SEGMENT_BYTES,
    entries,
    file_contents,
    flush,
    old_journal,
    open_journal,
    with_files,
    writing,
    written,
)

FIRST, SECOND, THIRD = (segment_name(number) for number in (1, 2, 3))
MAGIC = b"\xf1nsR"
ORIGIN = Origin("server1", "boot", 7)
COMMAND = UpdateNodeStatus(
    at_ns=5,
    asked_by="server",
    key=NodeKey("n1"),
    status=NodeStatus.READY,
    secret_sha256=b"\x01\x02",
    seed=b"s",
)


def lines(disk: MemoryDisk) -> list[EntryFound | FaultFound]:
    """Return what is found, which must not have changed a byte."""
    before = file_contents(disk)
    found = list(read_entries(disk))
    assert file_contents(disk) == before
    return found


def found_entries(disk: MemoryDisk) -> list[EntryFound]:
    found = lines(disk)
    assert all(isinstance(line, EntryFound) for line in found), found[-1]
    return [line for line in found if isinstance(line, EntryFound)]


def fault(disk: MemoryDisk) -> FaultFound:
    last = lines(disk)[-1]
    assert isinstance(last, FaultFound)
    return last


async def long_journal() -> MemoryDisk:
    """Have 19 entries, four to a segment."""
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 20)))
    return disk


async def as_json(*bodies_written: bytes) -> list[dict[str, object]]:
    disk = MemoryDisk()
    await written(
        disk, [Entry(body, index, 3) for index, body in enumerate(bodies_written, 1)]
    )
    return [json.loads(encode_json(line)) for line in lines(disk)]


async def test_every_kind_of_entry_is_shown():
    formation = Formation("c1", (("server1", "i1"),), (("server1", "p:1", "h:1"),))
    member = MemberEntry("server1", "i1", "p:1", "h:1", is_voter=True)

    shown = await as_json(
        bodies.encode_formation(formation),
        bodies.NOOP_BODY,
        bodies.encode_barrier(ORIGIN),
        bodies.encode_configuration(Configuration((member,))),
    )

    assert [line["Kind"] for line in shown] == [
        "formation",
        "noop",
        "noop",
        "configuration",
    ]
    assert [line.get("Body") for line in shown] == [
        {
            "ClusterID": "c1",
            "Members": [
                {
                    "ServerID": "server1",
                    "Incarnation": "i1",
                    "Addresses": ["p:1", "h:1"],
                }
            ],
        },
        None,
        {"Origin": {"ServerID": "server1", "BootID": "boot", "Sequence": 7}},
        {
            "Members": [
                {
                    "ServerID": "server1",
                    "Incarnation": "i1",
                    "PeerAddress": "p:1",
                    "HTTPAddress": "h:1",
                    "IsVoter": True,
                }
            ]
        },
    ]
    assert shown[1] == {
        "Index": 2,
        "Term": 3,
        "Position": 2,
        "Kind": "noop",
        "BodyBytes": 1,
    }


async def test_a_command_is_shown_without_its_secrets():
    key = IdempotencyKey("order-1", b"fingerprint")

    (line,) = await as_json(
        bodies.encode_command(ORIGIN, COMMAND, floor=4, idempotency=key)
    )

    assert line["Kind"] == "command"
    assert line["Body"] == {
        "Origin": {"ServerID": "server1", "BootID": "boot", "Sequence": 7},
        "Floor": 4,
        "IdempotencyKey": "order-1",
        "Command": {
            "type": "node.status",
            "at_ns": 5,
            "asked_by": "server",
            "key": json.loads(encode_json(COMMAND.key)),
            "status": "ready",
            "secret_sha256": "(redacted)",
            "seed": "cw==",
        },
    }


def test_secrets_are_found_at_any_depth():
    value = {"a": [{"SecretID": "x", "b": 1}], "secret_sha256": "", "SECRET": {"c": 1}}

    assert redacted(value) == {
        "a": [{"SecretID": "(redacted)", "b": 1}],
        "secret_sha256": "",
        "SECRET": "(redacted)",
    }


async def test_a_body_that_cannot_be_read_is_shown_with_its_length():
    shown = await as_json(b"", b"\x09four", b"\x00\xc1")

    assert [(line["Kind"], line["BodyBytes"]) for line in shown] == [
        ("empty", 0),
        ("unknown (9)", 5),
        ("command", 2),
    ]
    assert "entry of kind 0 cannot be read" in str(shown[2]["Error"])


async def test_what_was_replaced_is_shown_as_such():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 4))
        journal.truncate_from(3)
        journal.append(entries(3, 2, term=2))
        journal.reset_to(LogBase(3, 9))
        journal.append(entries(4, 1, term=9))
        await flush(journal)
    disk.kill()

    assert [
        (line.index, line.term, line.position, line.is_replaced)
        for line in found_entries(disk)
    ] == [
        (1, 1, 1, False),
        (2, 1, 2, False),
        (3, 1, 3, True),
        (4, 1, 4, True),
        (3, 2, 6, False),
        (4, 2, 7, True),
        (4, 9, 9, False),
    ]


async def test_a_shortened_journal_is_read_from_what_is_left():
    disk = await long_journal()
    disk.remove_file(FIRST)
    disk.put_file(segment_name(6), bytes(SEGMENT_BYTES))

    found = found_entries(disk)

    assert [line.index for line in found] == list(range(5, 20))
    assert found[0].position == 5


def test_a_journal_of_the_first_version_is_read():
    found = found_entries(old_journal())

    assert [line.index for line in found if not line.is_replaced] == list(range(1, 15))


async def test_damage_is_the_last_line():
    disk = await long_journal()
    data = disk.read_file(SECOND) or b""
    offset = data.index(b"s" * 400) - 45
    disk.flip_bit(SECOND, (offset + 50) * 8)

    found = lines(disk)

    assert [line.index for line in found if isinstance(line, EntryFound)] == [
        1,
        2,
        3,
        4,
    ]
    last = found[-1]
    assert isinstance(last, FaultFound)
    assert (last.file, last.offset, last.was_durable) == (SECOND, offset, True)
    assert last.reason.startswith("checksum ")


async def test_a_torn_tail_is_the_last_line_and_not_called_damage():
    disk = MemoryDisk()
    await written(disk, entries(1, 2))
    data = (disk.read_file(FIRST) or b"").rstrip(b"\0")
    kept = data.rindex(MAGIC)
    disk.put_file(FIRST, (data[:kept] + b"torn").ljust(SEGMENT_BYTES, b"\0"))

    last = fault(disk)

    assert (last.file, last.offset, last.was_durable) == (FIRST, kept, False)
    assert len(lines(disk)) == 3


async def test_a_torn_closing_mark_matters_to_nobody_once_the_next_segment_is_begun():
    disk = await long_journal()
    data = disk.read_file(FIRST) or b""
    disk.put_file(FIRST, data[: data.rindex(MAGIC) + 9].ljust(SEGMENT_BYTES, b"\0"))

    assert len(found_entries(disk)) == 19


async def test_a_segment_that_lost_its_end_is_damage_once_the_next_is_begun():
    disk = await long_journal()
    files = file_contents(disk)
    data = files[FIRST] or b""
    cut = data.rindex(b"s" * 400) + 10
    files[FIRST] = data[:cut].ljust(len(data), b"\0")
    last = fault(with_files(files))
    assert (last.file, last.was_durable) == (FIRST, True)

    # A segment that was made ahead proves nothing.
    files[SECOND] = bytes(SEGMENT_BYTES)
    del files[THIRD], files[segment_name(4)], files[segment_name(5)]
    last = fault(with_files(files))
    assert (last.file, last.was_durable) == (FIRST, False)


async def test_a_blank_segment_before_another_is_damage():
    disk = await long_journal()
    disk.put_file(SECOND, bytes(SEGMENT_BYTES))

    last = fault(disk)

    assert (last.file, last.offset, last.was_durable) == (SECOND, 0, True)
    assert "blank" in last.reason


@pytest.mark.parametrize("gone", [SECOND, THIRD])
async def test_a_missing_segment_is_damage(gone):
    disk = await long_journal()
    disk.remove_file(gone)

    last = fault(disk)

    assert (last.file, last.offset, last.was_durable) == (gone, 0, True)
    assert last.reason.startswith("missing, but journal-")


async def test_a_file_of_another_length_is_damage():
    disk = await long_journal()
    data = disk.read_file(segment_name(5)) or b""
    disk.put_file(segment_name(5), data + b"\0")

    last = fault(disk)

    assert (last.file, last.offset) == (segment_name(5), SEGMENT_BYTES)
    assert "expected 2048" in last.reason


async def test_a_first_segment_that_begins_with_rubbish_is_damage():
    disk = await long_journal()
    disk.remove_file(FIRST)
    disk.flip_bit(SECOND, 3)

    assert lines(disk) == [fault(disk)]
    assert (fault(disk).file, fault(disk).offset) == (SECOND, 0)


def test_where_there_is_no_journal_that_is_an_error():
    disk = MemoryDisk()
    disk.put_file("identity", b"me")

    with pytest.raises(JournalError, match="there is no journal"):
        lines(disk)


def test_an_unreadable_file_is_an_error():
    disk = old_journal()
    disk.failing["read"] = 5

    with pytest.raises(JournalError, match="cannot read"):
        list(read_entries(disk))
