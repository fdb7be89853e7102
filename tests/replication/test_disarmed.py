"""The seam to PySyncObj: pinned, disarmed, and never near pickle (k1)."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import pysyncobj
import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.syncobj
import pytest

from nodestate.errors import JournalError
from nodestate.replication.disarmed import DisarmedSyncObj
from nodestate.replication.elections import Elections
from nodestate.replication.engine import Engine
from tests.replication.fakes import HandCluster

KINDS = (Engine, Elections, DisarmedSyncObj)
HOOKS = {"_on_elected", "_on_deposed"}
"""What the upper half of the engine does for the lower one: no names of the base."""

AUDITED_SHA256 = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


def test_the_stock_module_is_the_one_that_was_audited():
    content = Path(pysyncobj.syncobj.__file__).read_bytes()

    assert hashlib.sha256(content).hexdigest() == AUDITED_SHA256


@pytest.mark.parametrize("kind", KINDS)
def test_every_overridden_name_is_still_there(kind):
    stock = vars(pysyncobj.SyncObj)
    overrides = [
        name
        for name, value in vars(kind).items()
        if _is_override(value) and name not in HOOKS
    ]

    assert overrides
    assert [name for name in overrides if name not in stock] == []


def test_every_override_names_the_fault_it_answers():
    for kind in KINDS:
        for name, value in vars(kind).items():
            if _is_override(value) and name not in HOOKS:
                is_plain = "(F" not in value.__doc__ and "F1" not in value.__doc__
                exceptions = {"_SyncObj__generateRaftTimeout", "destroy"}
                assert not is_plain or name in exceptions, name


def test_nothing_of_ours_hides_a_name_of_the_base_by_accident():
    stock = set(vars(pysyncobj.SyncObj))
    for kind in KINDS:
        for name, value in vars(kind).items():
            if callable(value) and not name.startswith("__"):
                assert name in HOOKS or _is_override(value) == (name in stock), name


def test_the_subclass_has_no_properties():
    for kind in KINDS:
        assert not [v for v in vars(kind).values() if isinstance(v, property)]


def _is_override(value):
    return getattr(value, "__override__", False)


@pytest.mark.parametrize("name", ["load", "loads", "dump", "dumps"])
def test_pickle_is_poisoned(name):
    with pytest.raises(JournalError, match="pickle"):
        getattr(pysyncobj.pickle, name)(b"cos\nsystem\n(S'true'\ntR.")
    if hasattr(pysyncobj.journal, name):
        with pytest.raises(JournalError, match="pickle"):
            getattr(pysyncobj.journal, name)(b"")


def test_the_standard_pickle_is_as_it_was():
    unpickler: Any = pickle._Unpickler

    assert unpickler.dispatch[pickle.BINSTRING[0]] is unpickler.load_binstring
    short = unpickler.dispatch[pickle.SHORT_BINSTRING[0]]
    assert short is unpickler.load_short_binstring
    assert pickle.load(io.BytesIO(pickle.dumps([1]))) == [1]


def engine():
    return HandCluster("A")["A"].engine


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("_applyCommand", (b"", None)),
        ("addNodeToCluster", ("B",)),
        ("removeNodeFromCluster", ("B",)),
        ("_addNodeToCluster", (["B"], None)),
        ("setCodeVersion", (0,)),
        ("transferLeadership", ()),
        ("forceLogCompaction", ()),
        ("_SyncObj__doApplyCommand", (b"\x00",)),
        ("_SyncObj__loadDumpFile", (False,)),
        ("_SyncObj__doChangeCluster", (("add", "B"),)),
        ("_SyncObj__onReadonlyNodeConnected", ("B",)),
    ],
)
def test_what_must_never_run_raises(name, arguments):
    with pytest.raises(JournalError):
        getattr(engine(), name)(*arguments)


def test_stock_leftovers_do_nothing():
    subject = engine()

    subject._checkCommandsToApply()
    subject._SyncObj__tryLogCompaction()
    assert subject._SyncObj__parseChangeClusterRequest(b"\x02x") is None
    subject.destroy()


def test_the_log_as_the_base_sees_it_is_our_journal():
    server = HandCluster("A")["A"]
    view = server.engine._SyncObj__raftLog

    assert len(view) == server.journal.last_index() == 1
    assert view[0] == view[-1] == server.journal.entry(1)
    view.add(b"\x01", 2, 1)
    assert view[-1].index == server.journal.last_index() == 2
    view.deleteEntriesFrom(1)
    assert server.journal.last_index() == 1
    with pytest.raises(JournalError):
        view.clear()
    with pytest.raises(JournalError):
        view.deleteEntriesTo(1)
    assert view.getRaftCommitIndex() == 1
