"""Apache Kafka and Apicurio Registry from Maven artifacts, pinned by SHA-256 in ``artifacts.json``.

The pinned list names every file, so a start resolves nothing: it fetches what is missing, and with everything
in the cache it touches no network and hashes nothing (size and modification time vouch for a file whose hash
was checked once). ``python -m tradetape.infra.embedded.artifacts --pin`` renews the list.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradetape.infra.embedded.progress import Progress
from tradetape.infra.files import locked, read_json, write_json
from tradetape.schemas.errors import TradetapeError

PIN_FILE = Path(__file__).with_name("artifacts.json")
_DOWNLOADS_AT_ONCE = 4
_TIMEOUT_SECONDS = 60
_LOCK_TIMEOUT_SECONDS = 1800.0
_MIRROR = "TRADETAPE_MAVEN_MIRROR"
"""Environment variable: base URL of a Maven repository to use instead of the public one."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One pinned file. ``size`` in bytes; ``sha256`` in hex."""

    group: str
    name: str
    version: str
    classifier: str
    packaging: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in the cache, the same as in a Maven repository."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the programs are: Kafka's whole class path, and the folder with the registry's ``quarkus-run.jar``."""

    kafka_classpath: tuple[Path, ...]
    registry_dir: Path


def pinned(pin_file: Path = PIN_FILE) -> dict[str, tuple[Artifact, ...]]:
    """The pinned artifacts by part (``kafka``, ``registry``)."""
    document = json.loads(pin_file.read_text(encoding="utf-8"))
    return {part: tuple(Artifact(**entry) for entry in entries) for part, entries in document.items()}


def ensure(cache: Path, progress: Progress | None = None, *, pin_file: Path = PIN_FILE) -> Installed:
    """Make Kafka and the registry present and verified under ``cache``; download only what is missing.

    Safe to call from several processes at once. Raises TradetapeError when a file cannot be fetched, when one
    does not have its pinned hash (names the file), or when the disk is full.
    """
    folder = cache / "artifacts"
    parts = pinned(pin_file)
    store = _Store(folder)
    installed = _installed(folder, parts)
    try:
        if not store.is_complete(parts, installed.registry_dir):
            progress = progress or Progress()
            with locked(
                folder / ".lock",
                timeout=_LOCK_TIMEOUT_SECONDS,
                what=f"another tradetape that downloads to {folder}",
                waiting=lambda: progress.note("another tradetape is downloading; waiting for it"),
            ):
                store = _Store(folder)
                if not store.is_complete(parts, installed.registry_dir):
                    _install(store, parts, installed.registry_dir, progress)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise TradetapeError(
            f"no space left on the disk of {folder}", hint="free 500 MB there, or point TRADETAPE_CACHE elsewhere"
        ) from error
    return installed


class _Store:
    """The cache folder and ``verified.json``: what each file or folder looked like when its hash was right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._marks: dict[str, Any] = read_json(folder / "verified.json") or {}

    def is_complete(self, parts: dict[str, tuple[Artifact, ...]], registry_dir: Path) -> bool:
        return all(
            self._is_marked(self.folder / artifact.filename, artifact) for artifact in parts["kafka"]
        ) and self.is_unpacked(registry_dir)

    def is_present(self, artifact: Artifact) -> bool:
        """Whether the file is there and right; hashes it when nothing vouches for it."""
        path = self.folder / artifact.filename
        if not path.exists():
            return False
        if not self._is_marked(path, artifact):
            if sha256_of(path) != artifact.sha256:
                raise TradetapeError(
                    f"{path} does not have its pinned SHA-256 (damaged or tampered with)",
                    hint="delete that file and retry",
                )
            self.mark(path, artifact)
        return True

    def _is_marked(self, path: Path, artifact: Artifact) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return bool(self._marks.get(path.name) == [status.st_size, status.st_mtime_ns, artifact.sha256])

    def mark(self, path: Path, artifact: Artifact) -> None:
        status = path.stat()
        self._marks[path.name] = [status.st_size, status.st_mtime_ns, artifact.sha256]
        write_json(self.folder / "verified.json", self._marks)

    def is_unpacked(self, directory: Path) -> bool:
        if not directory.is_dir():
            return False
        if self._marks.get(directory.name) != _listing(directory):
            raise TradetapeError(
                f"{directory} is not as it was unpacked (a file is missing or changed)",
                hint="delete that folder and retry",
            )
        return True

    def mark_unpacked(self, scratch: Path, directory: Path) -> None:
        # Marked before the rename: a folder under its final name is always a marked one.
        self._marks[directory.name] = _listing(scratch)
        write_json(self.folder / "verified.json", self._marks)
        scratch.rename(directory)


def _install(store: _Store, parts: dict[str, tuple[Artifact, ...]], registry_dir: Path, progress: Progress) -> None:
    staging = store.folder / ".staging"
    shutil.rmtree(staging, ignore_errors=True)  # what an interrupted download left; we hold the lock
    staging.mkdir(parents=True)
    try:
        wanted = [artifact for artifact in parts["kafka"] if not store.is_present(artifact)]
        archive = parts["registry"][0]
        if not store.is_unpacked(registry_dir):
            if not store.is_present(archive):
                wanted.insert(0, archive)
            _download(store, wanted, staging, progress)
            _unpack(store.folder / archive.filename, registry_dir, staging / "unpacked", store)
        else:
            _download(store, wanted, staging, progress)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(store: _Store, wanted: list[Artifact], staging: Path, progress: Progress) -> None:
    if not wanted:
        return
    resolver = maven_context(staging / "maven", progress)
    with progress.downloads(len(wanted), sum(artifact.size for artifact in wanted)):
        pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="download")
        try:
            futures = [pool.submit(_fetch, resolver, artifact) for artifact in wanted]
            names = dict(zip(futures, wanted, strict=True))
            for future in as_completed(futures):
                final = store.folder / names[future].filename
                future.result().replace(final)
                store.mark(final, names[future])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _fetch(context: Any, artifact: Artifact) -> Path:
    import requests

    try:
        path: Path = (
            context.project(artifact.group, artifact.name)
            .at_version(artifact.version)
            .artifact(classifier=artifact.classifier, packaging=artifact.packaging)
            .resolve()
        )
    except (requests.RequestException, RuntimeError) as error:
        raise TradetapeError(
            f"cannot download {artifact.filename}: {error}",
            hint="check the network and proxy settings and retry; what is complete is kept",
        ) from error
    if sha256_of(path) != artifact.sha256:
        raise TradetapeError(
            f"the download of {artifact.filename} does not have its pinned SHA-256 and was thrown away",
            hint="retry; if it happens again, the repository or a proxy delivers another file",
        )
    return path


def maven_context(repo_cache: Path, progress: Progress | None = None) -> Any:
    """jgo's Maven context that downloads to ``repo_cache``. Raises TradetapeError when jgo is not installed."""
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise TradetapeError("the embedded stack is not installed", hint="pip install 'tradetape[embedded]'") from error
    mirror = os.environ.get(_MIRROR, "")
    return MavenContext(
        resolver=PythonResolver(progress_callback=progress.file if progress is not None else None),
        repo_cache=repo_cache,
        timeout=_TIMEOUT_SECONDS,
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
    )


def _unpack(archive: Path, directory: Path, scratch: Path, store: _Store) -> None:
    with tarfile.open(archive, "r:gz") as packed:
        packed.extractall(scratch, filter="data")
    store.mark_unpacked(scratch, directory)
    archive.unlink()  # 158 MB that nothing reads again


def _installed(folder: Path, parts: dict[str, tuple[Artifact, ...]]) -> Installed:
    registry = parts["registry"][0]
    return Installed(
        kafka_classpath=tuple(folder / artifact.filename for artifact in parts["kafka"]),
        registry_dir=folder / f"{registry.name}-{registry.version}-{registry.sha256[:12]}",
    )


def _listing(directory: Path) -> dict[str, list[int]]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    from tradetape.infra.embedded.pinning import main

    sys.exit(main(sys.argv[1:]))
