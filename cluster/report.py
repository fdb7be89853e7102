"""Figures as a table for people and as JSON for machines, beside those of Nomad."""

import platform
from collections.abc import Sequence
from typing import Final

import msgspec

# What a real cluster of three Nomad 0.10.9 servers did on a machine of two cores.
NOMAD: Final[dict[str, float]] = {
    "eligibility_writes_1": 550,
    "eligibility_writes_64": 2150,
    "eligibility_writes_256": 3540,
    "node_reads": 22_000,
    "list_reads": 35,
    "list_fanout_100": 13.6,
    "node_fanout_1000": 0.41,
    "registrations_single": 260,
    "memory_pss": 146,
}
# On that machine a bare low-level aiohttp server gave as many answers a second.
YARDSTICK: Final = "yardstick"
YARDSTICK_THERE: Final = 35_000
SMALLER_IS_BETTER: Final = frozenset({"s", "MB", "ms"})


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured; `where` is the server that was loaded."""

    name: str
    title: str
    value: float
    unit: str
    where: str = ""
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def nomad(self) -> float | None:
        """Return Nomad's figure for the same thing, where there is one."""
        return NOMAD.get(self.name)

    @property
    def times_better(self) -> float | None:
        """Return how many times better than Nomad's it is."""
        if self.nomad is None or not self.value:
            return None
        if self.unit in SMALLER_IS_BETTER:
            return self.nomad / self.value
        return self.value / self.nomad


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run found, and where it ran."""

    machine: str
    cores: int
    python: str
    load_generator: str
    node_count: int
    node_bytes: int
    list_bytes: int
    figures: Sequence[Figure]


def machine_speed(report: Report) -> float | None:
    """Return how fast this machine was beside Nomad's, as bare aiohttp shows it."""
    rates = [figure.value for figure in report.figures if figure.name == YARDSTICK]
    return sum(rates) / len(rates) / YARDSTICK_THERE if rates else None


def machine_name() -> str:
    """Say what this machine is, as far as comparing figures goes."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def to_json(report: Report) -> bytes:
    """Return the report for machines, with the comparison worked out."""
    plain = msgspec.to_builtins(report)
    for figure, row in zip(report.figures, plain["figures"], strict=True):
        row["nomad"] = figure.nomad
        row["times_better"] = figure.times_better
    plain["machine_speed"] = machine_speed(report)
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def to_table(report: Report) -> str:
    """Return the report for people."""
    rows = [("", "server", "measured", "p50 ms", "p99 ms", "Nomad", "times better")]
    rows += [_row(figure) for figure in report.figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", _footnote(report)])


def _row(figure: Figure) -> tuple[str, str, str, str, str, str, str]:
    return (
        figure.title,
        figure.where,
        f"{_number(figure.value)} {figure.unit}",
        _number(figure.p50_ms),
        _number(figure.p99_ms),
        _number(figure.nomad),
        _number(figure.times_better),
    )


def _number(value: float | None) -> str:
    """Return three digits that matter, and no more."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _footnote(report: Report) -> str:
    speed = machine_speed(report)
    sizes = (
        f"{report.node_count:,} nodes of {report.node_bytes:,} bytes, list of "
        f"{report.list_bytes:,} bytes; "
        if report.node_count
        else ""
    )
    return (
        f"{sizes}{report.machine}, {report.cores} cores, "
        f"Python {report.python}; load by {report.load_generator} on the same machine.\n"
        "Nomad: three servers of 0.10.9 on another machine of two cores, on which bare "
        f"aiohttp answered {YARDSTICK_THERE:,} times a second; this one did "
        f"{'-' if speed is None else f'{speed:.0%}'} of that, on average over the run."
    )
