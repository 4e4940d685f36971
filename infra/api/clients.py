"""Who may read: bearer tokens, each of which names a client and the bots that it may see (S2-05)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tradetape.infra.api.scope import Scope
from tradetape.producers.serving import tokens
from tradetape.producers.serving.tokens import Tokens, TokensFile


class Client(NamedTuple):
    """Who reads, and which bots' rows it sees."""

    name: str
    scope: Scope = Scope()


Clients = Tokens[Client]


def _client(name: str, entry: Mapping[str, Any]) -> Client:
    patterns = tokens.instances(entry)
    if "instances" in entry and not patterns:
        raise ValueError("instances is empty: leave it out for all bots")
    if any("[" in pattern for pattern in patterns):
        raise ValueError("instances are names, or patterns with * and ?")
    return Client(name, Scope(patterns))


TOKENS = TokensFile(
    variable="TRADETAPE_API_TOKENS",
    keys={"instances"},
    client=_client,
    may="read",
    head=(
        "# Who may read the record over HTTP. Restart the API after a change.\n"
        '# instances = ["bot1", "desk7-*"]  limits a client to what those bots did; without it, it sees everything.\n'
    ),
    hint="see docs/guides/query-over-http.md for the form of the tokens file",
)
"""A client that the environment variable names sees everything."""
