"""What holds for the repository as a whole."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ("scripts/run", "scripts/test", "scripts/check", "scripts/bench", ".ci/run")
SCRIPT_LINES_MAX = 60
# Built from parts, so that this file is not the one that is found.
FORBIDDEN_MARKS = ("TO" + "DO", "FIX" + "ME", "X" + "XX")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_run_as_it_stands(name):
    path = ROOT / name

    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert len(text.splitlines()) < SCRIPT_LINES_MAX


def test_the_environment_script_is_short():
    lines = (ROOT / "scripts/environment").read_text(encoding="utf-8").splitlines()

    assert len(lines) < SCRIPT_LINES_MAX


def test_every_script_that_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    named = set(re.findall(r"scripts/\w+", readme))

    assert {"scripts/run", "scripts/test"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_page_and_file_that_the_documentation_links_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_lab_command_that_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lab = (ROOT / "cluster/__main__.py").read_text(encoding="utf-8")

    named = set(re.findall(r"python -m cluster (\w+)", readme))

    assert named
    assert [name for name in sorted(named) if f'add_parser("{name}"' not in lab] == []


def test_the_procfile_names_configuration_files_that_exist():
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()

    paths = [line.split("--config ")[1] for line in lines]

    assert len(paths) == 3
    assert all((ROOT / path).exists() for path in paths)


def test_the_licence_is_the_one_that_the_package_claims():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_nothing_of_ours_pickles():
    importing = re.compile(r"^\s*(import|from) (pickle|marshal|shelve)\b", re.MULTILINE)
    using = re.compile(r"\b(pickle|marshal|shelve)\.(load|dump|open)s?\(")

    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sources("nodestate", "cluster")
    }

    importers = {name for name, text in texts.items() if importing.search(text)}
    users = {name for name, text in texts.items() if using.search(text)}
    # The one module that takes pickle away from PySyncObj has to name it.
    assert importers <= {"nodestate/replication/disarmed.py"}
    assert users == set()


def test_nothing_is_left_to_do_in_a_comment():
    found = [
        f"{path}: {mark}"
        for path in sources("nodestate", "cluster", "tests")
        for mark in FORBIDDEN_MARKS
        if re.search(rf"\b{mark}\b", path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_every_module_says_what_it_is_for():
    silent = [
        str(path)
        for path in sources("nodestate", "cluster")
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]

    assert silent == []
