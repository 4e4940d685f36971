"""Who may post: bearer tokens, each of which names a client and so a source (S3-03, S3-05)."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tradetape.producers.adapters.envelope import Origin
from tradetape.producers.gateway.reading import INGEST_SOURCE
from tradetape.schemas.errors import TradetapeError

TOKENS_VARIABLE = "TRADETAPE_GATEWAY_TOKENS"
"""``client=token,client=token``: clients without further settings, for where there is no file."""

EVENTS_PER_SECOND = 10_000.0
BYTES_PER_SECOND = 20.0 * 1024 * 1024
SHORTEST_TOKEN = 16
"""Characters; a shorter one could be guessed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HINT = "see docs/guides/post-events-over-http.md for the form of the tokens file"


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
        return not self.instances or any(fnmatchcase(instance_name, pattern) for pattern in self.instances)


class Clients:
    """Clients by token. Tokens are kept as hashes; looking one up takes as long for a wrong one as for a right one."""

    def __init__(self, tokens: Iterable[tuple[str, Client]]) -> None:
        self._known = [(_hash(token), client) for token, client in tokens]
        if len({digest for digest, _ in self._known}) < len(self._known):
            raise TradetapeError("two clients have the same token", hint="give each client a token of its own")

    def __len__(self) -> int:
        return len({client.name for _, client in self._known})

    def authenticate(self, authorization: str) -> Client | None:
        """The client of an ``Authorization`` header, None where there is none."""
        scheme, _, token = authorization.partition(" ")
        digest = _hash(token.strip())
        found: Client | None = None
        for known, client in self._known:
            if hmac.compare_digest(known, digest):
                found = client
        return found if scheme.lower() == "bearer" else None


def load(path: Path, environment: Mapping[str, str]) -> Clients:
    """The clients of the tokens file at ``path``, if it exists, and of the environment variable.

    Raises TradetapeError for a file that cannot be read or says what no tokens file says, and where no client is left.
    """
    found = [*_of_file(path), *_of_variable(environment.get(TOKENS_VARIABLE, ""))]
    if not found:
        raise TradetapeError(f"no client may post: {path} has no token", hint=_HINT)
    return Clients(found)


def generate(path: Path, *, new_token: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> bool:
    """Write a tokens file with one client, ``default``, for its owner's eyes only (0600); False where there is a file.

    Raises TradetapeError where it cannot be written.
    """
    text = (
        "# Who may post events to the gateway. Restart it after a change.\n"
        '# instances = ["bot1", "desk7-*"]  limits a client to bots; legacy = true lets correlation ids be missing.\n'
        f'\n[default]\ntoken = "{new_token()}"\n'
    )
    if path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise TradetapeError(
            f"{path} cannot be written ({error.strerror})", hint="name another file with --tokens"
        ) from error
    return True


def _of_file(path: Path) -> list[tuple[str, Client]]:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TradetapeError(f"{path} cannot be read ({error.strerror})", hint="check its permissions") from error
    except ValueError as error:
        raise TradetapeError(f"{path} is not TOML ({error})", hint=_HINT) from error
    found: list[tuple[str, Client]] = []
    for name, entry in entries.items():
        try:
            found += _entry(name, entry)
        except ValueError as error:
            raise TradetapeError(f"{path}: client {name!r}: {error}", hint=_HINT) from None
    return found


def _entry(name: str, entry: Any) -> list[tuple[str, Client]]:
    if not isinstance(entry, dict):
        raise ValueError("is no table")
    if not _NAME.fullmatch(name):
        raise ValueError("a name is letters, digits, . _ -, 64 at most")
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"has the unknown key {', '.join(sorted(unknown))}")
    given = entry.get("token")
    tokens = given if isinstance(given, list) else [given]
    instances = entry.get("instances", [])
    if not isinstance(instances, list) or not all(isinstance(pattern, str) and pattern for pattern in instances):
        raise ValueError("instances is no list of names")
    if not isinstance(entry.get("legacy", False), bool):
        raise ValueError("legacy is true or false")
    source_id = entry.get("source_id", _source_id(name))
    if not isinstance(source_id, str) or not source_id:
        raise ValueError("source_id is no text")
    client = Client(
        name,
        source_id,
        tuple(instances),
        entry.get("legacy", False),
        _rate(entry, "events_per_second", EVENTS_PER_SECOND),
        _rate(entry, "bytes_per_second", BYTES_PER_SECOND),
    )
    return [(_token(token), client) for token in tokens]


_KEYS = {"token", "instances", "legacy", "source_id", "events_per_second", "bytes_per_second"}


def _rate(entry: Mapping[str, Any], name: str, default: float) -> float:
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is no number above 0")
    return float(value)


def _of_variable(text: str) -> list[tuple[str, Client]]:
    found = []
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        name, _, token = part.partition("=")
        try:
            if not _NAME.fullmatch(name):
                raise ValueError("is not client=token")
            found.append((_token(token), Client(name, _source_id(name))))
        except ValueError as error:
            # Not the part itself: it may be a token.
            raise TradetapeError(f"{TOKENS_VARIABLE}: part {number}: {error}", hint=_HINT) from None
    return found


def _token(token: object) -> str:
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token) or len(token) < SHORTEST_TOKEN:
        raise ValueError(f"its token is no text of {SHORTEST_TOKEN} or more visible ASCII characters")
    return token


def _source_id(name: str) -> str:
    return f"{INGEST_SOURCE}:{name}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
