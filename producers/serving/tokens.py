"""Bearer tokens of an HTTP service, from a file and from the environment (S3-03, S3-05)."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tradetape.schemas.errors import TradetapeError

SHORTEST_TOKEN = 16
"""Characters; a shorter one could be guessed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Named(Protocol):
    """A client of a service."""

    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Named)


class Tokens(Generic[C]):
    """Clients by token. Tokens are kept as hashes; looking one up takes as long for a wrong one as for a right one."""

    def __init__(self, tokens: Iterable[tuple[str, C]]) -> None:
        self._known = [(_hash(token), client) for token, client in tokens]
        if len({digest for digest, _ in self._known}) < len(self._known):
            raise TradetapeError("two clients have the same token", hint="give each client a token of its own")

    def __len__(self) -> int:
        return len({client.name for _, client in self._known})

    def authenticate(self, authorization: str) -> C | None:
        """The client of an ``Authorization`` header, None where there is none."""
        scheme, _, token = authorization.partition(" ")
        digest = _hash(token.strip())
        found: C | None = None
        for known, client in self._known:
            if hmac.compare_digest(known, digest):
                found = client
        return found if scheme.lower() == "bearer" else None


def allows(patterns: Collection[str], instance_name: str) -> bool:
    """Whether ``patterns`` (names, or patterns with ``*``; empty: all) have the bot ``instance_name``."""
    return not patterns or any(fnmatchcase(instance_name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class TokensFile(Generic[C]):
    """How the clients of a service are written down: in a TOML file, a table each with ``token`` and ``keys``, and as
    ``client=token,client=token`` in the environment ``variable``, for where there is no file.

    ``client`` makes one of its name and table, and raises ValueError with what is wrong. ``may`` is what clients do,
    ``head`` is how a new file begins, ``hint`` what to do about a wrong one.
    """

    variable: str
    keys: Collection[str]
    client: Callable[[str, Mapping[str, Any]], C]
    may: str
    head: str
    hint: str

    def load(self, path: Path, environment: Mapping[str, str]) -> Tokens[C]:
        """The clients of the file at ``path``, if it exists, and of the environment variable.

        Raises TradetapeError for a file that cannot be read or says what no tokens file says, and where no client is
        left.
        """
        found = [*self._of_file(path), *self._of_variable(environment)]
        if not found:
            raise TradetapeError(f"no client may {self.may}: {path} has no token", hint=self.hint)
        return Tokens(found)

    def generate(
        self,
        path: Path,
        environment: Mapping[str, str],
        *,
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> bool:
        """Write a file with one client, ``default``, for its owner's eyes only (0600); False where there is a file, or
        ``environment`` names clients. Raises TradetapeError where it cannot be written.
        """
        if path.exists() or environment.get(self.variable):
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.write(f'{self.head}\n[default]\ntoken = "{new_token()}"\n')
        except OSError as error:
            raise TradetapeError(
                f"{path} cannot be written ({error.strerror})", hint="name another file with --tokens"
            ) from error
        return True

    def _of_file(self, path: Path) -> Iterator[tuple[str, C]]:
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise TradetapeError(f"{path} cannot be read ({error.strerror})", hint="check its permissions") from error
        except ValueError as error:
            raise TradetapeError(f"{path} is not TOML ({error})", hint=self.hint) from error
        for name, entry in entries.items():
            try:
                _check(name, entry, self.keys)
                client = self.client(name, entry)
                given = entry.get("token")
                for token in given if isinstance(given, list) else [given]:
                    yield _token(token), client
            except ValueError as error:
                raise TradetapeError(f"{path}: client {name!r}: {error}", hint=self.hint) from None

    def _of_variable(self, environment: Mapping[str, str]) -> Iterator[tuple[str, C]]:
        parts = (part.strip() for part in environment.get(self.variable, "").split(","))
        for number, part in enumerate(filter(None, parts), 1):
            name, _, token = part.partition("=")
            try:
                if not _NAME.fullmatch(name):
                    raise ValueError("is not client=token")
                yield _token(token), self.client(name, {})
            except ValueError as error:
                # Not the part itself: it may be a token.
                raise TradetapeError(f"{self.variable}: part {number}: {error}", hint=self.hint) from None


def instances(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The bots that a client's table limits it to. Raises ValueError."""
    given = entry.get("instances", [])
    if not isinstance(given, list) or not all(isinstance(pattern, str) and pattern for pattern in given):
        raise ValueError("instances is no list of names")
    return tuple(given)


def _check(name: str, entry: Any, keys: Collection[str]) -> None:
    if not isinstance(entry, dict):
        raise ValueError("is no table")
    if not _NAME.fullmatch(name):
        raise ValueError("a name is letters, digits, . _ -, 64 at most")
    if unknown := entry.keys() - keys - {"token"}:
        raise ValueError(f"has the unknown key {', '.join(sorted(unknown))}")


def _token(token: object) -> str:
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token) or len(token) < SHORTEST_TOKEN:
        raise ValueError(f"its token is no text of {SHORTEST_TOKEN} or more visible ASCII characters")
    return token


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
