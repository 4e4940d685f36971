"""Files that are no Hummingbot database, or that somebody else is using: one clear error before anything is sent."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.producers.databases import Database
from tests.producers.support import REAL, Listed

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.hummingbot import ingest as hummingbot
from tradetape.producers.connectors.hummingbot import store as hummingbot_store
from tradetape.producers.connectors.hummingbot.source import HummingbotSource
from tradetape.schemas.errors import TradetapeError


def refused(path: Path, tmp_path: Path) -> str:
    emitter = Listed()
    with pytest.raises(TradetapeError) as raised:
        hummingbot.ingest(path, emitter, Checkpoints(tmp_path / "checkpoints"))
    assert emitter.events == []
    assert raised.value.hint
    return str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nothing.sqlite", tmp_path)


@pytest.mark.parametrize("name", ["a\0b.sqlite", "x" * 300])
def test_a_name_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / name, tmp_path)
    with pytest.raises(TradetapeError, match="cannot be read"):
        HummingbotSource(tmp_path / name, "s", None)


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path, tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    assert "is empty" in refused(tmp_path / "empty.sqlite", tmp_path)


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("this is text, and longer than the header of a database")
    assert "is not an SQLite database" in refused(tmp_path / "text.sqlite", tmp_path)


def test_a_foreign_database_names_what_is_missing(tmp_path: Path) -> None:
    foreign = Database(tmp_path / "foreign.sqlite", 'CREATE TABLE "Order" (id TEXT, customer TEXT)')
    said = refused(foreign.path, tmp_path)
    assert "table OrderStatus" in said
    assert "table TradeFill" in said
    assert "column Order.market" in said


def test_a_truncated_database(tmp_path: Path) -> None:
    whole = (REAL / "conf_pure_mm_3.sqlite").read_bytes()
    (tmp_path / "half.sqlite").write_bytes(whole[: len(whole) // 2])
    assert "half.sqlite" in refused(tmp_path / "half.sqlite", tmp_path)


def test_a_damaged_database(tmp_path: Path) -> None:
    content = bytearray((REAL / "conf_pure_mm_3.sqlite").read_bytes())
    content[8192:40960] = b"\xaa" * 32768
    (tmp_path / "damaged.sqlite").write_bytes(content)
    assert "damaged.sqlite" in refused(tmp_path / "damaged.sqlite", tmp_path)


def test_a_locked_database(tmp_path: Path) -> None:
    made = Database(tmp_path / "made.sqlite")
    with closing(sqlite3.connect(made.path, isolation_level=None)) as bot:
        bot.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(TradetapeError, match="locked"),
            hummingbot_store.open_store(made.path, timeout=0.05),
        ):
            pass


def test_a_path_with_characters_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    made = Database(tmp_path / "a?b#c%20d.sqlite")
    made.order()
    made.status("BuyOrderCreated")
    emitter = Listed()
    hummingbot.ingest(made.path, emitter, Checkpoints(tmp_path / "checkpoints"))
    assert emitter.types() == {"order_created": 1, "source_ended": 1}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_bot_writes_while_its_database_is_read(mode: str, tmp_path: Path) -> None:
    made = Database(tmp_path / "made.sqlite")
    made.run(f"PRAGMA journal_mode = {mode}")
    made.order()
    made.status("BuyOrderCreated")
    with closing(sqlite3.connect(made.path, timeout=0.05)) as bot:
        bot.execute("SELECT count(*) FROM OrderStatus").fetchone()
        with hummingbot_store.open_store(made.path) as store:
            store.plan(hummingbot_store.BEFORE_ALL, ())
            bot.execute(
                "INSERT INTO OrderStatus (order_id, timestamp, status) VALUES ('o1', 1700000000000, 'OrderCancelled')"
            )
            bot.commit()
            seen = [record.status["status"] for record in store.statuses(hummingbot_store.BEFORE_ALL)]
    assert seen == ["BuyOrderCreated"]
