"""Files of the archive: paths, manifests, and what is found when one changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import archive_files as files
from tradetape.sinks.archive_files import Manifest, Part


def written(root: Path, content: bytes = b"parquet") -> Manifest:
    path = f"{files.folder_of('events', '2026-01-02', 'bot')}/part-0001.parquet"
    size, sha256 = files.write(root, path, [content[:3], content[3:]])
    parts = (Part(0, "accepted", 3, ((0, 4, 5), (1, 4, 4))), Part(2, "accepted", 1, ((0, 9, 9),)))
    manifest = Manifest("events", "2026-01-02", "bot", path, 4, size, sha256, "AB", ("core-1",), parts)
    files.write_manifest(root, manifest)
    return manifest


@given(st.text(max_size=400))
def test_an_instance_is_one_folder_whatever_its_name(instance: str) -> None:
    name = files.escaped(instance)
    assert 0 < len(name.encode()) <= files.MAX_NAME
    assert not set(name) & set("/\\*?{}[]'\" =\0\n")
    assert name not in {".", ".."} or instance == name


@given(st.lists(st.text(max_size=100), unique=True, max_size=20))
def test_two_instances_are_two_folders(instances: list[str]) -> None:
    assert len({files.escaped(instance) for instance in instances}) == len(instances)


def test_the_layout_is_hives() -> None:
    assert files.folder_of("risk", "2026-01-02", "a/b c") == "table=risk/date=2026-01-02/instance_name=a%2Fb%20c"
    assert files.folder_of("risk", "2026-01-02", "").endswith("=__HIVE_DEFAULT_PARTITION__")


def test_a_file_takes_the_first_free_number() -> None:
    taken = ["f/part-0001.parquet", "f/part-0003.parquet", "g/part-0002.parquet"]
    assert files.next_path("f", taken) == "f/part-0002.parquet"
    assert files.next_path("h", taken) == "h/part-0001.parquet"


@pytest.mark.parametrize("folder", ["/data/*", "/data/{a,b}", "a?", "[x]"])
def test_a_folder_with_wildcards_is_refused(folder: str) -> None:
    with pytest.raises(TradetapeError, match="wildcard"):
        files.check_folder(folder)


@pytest.mark.req("S1-10")
def test_a_manifest_tells_counts_hashes_ranges_and_versions(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    document = json.loads((tmp_path / files.manifest_path(manifest.path)).read_text())
    assert (document["rows"], document["bytes"], document["core_versions"]) == (4, 7, ["core-1"])
    assert document["sha256"] == files.sha256_of(tmp_path / manifest.path)
    assert document["raw_partitions"] == {
        "0": {"accepted": {"rows": 3, "runs": [[0, 4, 5], [1, 4, 4]]}},
        "2": {"accepted": {"rows": 1, "runs": [[0, 9, 9]]}},
    }
    assert files.differences(tmp_path, manifest) == []
    assert not list((tmp_path / files.SCRATCH).iterdir())


@pytest.mark.req("S1-10")
def test_what_changed_is_found(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    file, beside = tmp_path / manifest.path, tmp_path / files.manifest_path(manifest.path)
    whole, told = file.read_bytes(), beside.read_text()
    for content, found in (
        (b"parqueT", "its bytes are not those"),
        (whole + b"x", "8 bytes, not 7"),
        (None, "not there"),
    ):
        file.unlink() if content is None else file.write_bytes(content)
        (problem,) = files.differences(tmp_path, manifest)
        assert found in problem
    file.write_bytes(whole)
    for text, found in (
        (told.replace('"rows": 1', '"rows": 2'), "differs from the ledger in raw_partitions"),
        (told[:-9], "damaged"),
        ("[]", "differs from the ledger in bytes"),
        (None, "manifest is not there"),
    ):
        beside.unlink() if text is None else beside.write_text(text)
        (problem,) = files.differences(tmp_path, manifest)
        assert found in problem


def test_files_that_no_ledger_names_are_told(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    stray = tmp_path / "table=events/date=2026-01-03/part-0001.parquet"
    stray.parent.mkdir(parents=True)
    stray.touch()
    assert files.strays(tmp_path, [manifest.path]) == [stray.relative_to(tmp_path).as_posix()]
