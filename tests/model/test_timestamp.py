"""Points in time as text, against the standard library's calendar."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from nodestate.model.timestamp import Timestamp, format_rfc3339, parse_rfc3339

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_9999_NS = 253_402_300_799 * 10**9


@given(st.integers(min_value=-62_000_000_000, max_value=253_402_300_799))
def test_the_calendar_is_the_standard_one(seconds):
    expected = (EPOCH + timedelta(seconds=seconds)).strftime("%m-%dT%H:%M:%SZ")

    text = format_rfc3339(seconds * 10**9)

    if seconds == 0:
        assert text is None
    else:
        assert text is not None
        assert text.endswith(expected)


@given(st.integers(min_value=1, max_value=YEAR_9999_NS))
def test_a_text_reads_back_to_the_same_nanosecond(ns):
    text = format_rfc3339(ns)

    assert text is not None
    assert parse_rfc3339(text) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, None),
        (10**9, "1970-01-01T00:00:01Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
        (1_566_814_982 * 10**9, "2019-08-26T10:23:02Z"),
    ],
)
def test_trailing_zeros_are_dropped_and_zero_is_none(ns, text):
    assert format_rfc3339(ns) == text


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2020-02-29T12:00:00+02:00", "2020-02-29T10:00:00Z"),
        ("2019-12-31T23:30:00.25-01:00", "2020-01-01T00:30:00.25Z"),
        ("2020-01-01t00:00:00z", "2020-01-01T00:00:00Z"),
        ("2020-01-01T00:00:00.1234567899Z", "2020-01-01T00:00:00.123456789Z"),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_offsets_and_letter_case_are_read(text, utc):
    assert format_rfc3339(parse_rfc3339(text)) == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-13-01T00:00:00Z",
        "2020-00-01T00:00:00Z",
        "2019-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2020-04-31T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "٢٠٢٠-01-01T00:00:00Z",
        "2020-01-01T00:00:00.Z",
        "x" * 10_000,
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"time|day"):
        parse_rfc3339(text)


def test_a_timestamp_shows_its_text():
    assert repr(Timestamp(10**9)) == "Timestamp('1970-01-01T00:00:01Z')"


def test_equal_timestamps_hash_alike():
    assert hash(Timestamp(5)) == hash(Timestamp(5))


def test_timestamps_compare_by_their_nanoseconds():
    assert Timestamp(5) == Timestamp(5)
    assert Timestamp(5) != Timestamp(6)
    assert Timestamp(5) != 5
    assert hash(Timestamp(5)) == hash(Timestamp(5))
    assert repr(Timestamp(10**9)) == "Timestamp('1970-01-01T00:00:01Z')"
