"""Who may post: bearer tokens, each of which names a client and so a source (S3-03, S3-05)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tradetape.producers.adapters.envelope import Origin
from tradetape.producers.gateway.reading import INGEST_SOURCE
from tradetape.producers.serving import tokens
from tradetape.producers.serving.tokens import Tokens, TokensFile

EVENTS_PER_SECOND = 10_000.0
BYTES_PER_SECOND = 20.0 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Client:
    """Who posts. ``source_id`` names the source that its events come from, ``instances`` the bots it may write for
    (names or patterns with ``*``; empty: all), ``legacy`` that correlation ids may be missing.

    ``events_per_second`` and ``bytes_per_second`` (inflated) are its limits.
    """

    name: str
    source_id: str
    instances: tuple[str, ...] = ()
    legacy: bool = False
    events_per_second: float = EVENTS_PER_SECOND
    bytes_per_second: float = BYTES_PER_SECOND

    @property
    def origin(self) -> Origin:
        """Where its events come from."""
        return Origin(self.source_id, INGEST_SOURCE, self.name, self.legacy)

    def may_write(self, instance_name: str) -> bool:
        """Whether it may write for the bot ``instance_name``."""
        return tokens.allows(self.instances, instance_name)


Clients = Tokens[Client]


def _client(name: str, entry: Mapping[str, Any]) -> Client:
    instances = tokens.instances(entry)
    if not isinstance(entry.get("legacy", False), bool):
        raise ValueError("legacy is true or false")
    source_id = entry.get("source_id", _source_id(name))
    if not isinstance(source_id, str) or not source_id:
        raise ValueError("source_id is no text")
    return Client(
        name,
        source_id,
        instances,
        entry.get("legacy", False),
        _rate(entry, "events_per_second", EVENTS_PER_SECOND),
        _rate(entry, "bytes_per_second", BYTES_PER_SECOND),
    )


def _rate(entry: Mapping[str, Any], name: str, default: float) -> float:
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is no number above 0")
    return float(value)


def _source_id(name: str) -> str:
    return f"{INGEST_SOURCE}:{name}"


TOKENS = TokensFile(
    variable="TRADETAPE_GATEWAY_TOKENS",
    keys={"instances", "legacy", "source_id", "events_per_second", "bytes_per_second"},
    client=_client,
    may="post",
    head=(
        "# Who may post events to the gateway. Restart it after a change.\n"
        '# instances = ["bot1", "desk7-*"]  limits a client to bots; legacy = true lets correlation ids be missing.\n'
    ),
    hint="see docs/guides/post-events-over-http.md for the form of the tokens file",
)
"""A client that the environment variable names has no further settings."""
