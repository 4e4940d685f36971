"""Who may read: bearer tokens, each of which names a client and the bots that it may see (S2-05)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tradetape.infra.api.scope import Scope
from tradetape.producers.serving import tokens
from tradetape.producers.serving.tokens import Tokens
from tradetape.schemas.errors import TradetapeError

TOKENS_VARIABLE = "TRADETAPE_API_TOKENS"
"""``client=token,client=token``: clients that see everything, for where there is no file."""

_HEAD = (
    "# Who may read the record over HTTP. Restart the API after a change.\n"
    '# instances = ["bot1", "desk7-*"]  limits a client to what those bots did; without it, it sees everything.\n'
)
_HINT = "see docs/guides/query-over-http.md for the form of the tokens file"


class Client(NamedTuple):
    """Who reads, and which bots' rows it sees."""

    name: str
    scope: Scope = Scope()


Clients = Tokens[Client]


def load(path: Path, environment: Mapping[str, str]) -> Clients:
    """The clients of the tokens file at ``path``, if it exists, and of the environment variable.

    Raises TradetapeError for a file that cannot be read or says what no tokens file says, and where no client is left.
    """
    found = [
        *tokens.of_file(path, {"instances"}, _client, hint=_HINT),
        *tokens.of_variable(TOKENS_VARIABLE, environment, Client, hint=_HINT),
    ]
    if not found:
        raise TradetapeError(f"no client may read: {path} has no token", hint=_HINT)
    return Clients(found)


def generate(path: Path) -> bool:
    """Write a tokens file with one client, ``default``, for its owner's eyes only (0600); False where there is a file.

    Raises TradetapeError where it cannot be written.
    """
    return tokens.generate(path, _HEAD)


def _client(name: str, entry: Mapping[str, Any]) -> Client:
    patterns = tokens.instances(entry)
    if "instances" in entry and not patterns:
        raise ValueError("instances is empty: leave it out for all bots")
    if any("[" in pattern for pattern in patterns):
        raise ValueError("instances are names, or patterns with * and ?")
    return Client(name, Scope(patterns))
