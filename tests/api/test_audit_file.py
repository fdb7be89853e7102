"""The audit log's files: added to, begun anew when full, never with half a line."""

import errno
import os
import stat
from pathlib import Path

import pytest

from nodestate.api.audit_file import AuditFile

LINES = [b"line %03d\n" % number for number in range(100)]  # 9 bytes each


def opened(
    path: Path, bytes_max: int = 1 << 20, files_max: int = 3, *, is_synced: bool = False
) -> AuditFile:
    return AuditFile(
        path, bytes_max=bytes_max, files_max=files_max, is_synced=is_synced
    )


@pytest.mark.parametrize("is_synced", [False, True])
def test_lines_are_added_to_what_is_there(tmp_path, is_synced):
    path = tmp_path / "audit.jsonl"
    for part in (LINES[:50], LINES[50:]):
        file = opened(path, is_synced=is_synced)
        assert file.append(part) == 50
        file.close()

    assert path.read_bytes() == b"".join(LINES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_files_have_a_size_and_a_number(tmp_path, at_once):
    path = tmp_path / "audit.jsonl"
    file = opened(path, bytes_max=95, files_max=4)

    for start in range(0, 100, at_once):
        part = LINES[start : start + at_once]
        assert file.append(part) == len(part)
    file.close()

    names = ["audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    contents = [(tmp_path / name).read_bytes() for name in names]
    assert all(len(content) <= 95 for content in contents)
    assert b"".join(contents) == b"".join(LINES[60:])


def test_one_file_alone_is_begun_again(tmp_path):
    path = tmp_path / "audit.jsonl"
    file = opened(path, bytes_max=95, files_max=1)

    file.append(LINES)
    file.close()

    assert [each.name for each in tmp_path.iterdir()] == ["audit.jsonl"]
    assert path.read_bytes() == b"".join(LINES[90:])


def test_a_line_that_is_longer_than_a_file_is_written_all_the_same(tmp_path):
    path = tmp_path / "audit.jsonl"
    file = opened(path, bytes_max=5)

    assert file.append(LINES[:2]) == 2
    file.close()

    assert path.read_bytes() == LINES[1]


def test_a_line_torn_by_a_crash_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"line 000\nline")

    file = opened(path)
    file.append(LINES[1:2])
    file.close()

    assert path.read_bytes() == b"line 000\nline\nline 001\n"


def test_what_a_full_disk_took_half_of_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    file = opened(path)
    file.append(LINES[:1])
    really_write = os.write
    room = [4]

    def write(descriptor: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, bytes(content[: room.pop()]))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            file.append(LINES[1:3])
        assert path.read_bytes() == LINES[0]

    assert file.append(LINES[1:3]) == 2
    file.close()
    assert path.read_bytes() == b"".join(LINES[:3])


def test_lines_before_a_failure_are_not_written_twice(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    file = opened(path, bytes_max=18)
    monkeypatch.setattr(Path, "replace", fail)

    # Two fit, and for the third a file has to be renamed, which cannot be.
    assert file.append(LINES[:3]) == 2
    with pytest.raises(OSError, match="Read-only"):
        file.append(LINES[2:3])
    monkeypatch.undo()
    assert file.append(LINES[2:3]) == 1
    file.close()

    assert (tmp_path / "audit.jsonl.1").read_bytes() == b"".join(LINES[:2])
    assert path.read_bytes() == LINES[2]


def fail(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path / "audit.jsonl")
