"""Files, dumps, commands and callbacks, played on the stock package.

Each is the shortest schedule that shows a fault, for the process of `stock_schedules.py`.
"""

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

import pysyncobj.config
import pysyncobj.journal
import pysyncobj.node
import pysyncobj.pickle
import pysyncobj.serializer

from tests.replication import hostile
from tests.replication.stock_cluster import (
    LEADER,
    Facts,
    StockCluster,
    StockServer,
)


def lose_the_tail_in_a_compaction(folder: Path) -> Facts:
    """F4: a kill between the dump and the shortened log; and one within the latter."""
    cluster = StockCluster("A", folder, has_dumps=True)
    a = cluster["A"]
    a.stand()
    a.tick()
    for number in range(10):
        a.propose(f"v{number}")
    a.tick()
    a.tick()
    a.forceLogCompaction()
    for number in range(10, 20):
        a.propose(f"v{number}")
    a.tick()  # the dump is written, and the rest is in the log
    a.put("serializer", _NeverDone())
    a.tick()  # it is committed and acknowledged; then the server is killed
    told = a.acknowledged()
    cluster.kill("A")
    again = cluster.start("A")
    again.tick()
    again.tick()

    journal = pysyncobj.journal.createJournal(str(folder / "kept"))
    for index in range(1, 101):
        journal.add(b"x", index, 1)
    journal.add = _killed  # after the first thing that it does
    with contextlib.suppress(InterruptedError):
        journal.deleteEntriesTo(50)
    found = pysyncobj.journal.createJournal(str(folder / "kept"))
    return {
        "acknowledged": len(told),
        "lost": len([value for value in told if value not in again.values()]),
        "kept by the journal": len(found),
    }


class _NeverDone:
    """A serializer in whose way a kill comes."""

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802  the package's
        return pysyncobj.config.SERIALIZER_STATE.SERIALIZING, None


def _killed(*_: object) -> None:
    raise InterruptedError


def sync_nothing(folder: Path) -> Facts:
    """F5: no sync before an acknowledgement, and no checksum on what is read."""
    synced: list[int] = []
    for name in ("fsync", "fdatasync"):
        setattr(os, name, synced.append)
    cluster = StockCluster("A", folder)
    a = cluster["A"]
    a.stand()
    a.tick()
    for number in range(50):
        a.propose(f"v{number}")
    a.tick()
    a.tick()
    told = a.acknowledged()
    a.get("raftLog").flush()
    cluster.kill("A")
    file = cluster.file("A", "journal")
    data = file.read_bytes()
    assert data.count(b"v49") == 1
    file.write_bytes(data.replace(b"v49", b"v94"))
    again = cluster.start("A")
    again.stand()
    again.tick()
    again.tick()
    return {
        "acknowledged": len(told),
        "synced": len(synced),
        "last value": again.values()[-1],
    }


def acknowledge_a_failed_install(folder: Path) -> Facts:
    """F7: a dump that cannot be loaded is acknowledged, up to the end of the old log."""
    cluster = StockCluster(folder=folder, has_dumps=True)
    a, c = cluster.elect("A"), cluster["C"]
    cluster.isolate("C")
    for index in range(3, 33):
        c.get("raftLog").add(b"\x00junk", index, 1)
    for number in range(40):
        a.propose(f"v{number}")
    cluster.settle(4)
    a.compact()
    kind = pysyncobj.serializer.Serializer
    deserialize, kind.deserialize = kind.deserialize, _cannot_read
    cluster.join("A", "C")
    for _ in range(4):
        a.beat()
        cluster.deliver("A", "C")
        cluster.deliver("C", "A")
    kind.deserialize = deserialize
    return {
        "the leader believes": a.of_peer("raftMatchIndex", "C"),
        "values": len(c.values()),
    }


def _cannot_read(_: object) -> None:
    raise OSError


def lead_with_an_empty_state(folder: Path) -> Facts:
    """F8: a damaged dump is no reason not to lead; neither is none."""
    cluster = StockCluster(folder=folder, has_dumps=True)
    a = cluster.elect("A")
    for number in range(20):
        a.propose(f"v{number}")
    cluster.settle(4)
    for server in cluster.servers.values():
        server.compact()
    cluster.kill("A")
    dump = cluster.file("A", "dump")
    dump.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
    a = cluster.start("A")
    a.tick()
    cluster.elect("A")

    (folder / "alone").mkdir()
    alone = StockCluster("S", folder / "alone")
    s = alone["S"]
    s.stand()
    s.tick()
    for number in range(20):
        s.propose(f"v{number}")
    s.tick()
    s.tick()
    s.compact()
    alone.kill("S")
    s = alone.start("S")
    s.stand()
    s.tick()
    return {
        "damaged": [a._isLeader(), len(a.values()), len(cluster["B"].values())],
        "without a dump": [s._isLeader(), len(s.values())],
    }


def apply_twice(folder: Path) -> Facts:
    """F9: a caller that fails has its entry applied again; an unknown one shifts all."""
    cluster = StockCluster()
    a = cluster.elect("A")
    failed: list[str] = []

    def fail_once(value: str) -> None:
        if not failed:
            failed.append(value)
            raise RuntimeError

    a.ends = fail_once
    a.propose("once")
    for _ in range(6):
        for server in cluster.servers.values():
            _try_tick(server)
        for link in list(cluster.links):
            cluster.deliver(*link)

    alone = StockCluster("S")
    s = alone["S"]
    s.stand()
    s.tick()
    s._applyCommand(pysyncobj.pickle.dumps(7), None, 3)  # a version that it has not
    s.propose("x")
    s.propose("y")
    for _ in range(4):
        s.tick()
    return {
        "A": a.values(),
        "B": cluster["B"].values(),
        "in the log": [index for index, _ in s.log()][3:],
        "applied": s.applied,
    }


def _try_tick(server: StockServer) -> bool:
    server.put("newAppendEntriesTime", 0)
    try:
        server.tick()
    except (RuntimeError, ValueError):
        return False
    return True


def run_a_pickle(folder: Path) -> Facts:
    """F10: a command from a peer is unpickled, over whatever transport it came."""
    ran = {}
    for kind, name in ((0, "command"), (2, "membership"), (3, "version")):
        cluster = StockCluster()
        a = cluster.elect("A")
        hostile.SPRUNG.clear()
        command = bytes([kind]) + hostile.pickles()[0]
        cluster.hand_over("B", "A", {"type": "apply_command", "command": command})
        with contextlib.suppress(KeyError, TypeError, ValueError):
            cluster.settle(3)
        ran[name] = bool(hostile.SPRUNG)
        assert a.get("raftState") == LEADER
    return ran


def deny_what_is_committed(folder: Path) -> Facts:
    """F13: a caller is told that it failed, tries again, and has it twice; or hears nothing."""
    cluster = StockCluster()
    a, b = cluster.elect("A"), cluster["B"]
    b.propose("q")
    b.tick()
    cluster.deliver("B", "A")
    a.tick()
    a.beat()
    cluster.deliver("A", "C")
    cluster.deliver("C", "A")
    a.tick()
    cluster.cut("A", "B")
    cluster["C"].stand()
    cluster.settle()
    told = list(b.told)
    b.propose("q")
    cluster.settle()

    silent = StockCluster()
    silent.elect("A")
    silent["B"].propose("lost")
    silent["B"].tick()
    silent.cut("A", "B")
    silent.join("A", "B")
    silent.settle(20)
    return {"told": told, "state": b.values(), "told of a lost one": silent["B"].told}


def choke_on_an_entry(folder: Path) -> Facts:
    """F14: what raises once raises in each tick, and after a restart."""
    cluster = StockCluster("A", folder)
    a = cluster["A"]
    a.stand()
    a.tick()
    a.propose("poison")
    a.propose("after")
    a.tick()
    ticks = [_try_tick(a) for _ in range(5)]
    cluster.kill("A")
    a = cluster.start("A")
    a.put("raftCommitIndex", a.last_index())
    again = [_try_tick(a) for _ in range(3)]
    return {"ticks": ticks, "after a restart": again, "state": a.values()}


def end_at_4_gib(folder: Path) -> Facts:
    """F16: where the last record ends has 32 bits, and the file is made without room."""
    journal = pysyncobj.journal.createJournal(str(folder / "large"))
    file = journal._FileJournal__journalFile
    try:
        journal._FileJournal__setLastRecordOffset(1 << 32)
        is_possible = True
    except struct.error:
        is_possible = False
    file.write(1 << 26, b"x")  # far behind its end
    status = (folder / "large").stat()
    return {
        "4 GiB": is_possible,
        "has its room": status.st_blocks * 512 >= status.st_size,
    }


def name_a_half_dump(folder: Path) -> Facts:
    """F17: a dump that is still written takes the place of the last good one."""
    state = pysyncobj.config.SERIALIZER_STATE
    now = [state.NOT_SERIALIZING]
    tries = []

    def begin(name: str, _: object) -> None:
        Path(name).write_bytes(b"half")
        now[0] = state.SERIALIZING

    def fail(name: str, _: object) -> None:
        tries.append(name)
        raise OSError

    cluster = StockCluster(
        "A", folder, has_dumps=True, serializer=begin,
        deserializer=_cannot_read, serializeChecker=lambda: now[0],
    )  # fmt: skip
    cluster.file("A", "dump").write_bytes(b"good")
    a = cluster["A"]
    a.stand()
    a.tick()
    a.propose("v")
    a.tick()
    a.tick()
    a.forceLogCompaction()
    a.tick()

    failing = StockCluster(
        "F", folder, has_dumps=True, serializer=fail,
        deserializer=_cannot_read, logCompactionMinEntries=3,
    )  # fmt: skip
    f = failing["F"]
    f.stand()
    f.tick()
    for number in range(5):
        f.propose(f"v{number}")
    for _ in range(20):
        f.tick()
    return {
        "still written": now[0] == state.SERIALIZING,
        "the dump": cluster.file("A", "dump").read_bytes().decode(),
        "tries in 20 ticks": len(tries) > 5,
    }


def send_all_of_it_unanswered(folder: Path) -> Facts:
    """F20: who lacks three entries gets a whole dump, and answers nothing meanwhile."""
    cluster = StockCluster(folder=folder, has_dumps=True)
    a = cluster.elect("A")
    for number in range(50):
        a.propose(f"v{number}")
    cluster.settle(4)
    cluster.isolate("C")
    for number in range(3):
        a.propose(f"t{number}")
    cluster.settle(4)
    a.compact()
    cluster.join("A", "C")
    pieces: list[Any] = []
    for _ in range(6):
        a.beat()
        pieces = [m for m in cluster.waiting("A", "C") if "serialized" in m]
        if pieces:
            break
        cluster.deliver("A", "C")
        cluster.deliver("C", "A")
    cluster.drop("C", "A")
    for piece in pieces[:-1]:
        cluster.hand_over("A", "C", piece)
    sign_of_life = {**pieces[0], "serialized": None}
    for _ in range(10):
        cluster.hand_over("A", "C", sign_of_life)
    return {
        "entries left": len(a.log()),
        "pieces": len(pieces) > 1,
        "answers": len(cluster.waiting("C", "A")),
    }
