"""The pinned programs: verified, cached, safe against interruption; with a repository of files instead of the net."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from tradetape.infra.embedded import artifacts
from tradetape.infra.embedded.artifacts import Installed, ensure, pinned
from tradetape.schemas.errors import TradetapeError


class FakeRepository:
    """Stands in for jgo's context: ``project().at_version().artifact().resolve()`` writes a file."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fetched: list[str] = []
        self.folder = Path()
        self.lock = threading.Lock()

    def context(self, repo_cache: Path, _progress: object = None) -> FakeRepository:
        self.folder = repo_cache
        return self

    def project(self, _group: str, name: str) -> FakeArtifact:
        return FakeArtifact(self, name)


class FakeArtifact:
    def __init__(self, repository: FakeRepository, name: str) -> None:
        self.repository, self.name = repository, name

    def at_version(self, _version: str) -> FakeArtifact:
        return self

    def artifact(self, **_: str) -> FakeArtifact:
        return self

    def resolve(self) -> Path:
        with self.repository.lock:
            self.repository.fetched.append(self.name)
            content = self.repository.files.get(self.name)
            if content is None:
                raise RuntimeError(f"Artifact {self.name} not found")
            self.repository.folder.mkdir(parents=True, exist_ok=True)
            path = self.repository.folder / self.name
            path.write_bytes(content)
            return path


def an_archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in ("quarkus-run.jar", "lib/main/a.jar"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"jar"))
    return out.getvalue()


FILES = {"one": b"first jar", "two": b"second jar", "registry": an_archive()}


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> FakeRepository:
    fake = FakeRepository(dict(FILES))
    monkeypatch.setattr(artifacts, "maven_context", fake.context)
    return fake


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    def entry(name: str, classifier: str, packaging: str) -> dict[str, Any]:
        content = FILES[name]
        digest = hashlib.sha256(content).hexdigest()
        coordinates = {"group": "g", "name": name, "version": "1", "classifier": classifier}
        return {**coordinates, "packaging": packaging, "size": len(content), "sha256": digest}

    path = tmp_path / "pins.json"
    jars = [entry("one", "", "jar"), entry("two", "", "jar")]
    path.write_text(json.dumps({"kafka": jars, "registry": [entry("registry", "all", "tar.gz")]}))
    return path


def test_everything_is_fetched_once(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    installed = ensure(tmp_path, pin_file=pins)
    assert [path.read_bytes() for path in installed.kafka_classpath] == [b"first jar", b"second jar"]
    assert (installed.registry_dir / "lib" / "main" / "a.jar").read_bytes() == b"jar"
    assert sorted(repository.fetched) == ["one", "registry", "two"]
    ensure(tmp_path, pin_file=pins)
    assert len(repository.fetched) == 3


def test_the_second_call_hashes_nothing(
    tmp_path: Path, pins: Path, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(tmp_path, pin_file=pins)
    monkeypatch.setattr(artifacts, "sha256_of", lambda path: pytest.fail(f"hashed {path}"))
    ensure(tmp_path, pin_file=pins)
    assert len(repository.fetched) == 3


def test_a_download_with_another_hash_is_refused_and_not_kept(
    tmp_path: Path, pins: Path, repository: FakeRepository
) -> None:
    repository.files["two"] = b"evil"
    with pytest.raises(TradetapeError, match=r"two-1\.jar does not have its pinned SHA-256"):
        ensure(tmp_path, pin_file=pins)
    assert not (tmp_path / "artifacts" / "two-1.jar").exists()
    repository.files["two"] = FILES["two"]
    ensure(tmp_path, pin_file=pins)


def test_a_changed_file_in_the_cache_is_named(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    changed = ensure(tmp_path, pin_file=pins).kafka_classpath[0]
    changed.write_bytes(b"FIRST jar")
    with pytest.raises(TradetapeError) as caught:
        ensure(tmp_path, pin_file=pins)
    assert str(changed) in caught.value.message
    assert "delete that file" in caught.value.hint
    changed.unlink()
    assert ensure(tmp_path, pin_file=pins).kafka_classpath[0].read_bytes() == b"first jar"


def test_a_touched_file_is_hashed_again_and_kept(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    ensure(tmp_path, pin_file=pins).kafka_classpath[0].touch()
    ensure(tmp_path, pin_file=pins)
    assert len(repository.fetched) == 3


def test_a_damaged_registry_folder_is_named(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    folder = ensure(tmp_path, pin_file=pins).registry_dir
    (folder / "lib" / "main" / "a.jar").unlink()
    with pytest.raises(TradetapeError) as caught:
        ensure(tmp_path, pin_file=pins)
    assert str(folder) in caught.value.message


def test_an_interrupted_download_goes_on(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    del repository.files["two"]
    staging = tmp_path / "artifacts" / ".staging"
    staging.mkdir(parents=True)
    (staging / "half").write_bytes(b"x")
    with pytest.raises(TradetapeError, match=r"cannot download two-1\.jar"):
        ensure(tmp_path, pin_file=pins)
    assert not staging.exists()
    repository.files["two"] = FILES["two"]
    ensure(tmp_path, pin_file=pins)
    assert repository.fetched.count("two") == 2


def test_two_at_once_fetch_once(tmp_path: Path, pins: Path, repository: FakeRepository) -> None:
    results: list[Installed] = []
    threads = [threading.Thread(target=lambda: results.append(ensure(tmp_path, pin_file=pins))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(results)) == 1
    assert len(results) == 4
    assert sorted(repository.fetched) == ["one", "registry", "two"]


def test_the_real_pins_are_complete() -> None:
    parts = pinned()
    names = [artifact.filename for artifact in parts["kafka"]]
    assert len(set(names)) == len(names) == 46
    assert "kafka_2.13-4.3.1.jar" in names
    assert "slf4j-simple-1.7.36.jar" in names
    assert [artifact.filename for artifact in parts["registry"]] == ["apicurio-registry-app-3.3.3-all.tar.gz"]
    for artifact in (*parts["kafka"], *parts["registry"]):
        assert len(artifact.sha256) == 64
        assert artifact.size > 0
