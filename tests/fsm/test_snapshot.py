"""State to bytes and back."""

import hashlib

import msgspec
import pytest

from nodestate.errors import SnapshotError
from nodestate.fsm.snapshot import FORMAT_VERSION, decode_state, digest, encode_state
from nodestate.fsm.state import State
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceResource,
    Driver,
    HostVolume,
    LegacyResources,
    NetworkResource,
    Node,
    NodeResources,
    NodeStatus,
    Port,
    ReservedResources,
)
from nodestate.model.timestamp import Timestamp
from tests.conformance.rows import rows
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    Log,
    drain,
    emit,
    evaluate,
    key,
    miss,
    node,
    purge,
    register,
    registration,
)


def full_node() -> Node:
    """A node with something in every kind of field."""
    return node(
        N1,
        node_class="m",
        http_addr="[::1]:4646",
        tls_enabled=True,
        meta={"b": "2", "a": "ä"},
        links={"consul": "x"},
        drivers={"docker": Driver(detected=True, update_time=Timestamp(5))},
        host_volumes={"v": HostVolume(name="v", path="/v", read_only=True)},
        resources=LegacyResources(cpu=1, networks=[NetworkResource(ip="10.0.0.1")]),
        node_resources=NodeResources(
            cpu=CpuResources(cpu_shares=4),
            networks=[NetworkResource(reserved_ports=[Port(label="ssh", value=22)])],
            devices=[
                DeviceResource(attributes={"mem": DeviceAttribute(float_=1.5, unit="G")})
            ],
        ),
        reserved_resources=ReservedResources(),
    )  # fmt: skip


def full_log() -> Log:
    log = Log()
    log.put_system_job()
    log.put_allocation()
    log.accept(
        register(
            registration(N3),
            registration(N1, **{name: getattr(full_node(), name) for name in ("meta", "drivers", "host_volumes", "node_resources", "resources")}),
            registration(N2, status=NodeStatus.DOWN),
        )
    )  # fmt: skip
    log.accept(drain(accessor_id="op", meta={"why": "x"}))
    log.accept(emit("line"))
    log.accept(miss(N1))
    log.accept(evaluate(N1))
    return log


def small_log() -> Log:
    """A log with a record in every table, small enough to be damaged at every byte."""
    log = Log(register())
    log.put_system_job()
    log.put_allocation()
    log.accept(evaluate())
    return log


@rows("S11")
def test_a_restored_state_is_the_one_that_was_written():
    state = full_log().state

    restored = decode_state(encode_state(state))

    for name in State.__slots__:
        assert getattr(restored, name) == getattr(state, name), name
    assert encode_state(restored) == encode_state(state)


def test_every_field_of_a_node_survives():
    state = State()
    state.put_node(N1, full_node())

    assert decode_state(encode_state(state)).node(N1) == full_node()


def test_an_empty_state_survives():
    assert encode_state(decode_state(encode_state(State()))) == encode_state(State())


def test_the_way_to_a_state_does_not_show():
    one, other = State(), State()
    for node_key in (N1, N2, N3):
        one.put_node(node_key, node(node_key, meta={"a": "1", "b": "2"}))
        one.node_secrets[node_key] = b"s"
    for node_key in (N3, key(4), N1, N2):
        other.put_node(node_key, node(node_key, meta={"b": "2", "a": "1"}))
        other.node_secrets[node_key] = b"s"
    other.remove_node(key(4))

    assert encode_state(one) == encode_state(other)


def test_tables_that_nobody_knew_then_are_empty():
    content = msgspec.msgpack.decode(encode_state(full_log().state))
    del content["indexes"]["jobs"]

    assert decode_state(msgspec.msgpack.encode(content)).table_index("jobs") == 0


def test_a_restored_state_goes_on_as_the_first_one_does():
    log = full_log()
    other = Log(state=decode_state(encode_state(log.state)))
    other.index = log.index

    for command in (purge(N1), register(registration(N1)), evaluate(N2)):
        assert log.apply(command) == other.apply(command)

    assert encode_state(log.state) == encode_state(other.state)


def test_the_digest_is_that_of_the_bytes():
    state = full_log().state

    assert digest(state) == hashlib.sha256(encode_state(state)).hexdigest()


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1])
def test_another_format_is_refused(version):
    content = msgspec.msgpack.decode(encode_state(State()))
    content["version"] = version

    with pytest.raises(SnapshotError, match=f"format {version}, this server reads 1"):
        decode_state(msgspec.msgpack.encode(content))


def test_a_snapshot_cut_anywhere_is_refused():
    content = encode_state(small_log().state)

    for length in range(len(content)):
        with pytest.raises(SnapshotError):
            decode_state(content[:length])
    with pytest.raises(SnapshotError):
        decode_state(content + b"\0")


def test_a_flipped_byte_is_refused_or_read():
    """No other error comes out; that what is read is right is for the file's checksum."""
    content = encode_state(small_log().state)

    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        try:
            decode_state(bytes(damaged))
        except SnapshotError:
            continue
