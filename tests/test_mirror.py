"""The tree of tests mirrors the tree of the service: one file for each module."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
# Each exception with its reason; a module that needs none any more must leave the list.
EXCEPTIONS = {
    "__main__.py": "two lines, run by tests/cluster",
    "ports.py": "protocols: tests/contracts, test_disk.py try fakes and real ones alike",
    "answers.py": "records without behaviour",
    "errors.py": "classes without behaviour",
    "api/cluster_operations.py": "rows of a table: as operations.py, test_operations.py",
    "api/cluster_routes.py": "rows of a table: test_routes.py, test_permission_table.py",
    "api/described.py": "the words of operations.py: as there",
    "replication/engine.py": "tests/replication/test_schedules_*.py play at it",
    "replication/elections.py": "the lower half of the engine: as there",
    "replication/snapshotting.py": "test_replica.py: it is what the replica is made of",
    "replication/surroundings.py": "records without behaviour",
    "api/route.py": "a row, and the words for it: test_routes.py",
    "model/node.py": "records without behaviour",
    "model/outcome.py": "records without behaviour",
    "model/plan.py": "records without behaviour",
    "model/question.py": "records without behaviour",
    "model/request.py": "records without behaviour",
}


def modules() -> set[str]:
    return {
        str(path.relative_to(ROOT / "nodestate"))
        for path in (ROOT / "nodestate").rglob("*.py")
        if path.name != "__init__.py"
    }


def has_test(module: str) -> bool:
    path = ROOT / "tests" / module
    return path.with_name(f"test_{path.name}").exists()


def test_every_module_has_its_test_file():
    missing = {name for name in modules() - EXCEPTIONS.keys() if not has_test(name)}

    assert missing == set()


def test_every_exception_is_one():
    stale = {name for name in EXCEPTIONS if name not in modules() or has_test(name)}

    assert stale == set()
