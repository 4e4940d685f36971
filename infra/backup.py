"""A home as one file, and back (P-11): a tar of everything that lasts, packed with zstd, and a manifest of hashes.

The home is copied while nothing runs in it: Kafka's log, the registry, ClickHouse, the worker's tables and the
connectors' checkpoints then are of one moment. The manifest is the last entry, so a cut file is found too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from tradetape.infra.embedded import processes, stores
from tradetape.infra.files import locked
from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.archive_files import sync_folder

FORMAT = 1
MANIFEST = "tradetape-backup.json"
SUFFIX = ".tar.zst"
LEFT_OUT = frozenset({"run", "logs"})
"""Folders of a home that only tell of processes."""

_LOCK_SECONDS = 1.0
_PIECE = 1 << 20
_LEVEL = 3


class Damaged(TradetapeError):
    """The file is no whole backup: nothing is restored."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds: files, their bytes before packing, and the moment it was made (UTC, ISO 8601)."""

    path: Path
    files: int
    size: int
    made_at: str


def target(given: Path, now: datetime) -> Path:
    """The file to write: ``given``, or one named by the time in it where it is a folder."""
    return given / f"tradetape-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}" if given.is_dir() else given


def backup(home: Path, path: Path, now: datetime) -> Summary:
    """Write the whole of ``home`` to ``path``, which must not exist.

    Raises TradetapeError: the home is none or is in use, ``path`` is there or lies in the home; OSError.
    """
    if StackFile.read(home) is None and not (home / "clickhouse").is_dir():
        raise TradetapeError(f"{home} is no home of a stack", hint="name it with --home or TRADETAPE_HOME")
    if path.exists():
        raise TradetapeError(f"{path} is there already", hint="choose another name")
    if path.absolute().is_relative_to(home):
        raise TradetapeError(f"{path} lies in the home itself", hint="write the backup elsewhere")
    with _at_rest(home):
        scratch = path.with_name(f".{path.name}.writing")
        try:
            with scratch.open("wb") as out:
                summary = _pack(home, out, path, now)
                out.flush()
                os.fsync(out.fileno())
            scratch.replace(path)
            sync_folder(path.absolute().parent)
        finally:
            scratch.unlink(missing_ok=True)
    return summary


def restore(path: Path, home: Path) -> Summary:
    """Make ``home``, which must not exist or be empty, what it was when ``path`` was written.

    Everything is unpacked beside it and checked before it becomes the home. Raises Damaged, TradetapeError, OSError.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise TradetapeError(f"{home} is not empty", hint="restore into a new --home, or move this one away first")
    scratch = home.with_name(f".{home.name}.restoring")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        summary = _unpack(path, scratch)
        if home.exists():
            home.rmdir()
        # Thousands of files and their folders, at once; only what is on disk becomes the home.
        os.sync()
        scratch.replace(home)
        sync_folder(home.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return summary


@contextmanager
def _at_rest(home: Path) -> Iterator[None]:
    """Nothing runs in ``home`` and nothing starts there meanwhile. Raises TradetapeError where something runs."""
    with locked(
        processes.run_dir(home) / "up.lock", timeout=_LOCK_SECONDS, what=f"a `tradetape up` or `down` in {home}"
    ):
        running = [process.name() for process in processes.leftovers(home)]
        running += [name for name in stores.NAMES if stores.find(home, name) is not None]
        if running:
            raise TradetapeError(
                f"{home} is in use ({len(running)} processes run)", hint="stop them with `tradetape down` first"
            )
        yield


def _pack(home: Path, out: IO[bytes], path: Path, now: datetime) -> Summary:
    made_at = now.astimezone(UTC).isoformat(timespec="seconds")
    hashes: dict[str, str] = {}
    total = 0
    with (
        zstandard.ZstdCompressor(level=_LEVEL).stream_writer(out, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in _entries(home):
            name = file.relative_to(home).as_posix()
            info = tar.gettarinfo(file, name)
            if not (info.isreg() or info.islnk()):
                tar.addfile(info)
                continue
            # A second name of one file is stored like the first: every file has its own hash.
            info.type, info.linkname = tarfile.REGTYPE, ""
            info.size = file.stat().st_size
            with file.open("rb") as content:
                hashing = _Hashing(content)
                tar.addfile(info, hashing)
            hashes[name] = hashing.digest.hexdigest()
            total += info.size
        document = {"format": FORMAT, "made_at": made_at, "files": hashes}
        text = json.dumps(document, sort_keys=True).encode()
        last = tarfile.TarInfo(MANIFEST)
        last.size = len(text)
        tar.addfile(last, io.BytesIO(text))
    return Summary(path, len(hashes), total, made_at)


def _entries(home: Path) -> Iterator[Path]:
    """Everything that lasts, folders before what is in them; sockets and pipes are of processes."""
    for folder, folders, names in os.walk(home):
        at = Path(folder)
        folders.sort()
        if at == home:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in sorted([*folders, *names]):
            kind = (at / name).lstat().st_mode
            if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
                yield at / name


def _unpack(path: Path, into: Path) -> Summary:
    found: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    total = 0
    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as tar,
        ):
            for info in tar:
                if info.name == MANIFEST:
                    content = tar.extractfile(info)
                    manifest = json.loads(content.read()) if content is not None else None
                    continue
                if not info.isreg():
                    tar.extract(info, into, filter="tar", numeric_owner=True)
                    continue
                found[info.name] = _extract(tar, info, into)
                total += info.size
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError) as error:
        raise Damaged(f"{path} is no whole backup ({error})", hint="nothing was restored; take another") from error
    if manifest is None or manifest.get("format") != FORMAT:
        raise Damaged(f"{path} has no manifest: it is cut, or no backup", hint="nothing was restored; take another")
    wanted: dict[str, str] = manifest["files"]
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise Damaged(
            f"{path}: {len(wrong)} files are not what its manifest says, the first is {wrong[0]}",
            hint="nothing was restored; take another backup",
        )
    return Summary(path, len(found), total, manifest["made_at"])


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo, into: Path) -> str:
    """Write one file; its hash. Raises Damaged where it would lie outside ``into``."""
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts or not (into / name).parent.resolve().is_relative_to(into.resolve()):
        raise Damaged(f"{info.name!r} would lie outside the home", hint="this is no backup of Tradetape")
    content = tar.extractfile(info)
    if content is None:
        raise Damaged(f"{info.name!r} has no content", hint="take another backup")
    digest = hashlib.sha256()
    target_file = into / name
    with target_file.open("xb") as out:
        while piece := content.read(_PIECE):
            out.write(piece)
            digest.update(piece)
        if os.geteuid() == 0:
            os.fchown(out.fileno(), info.uid, info.gid)
        os.fchmod(out.fileno(), stat.S_IMODE(info.mode))
    os.utime(target_file, (info.mtime, info.mtime))
    return digest.hexdigest()


class _Hashing:
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece
