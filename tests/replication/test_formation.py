"""Who a data directory is, and how servers become one cluster, once."""

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import FormationError, JournalError
from nodestate.ports import ServerAddress
from nodestate.replication import entries
from nodestate.replication.formation import (
    IDENTITY_FILE,
    NOT_FORMED,
    NOT_MEMBER,
    Claim,
    Identity,
    Membership,
    decode_identity,
    encode_identity,
    first_entry,
    load_identity,
    read_first_entry,
    record_cluster,
)
from nodestate.replication.frames import Formation
from nodestate.replication.records import Entry
from tests.replication.fakes import NamedIds

IDS = ("A", "B", "C")
FORMATION = Formation(
    "c1",
    (("A", "a1"), ("B", "b1"), ("C", "c1")),
    tuple((name, f"peer-{name}", f"http-{name}") for name in IDS),
)


def address(server_id):
    return ServerAddress(server_id, f"peer-{server_id}", f"http-{server_id}")


def member(server_id, incarnation, formation=None):
    own = Identity(server_id, incarnation)
    return Membership(own, [address(name) for name in IDS], formation)


def test_an_empty_directory_gets_an_identity_and_keeps_it():
    disk = MemoryDisk()

    first = load_identity(disk, "A", NamedIds("A"), has_log=False)
    again = load_identity(disk, "A", NamedIds("other"), has_log=True)

    assert first == again == Identity("A", "id1")


def test_a_directory_of_another_server_is_refused():
    disk = MemoryDisk()
    load_identity(disk, "A", NamedIds("A"), has_log=False)

    with pytest.raises(FormationError, match="belongs to server 'A', not to 'B'"):
        load_identity(disk, "B", NamedIds("B"), has_log=False)


def test_a_log_without_an_identity_is_refused():
    with pytest.raises(FormationError, match="has a log but no file 'identity'"):
        load_identity(MemoryDisk(), "A", NamedIds("A"), has_log=True)


def test_a_damaged_identity_is_refused_whatever_is_damaged():
    """Every cut and every flipped bit is noticed."""
    content = encode_identity(Identity("A", "a1"))
    assert decode_identity(content) == Identity("A", "a1")
    damaged = [content[:length] for length in range(len(content) - 1)]
    for bit in range(8 * (len(content) - 1)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(flipped))

    for bad in damaged:
        try:
            identity = decode_identity(bad)
        except FormationError:
            continue
        # A flipped case of a key or of white space may leave the meaning whole.
        assert identity == Identity("A", "a1"), bad


def test_a_directory_that_has_lost_its_log_is_refused():
    """With its identity alone it would vote again, having forgotten how it voted."""
    disk = MemoryDisk()
    identity = load_identity(disk, "A", NamedIds("A"), has_log=False)
    formed = record_cluster(disk, identity, "c1")

    assert load_identity(disk, "A", NamedIds("A"), has_log=True) == formed
    with pytest.raises(FormationError, match="cluster c1, but its log is gone"):
        load_identity(disk, "A", NamedIds("A"), has_log=False)


def test_an_identity_without_a_cluster_is_as_it_was_written_before_there_were_any():
    content = encode_identity(Identity("A", "a1"))

    assert content == (
        b'{"format":1,"identity":{"server_id":"A","incarnation":"a1"},'
        b'"checksum":3414719192}\n'
    )


def test_a_damaged_identity_file_stops_the_start():
    disk = MemoryDisk()
    disk.put_file(IDENTITY_FILE, b"")

    with pytest.raises(FormationError, match="damaged"):
        load_identity(disk, "A", NamedIds("A"), has_log=False)


def test_the_first_entry_is_the_formation():
    entry = first_entry(FORMATION)

    assert (entry.index, entry.term) == (1, 1)
    assert read_first_entry(entry) == FORMATION
    with pytest.raises(JournalError, match="entry 1 is no formation"):
        read_first_entry(Entry(entries.NOOP_BODY, 1, 1))


def test_the_founder_forms_once_all_others_are_known_to_be_empty():
    founder = member("A", "a1")
    assert founder.new_formation("c1") is None
    assert founder.judge(Claim("B", "b1", None)) == NOT_FORMED
    assert founder.new_formation("c1") is None
    assert founder.judge(Claim("C", "c0", None)) == NOT_FORMED
    assert founder.judge(Claim("C", "c1", None)) == NOT_FORMED  # the newest counts

    assert founder.new_formation("c1") == FORMATION
    founder.adopt(FORMATION)
    assert founder.new_formation("c2") is None


def test_nobody_but_the_founder_forms():
    other = member("B", "b1")
    other.judge(Claim("A", "a1", None))
    other.judge(Claim("C", "c1", None))

    assert other.new_formation("c1") is None


def test_a_single_server_forms_at_once():
    alone = Membership(Identity("A", "a1"), [address("A")], None)

    assert alone.new_formation("c1") == Formation(
        "c1", (("A", "a1"),), (("A", "peer-A", "http-A"),)
    )


def test_an_unformed_server_accepts_the_cluster_that_it_finds():
    assert member("B", "b1").judge(Claim("A", "a1", FORMATION)) == ""
    # Its directory was lost: the log will take it in as a learner.
    assert member("B", "b2").judge(Claim("A", "a1", FORMATION)) == ""


def test_a_formed_founder_is_not_taken_for_an_empty_one():
    """Its empty successor must not form again with those who have said they are empty."""
    founder = member("A", "a2")
    founder.judge(Claim("B", "b1", None))
    founder.judge(Claim("C", "c1", None))

    assert founder.judge(Claim("B", "b1", FORMATION)) == ""
    assert founder.new_formation("c2") is None


def test_an_empty_directory_is_only_spoken_to_if_the_cluster_was_formed_with_it():
    formed = member("A", "a1", FORMATION)

    assert formed.judge(Claim("B", "b1", None)) == ""
    assert formed.judge(Claim("B", "b2", None)) == NOT_MEMBER
    assert formed.judge(Claim("D", "d1", None)) == NOT_MEMBER


def test_whoever_is_of_the_cluster_is_spoken_to():
    """It may be a member by entries that are not here yet; what counts is judged later."""
    formed = member("A", "a1", FORMATION)

    assert formed.judge(Claim("B", "b1", FORMATION)) == ""
    assert formed.judge(Claim("B", "b2", FORMATION)) == ""
    assert formed.judge(Claim("D", "d1", FORMATION)) == ""


def test_formed_servers_refuse_another_cluster():
    formed = member("A", "a1", FORMATION)
    other = Formation("c9", FORMATION.members)

    assert "is in cluster c9" in formed.judge(Claim("B", "b1", other))


def test_strangers_and_namesakes_are_refused():
    unformed = member("A", "a1")

    assert "not configured here" in unformed.judge(Claim("D", "d1", None))
    assert "this is server 'A'" in unformed.judge(Claim("A", "a9", None))
