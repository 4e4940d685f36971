"""Redis as the Quantum connector uses it: one connection, one consumer group a source, and the server's own counters.

Nothing is tried again on a connection that broke: a reply that was lost may have handed entries out, and they come
again when the source is opened at its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError, ResponseError
from redis.retry import Retry

from tradetape.producers.adapters.quantum_entries import FLOW, ZERO, EntryId, Fields, is_stream_name
from tradetape.schemas.errors import TradetapeError

SOURCE_KEY = "tradetape:source"
"""Names this database for ever: written once, by the first connector. A database without it is another source."""

GENERATION_KEY = "tradetape:generation"
"""Begins the keys that hold how often a group saw a stream made anew with lower ids: ``…:<stream>:<group>``."""

CONSUMER = "tradetape"
TIMEOUT = 5.0
ACKNOWLEDGE_AT_ONCE = 1000
SCAN_COUNT = 1000
SCAN_STEPS = 1000
"""Steps of one look for streams: a database of up to a million keys is looked through at once."""

_EXCLUSIVE_TRIES = 20
_EXCLUSIVE_PAUSE = 0.1
_START_HINT = "start it, or check the location (redis://host:port/db) and its password"


class Info(NamedTuple):
    """What the server says of a stream. ``first`` is its first entry, ``added`` all that it ever had."""

    length: int
    added: int
    first: EntryId | None
    newest: EntryId
    deleted: EntryId


class Read(NamedTuple):
    """One read of a stream: the server's time, what it said of the stream just before, and the entries."""

    at_ms: int
    info: Info | None
    entries: list[tuple[EntryId, Fields]]
    problem: str


@dataclass(frozen=True, slots=True)
class Location:
    """A Redis database; ``limits`` are the rate limits that it sets: ``?rate_limit=market.tick.price:20``."""

    url: str
    shown: str
    limits: Mapping[str, int]

    @classmethod
    def of(cls, location: str) -> Location:
        """Read a location. Raises TradetapeError."""
        try:
            parts = urlsplit(location)
            port = parts.port or 6379
        except ValueError:  # whose text may hold a part of a password
            raise _bad_location("host or port cannot be read") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise _bad_location(f"{parts.scheme or 'no'} scheme")
        query = parse_qsl(parts.query)
        try:
            limits = {name: int(rate) for key, text in query if key == "rate_limit" for name, _, rate in _split(text)}
        except ValueError:
            raise _bad_location("a rate_limit is not <stream>:<entries a second>") from None
        rest = urlencode([(key, value) for key, value in query if key != "rate_limit"])
        url = urlunsplit((parts.scheme, parts.netloc, parts.path, rest, ""))
        return cls(url, f"{parts.hostname or ''}:{port}{parts.path}", limits)


def _split(text: str) -> Iterator[tuple[str, str, str]]:
    yield text.rpartition(":")


def _bad_location(why: str) -> TradetapeError:
    return TradetapeError(f"this is no location of a Redis database ({why})", hint="give redis://host:port/db")


class Store:
    """An open database. Raises TradetapeError for everything that a person can put right.

    ``client_name`` may hold anything: Redis sees it percent-encoded, as it takes no spaces and no other than ASCII.
    """

    def __init__(self, location: Location, *, client_name: str = "") -> None:
        self.shown = location.shown
        self._name = quote(client_name, safe=":")
        try:
            self._client: Any = redis.Redis.from_url(
                location.url,
                protocol=2,
                client_name=self._name or None,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
            )
        except RedisError as error:
            raise self._away(error) from error
        except ValueError as error:
            raise _bad_location(str(error)) from None
        for command in ("XREADGROUP", "XAUTOCLAIM", "XRANGE", "XINFO STREAM"):
            self._client.response_callbacks.pop(command, None)

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """The client, with its failures made readable."""
        try:
            yield self._client
        except AuthenticationError as error:
            raise TradetapeError(f"Redis at {self.shown} refuses the password", hint=_START_HINT) from error
        except OutOfMemoryError as error:
            raise TradetapeError(
                f"Redis at {self.shown} is full (maxmemory is reached), and refuses to write",
                hint="raise its maxmemory, or trim the bot's streams; nothing is lost, the connector goes on then",
            ) from error
        except ResponseError as error:
            raise TradetapeError(
                f"Redis at {self.shown} refuses a request ({error})",
                hint="it must be Redis 7 or Valkey, no replica, and the user must be allowed XREADGROUP, XGROUP, XACK, "
                "XINFO, XAUTOCLAIM, SCAN, CLIENT, GET and SET",
            ) from error
        except RedisError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> TradetapeError:
        return TradetapeError(f"Redis at {self.shown} does not answer ({error})", hint=_START_HINT)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def source_id(self, *, make: bool, new_id: Callable[[], str] = lambda: str(uuid4())) -> str:
        """The name of this database, empty if it has none; ``make`` gives it one."""
        with self.asking() as client:
            found = client.get(SOURCE_KEY)
            if make and not found:
                client.set(SOURCE_KEY, new_id(), nx=True)
                found = client.get(SOURCE_KEY)
        return found.decode("utf-8", "backslashreplace") if found else ""

    def generation(self, stream: str, group: str) -> int:
        """How often ``group`` saw the stream made anew, as ``keep_generation`` wrote it; 0 where it did not."""
        with self.asking() as client:
            return int(client.get(f"{GENERATION_KEY}:{stream}:{group}") or 0)

    def keep_generation(self, stream: str, group: str, generation: int) -> None:
        """Write it down beside the database's name, for a connector that lost its checkpoint."""
        with self.asking() as client:
            client.set(f"{GENERATION_KEY}:{stream}:{group}", generation)

    def refuse_others(self, wait: Callable[[float], object]) -> None:
        """Raise TradetapeError where another connection has our name: two readers would take entries from each other,
        and send them out of order. A connection that was just killed is given two seconds to go.
        """
        for attempt in range(_EXCLUSIVE_TRIES):
            with self.asking() as client:
                own = str(client.client_id())
                others = [c for c in client.client_list() if c.get("name") == self._name and str(c["id"]) != own]
            if not others:
                return
            if attempt < _EXCLUSIVE_TRIES - 1:
                wait(_EXCLUSIVE_PAUSE)
        raise TradetapeError(
            f"another connector (client {others[0]['id']} at {others[0].get('addr', '')}) reads Redis at {self.shown}",
            hint="stop it; if its machine is gone, end its connection with CLIENT KILL ID",
        )

    def known_streams(self, scan_steps: int = SCAN_STEPS) -> list[str]:
        """The document's streams, and all that are named like them."""
        found = set(FLOW)
        cursor = 0
        with self.asking() as client:
            for _ in range(scan_steps):
                cursor, keys = client.scan(cursor, count=SCAN_COUNT, _type="stream")
                names = (key.decode("ascii", "replace") for key in keys)
                found.update(name for name in names if is_stream_name(name))
                if cursor == 0:
                    break
        return sorted(found)

    def info(self, stream: str) -> Info | None:
        """What the server says of ``stream``; None where there is no such stream."""
        with self.asking() as client:
            try:
                return _info(client.execute_command("XINFO STREAM", stream))
            except ResponseError as error:
                if _is_missing(error) or _is_other_type(error):
                    return None
                raise

    def has_entry(self, stream: str, entry_id: EntryId) -> bool:
        """Whether the entry is still there."""
        with self.asking() as client:
            return bool(client.execute_command("XRANGE", stream, str(entry_id), str(entry_id)))

    def entries(self, stream: str, count: int) -> Iterator[tuple[EntryId, Fields]]:
        """All entries of ``stream``, ``count`` in one read, without a group: nothing in Redis changes."""
        start = "-"
        while True:
            with self.asking() as client:
                page = client.execute_command("XRANGE", stream, start, "+", "COUNT", count)
            for entry_id, fields in page:
                yield EntryId.of(entry_id), _fields(fields)
            if len(page) < count:
                return
            start = f"({page[-1][0].decode()}"

    def make_group(self, stream: str, group: str, after: EntryId) -> tuple[bool, str]:
        """Make ``group`` at ``after`` where it is not there: whether it was made, and why it cannot be."""
        with self.asking() as client:
            try:
                client.execute_command("XGROUP CREATE", stream, group, str(after), "MKSTREAM")
            except ResponseError as error:
                if str(error).startswith("BUSYGROUP") or self._is_full_but_has(client, stream, group, error):
                    return False, ""
                if _is_other_type(error):
                    return False, "the key holds no stream"
                raise
        return True, ""

    def _is_full_but_has(self, client: Any, stream: str, group: str, error: ResponseError) -> bool:
        """Whether a full server refused to make a group that is there: it refuses before it looks."""
        if not isinstance(error, OutOfMemoryError):
            return False
        try:
            groups = client.xinfo_groups(stream)
        except ResponseError:
            return False
        return group.encode() in [each["name"] for each in groups]

    def rewind(self, stream: str, group: str, after: EntryId) -> None:
        """Take over everything that was handed out and not acknowledged, by us or by a consumer that died, acknowledge
        it up to ``after``, and let the group hand out again what follows.
        """
        with self.asking() as client:
            start: bytes | str = "0-0"
            while True:
                answer = client.execute_command(
                    "XAUTOCLAIM", stream, group, CONSUMER, 0, start, "COUNT", ACKNOWLEDGE_AT_ONCE, "JUSTID"
                )
                start, claimed = answer[0], [EntryId.of(each) for each in answer[1]]
                done = [str(each) for each in claimed if each <= after]
                if done:
                    client.execute_command("XACK", stream, group, *done)
                if EntryId.of(start) == ZERO:
                    break
            client.execute_command("XGROUP SETID", stream, group, str(after))

    def read(self, counts: Mapping[str, int], group: str) -> dict[str, Read]:
        """The next entries of each stream, up to its count in ``counts``, at one moment of the server."""
        with self.asking() as client:
            pipeline = client.pipeline(transaction=True)
            pipeline.time()
            for stream, count in counts.items():
                pipeline.execute_command("XINFO STREAM", stream)
                pipeline.execute_command("XREADGROUP", "GROUP", group, CONSUMER, "COUNT", count, "STREAMS", stream, ">")
            seconds, micros, *_ = (answers := pipeline.execute(raise_on_error=False))[0]
            at_ms = seconds * 1000 + micros // 1000
            return {
                stream: _read(at_ms, answers[2 * index + 1], answers[2 * index + 2])
                for index, stream in enumerate(counts)
            }

    def acknowledge(self, group: str, taken: Mapping[str, Sequence[EntryId]]) -> None:
        """XACK what was taken, by stream."""
        with self.asking() as client:
            pipeline = client.pipeline(transaction=False)
            for stream, ids in taken.items():
                for start in range(0, len(ids), ACKNOWLEDGE_AT_ONCE):
                    part = ids[start : start + ACKNOWLEDGE_AT_ONCE]
                    pipeline.execute_command("XACK", stream, group, *map(str, part))
            for answer in pipeline.execute(raise_on_error=False):
                if isinstance(answer, Exception) and not _is_missing(answer) and not _is_other_type(answer):
                    raise answer

    def infos(self, streams: Sequence[str]) -> dict[str, Info]:
        """What the server says of those of ``streams`` that are there."""
        with self.asking() as client:
            pipeline = client.pipeline(transaction=False)
            for stream in streams:
                pipeline.execute_command("XINFO STREAM", stream)
            answers = zip(streams, pipeline.execute(raise_on_error=False), strict=True)
            return {stream: _info(answer) for stream, answer in answers if not isinstance(answer, Exception)}


def _read(at_ms: int, info: Any, answer: Any) -> Read:
    problems = [each for each in (info, answer) if isinstance(each, Exception)]
    if problems:
        error = problems[0]
        if _is_missing(error) or _is_other_type(error):
            return Read(at_ms, None, [], str(error))
        raise error
    entries = []
    for _, pairs in answer or ():
        entries = [(EntryId.of(entry_id), _fields(fields)) for entry_id, fields in pairs if fields is not None]
    return Read(at_ms, _info(info), entries, "")


def _fields(flat: Sequence[bytes]) -> Fields:
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _info(answer: Any) -> Info:
    # Some servers' answers come as a list of names and values, some clients make a dict of it.
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    said = {(name.decode() if isinstance(name, bytes) else name): value for name, value in pairs}
    if "entries-added" not in said:
        raise ResponseError("the server does not count the entries of a stream")
    first = said.get("first-entry")
    return Info(
        length=int(said["length"]),
        added=int(said["entries-added"]),
        first=EntryId.of(first[0]) if first else None,
        newest=EntryId.of(said["last-generated-id"]),
        deleted=EntryId.of(said["max-deleted-entry-id"]),
    )


def _is_missing(error: Exception) -> bool:
    text = str(error)
    return text.startswith(("NOGROUP", "ERR no such key", "no such key"))


def _is_other_type(error: Exception) -> bool:
    return str(error).startswith("WRONGTYPE")
