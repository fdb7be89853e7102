"""The files of the audit log: lines added to one, and the next begun when it is full.

Used on a thread: every call may wait for the disk. The file that is written to has the
name that was set; older ones have a number behind it, and the highest is the oldest.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600


class AuditFile:
    """Appends lines; all or none of those of a call, as far as the disk lets it."""

    def __init__(
        self, path: Path, *, bytes_max: int, files_max: int, is_synced: bool
    ) -> None:
        """Open it; `OSError` if that cannot be. `is_synced` has lines outlive a power cut."""
        self._path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._is_synced = is_synced
        self._descriptor = _open(path)
        self._size = os.fstat(self._descriptor).st_size
        self._end_torn_line()

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines, and return how many; `OSError` if not even the first could be."""
        count = 0
        while count < len(lines):
            try:
                if self._size and self._size + len(lines[count]) > self._bytes_max:
                    self._begin_next()
                end = self._end_of_room(lines, count)
                self._write(b"".join(lines[count:end]))
            except OSError:
                if not count:
                    raise
                return count
            count = end
        return count

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _end_of_room(self, lines: Sequence[bytes], start: int) -> int:
        """Return where the lines from `start` on stop to fit; one always does."""
        end, size = start + 1, self._size + len(lines[start])
        while end < len(lines) and size + len(lines[end]) <= self._bytes_max:
            size += len(lines[end])
            end += 1
        return end

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._is_synced:
                os.fdatasync(self._descriptor)
        except OSError:
            # Half a line would spoil the next one, and what is tried again is all of it.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def _begin_next(self) -> None:
        for number in range(self._files_max - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._files_max == 1:
            self._path.unlink()
        descriptor = _open(self._path)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(
            f"{self._path.name}.{number}" if number else self._path.name
        )

    def _end_torn_line(self) -> None:
        """End the line that a server was writing when it lost power."""
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._write(b"\n")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, FILE_MODE)
