"""A home as one file: what it holds, what it refuses, and what damage it finds."""

from __future__ import annotations

import io
import os
import socket
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from tradetape.infra import backup
from tradetape.infra.embedded import processes
from tradetape.schemas.errors import TradetapeError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    data = home / "clickhouse/store/1"
    data.mkdir(parents=True)
    (data / "part").write_bytes(bytes(range(256)) * 5000)
    (data / "same part").hardlink_to(data / "part")
    (home / "clickhouse/link").symlink_to("store/1")
    (home / "fleet").mkdir(mode=0o700)
    (home / "fleet/secret").write_text("x")
    (home / "fleet/secret").chmod(0o600)
    (home / "empty").mkdir()
    for folder in ("run", "logs"):
        (home / folder).mkdir()
        (home / folder / "left out").touch()
    return home


def tree(home: Path) -> dict[str, tuple[int, bytes | str]]:
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if name.split("/")[0] in backup.LEFT_OUT:
            continue
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[name] = (path.lstat().st_mode, content)
    return found


@pytest.mark.req("P-11")
def test_only_what_is_on_disk_becomes_the_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = backup.backup(home, tmp_path / "backup.tar.zst", NOW)
    other = tmp_path / "other"
    there = []
    monkeypatch.setattr(os, "sync", lambda: there.append((other.exists(), tree(tmp_path / ".other.restoring"))))
    backup.restore(done.path, other)
    assert there == [(False, tree(home))]


@pytest.mark.req("P-11")
def test_a_home_comes_back_as_it_was(home: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_by_a_server:
        left_by_a_server.bind(str(home / "fleet/s"))
    done = backup.backup(home, backup.target(tmp_path, NOW), NOW)
    assert done.path.name == "tradetape-20260102T030405Z.tar.zst"
    (home / "fleet/s").unlink()
    restored = backup.restore(done.path, tmp_path / "other")
    assert tree(tmp_path / "other") == tree(home)
    assert (restored.files, restored.size, restored.made_at) == (3, done.size, "2026-01-02T03:04:05+00:00")
    assert not (tmp_path / "other/run").exists()


@pytest.mark.req("P-11")
@pytest.mark.parametrize("damage", ["cut", "flipped", "no manifest", "another file", "no archive"])
def test_damage_is_found_and_nothing_is_restored(home: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "b.tar.zst"
    backup.backup(home, path, NOW)
    packed = path.read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    path.write_bytes(
        {
            "cut": lambda: packed[: len(packed) // 2],
            "flipped": lambda: zstandard.compress(plain.replace(bytes(range(256)), bytes(256), 1)),
            "no manifest": lambda: zstandard.compress(_only(plain, lambda name: name != backup.MANIFEST)),
            "another file": lambda: zstandard.compress(_only(plain, lambda name: not name.endswith("secret"))),
            "no archive": lambda: b"text",
        }[damage]()
    )
    with pytest.raises(backup.Damaged):
        backup.restore(path, tmp_path / "other")
    assert {entry.name for entry in tmp_path.iterdir()} == {"home", "b.tar.zst"}


def test_an_entry_outside_the_home_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("../outside")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    path = tmp_path / "b.tar.zst"
    path.write_bytes(zstandard.compress(packed.getvalue()))
    with pytest.raises(backup.Damaged, match="outside the home"):
        backup.restore(path, tmp_path / "deep/other")
    assert not (tmp_path / "deep/outside").exists()


@pytest.mark.req("P-11")
def test_it_waits_for_nobody_and_overwrites_nothing(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    running = processes.spawn("worker", [sys.executable, "-c", "import signal; signal.pause()"], home=home)
    try:
        with pytest.raises(TradetapeError, match=r"is in use .* stop them with `tradetape down` first"):
            backup.backup(home, path, NOW)
    finally:
        running.kill()
        running.wait()
    assert not path.exists()
    with pytest.raises(TradetapeError, match="is no home of a stack"):
        backup.backup(tmp_path / "nothing", path, NOW)
    with pytest.raises(TradetapeError, match="lies in the home itself"):
        backup.backup(home, home / "b.tar.zst", NOW)
    backup.backup(home, path, NOW)
    with pytest.raises(TradetapeError, match="is there already"):
        backup.backup(home, path, NOW)
    with pytest.raises(TradetapeError, match="is not empty"):
        backup.restore(path, home)


def _only(plain: bytes, keep: object) -> bytes:
    kept = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=kept, mode="w") as new:
        for info in old:
            if keep(info.name):  # type: ignore[operator]
                new.addfile(info, old.extractfile(info) if info.isreg() else None)
    return kept.getvalue()
