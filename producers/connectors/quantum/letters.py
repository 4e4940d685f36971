"""Dead letters of the Quantum connector (S4-04): entries that could not be handled, kept where they came from.

An entry whose handling failed for good is on record as an UnmappedRecord, and stands in the Redis stream
``tradetape.dead_letter`` with its stream, id, fields, reason, attempts and times. ``redrive`` moves it to
``tradetape.redrive``, which the connector reads like every stream of the bot. Whatever comes of an entry that ever
failed comes without a position, under the id that the entry's event always has: so it is accepted once, however often
it is driven or read again, into the same Kafka or another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tradetape.producers.adapters.quantum_entries import EntryId, Fields
from tradetape.producers.connectors.quantum.store import Location, Store
from tradetape.schemas import times
from tradetape.schemas.errors import TradetapeError

DEAD_LETTERS = "tradetape.dead_letter"
REDRIVE = "tradetape.redrive"

MAX_REASON = 2000
_PAGE = 500
_OF_ENTRY = b"entry."
Entry = tuple[str, int, EntryId]
"""Stream, generation and id."""
_SAVED = ("group", "stream", "entry_id", "generation", "reason", "attempts", "first_failed", "last_failed")


@dataclass(frozen=True, slots=True)
class Letter:
    """An entry that failed ``attempts`` times. Times in milliseconds since 1970; ``letter_id`` is its own id in Redis,
    empty before it has one.
    """

    group: str
    stream: str
    entry_id: EntryId
    fields: Fields
    generation: int
    reason: str
    attempts: int
    first_failed: int
    last_failed: int
    letter_id: str = ""

    @property
    def entry(self) -> Entry:
        """Which entry it is of."""
        return self.stream, self.generation, self.entry_id

    def to_fields(self) -> list[tuple[bytes, bytes]]:
        """As fields of a Redis entry; those of the original begin with ``entry.``."""
        own: dict[str, Any] = {
            "group": self.group,
            "stream": self.stream,
            "id": self.entry_id,
            "generation": self.generation,
            "reason": self.reason[:MAX_REASON],
            "attempts": self.attempts,
            "first_failed": times.text(self.first_failed * 1000),
            "last_failed": times.text(self.last_failed * 1000),
        }
        ours = [(name.encode(), str(value).encode("utf-8", "backslashreplace")) for name, value in own.items()]
        return [*ours, *((_OF_ENTRY + name, value) for name, value in self.fields)]

    @classmethod
    def of(cls, fields: Fields, letter_id: str = "") -> Letter:
        """Read a letter. Raises ValueError where it is none."""
        own = {name.decode("utf-8", "replace"): value for name, value in fields if not name.startswith(_OF_ENTRY)}
        theirs = tuple((name[len(_OF_ENTRY) :], value) for name, value in fields if name.startswith(_OF_ENTRY))
        try:
            text = {name: value.decode("utf-8", "replace") for name, value in own.items()}
            return cls(
                group=text["group"],
                stream=text["stream"],
                entry_id=EntryId.of(text["id"]),
                fields=theirs,
                generation=int(text["generation"]),
                reason=text["reason"],
                attempts=int(text["attempts"]),
                first_failed=times.parse(text["first_failed"]) // 1000,
                last_failed=times.parse(text["last_failed"]) // 1000,
                letter_id=letter_id,
            )
        except KeyError as error:
            raise ValueError(f"no dead letter: {error} is missing") from None

    def after(self, before: Letter) -> Letter:
        """This failure of a letter that was re-driven: with the attempts of all its drives."""
        return replace(self, attempts=before.attempts + self.attempts, first_failed=before.first_failed)

    def saved(self) -> dict[str, Any]:
        """As JSON for a checkpoint."""
        values = {name: getattr(self, name) for name in _SAVED}
        pairs = [[part.decode("latin-1") for part in pair] for pair in self.fields]
        return {**values, "entry_id": str(self.entry_id), "fields": pairs}

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> Letter:
        """Out of a checkpoint."""
        values = {name: saved[name] for name in _SAVED}
        fields = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in saved["fields"])
        return cls(**{**values, "entry_id": EntryId.of(saved["entry_id"])}, fields=fields)


def bury(store: Store, letters: Iterable[Letter]) -> None:
    """Write ``letters`` to the dead letters, but those that are there."""
    letters = list(letters)
    if not letters:
        return
    there = {(letter.entry, letter.attempts) for letter in _letters(store, DEAD_LETTERS)}
    with store.asking() as client:
        for letter in letters:
            if (letter.entry, letter.attempts) not in there:
                client.execute_command("XADD", DEAD_LETTERS, "*", *_flat(letter))


def dead_letters(location: str) -> list[Letter]:
    """All dead letters of the database at ``location``, oldest first. Raises TradetapeError."""
    store = Store(Location.of(location))
    try:
        return _letters(store, DEAD_LETTERS)
    finally:
        store.close()


def redrive(location: str, letter_ids: Collection[str]) -> list[Letter]:
    """Hand the dead letters with these ids (empty: all) back to the connector; returns them.

    Raises TradetapeError, also for an id that is none: then nothing is moved.
    """
    store = Store(Location.of(location))
    try:
        letters = {letter.letter_id: letter for letter in _letters(store, DEAD_LETTERS)}
        unknown = [letter_id for letter_id in letter_ids if letter_id not in letters]
        if unknown:
            raise TradetapeError(
                f"no dead letter {', '.join(unknown)} in Redis at {store.shown}",
                hint="see `tradetape dead-letters list`",
            )
        chosen = [letters[letter_id] for letter_id in letter_ids] or list(letters.values())
        with store.asking() as client:
            for letter in chosen:
                pipeline = client.pipeline(transaction=True)
                pipeline.execute_command("XADD", REDRIVE, "*", *_flat(letter))
                pipeline.execute_command("XDEL", DEAD_LETTERS, letter.letter_id)
                pipeline.execute()
        return chosen
    finally:
        store.close()


def _flat(letter: Letter) -> list[bytes]:
    return [part for pair in letter.to_fields() for part in pair]


def failed_before(store: Store, group: str) -> set[Entry]:
    """The entries of ``group`` that ever had a letter."""
    letters = (*_letters(store, DEAD_LETTERS), *_letters(store, REDRIVE))
    return {letter.entry for letter in letters if letter.group == group}


def _letters(store: Store, stream: str) -> list[Letter]:
    found: list[Letter] = []
    start = "-"
    with store.asking() as client:
        while True:
            page = client.execute_command("XRANGE", stream, start, "+", "COUNT", _PAGE)
            for letter_id, flat in page:
                try:
                    found.append(Letter.of(tuple(zip(flat[::2], flat[1::2], strict=True)), letter_id.decode()))
                except ValueError:
                    continue  # written by somebody else: not ours to drive, and left where it is
            if len(page) < _PAGE:
                return found
            start = f"({page[-1][0].decode()}"
