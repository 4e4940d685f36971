"""The layout of state in the changelog."""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tradetape.processors
from tradetape.processors.state import Record, packed, unpacked


def kinds(of: type[Record] = Record) -> Iterator[type[Record]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.req("P-06")
def test_no_kind_of_record_can_be_taken_for_another() -> None:
    for module in pkgutil.walk_packages(tradetape.processors.__path__, "tradetape.processors."):
        if ".stream" not in module.name and not module.name.endswith(".worker"):
            import_module(module.name)
    keys = [kind.KEY for kind in kinds() if kind.KEY and kind.__module__.startswith("tradetape.")]
    assert len(keys) > 20
    clashes = [(one, other) for one, other in itertools.permutations(keys, 2) if other.startswith(one)]
    assert not clashes


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.uuids().map(str)
    | st.uuids().map(lambda id_: str(id_).upper())
)
def test_ids_are_packed_and_come_back_as_they_were(name: str) -> None:
    assert unpacked(packed(name)) == name
    assert len(packed(name)) <= len(name.encode())
