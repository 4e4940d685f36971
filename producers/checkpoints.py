"""How far a source was taken in, written only after Kafka acknowledged all of it.

A lost or unreadable checkpoint leads to repeats, which the processor recognises by position or id.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError

VERSION = 1
LONGEST_NAME = 200


class Checkpoints:
    """One JSON file per source, in ``folder``.

    Use ``for_cluster``: a checkpoint says what one Kafka cluster holds, and nothing about another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def for_cluster(cls, home: Path, cluster_id: str) -> Checkpoints:
        """The checkpoints of the sources ingested into the Kafka cluster ``cluster_id``."""
        return cls(home / "ingest" / _file_name(cluster_id))

    def load(self, source_id: str) -> dict[str, Any] | None:
        """What was saved last for ``source_id``, or None."""
        try:
            saved = json.loads(self._path(source_id).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise self._failure(error) from error
        if not isinstance(saved, dict) or saved.get("version") != VERSION or saved.get("source_id") != source_id:
            return None
        state = saved.get("state")
        return state if isinstance(state, dict) else None

    def save(self, source_id: str, state: dict[str, Any]) -> None:
        """Replace the checkpoint of ``source_id`` atomically and durably. Raises TradetapeError, e.g. disk full."""
        content = json.dumps({"version": VERSION, "source_id": source_id, "state": state}, separators=(",", ":"))
        path = self._path(source_id)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".tmp", delete=False) as file:
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure(error) from error

    def _path(self, source_id: str) -> Path:
        return self.folder / f"{_file_name(source_id)}.json"

    def _failure(self, error: OSError) -> TradetapeError:
        return TradetapeError(
            f"the checkpoint in {self.folder} cannot be used ({error.strerror})",
            hint="free the disk or the folder and run the same ingest again: it resumes",
        )


def _file_name(text: str) -> str:
    name = quote(text, safe="")
    return name if len(name) <= LONGEST_NAME and not name.startswith(".") else identity.derive("checkpoint", text)
