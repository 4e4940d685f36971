"""``tradetape.toml``: the sources of one ``tradetape connect``, and how symbols are read.

    [[source]]
    kind = "turtle"                                     # KINDS
    location = "postgresql://tape:${PGPASSWORD}@db/turtle"   # ${NAME}: from the environment
    instance = "turtle-1"                               # every other key may be left out

    [instruments]                                       # symbol → pair, before every rule
    "QQQ" = "QQQ-USD"

A relative file is looked for beside ``tradetape.toml``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from tradetape.infra.connect import ENVIRONMENTS, KINDS, SourceConfig, expand
from tradetape.schemas.errors import TradetapeError

DEFAULT = Path("tradetape.toml")

_KEYS = tuple(field.name for field in fields(SourceConfig) if field.name != "instruments")
_TABLE = re.compile(r"^\s*\[\[\s*\"?source\"?\s*\]\]")
_HEADER = re.compile(r"^\s*\[")
_PAIR = re.compile(r"[A-Z0-9.]+-[A-Z0-9.]+")
_ASSET = re.compile(r"[A-Z0-9]{2,12}")


def read(path: Path, environ: Mapping[str, str]) -> list[SourceConfig]:
    """The sources of the file at ``path``.

    Raises TradetapeError with the line and the key that is wrong, and what is allowed there.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TradetapeError(f"{path} is no TOML: {error}", hint="correct that line") from error
    return _Reading(path, text, environ).sources(document)


def check(config: SourceConfig) -> None:
    """Raise ValueError where a value of ``config`` is not allowed, with the key first."""
    if config.kind not in KINDS:
        raise ValueError(f"kind: {_unknown(config.kind, list(KINDS))}")
    if not config.location:
        raise ValueError("location: is empty")
    if "\0" in config.location:
        raise ValueError("location: has a NUL character in it, which no file or address has")
    if config.environment and config.environment not in ENVIRONMENTS:
        raise ValueError(f"environment: {_unknown(config.environment, list(ENVIRONMENTS))}")
    if config.quote and not _ASSET.fullmatch(config.quote):
        raise ValueError(f"quote: {config.quote!r} is no asset, e.g. USD")
    for symbol, pair in config.instruments.items():
        if not _PAIR.fullmatch(pair):
            raise ValueError(f"{symbol}: {pair!r} is no pair, e.g. BTC-USDT")


class _Reading:
    def __init__(self, path: Path, text: str, environ: Mapping[str, str]) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._environ = environ
        self._starts = [number for number, line in enumerate(self._lines) if _TABLE.match(line)]

    def sources(self, document: dict[str, Any]) -> list[SourceConfig]:
        for key in document:
            if key not in {"source", "instruments"}:
                self._fail(_unknown(key, ["source", "instruments"]), self._line(key))
        tables = document.get("source")
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self._fail("it has no source: begin each with a line [[source]]", self._line("source"))
        instruments = self._instruments(document.get("instruments", {}))
        return [self._source(number, table, instruments) for number, table in enumerate(tables)]

    def _instruments(self, table: Any) -> dict[str, str]:
        if not isinstance(table, dict):
            self._fail("instruments is a table: [instruments] with lines symbol = pair", self._line("instruments"))
        for symbol, pair in table.items():
            if not isinstance(pair, str) or not _PAIR.fullmatch(pair):
                self._fail(f"{symbol}: {pair!r} is no pair, e.g. BTC-USDT", self._line(symbol))
        return dict(table)

    def _source(self, number: int, table: dict[str, Any], instruments: dict[str, str]) -> SourceConfig:
        for key, value in table.items():
            if key not in _KEYS:
                self._fail(f"{_unknown(key, _KEYS)}", self._line(key, number))
            if not isinstance(value, bool if key == "legacy" else str):
                what = "true or false" if key == "legacy" else "text in quotes"
                self._fail(f"{key}: {value!r} is not {what}", self._line(key, number))
        for key in ("kind", "location"):
            if key not in table:
                self._fail(f"the source has no {key}", self._line("", number))
        try:
            location = expand(table["location"], self._environ)
        except TradetapeError as error:
            self._fail(f"location: {error.message}", self._line("location", number))
        config = SourceConfig(**{**table, "location": location}, instruments=instruments)
        try:
            check(config)
        except ValueError as error:
            self._fail(str(error), self._line(str(error).partition(":")[0], number))
        if KINDS[config.kind].is_file:
            beside = self._path.parent / Path(location).expanduser()
            config = SourceConfig(**{**table, "location": str(beside)}, instruments=instruments)
        return config

    def _line(self, key: str, source: int | None = None) -> int | None:
        """The line (from 1) of ``key``, in the table of the source of that number; its header where there is none."""
        assigned = re.compile(rf"^\s*(\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
        if source is None:
            found = [number for number, line in enumerate(self._lines) if key and assigned.match(line)]
            return found[0] + 1 if found else None
        if source >= len(self._starts):  # written as an inline array
            return None
        start = self._starts[source]
        for number in range(start + 1, len(self._lines)):
            if _HEADER.match(self._lines[number]):
                break
            if key and assigned.match(self._lines[number]):
                return number + 1
        return start + 1

    def _fail(self, problem: str, line: int | None) -> NoReturn:
        where = f"{self._path}:{line}" if line is not None else str(self._path)
        raise TradetapeError(f"{where}: {problem}", hint="correct it and run the same again")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TradetapeError(
            f"{path} does not exist", hint="write one with a [[source]] for each bot, or give KIND and LOCATION"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TradetapeError(f"{path} cannot be read ({error})", hint="it is a text file in UTF-8") from error


def _unknown(value: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, allowed, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{value!r} is not known{meant} (allowed: {', '.join(allowed)})"
