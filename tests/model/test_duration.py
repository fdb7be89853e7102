"""Durations as Go has them."""

import pytest

from nodestate.model.duration import format_duration, parse_duration_ns

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1ns", 1),
        ("5us", 5_000),
        ("5µs", 5_000),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("5.s", 5 * S),
        ("1h30m", 5_400 * S),
        ("-10s", -10 * S),
        ("+10s", 10 * S),
        ("2562047h47m16.854775807s", (1 << 63) - 1),
    ],
)
def test_a_duration_is_read(text, ns):
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1 h", 'time: unknown unit " h" in duration "1 h"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("٣s", 'time: invalid duration "٣s"'),
    ],
)
def test_what_is_no_duration_is_named_in_gos_words(text, complaint):
    with pytest.raises(ValueError, match="time:") as caught:
        parse_duration_ns(text)

    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (250_000_000, "250ms"),
        (1 * S, "1s"),
        (14_250_000_000, "14.25s"),
        (60 * S, "1m0s"),
        (3_600 * S, "1h0m0s"),
    ],
)
def test_a_duration_is_written(ns, text):
    assert format_duration(ns) == text
