"""Figures of portfolios that are not what follows from the record are told, whatever stands there."""

from __future__ import annotations

from typing import Any

import pytest

from tradetape.processors.portfolio.order import Place
from tradetape.sinks import portfolio_check, stored
from tradetape.sinks.portfolio_check import Checked
from tradetape.sinks.store import Store
from tradetape.sinks.tables import PORTFOLIOS

RIGHT: dict[str, Any] = dict.fromkeys(stored.names(PORTFOLIOS), "same")


@pytest.mark.req("P-02", "P-06")
@pytest.mark.parametrize("number", [0, 1])
def test_of_two_rows_at_a_place_the_one_that_differs_is_told(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    rows = [RIGHT, RIGHT]
    rows[number] = RIGHT | {"members": "another"}
    monkeypatch.setattr(stored, "rows", lambda *_: iter(rows))
    checked = Checked()
    portfolio_check._name(Store("http://nowhere"), checked, Place(0, 7, 2), RIGHT)
    assert checked.different == 1
    assert checked.first is not None
    assert (checked.first.place, checked.first.field, checked.first.stored) == ("0:7:2", "members", "another")
