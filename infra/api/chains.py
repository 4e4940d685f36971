"""One chain of events, asked for by its correlation id or by any event of it (S2-05, S4-08)."""

from __future__ import annotations

from collections.abc import Iterator

from tradetape.infra.api import forms
from tradetape.sinks import queries, results
from tradetape.sinks.store import Store

LIST, TREE = "chain", "tree"
"""The two views, by the named queries that answer them."""

_OF_EVENT = """
SELECT correlation_id FROM tradetape.events
WHERE derived_seq = 0 AND event_id = toUUIDOrZero({id:String})
   OR event_type = 'link_resolved' AND supersedes = {id:String}
ORDER BY raw_partition DESC, raw_offset DESC, derived_seq DESC LIMIT 1
"""
_IS_CHAIN = "SELECT 1 FROM tradetape.events WHERE correlation_id = {id:String} LIMIT 1"


def find(store: Store, asked: str) -> str | None:
    """The correlation id of the chain that ``asked`` names: an event's id (its chain as it was last resolved), or the
    correlation id itself; None: neither. Raises what Store.query raises.
    """
    found = store.query(_OF_EVENT, {"id": asked})
    if found and found[0][0]:
        return str(found[0][0])
    return asked if store.query(_IS_CHAIN, {"id": asked}) else None


def rows(store: Store, correlation_id: str, view: str) -> Iterator[list[bytes]]:
    """The events of the chain as JSON: in order, or as a tree with their depth. Raises what queries.run raises."""
    found = results.batches(queries.run(store, view, {"correlation_id": correlation_id}))
    yield from forms.with_payloads(found) if view == LIST else found
