"""Text for people."""

import pytest

from nodestate.cli import tables


def test_columns_are_aligned_and_the_last_is_not_padded():
    text = tables.columns([["ID", "Name", "Status"], ["f7476465", "", "up"]])

    assert text == "ID        Name    Status\nf7476465  <none>  up"


def test_pairs_have_their_signs_below_each_other():
    assert tables.pairs([("ID", "x"), ("Class", " ")]) == "ID    = x\nClass = <none>"


def test_nothing_makes_no_text():
    assert tables.columns([]) == ""
    assert tables.pairs([]) == ""


def test_a_name_cannot_write_to_the_terminal():
    text = tables.columns([["\x1b[2Jweb\n1", "x"]])

    assert text == "\N{REPLACEMENT CHARACTER}[2Jweb\N{REPLACEMENT CHARACTER}1  x"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 << 10, "10 KiB"),
        (8000 << 20, "7.8 GiB"),
        (51_200 << 20, "50 GiB"),
        (1 << 62, "4.0 EiB"),
    ],
)
def test_a_size_is_in_binary_units(count, text):
    assert tables.size(count) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, ""),
        (999_999_999, ""),
        (1_000_000_000, "1970-01-01T00:00:01Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20Z"),
    ],
)
def test_a_point_in_time_is_in_whole_seconds(ns, text):
    assert tables.point_in_time(ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s ago"),
        (59, "59s ago"),
        (61, "1m1s ago"),
        (3_661, "1h1m ago"),
        (90_000, "1d1h ago"),
        (40 * 86_400, "1mo10d ago"),
        (-5, "5s from now"),
    ],
)
def test_an_age_has_its_two_greatest_units(seconds, text):
    now_ns = 1_700_000_000 * 10**9

    assert tables.age(now_ns - seconds * 10**9, now_ns) == text


def test_what_never_was_has_no_age():
    assert tables.age(0, 5) == ""


def test_ids_are_short_unless_asked_for():
    full = "f7476465-4d6e-c0de-26d0-e383c49be941"

    assert tables.short_id(full, verbose=False) == "f7476465"
    assert tables.short_id(full, verbose=True) == full
