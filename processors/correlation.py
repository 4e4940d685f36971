"""How an event is tied to the decision that led to it (S3-02, S3-03, N-01).

An event says its chain itself (*root*, *asserted*), or it is found by the ids that it speaks of (``references``):
*inferred*. Where none is known, it begins a chain (*backfilled*), or it names what is not on record: *unresolved*,
in a chain of its own until that comes. An asserted link is never unresolved: its root may be in another partition.
Nor is an event whose cause alone is unknown.

Every id is in one chain at a time, and ids that one event speaks of are in the same. A chain has a rank; where two
meet, the lower one goes on: first what a source said itself, then what began furthest upstream. So in the end each
event has the same chain whatever the order in which they came; where sources contradict each other, the first said
counts. Events whose chain is not a source's own wait at one of their ids, and are told when it changes.

Bounded: ids are remembered for ``Horizons.link`` and ``cause`` of legacy sources only (others say every chain), with at
most WAITING events and JOINED other ids each; one event reaches REACH ids. What is beyond keeps the link it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from tradetape.processors import expiry, references
from tradetape.processors.expiry import Expiring
from tradetape.processors.findings import OPENED, RESOLVED, Finding, detail, finding
from tradetape.processors.horizons import Horizons
from tradetape.processors.lineage import Order, order_id
from tradetape.processors.reading import RawRecord
from tradetape.processors.references import CAUSE, EVENT, ITSELF, KINDS, MAKES, MAY_MAKE, NAMES, ORDER, Reference
from tradetape.processors.state import PartitionState, Record, unpacked

ROOT = "root"
ASSERTED = "asserted"
INFERRED = "inferred"
BACKFILLED = "backfilled"
UNRESOLVED = "unresolved"

CARRIED = frozenset({ROOT, ASSERTED})
"""Links that an event's own correlation_id makes."""

WAITING = 16
"""Events that wait at one id."""

JOINED = 16
"""Other ids that one id is tied to by events that wait."""

REACH = 64
"""Ids whose chain one event may change, beside its own."""

SAID = 0
UNKNOWN = 255
_HAS_CAUSE = 100

_CODES = (UNRESOLVED, BACKFILLED, INFERRED)
_IS_CAUSE = 4
_ENTRY = 17
"""Bytes of one entry of ``Link.waiting``: an event id; its link as a code, plus _IS_CAUSE where it may be a cause."""


class Chain(NamedTuple):
    """A chain and how strong its claim is: SAID by a source, else by where it began; UNKNOWN if there is none yet."""

    rank: int
    correlation_id: str


NO_CHAIN = Chain(UNKNOWN, "")


class Link(Expiring):
    """The chain of an id, the events that wait there for a better one, and the ids that these speak of as well."""

    KEY: ClassVar[str] = "l"

    rank: int = UNKNOWN
    correlation_id: str = ""
    waiting: bytes = b""
    joined: list[str] = []

    @property
    def chain(self) -> Chain:
        return Chain(self.rank, self.correlation_id)

    def lasts(self, horizons: Horizons) -> int:
        return horizons.link

    def called(self) -> str:
        return "unresolved link" if self.rank == UNKNOWN else "link"


class Cause(Link):
    """The same of the id of an event."""

    KEY: ClassVar[str] = "c"

    def lasts(self, horizons: Horizons) -> int:
        return horizons.cause

    def called(self) -> str:
        return "cause"


class Used(Record):
    """That the partition has links at all; without, events that say their chain need not look for any."""

    KEY: ClassVar[str] = "u"


class Resolved(NamedTuple):
    """An earlier event whose chain is known now: what its link was, what it is, and by which id."""

    event_id: str
    link: str
    correlation_id: str
    chain: str
    linked_by: str

    def findings(self) -> list[Finding]:
        """What the resolution says of the event."""
        if self.link != UNRESOLVED:
            return []
        proof = detail(correlation_id=self.chain, linked_by=self.linked_by)
        return [finding("link_unresolved", RESOLVED, self.event_id, proof)]


class Linked(NamedTuple):
    """The link of an event; ``linked_by`` is the payload key or envelope field that it was inferred by."""

    link: str
    linked_by: str = ""
    findings: tuple[Finding, ...] = ()
    resolved: tuple[Resolved, ...] = ()


def link(raw: RawRecord, event: dict[str, Any], state: PartitionState) -> Linked:
    """The link of an accepted ``event``, whose correlation_id is set where it has none, and the earlier events that it
    resolves.
    """
    carried, linked_by = event["correlation_id"], ""
    if not event["legacy"] and state.find(Used) is None:
        return Linked(_carried(event))
    speaks_of = references.of(event)
    if carried:
        chain, how = Chain(SAID, carried), _carried(event)
    else:
        chain, how, linked_by = _infer(event, speaks_of, state)
        event["correlation_id"] = chain.correlation_id or event["event_id"]
    if not speaks_of:
        return Linked(how)
    resolved = tuple(_settle(raw, event, chain, speaks_of, state, how=how))
    if chain.rank != SAID:
        _wait(raw, event, how, speaks_of, state)
    if how != UNRESOLVED:
        return Linked(how, linked_by, (), resolved)
    named = {item.key: item.parts[-1][:80] for item in speaks_of if item.role == NAMES}
    lost = finding("link_unresolved", OPENED, event["event_id"], detail(**named))
    return Linked(how, linked_by, (lost,), resolved)


def _carried(event: Mapping[str, Any]) -> str:
    return ROOT if event["correlation_id"] in (event["event_id"], event["native_event_id"]) else ASSERTED


def _infer(event: Mapping[str, Any], speaks_of: list[Reference], state: PartitionState) -> tuple[Chain, str, str]:
    """The chain of an event that does not say it, its link and the key that told it."""
    best, linked_by = _begun(event, speaks_of), ""
    how = BACKFILLED if best is not NO_CHAIN else UNRESOLVED
    for item in speaks_of:
        known = _known(item, state)
        if known < best:
            best, how, linked_by = known, INFERRED, item.key
    return best, how, linked_by


def _begun(event: Mapping[str, Any], speaks_of: list[Reference]) -> Chain:
    """The chain that the event would begin itself; none where it names what was before it."""
    roles = {item.role for item in speaks_of}
    if NAMES in roles:
        return NO_CHAIN
    ranks = [2 * item.rank + (item.role == MAY_MAKE) for item in speaks_of if item.role in (MAKES, MAY_MAKE)]
    rank = min(ranks, default=2 * len(KINDS) + 2)
    return Chain(rank + _HAS_CAUSE * (CAUSE in roles), event["event_id"])


def _known(item: Reference, state: PartitionState) -> Chain:
    known = _find(item.place, state)
    chain = NO_CHAIN if known is None else known.chain
    if chain.rank != SAID and item.place[0] == ORDER:
        order = state.find(Order, *item.parts)
        if order is not None and order.correlation_id:
            return Chain(SAID, unpacked(order.correlation_id))
    return chain


def _settle(
    raw: RawRecord,
    event: Mapping[str, Any],
    chain: Chain,
    speaks_of: list[Reference],
    state: PartitionState,
    *,
    how: str,
) -> Iterator[Resolved]:
    """Put every id that ``event`` speaks of, and those tied to them, into ``chain``, unless theirs is as good."""
    own = len(speaks_of)
    places = [item.place for item in speaks_of]
    reached = set(places)
    for number in range(own + REACH):
        if number >= len(places):
            break
        place = places[number]
        known = _find(place, state)
        if known is None:
            if number >= own or not event["legacy"] or _is_of_order(speaks_of[number], event, how, state):
                continue
            known = _kind(place)()
            if state.find(Used) is None:
                state.touch(Used())
        elif known.chain <= chain or known.rank == SAID:
            expiry.keep(state, known, raw.timestamp, place)
            continue
        tied = [*known.joined, *_causes(known, event)]
        yield from _resolve(known, chain.correlation_id, KINDS[place[0]].key)
        known.rank, known.correlation_id = chain
        if chain.rank == SAID:
            known.waiting, known.joined = b"", []
        expiry.touch(state, known, raw.timestamp, place)
        new = [each for each in tied if each not in reached]
        reached.update(new)
        places += new


def _is_of_order(item: Reference, event: Mapping[str, Any], how: str, state: PartitionState) -> bool:
    """Whether the order of that id remembers the chain, as one that its own events said."""
    if item.place[0] != ORDER:
        return False
    if how == ASSERTED and order_id(event):
        return True
    order = state.find(Order, *item.parts)
    return order is not None and bool(order.correlation_id)


def _resolve(known: Link, chain: str, linked_by: str) -> Iterator[Resolved]:
    """Move the events that wait at ``known`` into ``chain``."""
    codes = bytearray(known.waiting)
    for start in range(0, len(codes), _ENTRY):
        event_id = str(UUID(bytes=bytes(codes[start : start + 16])))
        link = _CODES[codes[start + 16] % _IS_CAUSE]
        correlation_id = known.correlation_id if link == INFERRED else event_id
        if link == UNRESOLVED or correlation_id != chain:
            yield Resolved(event_id, link, correlation_id, chain, linked_by)
            codes[start + 16] = codes[start + 16] // _IS_CAUSE * _IS_CAUSE + _CODES.index(INFERRED)
    known.waiting = bytes(codes)


def _causes(known: Link, event: Mapping[str, Any]) -> Iterator[str]:
    """The places of the events that wait at ``known``, as causes of others."""
    scope = tuple(event[name] for name in KINDS[EVENT].scope)
    for start in range(0, len(known.waiting), _ENTRY):
        if known.waiting[start + 16] >= _IS_CAUSE:
            yield references.place(EVENT, (*scope, str(UUID(bytes=known.waiting[start : start + 16]))))


def _wait(
    raw: RawRecord, event: Mapping[str, Any], how: str, speaks_of: list[Reference], state: PartitionState
) -> None:
    """Let ``event`` wait at its first id for a better chain, and tie its other ids to that one."""
    home = speaks_of[0].place
    known = _get(home, state)
    by_its_id = speaks_of[-1].role == ITSELF and not event["native_event_id"]
    entry = _entry(event["event_id"], _CODES.index(how) + _IS_CAUSE * by_its_id)
    if entry and len(known.waiting) < WAITING * _ENTRY:
        known.waiting += entry
    for item in speaks_of[1:]:
        other = _get(item.place, state)
        changed = _tie(other, home)
        if item.role != ITSELF or not by_its_id:  # else its entry leads there
            _tie(known, item.place)
        if changed:
            expiry.touch(state, other, raw.timestamp, item.place)
    expiry.touch(state, known, raw.timestamp, home)


def _tie(known: Link, place: str) -> bool:
    if place in known.joined or len(known.joined) >= JOINED:
        return False
    known.joined.append(place)
    return True


def _entry(event_id: str, code: int) -> bytes:
    try:
        return UUID(event_id).bytes + bytes([code])
    except ValueError:
        return b""


def _kind(place: str) -> type[Link]:
    return Cause if place[0] == EVENT else Link


def _find(place: str, state: PartitionState) -> Link | None:
    return state.find(_kind(place), place)


def _get(place: str, state: PartitionState) -> Link:
    return state.get(_kind(place), place)
