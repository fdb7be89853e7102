"""structlog set-up, and the metrics registry with its two ways of being read.

Measuring is cheap: a counter is one addition to a dictionary, a duration one more search
in a list of thirteen bounds. What is read now and then does the work.
"""

import gc
import logging
import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf, isinf, isnan, sqrt
from typing import Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PROMETHEUS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
INTERVAL_NS: Final = 10_000_000_000
"""How long an interval of Nomad's JSON form is, at least."""
LOOP_TICK_S: Final = 0.1
LABELS_MAX: Final = 400
"""Values of one label; labels come from closed sets, and more than this is none."""

_METRIC_NAME: Final = re.compile(r"nodestate_[a-z0-9]+(_[a-z0-9]+)+")
_SECRET_WORDS: Final = (
    "secret", "token", "password", "authorization", "cookie", "private_key",
)  # fmt: skip
_HIDDEN: Final = "<hidden>"
_HIDING_DEPTH: Final = 4

# Logs.


def configure_logging(level: str, log_format: str, stream: TextIO) -> None:
    """Write log lines to `stream`: for people on a terminal, as JSON otherwise.

    What libraries log by the standard library comes out in the same form, from
    warnings up.
    """
    is_terminal = stream.isatty()
    is_human = log_format == "human" or (log_format == "auto" and is_terminal)
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        hide_secrets,
    ]
    rendering = _for_people(is_terminal=is_terminal) if is_human else _as_json()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _for_people(*, is_terminal: bool) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=is_terminal,
            timestamp_key="time",
            sort_keys=False,
            # The richer ones show local variables, and with them secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _as_json() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _order_keys,
        structlog.processors.JSONRenderer(serializer=_to_json_text),
    ]


def hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide the values of keys that sound secret.

    A second line of defence: the first is never to log one.
    """
    for key in event:
        if key != "event":
            event[key] = _without_secrets(key, event[key], _HIDING_DEPTH)
    return event


def _without_secrets(key: str, value: object, depth: int) -> object:
    if any(word in key.lower() for word in _SECRET_WORDS):
        return _HIDDEN
    if not isinstance(value, Mapping):
        return value
    if depth == 0:
        return _HIDDEN
    return {
        inner: _without_secrets(str(inner), value[inner], depth - 1) for inner in value
    }


def _order_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put first what every line has, and a traceback last."""
    first = {key: event[key] for key in ("time", "level", "event") if key in event}
    last = {key: event[key] for key in ("exception",) if key in event}
    middle = {key: event[key] for key in event if key not in first and key not in last}
    return {**first, **middle, **last}


def _to_json_text(event: object, **_: object) -> str:
    # What JSON cannot hold is shown as text: a log line must never fail its caller.
    return msgspec.json.encode(event, enc_hook=repr).decode(errors="replace")


# What is measured.


class _Counter:
    """A number that only grows, by label."""

    __slots__ = ("before", "counts")

    def __init__(self, *, is_labelled: bool) -> None:
        self.counts: dict[str, float] = {} if is_labelled else {"": 0.0}
        self.before: dict[str, float] = {}  # when the interval began

    def add(self, amount: float = 1.0, label: str = "") -> None:
        """Count."""
        self.counts[label] = self.counts.get(label, 0.0) + amount
        assert len(self.counts) <= LABELS_MAX, "labels come from a closed set"


class _Durations:
    """Durations of one label: in all, and (the last four) since the interval began."""

    __slots__ = ("before", "buckets", "count", "largest", "smallest", "squares", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.count = 0
        self.sum = 0.0
        self.begin_interval()

    def begin_interval(self) -> None:
        """Forget what only the interval needs."""
        self.before = (self.count, self.sum)
        self.smallest = inf
        self.largest = 0.0
        self.squares = 0.0

    def observe(self, seconds: float) -> None:
        """Take one duration into account."""
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.count += 1
        self.sum += seconds
        self.squares += seconds * seconds
        self.smallest = min(self.smallest, seconds)
        self.largest = max(self.largest, seconds)


class _Timing:
    """How long something takes, by label."""

    __slots__ = ("series",)

    def __init__(self, *, is_labelled: bool) -> None:
        self.series: dict[str, _Durations] = {} if is_labelled else {"": _Durations()}

    def observe(self, seconds: float, label: str = "") -> None:
        """Take one duration into account."""
        series = self.series.get(label)
        if series is None:
            assert len(self.series) < LABELS_MAX, "labels come from a closed set"
            series = self.series[label] = _Durations()
        series.observe(seconds)


class _Declared(msgspec.Struct, frozen=True):
    """What a metric is called, and what it is for."""

    name: str
    description: str
    label: str


class GaugeSummary(msgspec.Struct, frozen=True, rename="pascal"):
    """A gauge as Nomad's JSON has it."""

    name: str
    value: float
    labels: dict[str, str]


class SampleSummary(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """What was counted or sampled during an interval, as Nomad's JSON has it."""

    name: str
    count: int
    rate: float
    sum: float
    min: float
    max: float
    mean: float
    stddev: float
    labels: dict[str, str]


class MetricsSummary(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of `/v1/metrics`: gauges as of now, the rest of the last interval."""

    timestamp: str
    gauges: list[GaugeSummary]
    points: list[msgspec.Raw]
    counters: list[SampleSummary]
    samples: list[SampleSummary]


class MetricsRegistry:
    """Every metric of one server; `ports.Metrics` says what it promises."""

    def __init__(self) -> None:
        self._counters: list[tuple[_Declared, _Counter]] = []
        self._timings: list[tuple[_Declared, _Timing]] = []
        self._gauges: list[tuple[_Declared, Callable[[], float]]] = []
        self._names: set[str] = set()
        self._interval_began_at_ns: int | None = None
        self._last_interval = MetricsSummary("", [], [], [], [])

    def counter(self, name: str, description: str, label: str = "") -> _Counter:
        """Declare a counter, with at most one label."""
        assert name.endswith("_total"), name
        counter = _Counter(is_labelled=bool(label))
        self._counters.append((self._declared(name, description, label), counter))
        return counter

    def timing(self, name: str, description: str, label: str = "") -> _Timing:
        """Declare a duration in seconds: count, sum and buckets."""
        assert name.endswith("_seconds"), name
        timing = _Timing(is_labelled=bool(label))
        self._timings.append((self._declared(name, description, label), timing))
        return timing

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Declare a value that is read when somebody asks."""
        self._gauges.append((self._declared(name, description, ""), read))

    def _declared(self, name: str, description: str, label: str) -> _Declared:
        assert _METRIC_NAME.fullmatch(name), name
        assert name not in self._names, f"{name} is declared twice"
        self._names.add(name)
        return _Declared(name, description, label)

    def to_prometheus(self) -> str:
        """Return everything in Prometheus' text exposition format."""
        lines: list[str] = []
        for declared, counter in self._counters:
            lines += _heading(declared, "counter")
            for value, count in sorted(counter.counts.items()):
                lines.append(_line(declared.name, _labels(declared, value), count))
        for declared, read in self._gauges:
            lines += _heading(declared, "gauge")
            lines.append(_line(declared.name, [], read()))
        for declared, timing in self._timings:
            lines += _heading(declared, "histogram")
            for value, series in sorted(timing.series.items()):
                lines += _histogram(declared, value, series)
        return "\n".join(lines) + "\n"

    def summary(self, now_ns: int) -> MetricsSummary:
        """Return everything in the shape of Nomad's JSON.

        Counters and samples are those of the last complete interval. An interval ends
        with the first call after it has lasted long enough, so nobody has to keep time.
        """
        began_at_ns = self._interval_began_at_ns
        if began_at_ns is None or now_ns >= began_at_ns + INTERVAL_NS:
            self._last_interval = self._end_interval(now_ns)
            self._interval_began_at_ns = now_ns
        gauges = [
            GaugeSummary(declared.name, float(read()), {})
            for declared, read in self._gauges
        ]
        return msgspec.structs.replace(self._last_interval, gauges=gauges)

    def _end_interval(self, now_ns: int) -> MetricsSummary:
        began_at_ns = self._interval_began_at_ns
        # How long the first one was is not known, and neither are its rates.
        seconds = inf if began_at_ns is None else (now_ns - began_at_ns) / 1e9
        counters = [
            _counter_summary(declared, counter, value, seconds)
            for declared, counter in self._counters
            for value in sorted(counter.counts)
        ]
        samples = [
            _timing_summary(declared, series, value, seconds)
            for declared, timing in self._timings
            for value, series in sorted(timing.series.items())
        ]
        for _, counter in self._counters:
            counter.before = dict(counter.counts)
        for _, timing in self._timings:
            for series in timing.series.values():
                series.begin_interval()
        return MetricsSummary(_go_time(now_ns), [], [], counters, samples)


# How it is shown.


def _heading(declared: _Declared, kind: str) -> list[str]:
    description = declared.description.replace("\\", r"\\").replace("\n", r"\n")
    return [
        f"# HELP {declared.name} {description}",
        f"# TYPE {declared.name} {kind}",
    ]


def _labels(declared: _Declared, value: str) -> list[tuple[str, str]]:
    return [(declared.label, value)] if declared.label else []


def _line(name: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return (
        f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _histogram(declared: _Declared, value: str, series: _Durations) -> Iterator[str]:
    labels, up_to = _labels(declared, value), 0
    for bound, count in zip((*BUCKETS_S, inf), series.buckets, strict=True):
        up_to += count
        bounded = [*labels, ("le", _number(bound))]
        yield _line(f"{declared.name}_bucket", bounded, up_to)
    yield _line(f"{declared.name}_sum", labels, series.sum)
    yield _line(f"{declared.name}_count", labels, series.count)


def _counter_summary(
    declared: _Declared, counter: _Counter, value: str, seconds: float
) -> SampleSummary:
    """Sum up a counter as if it had been counted up by ones, which most are."""
    grown = counter.counts[value] - counter.before.get(value, 0.0)
    one = 1.0 if grown else 0.0
    return SampleSummary(
        name=declared.name,
        count=round(grown),
        rate=grown / seconds,
        sum=grown,
        min=one,
        max=one,
        mean=one,
        stddev=0.0,
        labels=dict(_labels(declared, value)),
    )


def _timing_summary(
    declared: _Declared, series: _Durations, value: str, seconds: float
) -> SampleSummary:
    count = series.count - series.before[0]
    total = series.sum - series.before[1]
    mean = total / count if count else 0.0
    # Rounding can leave the sum of squares a little short.
    spread = max(series.squares - total * mean, 0.0)
    return SampleSummary(
        name=declared.name,
        count=count,
        rate=total / seconds,
        sum=total,
        min=series.smallest if count else 0.0,
        max=series.largest,
        mean=mean,
        stddev=sqrt(spread / (count - 1)) if count > 1 else 0.0,
        labels=dict(_labels(declared, value)),
    )


def _go_time(now_ns: int) -> str:
    """Return a time as Go prints it, which is what Nomad sends here."""
    moment = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


# What stalls a process.


def watch_gc(registry: MetricsRegistry) -> Callable[[], None]:
    """Measure how long garbage collections stop the process; return how to end it."""
    timing = registry.timing(
        "nodestate_process_gc_pause_seconds", "Time a garbage collection took."
    )
    pause = _Longest()
    registry.gauge(
        "nodestate_process_gc_pause_longest_seconds",
        "Longest time that a garbage collection took.",
        pause.read,
    )
    began_s = 0.0

    def on_collection(phase: str, _: dict[str, int]) -> None:
        nonlocal began_s
        # A measurement of the process itself, in which nothing may be decided: it needs
        # no clock that a test can move.
        now_s = time.perf_counter()
        if phase == "start":
            began_s = now_s
        elif began_s:
            timing.observe(now_s - began_s)
            pause.consider(now_s - began_s)

    gc.callbacks.append(on_collection)
    return lambda: gc.callbacks.remove(on_collection)


async def watch_loop(
    registry: MetricsRegistry,
    *,
    sleep: Callable[[float], Awaitable[None]],
    monotonic_s: Callable[[], float],
) -> None:
    """Measure for ever how much later than asked for the event loop wakes a task."""
    timing = registry.timing(
        "nodestate_process_loop_lag_seconds", "How late the event loop is."
    )
    lag = _Longest()
    registry.gauge(
        "nodestate_process_loop_lag_longest_seconds",
        "The latest that the event loop has been.",
        lag.read,
    )
    while True:
        due_s = monotonic_s() + LOOP_TICK_S
        await sleep(LOOP_TICK_S)
        late_s = max(monotonic_s() - due_s, 0.0)
        timing.observe(late_s)
        lag.consider(late_s)


class _Longest:
    """The longest of many durations."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def consider(self, seconds: float) -> None:
        self._seconds = max(self._seconds, seconds)

    def read(self) -> float:
        return self._seconds
