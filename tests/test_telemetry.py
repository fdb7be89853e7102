"""Log lines, and metrics in both forms."""

import asyncio
import gc
import io
import logging
import re

import msgspec
import pytest
import structlog
from typing_extensions import override

from nodestate.telemetry import (
    BUCKETS_S,
    INTERVAL_NS,
    LABELS_MAX,
    MetricsRegistry,
    configure_logging,
    watch_gc,
    watch_loop,
)
from tests.fakes import FakeClock

NOW_NS = 1_000_000_000_000_000_000


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_and_event_first():
    stream = io.StringIO()
    configure_logging("info", "auto", stream)

    log = structlog.get_logger().bind(server_id="s1")
    log.info("leadership gained", term=7, index=4120)

    (line,) = lines(stream)
    assert list(line) == ["time", "level", "event", "server_id", "term", "index"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["time"]))
    assert (line["level"], line["event"], line["term"]) == (
        "info",
        "leadership gained",
        7,
    )


def test_a_terminal_gets_lines_for_people():
    stream = Terminal()
    configure_logging("info", "auto", stream)

    structlog.get_logger().info("leadership gained", term=7)

    assert "leadership gained" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_form_can_be_asked_for():
    terminal, pipe = Terminal(), io.StringIO()

    configure_logging("info", "json", terminal)
    structlog.get_logger().info("one")
    configure_logging("info", "human", pipe)
    structlog.get_logger().info("two")

    assert lines(terminal)[0]["event"] == "one"
    assert pipe.getvalue().rstrip().endswith("two")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_important_lines_are_left_out(level, shown):
    stream = io.StringIO()
    configure_logging(level, "json", stream)

    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")

    assert [line["level"] for line in lines(stream)] == shown


@pytest.mark.parametrize("form", ["json", "human"])
def test_secrets_are_hidden_wherever_they_are(form):
    stream = io.StringIO()
    configure_logging("info", form, stream)

    structlog.get_logger().info(
        "request",
        SecretID="hush",
        x_nomad_token="hush",
        headers={"Authorization": "hush", "deep": {"Cookie": "hush", "host": "seen"}},
    )

    assert "hush" not in stream.getvalue()
    assert "seen" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "human"])
def test_a_traceback_is_in_the_line_and_no_local_variable(form):
    stream = io.StringIO()
    configure_logging("info", form, stream)
    own_secret = "hush" * 2

    try:
        int("broken")
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)

    assert "ValueError: invalid literal" in stream.getvalue()
    assert "test_telemetry.py" in stream.getvalue()
    assert own_secret not in stream.getvalue()


def test_what_json_cannot_hold_is_shown_as_text():
    stream = io.StringIO()
    configure_logging("info", "json", stream)

    structlog.get_logger().info("odd", thing=object(), data=b"\xff")

    assert "object" in str(lines(stream)[0]["thing"])


def test_what_libraries_log_comes_out_in_the_same_form():
    stream = io.StringIO()
    configure_logging("info", "json", stream)

    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("chatter")

    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == (
        "slow callback",
        "warning",
        "asyncio",
    )


@pytest.fixture
def registry() -> MetricsRegistry:
    return MetricsRegistry()


def test_a_counter_without_label_is_there_from_the_start(registry):
    counter = registry.counter("nodestate_api_requests_total", "Requests.")

    assert "nodestate_api_requests_total 0\n" in registry.to_prometheus()
    counter.add()
    counter.add(2.5)

    assert registry.to_prometheus() == (
        "# HELP nodestate_api_requests_total Requests.\n"
        "# TYPE nodestate_api_requests_total counter\n"
        "nodestate_api_requests_total 3.5\n"
    )


def test_labels_and_descriptions_are_escaped(registry):
    counter = registry.counter("nodestate_api_requests_total", "a\\b\nc", "kind")

    counter.add(label='q"\\\n')

    assert registry.to_prometheus().splitlines() == [
        r"# HELP nodestate_api_requests_total a\\b\nc",
        "# TYPE nodestate_api_requests_total counter",
        r'nodestate_api_requests_total{kind="q\"\\\n"} 1',
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.0, "3"),
        (0.25, "0.25"),
        (-1, "-1"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_a_gauge_is_read_when_asked(registry, value, shown):
    registry.gauge("nodestate_watch_waiters", "Waiters.", lambda: value)

    assert registry.to_prometheus().endswith(f"nodestate_watch_waiters {shown}\n")


def test_a_duration_counts_in_every_bucket_it_fits(registry):
    timing = registry.timing("nodestate_api_request_seconds", "Requests.", "route")

    timing.observe(0.001, "list")
    timing.observe(0.0011, "list")
    timing.observe(11.0, "list")

    text = registry.to_prometheus()
    bucket = 'nodestate_api_request_seconds_bucket{route="list",le='
    assert "# TYPE nodestate_api_request_seconds histogram\n" in text
    assert f'{bucket}"0.001"}} 1\n' in text
    assert f'{bucket}"0.0025"}} 2\n' in text
    assert f'{bucket}"10"}} 2\n' in text
    assert f'{bucket}"+Inf"}} 3\n' in text
    assert 'nodestate_api_request_seconds_sum{route="list"} 11.0021\n' in text
    assert 'nodestate_api_request_seconds_count{route="list"} 3\n' in text
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 10.0)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("counter", "nodestate_api_requests"),
        ("counter", "api_requests_total"),
        ("counter", "nodestate_api_Requests_total"),
        ("timing", "nodestate_api_request"),
    ],
)
def test_a_name_that_breaks_the_rules_is_a_defect(registry, kind, name):
    with pytest.raises(AssertionError):
        getattr(registry, kind)(name, "")


def test_a_name_is_declared_once(registry):
    registry.counter("nodestate_api_requests_total", "")

    with pytest.raises(AssertionError, match="declared twice"):
        registry.gauge("nodestate_api_requests_total", "", lambda: 0.0)


def test_a_label_that_is_no_closed_set_is_a_defect(registry):
    counter = registry.counter("nodestate_api_requests_total", "", "kind")
    timing = registry.timing("nodestate_api_request_seconds", "", "kind")
    for number in range(LABELS_MAX):
        counter.add(label=str(number))
        timing.observe(1.0, str(number))

    with pytest.raises(AssertionError):
        counter.add(label="one more")
    with pytest.raises(AssertionError):
        timing.observe(1.0, "one more")


def test_the_json_has_nomads_shape(registry):
    registry.counter("nodestate_api_requests_total", "", "kind").add(3, "read")
    registry.gauge("nodestate_watch_waiters", "", lambda: 2)
    registry.timing("nodestate_api_request_seconds", "").observe(0.5)

    body = msgspec.to_builtins(registry.summary(NOW_NS))

    assert body == {
        "Timestamp": "2001-09-09 01:46:40 +0000 UTC",
        "Gauges": [{"Name": "nodestate_watch_waiters", "Value": 2.0, "Labels": {}}],
        "Points": [],
        "Counters": [
            {
                "Name": "nodestate_api_requests_total",
                "Count": 3,
                "Rate": 0.0,
                "Sum": 3.0,
                "Min": 1.0,
                "Max": 1.0,
                "Mean": 1.0,
                "Stddev": 0.0,
                "Labels": {"kind": "read"},
            }
        ],
        "Samples": [
            {
                "Name": "nodestate_api_request_seconds",
                "Count": 1,
                "Rate": 0.0,
                "Sum": 0.5,
                "Min": 0.5,
                "Max": 0.5,
                "Mean": 0.5,
                "Stddev": 0.0,
                "Labels": {},
            }
        ],
    }


def test_an_interval_holds_what_happened_in_it(registry):
    counter = registry.counter("nodestate_api_requests_total", "")
    timing = registry.timing("nodestate_api_request_seconds", "")
    counter.add(100)
    timing.observe(100.0)
    registry.summary(NOW_NS)

    counter.add(20)
    for seconds in (1.0, 2.0, 3.0):
        timing.observe(seconds)
    within = registry.summary(NOW_NS + INTERVAL_NS - 1)
    after = registry.summary(NOW_NS + INTERVAL_NS)
    later = registry.summary(NOW_NS + 2 * INTERVAL_NS)

    assert within.counters[0].sum == 100
    assert (after.counters[0].count, after.counters[0].rate) == (20, 2.0)
    sample = after.samples[0]
    assert (sample.count, sample.sum, sample.mean, sample.rate) == (3, 6.0, 2.0, 0.6)
    assert (sample.min, sample.max) == (1.0, 3.0)
    assert sample.stddev == pytest.approx(1.0)
    assert (later.counters[0].count, later.samples[0].count) == (0, 0)
    assert (later.samples[0].min, later.samples[0].max) == (0.0, 0.0)


def test_gauges_are_never_of_the_past(registry):
    values = iter([1.0, 2.0])
    registry.gauge("nodestate_watch_waiters", "", lambda: next(values))

    first, second = registry.summary(NOW_NS), registry.summary(NOW_NS + 1)

    assert (first.gauges[0].value, second.gauges[0].value) == (1.0, 2.0)


def test_garbage_collections_are_measured(registry):
    stop = watch_gc(registry)

    gc.collect()
    stop()
    gc.collect()

    text = registry.to_prometheus()
    count = re.search(r"gc_pause_seconds_count (\d+)", text)
    longest = re.search(r"\nnodestate_process_gc_pause_longest_seconds (\S+)", text)
    assert count is not None
    assert longest is not None
    assert int(count[1]) == 1
    assert float(longest[1]) > 0


async def test_a_late_event_loop_is_measured(registry):
    clock = FakeClock()
    task = asyncio.create_task(
        watch_loop(registry, sleep=clock.sleep, monotonic_s=clock.monotonic_s)
    )

    await clock.step(0.1)
    clock.pause(0.6)
    await clock.step(0.0)
    task.cancel()

    text = registry.to_prometheus()
    assert "nodestate_process_loop_lag_seconds_count 2\n" in text
    longest = re.search(r"\nnodestate_process_loop_lag_longest_seconds (\S+)", text)
    assert longest is not None
    assert float(longest[1]) == pytest.approx(0.5)
