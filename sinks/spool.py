"""Byte strings on disk, by number: what is too many for memory and needed again in another order."""

from __future__ import annotations

import tempfile
from array import array


class Spool:
    """Keeps what is added in a file that nobody else sees and that goes with this object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the object)
        self._ends = array("Q", [0])

    def add(self, value: bytes) -> int:
        """Keep ``value``; its number."""
        self._file.seek(self._ends[-1])
        self._file.write(value)
        self._ends.append(self._ends[-1] + len(value))
        return len(self._ends) - 2

    def get(self, number: int) -> bytes:
        """The value of that number."""
        start = self._ends[number]
        self._file.seek(start)
        return self._file.read(self._ends[number + 1] - start)

    def close(self) -> None:
        self._file.close()
