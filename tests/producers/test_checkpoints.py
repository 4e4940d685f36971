"""Checkpoints: durable, per cluster, and never trusted further than they can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradetape.producers.checkpoints import Checkpoints
from tradetape.schemas.errors import TradetapeError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints.for_cluster(tmp_path, "cluster/1")
    assert checkpoints.load("a") is None
    checkpoints.save("a", {"last": 1})
    checkpoints.save("a", {"last": 2})
    assert checkpoints.load("a") == {"last": 2}
    assert Checkpoints.for_cluster(tmp_path, "other").load("a") is None
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("source_id", ["../../evil", "a/b", "x" * 500, ".", "Ω"])
def test_any_source_id_is_one_file_in_the_folder(source_id: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints.for_cluster(tmp_path, "c")
    checkpoints.save(source_id, {"last": 1})
    assert checkpoints.load(source_id) == {"last": 1}
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "ingest" / "c"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99}', '{"version":1,"source_id":"b","state":{}}'])
def test_an_unreadable_checkpoint_is_a_lost_one(content: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "a.json").write_text(content)
    assert checkpoints.load("a") is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TradetapeError, match="cannot be used"):
        Checkpoints(tmp_path / "file" / "below").save("a", {})
