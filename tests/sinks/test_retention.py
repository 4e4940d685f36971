"""Retention classes: what the catalogue says, in SQL (S4-02)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tradetape.schemas.catalogue import event_types
from tradetape.sinks import retention
from tradetape.sinks.tables import ALERTS, EVENTS, RISK, Table

HOUR, DAY = 3_600, 86_400


def classes_in(sql: str) -> dict[str, str]:
    """Event type → class, as the expression maps them."""
    found = re.fullmatch(r"transform\(event_type, \[(.*?)\], \[(.*?)\], 'permanent'\)", sql)
    assert found is not None
    names, kept = (re.findall(r"'([^']*)'", part) for part in found.groups())
    return dict(zip(names, kept, strict=True))


@pytest.mark.req("S4-02")
def test_every_class_of_the_catalogue_has_a_length() -> None:
    assert set(retention.classes()) == {event_type.retention for event_type in event_types().values()}
    lengths = list(retention.classes().values())
    assert lengths.pop() is None
    assert all(shorter < longer for shorter, longer in pairwise(filter(None, lengths)))
    assert (retention.seconds("1h"), retention.seconds("365d")) == (HOUR, 365 * DAY)


@pytest.mark.parametrize("name", ["", "1", "h", "7w", "-1h", "1h ", "forever"])
def test_other_words_are_no_class(name: str) -> None:
    with pytest.raises(ValueError, match="is no retention class"):
        retention.seconds(name)


@pytest.mark.req("S4-02")
@pytest.mark.parametrize("table", [EVENTS, RISK], ids=lambda table: table.name)
def test_a_row_has_the_class_of_its_event_and_the_permanent_ones_are_not_named(table: Table) -> None:
    wanted = {name: each.retention for name, each in event_types().items() if each.retention != "permanent"}
    assert classes_in(retention.expression(table)) == wanted


@pytest.mark.req("S4-02")
def test_an_alert_stays_as_long_as_its_cause_and_no_shorter_than_system_alert() -> None:
    found = classes_in(retention.expression(ALERTS))
    assert set(found.values()) == {event_types()["system_alert"].retention}
    assert found.keys() == classes_in(retention.expression(EVENTS)).keys()
