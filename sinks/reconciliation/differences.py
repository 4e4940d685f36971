"""What a reconciliation finds, and which of it somebody accepted (N-03). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.schemas.numbers import text

Values = tuple[tuple[str, str | None, str | None], ...]
"""Name and both values, each None where that side has none: first the native one (or live, or the sum), then the
stored one (or paper, or the portfolio's)."""


class Difference(NamedTuple):
    """One thing that two sides do not say alike.

    ``subject`` is what was compared (a source's id, two instances, a portfolio), ``item`` what differs in it, by an id
    that is the same in every run; ``label`` and the two places are for people. ``content`` is a digest of what one side
    has alone.
    """

    kind: str
    subject: str
    item: str
    label: str = ""
    native_place: str = ""
    stored_place: str = ""
    values: Values = ()
    content: str = ""

    @property
    def id(self) -> str:
        """The same for the same difference, another one where a value moved on; places do not count."""
        key = json.dumps([self.kind, self.subject, self.item, self.values, self.content])
        return blake2b(key.encode(), digest_size=16).hexdigest()


class Acceptance(NamedTuple):
    """Who accepted a difference and why, and the event that says so."""

    by: str
    reason: str
    event_id: str


def acceptances(rows: Iterable[Mapping[str, Any]]) -> dict[str, Acceptance]:
    """By the difference's id: what ``baseline_moved`` events accepted.

    ``rows`` have event_id, accepted_by, reason and ids, in the order of the record; the latest word counts.
    """
    return {each: Acceptance(row["accepted_by"], row["reason"], row["event_id"]) for row in rows for each in row["ids"]}


def shown(number: Decimal | None) -> str | None:
    """A number as a value of a difference."""
    return None if number is None else text(number)


def beyond(found: Sequence[Difference], accepted: Mapping[str, Acceptance]) -> list[Difference]:
    """The breaks: what of ``found`` nobody accepted."""
    return [difference for difference in found if difference.id not in accepted]


def in_both(first: Iterable[Difference], second: Iterable[Difference]) -> list[Difference]:
    """Those of ``second`` that ``first`` had too: what was only on its way between two looks is in one of them."""
    before = {difference.id for difference in first}
    return [difference for difference in second if difference.id in before]
