"""``tradetape.toml``: what it may say, and where it says something wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradetape.infra import connect_file
from tradetape.schemas.errors import TradetapeError

WHOLE = """
# The fleet
[[source]]
kind = "turtle"
location = "postgresql://tape:${PGPASSWORD}@db/turtle"
instance = "turtle-1"
owner = "desk"

[[source]]
kind = "envelope"
location = "bots/lines.jsonl"
legacy = true

[instruments]
QQQ = "QQQ-USD"
"BTC/USDT:USDT" = "BTC-USDT"
"""


def read(tmp_path: Path, text: str, **environ: str) -> list[connect_file.SourceConfig]:
    path = tmp_path / "tradetape.toml"
    path.write_text(text, encoding="utf-8")
    return connect_file.read(path, environ)


def test_a_whole_file(tmp_path: Path) -> None:
    turtle, lines = read(tmp_path, WHOLE, PGPASSWORD="s3cret")
    assert (turtle.kind, turtle.location) == ("turtle", "postgresql://tape:s3cret@db/turtle")
    assert (turtle.instance, turtle.owner, turtle.legacy) == ("turtle-1", "desk", None)
    assert turtle.instruments == {"QQQ": "QQQ-USD", "BTC/USDT:USDT": "BTC-USDT"}
    assert (lines.location, lines.legacy) == (str(tmp_path / "bots" / "lines.jsonl"), True)


def test_an_absolute_file_stays_where_it_is(tmp_path: Path) -> None:
    (found,) = read(tmp_path, '[[source]]\nkind = "catalyst"\nlocation = "/data/events.db"\n')
    assert found.location == "/data/events.db"


@pytest.mark.parametrize(
    ("wrong", "line", "said"),
    [
        ('kind = "turtel"', 3, "kind: 'turtel' is not known; did you mean turtle? (allowed: turtle, catalyst, "),
        ('kind = "turtle"\ninstnace = "x"', 4, "'instnace' is not known; did you mean instance? (allowed: kind, "),
        ('kind = "turtle"\n\nowner = 7', 5, "owner: 7 is not text in quotes"),
        ('kind = "turtle"\nlegacy = "yes"', 4, "legacy: 'yes' is not true or false"),
        ('kind = "turtle"\nenvironment = "prod"', 4, "environment: 'prod' is not known (allowed: live, paper, "),
        ('kind = "turtle"\nquote = "usd"', 4, "quote: 'usd' is no asset, e.g. USD"),
        ('kind = "turtle"\n[[source]]\nkind = "trend"', 4, "the source has no location"),
        ('# no kind\ninstance = "a"', 1, "the source has no kind"),
        ('kind = "turtle"\n[instruments]\nQQQ = "QQQUSD"', 5, "QQQ: 'QQQUSD' is no pair, e.g. BTC-USDT"),
        ('kind = "turtle"\n[defaults]\nowner = "x"', 4, "'defaults' is not known (allowed: source, instruments)"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, wrong: str, line: int, said: str) -> None:
    with pytest.raises(TradetapeError) as caught:
        read(tmp_path, f'[[source]]\nlocation = "postgresql://h/d"\n{wrong}\n')
    assert caught.value.message.startswith(f"{tmp_path / 'tradetape.toml'}:{line}: {said}")


def test_a_location_with_a_nul_character_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError, match=r"toml:2: location: has a NUL character"):
        read(tmp_path, '[[source]]\nlocation = "a\\u0000b"\nkind = "trend"\n')


def test_a_variable_that_is_not_set_is_told_and_no_secret_is(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError, match=r"toml:5: location: the environment variable PGPASSWORD is not set"):
        read(tmp_path, WHOLE)


@pytest.mark.parametrize("text", ["", "[instruments]\n", "source = 3\n", 'source = ["turtle"]\n'])
def test_a_file_without_sources_says_how_to_begin_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(TradetapeError, match=r"it has no source: begin each with a line \[\[source\]\]"):
        read(tmp_path, text)


def test_what_is_no_toml_is_told_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError, match=r"is no TOML: .*line 2"):
        read(tmp_path, "[[source]]\nkind = turtle\n")
    (tmp_path / "tradetape.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TradetapeError, match="cannot be read"):
        connect_file.read(tmp_path / "tradetape.toml", {})


def test_sources_as_inline_tables_are_read_too(tmp_path: Path) -> None:
    (found,) = read(tmp_path, 'source = [{kind = "trend", location = "/x"}]\n')
    assert found.kind == "trend"
    with pytest.raises(TradetapeError, match=r"tradetape\.toml: 'knd' is not known"):
        read(tmp_path, 'source = [{knd = "trend", location = "/x"}]\n')
