"""Configured sources opened: which connector reads which kind, who its bot is, and one reader per store.

A store that is read by one ``tradetape connect`` is locked against another of the same home: both would move one
checkpoint.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote

from tradetape.infra import connect_address
from tradetape.infra.connect_address import Address
from tradetape.infra.files import try_lock
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import Connect, Kafka, OnReport, OnWarning, Pace, run_many
from tradetape.producers.connectors.source import Lag, Source
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import Job
from tradetape.producers.emitter import Emitter
from tradetape.producers.events import Event
from tradetape.schemas import identity
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.instruments import Instruments

ENVIRONMENTS = ("live", "paper", "testnet", "backtest")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Kind(NamedTuple):
    """One kind of native store: its connector's module; ``extra`` is what pip has to install for it."""

    module: str
    producer: str
    is_file: bool = True
    extra: str = ""
    legacy: bool = True


KINDS: Mapping[str, Kind] = {
    "turtle": Kind("turtle.source", "turtle", is_file=False, extra="postgres"),
    "catalyst": Kind("catalyst.source", "catalyst"),
    "trend": Kind("trend.source", "trend"),
    "hummingbot": Kind("hummingbot.source", "hummingbot"),
    "hummingbot-log": Kind("hummingbot.log", "hummingbot"),
    "quantum": Kind("quantum.source", "quantum", is_file=False, extra="redis"),
    "envelope": Kind("envelope.source", "envelope", legacy=False),
}


class Connector(Protocol):
    """What a connector module provides."""

    def open_source(self, location: str, origin: Origin, saved: dict[str, Any] | None) -> Source:
        """The store at ``location``, open at the checkpoint ``saved``. Raises TradetapeError."""

    def fingerprint(self, location: str) -> str:
        """The identity of the store at ``location``: another for a recreated one. Raises TradetapeError."""


def defaults(module: Connector) -> Mapping[str, str]:
    """What the connector assumes where the user says nothing: ``connector_name`` and ``quote``, both optional."""
    return cast(Mapping[str, str], getattr(module, "DEFAULTS", {}))


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source as configured; empty text where nothing was said. ``location`` may carry a password."""

    kind: str
    location: str
    name: str = ""
    instance: str = ""
    producer: str = ""
    connector: str = ""
    account: str = ""
    environment: str = ""
    owner: str = ""
    source_id: str = ""
    quote: str = ""
    legacy: bool | None = None
    instruments: Mapping[str, str] = field(default_factory=dict)

    @property
    def instance_name(self) -> str:
        """The bot: as configured, else the name of the file, the database or its host."""
        return self.instance or _name_of(self.location, KINDS[self.kind])

    @property
    def label(self) -> str:
        """What people see: the name, else the bot."""
        return self.name or self.instance_name

    def origin(self, source_id: str, assumed: Mapping[str, str]) -> Origin:
        """Who the bot is, for the adapter; ``assumed`` are the connector's defaults."""
        kind = KINDS[self.kind]
        return Origin(
            source_id=source_id,
            instance_name=self.instance_name,
            connector_name=self.connector or assumed.get("connector_name", ""),
            producer=self.producer or kind.producer,
            location=without_password(self.location, kind),
            account=self.account,
            environment=self.environment,
            owner=self.owner or None,
            ingest_source=self.kind,
            legacy=kind.legacy if self.legacy is None else self.legacy,
            instruments=Instruments(named=self.instruments, quote=self.quote or assumed.get("quote", "")),
        )


def connector(kind: str) -> Connector:
    """The connector of ``kind``. Raises TradetapeError where what it needs is not installed."""
    found = KINDS[kind]
    return cast(Connector, _imported(f"tradetape.producers.connectors.{found.module}", found))


def jobs(home: Path, sources: Sequence[SourceConfig]) -> list[Job]:
    """What ``run_many`` needs of ``sources``.

    Raises TradetapeError for sources that cannot be told apart, and for missing packages.
    """
    for twice in _repeated([source.label for source in sources]):
        raise TradetapeError(f"several sources are called {twice}", hint="give each a name, or an instance, of its own")
    bots = set(_repeated([source.instance_name for source in sources]))
    for source in sources:
        if not source.instance and source.instance_name in bots:
            raise TradetapeError(
                f"several sources would be the bot {source.instance_name}", hint="give each an instance: whose it is"
            )
    for kind in {source.kind for source in sources}:
        connector(kind)
    return [Job(source.label, partial(_open, home, source)) for source in sources]


def run(
    home: Path,
    sources: Sequence[SourceConfig],
    connect: Connect,
    *,
    follow: bool,
    stop: threading.Event,
    interval: float,
    on_report: OnReport,
    on_warning: OnWarning,
) -> list[Summary | TradetapeError]:
    """Take ``sources`` in, as ``run_many`` does."""
    return run_many(
        jobs(home, sources),
        connect,
        follow=follow,
        stop=stop,
        pace=Pace(interval=interval),
        on_report=on_report,
        on_warning=on_warning,
    )


@contextmanager
def to_kafka(home: Path, bootstrap_servers: str, registry_url: str) -> Iterator[Kafka]:
    """A connection to Kafka, with the checkpoints of that cluster in ``home``."""
    with Emitter(bootstrap_servers, registry_url, client_id="tradetape-connect", ahead=False) as emitter:
        yield Kafka(emitter, Checkpoints.for_cluster(home, emitter.cluster_id()))


def expand(location: str, environ: Mapping[str, str]) -> str:
    """``location`` with each ``${NAME}`` replaced. Raises TradetapeError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not environ.get(name):
            raise TradetapeError(f"the environment variable {name} is not set", hint=f"export {name} and retry")
        return environ[name]

    return _VARIABLE.sub(value, location)


def without_password(location: str, kind: Kind) -> str:
    """``location`` as it may be shown and stored; empty where it is an address that cannot be read.

    Raises TradetapeError where what ``kind`` needs is not installed.
    """
    return location if kind.is_file else _address(location, kind).shown


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _name_of(location: str, kind: Kind) -> str:
    if kind.is_file:
        return Path(location).stem
    return _address(location, kind).name or kind.producer


def _address(location: str, kind: Kind) -> Address:
    if kind.extra == "redis":
        return connect_address.redis(location)
    psycopg = _imported("psycopg", kind)
    try:
        return connect_address.postgres(_imported("psycopg.conninfo", kind).conninfo_to_dict(location))
    except psycopg.ProgrammingError:
        return Address()


def _imported(module: str, kind: Kind) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not kind.extra or (error.name or "").startswith("tradetape"):
            raise
        raise TradetapeError(
            f"{kind.producer} needs {error.name}, which is not installed", hint=f"install tradetape[{kind.extra}]"
        ) from error


def _open(home: Path, config: SourceConfig, checkpoints: Checkpoints) -> Source:
    module = connector(config.kind)
    source_id = config.source_id or module.fingerprint(config.location)
    lock = _claim(home, config.label, source_id)
    try:
        source = module.open_source(
            config.location, config.origin(source_id, defaults(module)), checkpoints.load(source_id)
        )
    except BaseException:
        os.close(lock)
        raise
    return _Claimed(source, lock)


def _claim(home: Path, label: str, source_id: str) -> int:
    name = quote(source_id, safe="")
    file = name if len(name) <= 200 else identity.derive("lock", source_id)
    lock = try_lock(home / "connect" / "locks" / f"{file}.lock")
    if lock is None:
        raise TradetapeError(
            f"{label} is taken in by another `tradetape connect` (source {source_id})", hint="stop one of them"
        )
    return lock


class _Claimed:
    """A source with its lock."""

    def __init__(self, source: Source, lock: int) -> None:
        self.name = source.name
        self.source_id = source.source_id
        self._source = source
        self._lock = lock

    def poll(self, limit: int) -> Sequence[Event]:
        return self._source.poll(limit)

    def state(self) -> dict[str, Any]:
        return self._source.state()

    def acknowledge(self) -> None:
        self._source.acknowledge()

    def lag(self) -> Lag:
        return self._source.lag()

    def ended(self) -> Sequence[Event]:
        return self._source.ended()

    def close(self) -> None:
        try:
            self._source.close()
        finally:
            os.close(self._lock)
