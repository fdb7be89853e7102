"""PySyncObj with all that must not run taken away, and views of our journal and peers.

The stock package unpickles what peers and files say, forks, rewrites its log and
changes its members; F1 to F22 are its faults, as `docs/replication.md` lists them. Here
those paths raise. This is the only module that imports it, and nothing of ours is
ever pickled.
"""

import pickle  # noqa: TID251  only to undo what importing PySyncObj does to it
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

import pysyncobj
import pysyncobj.journal
import pysyncobj.node
import pysyncobj.pickle
import pysyncobj.transport
from typing_extensions import override

from nodestate.errors import JournalError
from nodestate.replication.frames import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    SnapshotChunk,
    SnapshotReply,
    StandNow,
    VoteReply,
)
from nodestate.replication.records import Entry

# Entry 1 says who the members are; it is committed from the moment it exists.
FIRST_COMMIT_INDEX: Final = 1

EngineMessage = (
    RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | SnapshotChunk
    | SnapshotReply
    | StandNow
)
Send = Callable[[str, Message], bool]


def _refuse_pickle(*_: object, **__: object) -> NoReturn:
    raise JournalError("something tried to use pickle, which runs what it reads")


def _poison_pickle() -> None:
    """Make every path of PySyncObj to pickle raise, and undo its patch of pickle (F10)."""
    for module in (pysyncobj.pickle, pysyncobj.journal):
        for name in ("load", "loads", "dump", "dumps"):
            if hasattr(module, name):
                setattr(module, name, _refuse_pickle)
    unpickler: Any = pickle._Unpickler  # noqa: SLF001
    unpickler.dispatch[pickle.SHORT_BINSTRING[0]] = unpickler.load_short_binstring
    unpickler.dispatch[pickle.BINSTRING[0]] = unpickler.load_binstring


_poison_pickle()


class Journal(Protocol):
    """The log and the hard state, as `journal.Journal` keeps them."""

    def term(self) -> int:
        """Return the current term."""

    def voted_for(self) -> str | None:
        """Return who has this server's vote in the current term."""

    def base_index(self) -> int:
        """Return the index of the entry before the first that is kept, 0 if none went."""

    def first_index(self) -> int:
        """Return the index of the first entry, or of the next if there is none."""

    def last_index(self) -> int:
        """Return the index of the last entry, 0 if there is none."""

    def last_term(self) -> int:
        """Return the term of the last entry, 0 if there is none."""

    def entry(self, index: int) -> Entry:
        """Return one entry."""

    def term_at(self, index: int) -> int:
        """Return the term of an entry, from the base on; 0 for index 0."""

    def entries_from(self, index: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries up to a size, one at least."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Add to the end."""

    def truncate_from(self, index: int) -> None:
        """Take away an entry and all after it."""

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        """Change term and vote."""

    def position(self) -> int:
        """Return the number of the last change."""

    def durable_position(self) -> int:
        """Return the number of the last change that is durable."""

    def durable_index(self) -> int:
        """Return the highest index that is durable as it is now."""


class PeerTransport(pysyncobj.transport.Transport):  # type: ignore[misc]  # untyped
    """PySyncObj's view of our connections; who counts is the engine's to say (F12)."""

    def __init__(self, send: Send, peer_ids: Sequence[str]) -> None:
        super().__init__(None, None, None)
        self._send = send
        self.nodes: Final = {name: pysyncobj.node.Node(name) for name in peer_ids}

    def node(self, peer_id: str) -> Any:
        """Return PySyncObj's name for a peer, which may be new."""
        node = self.nodes.get(peer_id)
        if node is None:
            node = self.nodes[peer_id] = pysyncobj.node.Node(peer_id)
        return node

    @override
    def send(self, node: Any, message: Message) -> bool:
        """Hand a message to the connection to a peer."""
        return self._send(node.id, message)

    def receive(self, peer_id: str, message: EngineMessage) -> None:
        """Hand a peer's message to the engine.

        A leader may be newer than the members known here, so all are heard.
        """
        self._onMessageReceived(self.node(peer_id), message)

    @override
    def getStatus(self) -> NoReturn:
        """Refuse: the stock one calls a leader healthy that reaches nobody (F11)."""
        raise JournalError("how things stand is for the replica to say")

    @override
    def isReady(self) -> NoReturn:
        """Refuse: the stock one is ready with an empty state (F11)."""
        raise JournalError("how things stand is for the replica to say")

    @override
    def destroy(self) -> None:
        """Do nothing: the connections are not ours."""


class JournalView(pysyncobj.journal.Journal):  # type: ignore[misc]  # untyped
    """PySyncObj's view of our journal: a list that starts at the first index (F5, F16)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.hard_state_position = 0

    @override
    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append one entry."""
        self._journal.append((Entry(command, idx, term),))

    @override
    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Truncate; the argument is a position in the list, not an index."""
        self._journal.truncate_from(self._journal.first_index() + entryFrom)

    @override
    def clear(self) -> None:
        """Refuse: nothing may throw the log away (F4)."""
        raise JournalError("the log is never cleared")

    @override
    def deleteEntriesTo(self, entryTo: int) -> None:
        """Refuse: only a durable snapshot may shorten the log (F4)."""
        raise JournalError("the log is shortened by snapshots only")

    def __getitem__(self, position: int) -> Entry:
        if position < 0:
            return self._journal.entry(self._journal.last_index() + 1 + position)
        return self._journal.entry(self._journal.first_index() + position)

    def __len__(self) -> int:
        return self._journal.last_index() + 1 - self._journal.first_index()

    @override
    def _destroy(self) -> None:
        """Do nothing: the journal is its owner's to close."""

    @override
    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Forget it: a commit index is learnt from the leader, never from disk (F19)."""

    @override
    def getRaftCommitIndex(self) -> int:
        """Return what is committed without asking anybody."""
        return FIRST_COMMIT_INDEX

    @override
    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Write term and vote, and note which change that was (F6)."""
        self._journal.set_hard_state(term, votedForNodeId)
        self.hard_state_position = self._journal.position()

    @override
    def getCurrentTerm(self) -> int:
        """Return the term."""
        return self._journal.term()

    @override
    def getVotedForNodeId(self) -> str | None:
        """Return who has the vote."""
        return self._journal.voted_for()


class _NoPoller:
    """Stands in for PySyncObj's poller: sockets are asyncio's business."""

    def poll(self, timeout: float) -> None:
        """Return at once."""


class _SyncObj(pysyncobj.SyncObj):  # type: ignore[misc]  # untyped
    """PySyncObj without its queue, its pickles, its dumps and its membership.

    The name makes `self.__x` the base's own `__x`. There are no properties: the base's
    constructor reads every attribute before the object is ready.
    """

    def __init__(
        self, server_id: str, transport: PeerTransport, journal_view: JournalView
    ) -> None:
        super().__init__(
            pysyncobj.node.Node(server_id),
            transport.nodes.values(),
            pysyncobj.SyncObjConf(autoTick=False, pollerType="select"),
            transport=transport,
        )
        self._poller = _NoPoller()
        self.__raftLog = journal_view
        self.__needLoadDumpFile = False

    @override
    def __doApplyCommand(self, command: bytes) -> NoReturn:
        """Refuse: the stock one unpickles, and skips what it does not know (F9, F10)."""
        raise JournalError("entries are applied by the replica")

    @override
    def _applyCommand(
        self, command: bytes, callback: object, commandType: int | None = None
    ) -> NoReturn:
        """Refuse: the stock queue loses callers and invents outcomes (F13)."""
        raise JournalError("commands are proposed by the proposer")

    @override
    def _checkCommandsToApply(self) -> None:
        """Do nothing: there is no queue (F13)."""

    @override
    def __tryLogCompaction(self) -> None:
        """Do nothing: the stock one forks, pickles and rewrites the log (F4, F17)."""

    @override
    def __loadDumpFile(self, clearJournal: bool) -> NoReturn:
        """Refuse: the stock one takes any failure for success (F7, F8)."""
        raise JournalError("there are no dump files")

    @override
    def __parseChangeClusterRequest(self, command: bytes) -> None:
        """Find no change of membership in an entry: the stock one unpickles (F10, F22)."""

    @override
    def __doChangeCluster(self, request: object, reverse: bool = False) -> NoReturn:
        """Refuse: the stock membership has no learners and no memory (F22)."""
        raise JournalError("the members are those of the first entry")

    @override
    def addNodeToCluster(self, node: object, callback: object = None) -> NoReturn:
        """Refuse (F22)."""
        raise JournalError("the members are those of the first entry")

    @override
    def removeNodeFromCluster(self, node: object, callback: object = None) -> NoReturn:
        """Refuse (F22)."""
        raise JournalError("the members are those of the first entry")

    @override
    def setCodeVersion(self, newVersion: int, callback: object = None) -> NoReturn:
        """Refuse: a version entry is a pickle (F9, F10)."""
        raise JournalError("there are no code versions")

    @override
    def transferLeadership(
        self, node: object = None, callback: object = None
    ) -> NoReturn:
        """Refuse: the stock one lets the leader propose on while it hands over (F13)."""
        raise JournalError("leadership is not transferred")

    @override
    def forceLogCompaction(self) -> NoReturn:
        """Refuse (F4)."""
        raise JournalError("the log is shortened by snapshots only")

    @override
    def __onReadonlyNodeConnected(self, node: object) -> NoReturn:
        """Refuse: whoever says so is one, and its votes count (F12)."""
        raise JournalError("there are no read-only members")

    @override
    def getStatus(self) -> NoReturn:
        """Refuse: the stock one calls a leader healthy that reaches nobody (F11)."""
        raise JournalError("how things stand is for the replica to say")

    @override
    def isReady(self) -> NoReturn:
        """Refuse: the stock one is ready with an empty state (F11)."""
        raise JournalError("how things stand is for the replica to say")

    @override
    def destroy(self) -> None:
        """Do nothing: journal and transport are closed by their owner."""


DisarmedSyncObj = _SyncObj
