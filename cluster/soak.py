"""`python -m cluster soak`: real servers under fire for minutes or hours, and a verdict.

Writers write all sorts of things through any server and judge every answer
(`cluster.soak_clients`), while servers are killed, frozen and restarted, one to all of
them at a time, by a seed (`cluster.adversary`). The log is compacted all the while. Then
come a calm, to see whether memory and disk stay where they are, and the verdict: nothing
acknowledged is missing, nothing was done twice, and all servers show the same bytes.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from cluster.adversary import Adversary, Fault, draw_faults
from cluster.expected import find_differences, to_seen
from cluster.fleet import node_id
from cluster.growth import Sample, Trend, disk_mib, find_trends, memory_mib
from cluster.servers import ServerProcess, Setting, lay_out, stop_all
from cluster.soak_clients import Ledger, SoakReader, SoakWriter, Stop, ask

CALM_SHARE: Final = 0.2
PROGRESS_S: Final = 10.0
GIVE_UP_S: Final = 60.0
LEVEL_S: Final = 60.0
POLL_S: Final = 0.2
ASK_S: Final = 30.0
READS_AT_ONCE: Final = 16
SHOWN_MAX: Final = 10
WARM_S: Final = 3.0
"""A process younger than this has not got its memory yet."""
MOST_SAMPLES: Final = 2000
# Servers keep the answers to the last 100,000 writes that had a key: memory and
# snapshots grow until then, by design.
WARM_WRITES: Final = 110_000
# A shorter time says more about when the last snapshot was.
JUDGED_GROWTH_S: Final = 60.0
TAIL_SHARE: Final = 3
"""The log keeps a third as many entries behind a snapshot as lie between two of them."""
SEGMENT_BYTES: Final = 256 << 10
# Elections within a second or so; no agent sends heartbeats, and no node goes down by
# itself.
SETTINGS: Final[dict[str, Setting]] = {
    "election_timeout_s_min": 0.5,
    "election_timeout_s_max": 1.0,
    "heartbeat_ttl_s_min": 86_400.0,
    "failover_heartbeat_ttl_s": 86_400.0,
    "log_format": "json",
}


class SoakOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to do; `faults` are drawn from the seed if none are given."""

    seconds: float
    seed: int
    server_count: int = 3
    client_count: int = 8
    snapshot_entries: int = 3000
    faults: Sequence[Fault] | None = None


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seed: int
    seconds: float
    server_count: int
    client_count: int
    snapshot_entries: int
    fault_count: int
    last_index: int
    counts: dict[str, int]
    trends: Sequence[Trend]
    violations: Sequence[str]
    samples: Sequence[Sample]


def run_soak(options: SoakOptions, *, json_path: Path | None = None) -> int:
    """Soak a cluster of its own, print the verdict, and return the exit code."""
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="nodestate-soak-") as directory:
        report = soak(options, Path(directory))
    print(to_text(report), flush=True)
    if json_path is not None:
        encoded = msgspec.json.encode(report)
        json_path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    return 1 if report.violations else 0


def soak(options: SoakOptions, directory: Path) -> SoakReport:
    """Soak servers whose files are in `directory`, and leave none of them running."""
    files = lay_out(directory, count=options.server_count, settings=SETTINGS)
    processes = [ServerProcess(one) for one in files]
    run = _Soak(options, processes)
    try:
        asyncio.run(run.run())
    finally:
        for process in processes:
            if process.is_running:
                process.thaw()
        stop_all(processes)
    return run.report()


class _Soak:
    """One run."""

    def __init__(
        self, options: SoakOptions, processes: Sequence[ServerProcess]
    ) -> None:
        self._options = options
        self._processes = processes
        self._files = [process.files for process in processes]
        self._ledger = Ledger()
        self._adversary = Adversary(processes, start=self._start)
        self._writers = [
            SoakWriter(self._ledger, self._files, seed=options.seed, number=number)
            for number in range(options.client_count)
        ]
        self._readers = [SoakReader(self._ledger, files) for files in self._files]
        self._stop = Stop()
        self._samples: list[Sample] = []
        self._began_s = 0.0
        self._started_s: dict[str, float] = {}
        self._is_calm = False

    def _start(self, process: ServerProcess) -> None:
        entries = self._options.snapshot_entries
        self._started_s[process.files.name] = time.monotonic()
        process.start(
            {
                "NODESTATE_SNAPSHOT_ENTRIES": str(entries),
                "NODESTATE_SNAPSHOT_TAIL_ENTRIES": str(entries // TAIL_SHARE),
                "NODESTATE_SEGMENT_BYTES": str(SEGMENT_BYTES),
            }
        )

    async def run(self) -> None:
        """Start, storm, heal, calm, stop, judge; what goes wrong is a violation."""
        for process in self._processes:
            self._start(process)
        await self._adversary.wait_until_serving()
        self._began_s = time.monotonic()
        everyone: Sequence[SoakWriter | SoakReader] = (*self._writers, *self._readers)
        clients = [asyncio.create_task(client.run(self._stop)) for client in everyone]
        observer = asyncio.create_task(self._observe())
        try:
            await self._weather(clients)
        except (TimeoutError, RuntimeError) as error:
            self._ledger.complain(str(error))
        finally:
            observer.cancel()
            for client in clients:
                client.cancel()
            await asyncio.gather(observer, *clients, return_exceptions=True)

    async def _weather(self, clients: Sequence[asyncio.Task[None]]) -> None:
        """Storm, heal, calm, stop the clients, judge."""
        storm_s = self._options.seconds * (1 - CALM_SHARE)
        await self._adversary.run(self._faults(), until_s=self._began_s + storm_s)
        self._adversary.heal()
        await self._adversary.wait_until_serving()
        print("healed: no more faults", flush=True)
        self._is_calm = True
        await self._sleep_until(self._began_s + self._options.seconds)
        self._stop.set(give_up_after_s=GIVE_UP_S)
        await asyncio.gather(*clients)
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ASK_S)
        ) as session:
            await self._wait_until_level(session)
            await self._compare_nodes(session)

    def _faults(self) -> Iterator[Fault]:
        if self._options.faults is not None:
            return iter(self._options.faults)
        return draw_faults(self._options.seed, self._options.server_count)

    async def _sleep_until(self, end_s: float) -> None:
        while time.monotonic() < end_s:
            self._adversary.check_running()
            await asyncio.sleep(min(POLL_S, max(0.0, end_s - time.monotonic())))

    # Watching

    async def _observe(self) -> None:
        """Take samples and say how it goes, for ever."""
        samples_each = MOST_SAMPLES // self._options.server_count
        every_s = max(1.0, self._options.seconds / samples_each)
        due_s = 0.0
        while True:
            await asyncio.sleep(every_s)
            elapsed_s = time.monotonic() - self._began_s
            for process in self._processes:
                self._sample(process, elapsed_s)
            if elapsed_s >= due_s:
                print(self._progress(elapsed_s), flush=True)
                due_s = elapsed_s + PROGRESS_S

    def _sample(self, process: ServerProcess, elapsed_s: float) -> None:
        age_s = time.monotonic() - self._started_s[process.files.name]
        if not process.is_running or age_s < WARM_S:
            return
        try:
            memory = memory_mib(process.pid)
        except (OSError, StopIteration):
            return  # it ended just now
        self._samples.append(
            Sample(
                at_s=elapsed_s,
                server=process.files.name,
                memory_mib=memory,
                disk_mib=disk_mib(process.files.data_dir),
                is_warm=self._ledger.acknowledged_count >= WARM_WRITES,
                is_calm=self._is_calm,
            )
        )

    def _progress(self, elapsed_s: float) -> str:
        latest = {sample.server: sample for sample in self._samples}
        memory = " ".join(f"{latest[name].memory_mib:.0f}" for name in sorted(latest))
        disk = " ".join(f"{latest[name].disk_mib:.1f}" for name in sorted(latest))
        counts = self._ledger.counts
        return (
            f"{elapsed_s:6.0f} s: {self._ledger.acknowledged_count:,} acknowledged, "
            f"{counts['refused']:,} refused, "
            f"{counts['resolved by a retry']:,} resolved by a retry, "
            f"{counts['consistent reads']:,} consistent reads, "
            f"{self._adversary.done_count} faults; PSS {memory} MiB, disk {disk} MiB; "
            f"{len(self._ledger.violations)} violations"
        )

    # Judging

    async def _wait_until_level(self, session: aiohttp.ClientSession) -> None:
        """Return once all servers show the same list; a drain may still be ended."""
        end_s = time.monotonic() + LEVEL_S
        while True:
            self._adversary.check_running()
            answers = [
                await ask(session, f"{files.url}/v1/nodes?consistent")
                for files in self._files
            ]
            lists = {
                (answer.status, answer.index, answer.body) if answer else None
                for answer in answers
            }
            if len(lists) == 1 and answers[0] is not None and answers[0].status == 200:
                return
            if time.monotonic() > end_s:
                said = [answer and (answer.status, answer.index) for answer in answers]
                raise TimeoutError(f"not level within {LEVEL_S:g} s: {said}")
            await asyncio.sleep(POLL_S)

    async def _compare_nodes(self, session: aiohttp.ClientSession) -> None:
        """Read every node on every server: the same bytes, and what was acknowledged."""
        gate = asyncio.Semaphore(READS_AT_ONCE)

        async def compare(writer: SoakWriter, number: int) -> None:
            async with gate:
                await self._compare_node(session, writer, number)

        await asyncio.gather(
            *(
                compare(writer, number)
                for writer in self._writers
                for number in writer.expected
            )
        )

    async def _compare_node(
        self, session: aiohttp.ClientSession, writer: SoakWriter, number: int
    ) -> None:
        path = f"/v1/node/{node_id(number)}"
        answers = [await ask(session, files.url + path) for files in self._files]
        if len({answer and (answer.status, answer.body) for answer in answers}) > 1:
            shown = [answer and answer.body.decode() for answer in answers]
            writer.complain(number, f"servers differ: {shown}")
        answer = answers[0]
        if number in writer.unresolved:
            return
        if answer is None or answer.status not in {200, 404}:
            writer.complain(number, f"cannot be read: {answer}")
            return
        seen = to_seen(answer.body) if answer.status == 200 else None
        for difference in find_differences(writer.expected[number], seen):
            writer.complain(number, f"in the end: {difference}")

    def report(self) -> SoakReport:
        """Return what came of it, growth judged where it was seen long enough."""
        trends = list(find_trends(self._samples))
        for trend in trends:
            if trend.seconds >= JUDGED_GROWTH_S and not trend.is_flat:
                self._ledger.complain(f"not flat: {trend}")
        if not self._ledger.acknowledged_count:
            self._ledger.complain("not one write was acknowledged")
        return SoakReport(
            seed=self._options.seed,
            seconds=self._options.seconds,
            server_count=self._options.server_count,
            client_count=self._options.client_count,
            snapshot_entries=self._options.snapshot_entries,
            fault_count=self._adversary.done_count,
            last_index=self._ledger.highest_index,
            counts=dict(sorted(self._ledger.counts.items())),
            trends=trends,
            violations=self._ledger.violations,
            samples=self._samples,
        )


def to_text(report: SoakReport) -> str:
    """Return the verdict for people."""
    facts: dict[str, Any] = {**report.counts, "faults": report.fault_count}
    lines = [f"{name}: {value:,}" for name, value in facts.items()]
    lines += [str(trend) for trend in report.trends]
    if not report.trends:
        lines.append(f"growth not judged: under {WARM_WRITES:,} writes")
    lines.append(f"seed {report.seed}, last index {report.last_index:,}")
    if report.violations:
        # Each was shown in full when it was found.
        first_lines = [text.splitlines()[0] for text in report.violations]
        lines += [f"FAILED: {len(first_lines)} violations", *first_lines[:SHOWN_MAX]]
    else:
        lines.append("PASSED: nothing lost, nothing twice, one state")
    return "\n".join(lines)
