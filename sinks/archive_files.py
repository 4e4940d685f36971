"""Files of the archive: where one lies, what its manifest says, and how it gets to disk for good (S1-10).

``<folder>/table=<table>/date=<day>/instance_name=<instance>/part-0001.parquet``, Hive's layout; the manifest of a file
lies beside it as ``part-0001.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from tradetape.schemas.errors import TradetapeError

FORMAT = 1
"""Version of the manifest."""

NO_INSTANCE = "__HIVE_DEFAULT_PARTITION__"
"""Hive's name for an empty value."""

SCRATCH = ".writing"
"""Folder of files that are not whole yet; nothing else reads there."""

MAX_NAME = 200
"""Bytes of an escaped instance name; file systems take 255 for the whole of ``instance_name=…``."""

_WILDCARDS = re.compile(r"[*?{}\[\]]")
_PIECE = 1 << 20


def escaped(instance: str) -> str:
    """``instance`` as a name of a folder: percent-encoded; a long one is cut and told apart by its hash."""
    name = quote(instance, safe="") or NO_INSTANCE
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 17]}~{hashlib.sha256(instance.encode()).hexdigest()[:16]}"


def folder_of(table: str, day: str, instance: str) -> str:
    """The folder of the rows of one table, day and instance, below that of the archive."""
    return f"table={table}/date={day}/instance_name={escaped(instance)}"


def next_path(folder: str, taken: Iterable[str]) -> str:
    """The path of the next file in ``folder``, where the files ``taken`` are."""
    names = {PurePosixPath(path).name for path in taken if str(PurePosixPath(path).parent) == folder}
    number = 1
    while f"part-{number:04d}.parquet" in names:
        number += 1
    return f"{folder}/part-{number:04d}.parquet"


def check_folder(folder: str) -> str:
    """``folder`` as ClickHouse may see it. Raises TradetapeError where it would read wildcards."""
    if _WILDCARDS.search(folder):
        raise TradetapeError(
            f"{folder!r} has a character that ClickHouse takes for a wildcard", hint="choose another --to"
        )
    return folder.rstrip("/") or "/"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file that have one raw partition and disposition; ``runs`` are (derived_seq, first, last offset)."""

    raw_partition: int
    disposition: str
    rows: int
    runs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file of the archive holds. ``rows_digest`` is of its rows, whatever the bytes that hold them."""

    table: str
    day: str
    instance_name: str
    path: str
    rows: int
    size: int
    sha256: str
    rows_digest: str
    core_versions: tuple[str, ...]
    parts: tuple[Part, ...]
    columns: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON: raw ranges by partition and disposition, the columns' types as ClickHouse names them."""
        partitions: dict[str, dict[str, Any]] = {}
        for part in self.parts:
            runs = [list(run) for run in part.runs]
            partitions.setdefault(str(part.raw_partition), {})[part.disposition] = {"rows": part.rows, "runs": runs}
        return {
            "format": FORMAT,
            "table": self.table,
            "date": self.day,
            "instance_name": self.instance_name,
            "path": self.path,
            "rows": self.rows,
            "bytes": self.size,
            "sha256": self.sha256,
            "rows_digest": self.rows_digest,
            "core_versions": list(self.core_versions),
            "raw_partitions": partitions,
            "columns": dict(self.columns),
        }


def manifest_path(path: str) -> str:
    """The manifest of the file ``path``."""
    return f"{path.removesuffix('.parquet')}.json"


def sha256_of(path: Path) -> str:
    """The hash of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(root: Path, path: str, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write ``pieces`` as ``root/path``: whole and on disk, or not there at all. Returns its size and hash.

    A file that is there already is replaced. Raises OSError.
    """
    scratch = root / SCRATCH / path.replace("/", "_")[-200:]
    scratch.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with scratch.open("wb") as out:
        for piece in pieces:
            out.write(piece)
            digest.update(piece)
            size += len(piece)
        out.flush()
        os.fsync(out.fileno())
    target = root / path
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch.replace(target)
    for folder in {target.parent, *(folder.parent for folder in made)}:
        sync_folder(folder)
    return size, digest.hexdigest()


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest beside its file. Raises OSError."""
    text = json.dumps(manifest.document(), indent=1, sort_keys=True, ensure_ascii=False)
    write(root, manifest_path(manifest.path), [text.encode(), b"\n"])


def differences(root: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the file of ``manifest``, which the ledger tells, and with the manifest beside it."""
    found = []
    file = root / manifest.path
    try:
        if file.stat().st_size != manifest.size:
            found.append(f"it has {file.stat().st_size} bytes, not {manifest.size}")
        elif sha256_of(file) != manifest.sha256:
            found.append("its bytes are not those that were archived")
    except FileNotFoundError:
        found.append("it is not there")
    try:
        beside = json.loads((root / manifest_path(manifest.path)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found.append("its manifest is not there")
    except ValueError:
        found.append("its manifest is damaged")
    else:
        told = {name: value for name, value in manifest.document().items() if name != "columns"}
        other = sorted(
            name for name, value in told.items() if not isinstance(beside, dict) or beside.get(name) != value
        )
        if other:
            found.append(f"its manifest differs from the ledger in {', '.join(other)}")
    return found


def strays(root: Path, known: Iterable[str]) -> list[str]:
    """Files below ``root`` that are none of ``known``: what a crash left before its ledger entry, or a stranger."""
    there = (path.relative_to(root).as_posix() for path in root.glob("table=*/**/*.parquet"))
    return sorted(set(there) - set(known))


def sync_folder(folder: Path) -> None:
    """Put the names in ``folder`` on disk: a file is there for good once its folder is. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
