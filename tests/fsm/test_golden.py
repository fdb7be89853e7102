"""Entries that releases wrote, which must have the effects that they had then.

Each file of `golden/` is one release's: a snapshot to begin with, encoded commands with
their indexes, and the digest of the state after each of them. A file that fails means
that servers of two releases would make two states of one log: what changed must be
guarded (design of the log), never the file. A release adds one, and touches no other:

    python -c "from tests.fsm import test_golden; test_golden.write_release('0.2.0')"
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import replace

from nodestate.fsm import machine
from nodestate.fsm.pieces import encode_pieces
from nodestate.fsm.snapshot import decode_state, digest, encode_state
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    Command,
    CompletedDrain,
    FinishRestore,
)
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceInstance,
    DeviceLocality,
    DeviceResource,
    DiskResources,
    DrainStrategy,
    Driver,
    HostVolume,
    LegacyResources,
    MemoryResources,
    NetworkResource,
    NodeEvent,
    NodeResources,
    NodeStatus,
    Port,
    RequestedDevice,
    ReservedNetworks,
    ReservedResources,
)
from nodestate.model.timestamp import Timestamp
from tests.fsm.acls import acl_commands
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    OTHER_SECRET,
    SECOND_NS,
    START_NS,
    Log,
    complete,
    drain,
    eligibility,
    emit,
    evaluate,
    key,
    miss,
    purge,
    register,
    registration,
    status,
    stop_drain,
)
from tests.fsm.work import Working, work

FOLDER = Path(__file__).parent / "golden"
RELEASES = sorted(FOLDER.glob("*.json"))
# mypy knows no type of which a union is a value.
COMMANDS: msgspec.msgpack.Decoder[Command] = msgpack_decoder(Command)  # type: ignore[arg-type]


# Records that have more fields since: what a release wrote of them, in its order. The new
# fields have defaults in all that its entries make, or a test of them would be here.
FIELDS_THEN: dict[str, dict[str, tuple[str, ...]]] = {
    "0.1.0": {
        "jobs": ("ID", "Namespace", "Type", "Priority", "Datacenters", "Stop",
                 "CreateIndex", "ModifyIndex"),
        "allocations": ("ID", "Namespace", "JobID", "JobType", "JobPriority", "NodeKey",
                        "DesiredStatus", "ClientStatus", "CreateIndex", "ModifyIndex"),
        "evaluations": ("ID", "Namespace", "Priority", "Type", "TriggeredBy", "JobID",
                        "NodeID", "NodeModifyIndex", "Status", "CreateTime", "ModifyTime",
                        "CreateIndex", "ModifyIndex"),
    },
}  # fmt: skip


# Likewise the tables that a release gave the indexes of.
INDEXES_THEN = {"0.1.0": ("nodes", "allocations", "evaluations", "jobs")}


def as_written_by(release: str, image: bytes) -> bytes:
    """Return a state's bytes without the fields that the release did not have."""
    tables = msgspec.msgpack.decode(image)
    for table, names in FIELDS_THEN.get(release, {}).items():
        tables[table] = [{name: row[name] for name in names} for row in tables[table]]
    indexes = tables["indexes"]
    tables["indexes"] = {
        name: index
        for name, index in indexes.items()
        if name in INDEXES_THEN.get(release, indexes)
    }
    return msgspec.msgpack.encode(tables)


# Replayed


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_old_entries_have_their_old_effects(path):
    release = json.loads(path.read_text())
    state = decode_state(bytes.fromhex(release["state"]))

    for entry in release["entries"]:
        command = COMMANDS.decode(bytes.fromhex(entry["command"]))
        machine.apply(state, entry["index"], command)
        image = as_written_by(path.stem, encode_state(state))
        assert sha256(image).hexdigest() == entry["digest"], (
            f"{entry['index']}: {command}"
        )


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_an_old_state_is_written_as_it_was(path):
    content = bytes.fromhex(json.loads(path.read_text())["state"])

    assert as_written_by(path.stem, encode_state(decode_state(content))) == content


def test_there_is_a_release_and_it_has_every_command():
    kinds = {type(command) for command in applied(Working())}

    assert kinds == set(get_args(Command))
    assert RELEASES


# Written, once for each release


NETWORK = NetworkResource(
    mode="host",
    device="eth0",
    cidr="10.0.0.1/32",
    ip="10.0.0.1",
    mbits=1000,
    reserved_ports=[Port(label="ssh", value=22)],
    dynamic_ports=[Port(label="http", value=0, to=8080)],
)
DEVICE = DeviceResource(
    vendor="nvidia",
    type="gpu",
    name="1080ti",
    instances=[
        DeviceInstance(
            id="GPU-1",
            healthy=True,
            health_description="fine",
            locality=DeviceLocality(pci_bus_id="0000:01:00.0"),
        )
    ],
    attributes={
        "memory": DeviceAttribute(int_=11, unit="GiB"),
        "clock": DeviceAttribute(float_=1.5, unit="GHz"),
        "driver": DeviceAttribute(string="418"),
        "ecc": DeviceAttribute(bool_=False),
    },
)
AMOUNTS: dict[str, Any] = {
    "cpu": CpuResources(cpu_shares=4000),
    "memory": MemoryResources(memory_mb=8192),
    "disk": DiskResources(disk_mb=100_000),
}
# Every field that an agent sends has a value of its own.
WHOLE: dict[str, Any] = {
    "name": "whole",
    "node_class": "m",
    "node_pool": "gpu",
    "http_addr": "[2001:db8::1]:4646",
    "tls_enabled": True,
    "attributes": {"unique.hostname": "whole", "os.name": "ubuntu", "ä": "ö"},
    "meta": {"rack": "r1"},
    "links": {"consul": "dc1.whole"},
    "drivers": {
        "docker": Driver(
            attributes={"driver.docker.version": "19.3"},
            detected=True,
            healthy=True,
            health_description="Healthy",
            update_time=Timestamp(START_NS),
        )
    },
    "host_volumes": {"certs": HostVolume(name="certs", path="/c", read_only=True)},
    "resources": LegacyResources(
        cpu=4000,
        memory_mb=8192,
        disk_mb=100_000,
        iops=1,
        networks=[NETWORK],
        devices=[RequestedDevice(name="gpu", count=1)],
    ),
    "reserved": LegacyResources(cpu=100),
    "node_resources": NodeResources(**AMOUNTS, networks=[NETWORK], devices=[DEVICE]),
    "reserved_resources": ReservedResources(
        **AMOUNTS, networks=ReservedNetworks(reserved_host_ports="22,8000-9000")
    ),
    "computed_class": "v1:1",
    "status_description": "fresh",
}
LINE = NodeEvent(
    message="Unhealthy",
    subsystem="Driver",
    details={"driver": "docker", "a": "b"},
    timestamp=Timestamp(START_NS + 1),
)


def commands() -> list[Command]:
    """Return every kind of command, accepted, refused and without effect."""
    closed: dict[str, Any] = {"scheduling_eligibility": "ineligible"}
    draining: dict[str, Any] = {
        "drain": True,
        "drain_strategy": DrainStrategy(deadline=5),
    }
    return [
        register(registration(N1, **WHOLE), registration(N2, **closed)),
        register(registration(N3, status=NodeStatus.INITIALIZING, meta={})),
        register(registration(N1, secret=OTHER_SECRET), registration(N2, name="b")),
        register(registration(key(4), **draining), registration(key(5), drain=True)),
        status(NodeStatus.READY, N3),
        status(NodeStatus.READY, N3),
        status(NodeStatus.DOWN, N3, secret=OTHER_SECRET),
        replace(emit("x"), events=(LINE,) * 3, asked_by="5d7bc1a5"),
        emit(*map(str, range(12)), node_key=N2),
        miss(N3, N1, key(9)),
        status(NodeStatus.DOWN),
        status(NodeStatus.READY, at_ns=START_NS - SECOND_NS),
        register(registration(N3, status=NodeStatus.READY)),
        eligibility("ineligible"),
        eligibility("eligible"),
        eligibility("elsewhere"),
        drain(accessor_id="token:op", meta={"b": "2", "a": "1"}),
        eligibility("eligible"),
        drain(-1, is_system_ignored=True, at_ns=START_NS + SECOND_NS // 2),
        stop_drain(meta={"c": "3"}),
        stop_drain(mark_eligible=True),
        drain(0, node_key=N2),
        complete(CompletedDrain(N2, 1021), CompletedDrain(N1, 1)),
        drain(1, node_key=N2),
        complete(CompletedDrain(N2, 1023, deadline_reached=True)),
        evaluate(),
        evaluate(key(9)),
        purge(N1, key(9)),
        purge(N1, N2),
        register(registration(N1)),
        *restoring("first")[:2],
        AbandonRestore(at_ns=START_NS, restore_id="first"),
        *restoring("second"),
        drain(node_key=N2),
    ]


def restoring(restore_id: str) -> list[Command]:
    """Return what restores a state of one node."""
    log = Log(register(registration(N2, **WHOLE)))
    pieces = [piece for piece in encode_pieces(log.state) if piece]
    content = b"".join(pieces)
    begin = BeginRestore(
        at_ns=START_NS,
        restore_id=restore_id,
        byte_count=len(content),
        sha256=sha256(content).digest(),
    )
    adding = [
        AddRestorePiece(
            at_ns=START_NS, restore_id=restore_id, number=number, piece=piece
        )
        for number, piece in enumerate(pieces)
    ]
    return [begin, *adding, FinishRestore(at_ns=START_NS, restore_id=restore_id)]


def applied(log: Working) -> Iterator[Command]:
    """Apply every kind of command, and yield each."""
    for command in commands():
        log.apply(command)
        yield command
    for command in chain(work(log), acl_commands(log)):
        log.apply(command)
        yield command


def write_release(name: str) -> None:
    """Write down what this code makes of the commands; never over an older file."""
    path = FOLDER / f"{name}.json"
    log = Working()
    log.put_system_job()
    log.put_allocation()
    log.put_allocation("a2", job_id="batch", node_key=N3, client_status="running")
    begin = encode_state(log.state).hex()
    entries = [
        {
            "index": log.index,
            "command": MSGPACK.encode(log.last_command).hex(),
            "digest": digest(log.state),
        }
        for _ in applied(log)
    ]
    content = {"state": begin, "entries": entries}
    with path.open("x") as file:
        file.write(json.dumps(content, indent=1) + "\n")
