import pytest

from nodestate.replication.records import (
    ENTRY_OVERHEAD_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES_MIN,
    SEGMENT_BYTES_MIN,
    VOTE_BYTES_MAX,
    Entry,
    Fault,
    HardState,
    Kind,
    LogBase,
    Record,
    Segment,
    decode_entry,
    decode_hard_state,
    decode_record,
    decode_segment,
    decode_snapshot_mark,
    decode_truncation,
    encode_entry,
    encode_hard_state,
    encode_record,
    encode_segment,
    encode_snapshot_mark,
    encode_truncation,
    scan_segment,
)

NUMBER = 3
HEADER = encode_segment(Segment(NUMBER, 4096, HardState(1, "server1"), LogBase(0, 0)))


def build(*changes: tuple[Kind, bytes, int], start: int = 0) -> bytes:
    """Lay down a header and changes of (kind, payload, synced), from position 1."""
    data = encode_record(
        Kind.SEGMENT, HEADER, position=start, synced=start, number=NUMBER, offset=0
    )
    position = start
    for kind, payload, synced in changes:
        position += kind is not Kind.SYNCED
        data += encode_record(
            kind,
            payload,
            position=position,
            synced=synced,
            number=NUMBER,
            offset=len(data),
        )
    return data


def entry(index: int, body: bytes = b"body") -> bytes:
    return encode_entry(Entry(body, index, 1))


def test_payloads_survive_the_round_trip():
    big = 1 << 40

    assert decode_entry(encode_entry(Entry(b"\0x", big, 7))) == Entry(b"\0x", big, 7)
    assert decode_truncation(encode_truncation(big)) == big
    mark = LogBase(big, 3)
    assert decode_snapshot_mark(encode_snapshot_mark(mark)) == mark
    for vote in (None, "", "sérver"):
        state = HardState(big, vote)
        assert decode_hard_state(encode_hard_state(state)) == state
        segment = Segment(2, big, state, LogBase(big, 7))
        assert decode_segment(encode_segment(segment)) == segment


def test_an_entry_has_the_overhead_that_is_said():
    assert len(encode_entry(Entry(b"", 1, 1))) + RECORD_BYTES_MIN == (
        ENTRY_OVERHEAD_BYTES
    )


@pytest.mark.parametrize("version", [0, 3])
def test_a_segment_of_another_format_is_a_fault(version):
    payload = bytes([version]) + HEADER[1:]

    assert decode_segment(payload) == Fault(
        f"journal format {version}, this version reads 1 to 2"
    )


def test_the_header_of_a_first_version_segment_says_nothing_of_the_log():
    payload = bytes.fromhex("0100000003000000000000000010000000000000")
    payload += bytes.fromhex("070000000000000001") + b"server1"

    assert decode_segment(payload) == Segment(
        3, 4096, HardState(7, "server1"), log_end=None
    )


def test_the_longest_header_fits_into_the_smallest_segment():
    vote = "x" * VOTE_BYTES_MAX
    header = encode_segment(Segment(1, 1024, HardState(1, vote), LogBase(1, 1)))

    assert 2 * RECORD_BYTES_MIN + len(header) < SEGMENT_BYTES_MIN


def test_a_record_is_valid_only_in_its_place():
    data = build((Kind.ENTRY, entry(1), 0))
    offset = len(build())

    assert isinstance(decode_record(data, offset, NUMBER), Record)
    assert isinstance(decode_record(data, offset, NUMBER + 1), Fault)
    assert isinstance(decode_record(b"x" + data, offset + 1, NUMBER), Fault)


def test_a_record_cut_at_any_length_is_a_fault():
    data = build()

    for length in range(len(data)):
        assert isinstance(decode_record(data[:length], 0, NUMBER), Fault), length


def test_a_record_with_any_bit_flipped_is_a_fault():
    data = build()

    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode_record(bytes(damaged), 0, NUMBER), Fault), bit


def test_a_length_beyond_the_limit_is_a_fault_of_its_own():
    data = bytearray(build())
    data[8:12] = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "little")

    found = decode_record(bytes(data), 0, NUMBER)

    assert isinstance(found, Fault)
    assert str(PAYLOAD_BYTES_MAX) in found.reason


def test_a_kind_of_a_later_version_is_a_fault():
    data = encode_record(9, b"", position=1, synced=0, number=NUMBER, offset=0)

    assert decode_record(data, 0, NUMBER) == Fault("kind 9 is unknown to this version")


def test_a_scan_ends_at_zeros():
    data = build((Kind.ENTRY, entry(1), 0), (Kind.ENTRY, entry(2), 0), start=0)

    scan = scan_segment(data + bytes(500), NUMBER, 0)

    assert [record.position for record in scan.records] == [0, 1, 2]
    assert (scan.end, scan.position, scan.synced) == (len(data), 2, 0)
    assert scan.fault == ""
    assert not scan.is_blank


def test_a_payload_that_ends_in_zeros_is_whole():
    data = build((Kind.ENTRY, entry(1, bytes(50)), 0))

    scan = scan_segment(data + bytes(500), NUMBER, 0)

    assert (scan.end, scan.fault) == (len(data), "")


def test_a_blank_segment_is_blank():
    assert scan_segment(bytes(100), NUMBER, 5).is_blank


def test_the_closing_mark_tells_how_far_all_is_durable():
    data = build((Kind.ENTRY, entry(1), 0))
    marked = build((Kind.ENTRY, entry(1), 0), (Kind.SYNCED, b"", 1))

    scan = scan_segment(marked + bytes(99), NUMBER, 0)

    assert (scan.end, scan.position, scan.synced) == (len(data), 1, 1)
    assert scan.fault == ""


def test_bytes_behind_the_closing_mark_are_a_torn_round():
    data = build((Kind.SYNCED, b"", 0))

    scan = scan_segment(data + b"\1", NUMBER, 0)

    assert scan.fault
    assert scan.synced == 0


def test_a_later_record_is_found_behind_damage():
    data = bytearray(
        build(
            (Kind.ENTRY, entry(1), 0),
            (Kind.ENTRY, entry(2), 1),
            (Kind.ENTRY, entry(3), 2),
        )
    )
    data[len(build()) + 10] ^= 1

    scan = scan_segment(bytes(data), NUMBER, 0)

    assert scan.fault
    assert (scan.position, scan.synced) == (0, 2)


def test_zeros_in_the_middle_do_not_hide_what_follows():
    first = len(build((Kind.ENTRY, entry(1), 0)))
    data = bytearray(
        build(
            (Kind.ENTRY, entry(1), 0), (Kind.ENTRY, entry(2), 1), (Kind.SYNCED, b"", 2)
        )
    )
    data[first:-RECORD_BYTES_MIN] = bytes(len(data) - RECORD_BYTES_MIN - first)

    scan = scan_segment(bytes(data), NUMBER, 0)

    assert scan.fault
    assert (scan.end, scan.position, scan.synced) == (first, 1, 2)


def test_a_copy_of_a_record_inside_a_body_is_no_evidence():
    durable = encode_record(
        Kind.ENTRY, entry(9), position=2, synced=1, number=NUMBER, offset=77
    )
    start = len(build())
    data = build((Kind.ENTRY, entry(1, durable), 0))

    scan = scan_segment(data[:start] + b"\1" + data[start + 1 :], NUMBER, 0)

    assert scan.fault
    assert scan.synced == 0


def test_a_position_that_does_not_follow_is_a_fault():
    data = build((Kind.ENTRY, entry(1), 4), start=4)

    assert scan_segment(data, NUMBER, 4).fault == ""
    gap = scan_segment(data, NUMBER, 3)
    assert gap.fault == "position 4, expected 3"
    assert gap.synced == 4


def test_a_segment_must_start_with_its_header():
    data = encode_record(
        Kind.ENTRY, entry(1), position=1, synced=0, number=NUMBER, offset=0
    )

    assert scan_segment(data, NUMBER, 0).fault == "kind 2 in the wrong place"


def test_positions_and_offsets_are_not_limited_to_32_bits():
    position = (1 << 40) + 7
    data = encode_record(
        Kind.ENTRY, entry(1), position=position, synced=position - 1, number=1, offset=0
    )
    far = encode_record(
        Kind.ENTRY, entry(1), position=1, synced=0, number=1, offset=5 << 30
    )
    near = encode_record(
        Kind.ENTRY, entry(1), position=1, synced=0, number=1, offset=1 << 30
    )

    found = decode_record(data, 0, 1)

    assert isinstance(found, Record)
    assert (found.position, found.synced) == (position, position - 1)
    assert far != near
