"""Agreement: every server makes the same state of the same log, or is found out.

Every server digests its tables after the same entries, in slices over a copy, and tells
the leader. What a majority of voters has is what the log means; a server that has
something else stops. Where no majority can have the same, nobody knows who is right: all
say so, and go on.

Digests are facts about one index, whoever leads and in whatever term. A report or a
verdict that is lost is not sent again: the next index brings the next ones.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import structlog

from nodestate.clock import Clock
from nodestate.errors import StateDisagreementError
from nodestate.fsm.state import State
from nodestate.ports import Metrics, Spawner
from nodestate.replication.disarmed import Send
from nodestate.replication.frames import Digests, DigestVerdict, StateDigest

KEPT_MAX: Final = 8
"""For how many indexes reports, and verdicts, are remembered."""
SLICE_S: Final = 0.003
SLICE_STEPS_MAX: Final = 64
"""Ends a slice where time stands still between two looks at the clock."""

NO_MAJORITY: Final[Digests] = ()

T = TypeVar("T")

DigestSteps = Callable[[State], Generator[None, None, Digests]]
"""Digests the tables of a copy; yields often enough for others to have their turn."""


class Electorate(NamedTuple):
    """Who leads, who counts and who is told; each as of now. This server is among them."""

    server_id: str
    leader_id: Callable[[], str | None]
    voters: Callable[[], Sequence[str]]
    members: Callable[[], Sequence[str]]


def are_comparable(one: Digests, other: Digests) -> bool:
    """Say whether both name the same tables: servers of two versions may not."""
    return [name for name, _ in one] == [name for name, _ in other]


def first_difference(one: Digests, other: Digests) -> tuple[str, bytes, bytes] | None:
    """Return the first table of two comparable digests that differs, and how."""
    for (name, digest), (_, other_digest) in zip(one, other, strict=True):
        if digest != other_digest:
            return name, digest, other_digest
    return None


def judge(reports: Mapping[str, Digests], voters: Sequence[str]) -> Digests | None:
    """Return what a majority of the voters has, `NO_MAJORITY` if none ever can.

    `None` as long as that is open; also where voters of two versions digest different
    tables, which says nothing about the state.
    """
    cast = [reports[voter] for voter in voters if voter in reports]
    if not cast:
        return None
    quorum = len(voters) // 2 + 1
    leading = max(cast, key=cast.count)
    count = cast.count(leading)
    if count >= quorum:
        return leading
    missing_count = len(voters) - len(cast)
    if count + missing_count >= quorum:
        return None
    if not all(are_comparable(leading, digests) for digests in cast):
        return None
    return NO_MAJORITY


class Agreement:
    """One server's part in it: its own digests, and as leader everybody's."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        electorate: Electorate,
        *,
        digest_steps: DigestSteps,
        send: Send,
        disagree: Callable[[StateDisagreementError], None],
        clock: Clock,
        spawner: Spawner,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        """`disagree` is called, on the loop, when this server has to stop."""
        self._electorate = electorate
        self._digest_steps = digest_steps
        self._send = send
        self._disagree = disagree
        self._clock = clock
        self._spawner = spawner
        self._logger = logger
        self._is_digesting = False
        self._own: dict[int, Digests] = {}
        self._reports: dict[str, dict[int, Digests]] = {}
        self._verdicts: dict[int, Digests] = {}
        self._agreed_index = 0
        self._majority_index = 0
        self._dispute_index = 0
        self._declare(metrics)

    def is_in_dispute(self) -> bool:
        """Say whether, at the last index that was judged, no majority had one state."""
        return self._dispute_index > self._majority_index

    def agreed_index(self) -> int:
        """Return the last index at which this server's state was a majority's, or 0."""
        return self._agreed_index

    def on_applied_index(self, index: int, state: State) -> None:
        """Digest the state after entry `index`, unless the last digest still runs.

        For indexes at which every server does; the state may change once this returns.
        """
        if self._is_digesting:
            self._skipped.add()
            return
        self._is_digesting = True
        digesting = self._digest(index, state.shallow_copy())
        self._spawner.spawn(digesting, name="state digest")

    def on_digest(self, peer_id: str, report: StateDigest) -> None:
        """Take a member's report; only the leader has any use for one.

        Of one connection, the first for an index counts.
        """
        if self._electorate.leader_id() != self._electorate.server_id:
            return
        if peer_id not in self._electorate.members():
            return
        self._take_report(peer_id, report.index, report.digests)

    def on_disconnected(self, peer_id: str) -> None:
        """Forget a peer's reports: who comes back may be another under its name."""
        self._reports.pop(peer_id, None)

    def on_verdict(self, verdict: DigestVerdict) -> None:
        """Take the verdict of whoever leads, and hold the own state to it."""
        index, digests = verdict.index, verdict.digests
        self._verdicts[index] = digests
        _keep_newest(self._verdicts)
        if digests == NO_MAJORITY:
            self._dispute(index)
            return
        was_in_dispute = self.is_in_dispute()
        self._majority_index = max(self._majority_index, index)
        if was_in_dispute and not self.is_in_dispute():
            self._logger.info("a majority has the same state again", index=index)
        if index in self._own:
            self._compare(index, self._own[index], digests)

    async def _digest(self, index: int, copy: State) -> None:
        started_s = self._clock.monotonic_s()
        try:
            digests = await _run_in_slices(self._digest_steps(copy), self._clock)
        finally:
            self._is_digesting = False
        self._timing.observe(self._clock.monotonic_s() - started_s)
        self._own[index] = digests
        _keep_newest(self._own)
        self._report(index, digests)
        # Others were faster, as a rule: the verdict may be here already.
        verdict = self._verdicts.get(index, NO_MAJORITY)
        if verdict != NO_MAJORITY:
            self._compare(index, digests, verdict)

    def _report(self, index: int, digests: Digests) -> None:
        leader_id = self._electorate.leader_id()
        if leader_id == self._electorate.server_id:
            self._take_report(leader_id, index, digests)
        elif leader_id is not None:
            self._send(leader_id, StateDigest(index, digests))

    def _take_report(self, server_id: str, index: int, digests: Digests) -> None:
        reports = self._reports.setdefault(server_id, {})
        if index in reports:
            return
        reports[index] = digests
        _keep_newest(reports)
        if index not in self._verdicts:
            self._judge(index)
        elif self._verdicts[index] != digests:
            # It was not connected, perhaps, when the others were told.
            self._tell(server_id, index, self._verdicts[index])

    def _judge(self, index: int) -> None:
        reports = {
            server_id: reports[index]
            for server_id, reports in self._reports.items()
            if index in reports
        }
        digests = judge(reports, self._electorate.voters())
        if digests is None:
            return
        for member in self._electorate.members():
            self._tell(member, index, digests)
        self.on_verdict(DigestVerdict(index, digests))

    def _tell(self, server_id: str, index: int, digests: Digests) -> None:
        if server_id != self._electorate.server_id:
            self._send(server_id, DigestVerdict(index, digests))

    def _dispute(self, index: int) -> None:
        self._dispute_index = max(self._dispute_index, index)
        self._logger.error("no majority has the same state", index=index)

    def _compare(self, index: int, own: Digests, majority: Digests) -> None:
        if not are_comparable(own, majority):
            # The majority is of another version, in the middle of an upgrade.
            return
        difference = first_difference(own, majority)
        if difference is None:
            self._agreed_index = max(self._agreed_index, index)
        else:
            self._disagree(_disagreement(index, difference))

    def _declare(self, metrics: Metrics) -> None:
        self._timing = metrics.timing(
            "nodestate_replication_digest_seconds",
            "How long it took, with pauses for others, to digest the state.",
        )
        self._skipped = metrics.counter(
            "nodestate_replication_digests_skipped_total",
            "Digests that were due while the one before was under way.",
        )
        metrics.gauge(
            "nodestate_replication_agreed_index",
            "The last index at which this server's state was a majority's.",
            lambda: float(self._agreed_index),
        )
        metrics.gauge(
            "nodestate_replication_in_dispute",
            "1 if no majority of servers has the same state.",
            lambda: float(self.is_in_dispute()),
        )


def _disagreement(
    index: int, difference: tuple[str, bytes, bytes]
) -> StateDisagreementError:
    table, own, majority = difference
    return StateDisagreementError(
        f"state after entry {index} is not the majority's: table {table} has digest"
        f" {own.hex()} here, {majority.hex()} there; keep this server's data for whoever"
        " looks into it, and replace it with an empty one"
    )


def _keep_newest(by_index: dict[int, Digests]) -> None:
    while len(by_index) > KEPT_MAX:
        del by_index[min(by_index)]


async def _run_in_slices(steps: Generator[None, None, T], clock: Clock) -> T:
    """Run it to the end, with a turn for everyone else after each slice."""
    until_s, count = clock.monotonic_s() + SLICE_S, 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        count += 1
        if count >= SLICE_STEPS_MAX or clock.monotonic_s() >= until_s:
            await clock.sleep(0)
            until_s, count = clock.monotonic_s() + SLICE_S, 0
