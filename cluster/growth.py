"""How much memory and disk servers take over time, and whether that is flat."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from typing_extensions import override

PROC: Final = Path("/proc")
MIB: Final = 1 << 20
BLOCK_BYTES: Final = 512
"""What `st_blocks` counts, whatever the file system's own blocks are."""
GROWTH_MAX: Final = 1.25
"""How many times the first third the last third may be,"""
ALLOWANCE_MIB: Final = 8.0
"""and how much more than that."""


class Sample(msgspec.Struct, frozen=True):
    """What one server took at one moment."""

    at_s: float
    server: str
    memory_mib: float
    disk_mib: float
    is_warm: bool = True
    """What is kept within bounds, such as answers to requests, is full by now."""
    is_calm: bool = False
    """No fault will happen any more."""


class Trend(msgspec.Struct, frozen=True):
    """Averages of the first and of the last third of a time, in MiB."""

    what: str
    first_mib: float
    last_mib: float
    seconds: float

    @property
    def is_flat(self) -> bool:
        """Say whether it grew by no more than the margin."""
        return self.last_mib <= self.first_mib * GROWTH_MAX + ALLOWANCE_MIB

    @override
    def __str__(self) -> str:
        return (
            f"{self.what}: {self.first_mib:.1f} MiB in the first third, "
            f"{self.last_mib:.1f} MiB in the last, of {self.seconds:.0f} s"
        )


def memory_mib(pid: int, kind: str = "Pss") -> float:
    """Return a process's memory; PSS counts what processes share in equal parts."""
    text = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def disk_mib(directory: Path) -> float:
    """Return what a directory's files take; those that go away meanwhile are nothing."""
    return sum(_file_bytes(path) for path in directory.rglob("*")) / MIB


def _file_bytes(path: Path) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_blocks * BLOCK_BYTES


def find_trends(samples: Sequence[Sample]) -> Iterator[Trend]:
    """Yield trends of memory and disk once servers are warm, and of that in the calm.

    Servers that are killed again and again never live long enough to show a leak: the
    calm is for that.
    """
    warm = [sample for sample in samples if sample.is_warm]
    calm = [sample for sample in warm if sample.is_calm]
    for what, chosen in (("", warm), (" in the calm", calm)):
        yield from _trend(
            f"memory (PSS){what}", [(s.at_s, s.memory_mib) for s in chosen]
        )
        yield from _trend(f"disk{what}", [(s.at_s, s.disk_mib) for s in chosen])


def _trend(what: str, points: Sequence[tuple[float, float]]) -> Iterator[Trend]:
    """Yield one trend, or none where a third has no samples."""
    if not points:
        return
    start, end = min(at for at, _ in points), max(at for at, _ in points)
    third = (end - start) / 3
    first = [value for at, value in points if at <= start + third]
    last = [value for at, value in points if at >= end - third]
    if third > 0 and first and last:
        means = statistics.fmean(first), statistics.fmean(last)
        yield Trend(what, *means, seconds=end - start)
